"""What both kinds of Solidly pairs share: what a swap really pays, exactly, and the logs they follow.

The view getAmountOut of a stable pair can promise a unit more or less than its `swap` allows, or
revert where `swap` works (see `solidly.exact_in`). An executor calls `swap` with the amount it wants,
so here a swap pays the most that the pair's check of k lets go, and costs the least it asks for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mev_engine.amm import solidly
from mev_engine.amm.abi import topic
from mev_engine.amm.errors import SwapRevertedError, UnknownStateError
from mev_engine.amm.evm import UINT256_MAX, check_range, div, least_input, mul_div, u256
from mev_engine.amm.family import Log
from mev_engine.amm.logs import Follow, data
from mev_engine.amm.solidly import ONE, SolidlyPool, SolidlyVariant


@dataclass(frozen=True, slots=True)
class VolatilePair(SolidlyPool):
    """A pair that keeps x*y: the state of family solidly_volatile."""

    def __post_init__(self) -> None:
        SolidlyPool.__post_init__(self)
        if self.stable:
            raise ValueError("stable is True: the pair is a StablePair")


@dataclass(frozen=True, slots=True)
class StablePair(SolidlyPool):
    """A pair that keeps x³y + y³x: the state of family solidly_stable."""

    def __post_init__(self) -> None:
        SolidlyPool.__post_init__(self)
        if not self.stable:
            raise ValueError("stable is False: the pair is a VolatilePair")


def coins(_pool: SolidlyPool) -> int:
    """Two."""
    return 2


def _zero_for_one(i: int, j: int) -> bool:
    if (i, j) not in {(0, 1), (1, 0)}:
        raise ValueError(f"i is {i} and j is {j}: a pair has tokens 0 and 1")
    return i == 0


def exact_in(pool: SolidlyPool, i: int, j: int, amount_in: int) -> int:
    """The most of token j that `swap` pays for `amount_in` of token i, raw units; 0 is an answer.

    SwapRevertedError where `swap` would revert whatever it is asked for.
    """
    check_range("amount_in", amount_in, 0, UINT256_MAX)
    zero_for_one = _zero_for_one(i, j)
    if amount_in == 0:
        raise SwapRevertedError("insufficient input amount")
    reserve_in, reserve_out = (pool.reserve0, pool.reserve1)[:: 1 if zero_for_one else -1]
    fee = mul_div(amount_in, (pool.fee0, pool.fee1)[i], pool.fee_den)
    adjusted = u256(reserve_in + amount_in - fee)
    if pool.stable:
        balance_out = _stable_balance(pool, i, j, adjusted)
    else:
        balance_out = -div(-u256(reserve_in * reserve_out), adjusted)
    amount_out = max(reserve_out - max(balance_out, 1), 0)
    if amount_out > 0:
        solidly.swap(pool, zero_for_one, amount_in, amount_out)
    return amount_out


def exact_out(pool: SolidlyPool, i: int, j: int, amount_out: int) -> int:
    """The least of token i for which `swap` pays `amount_out` of token j, raw units."""
    return solidly.exact_out(pool, _zero_for_one(i, j), amount_out)


def _stable_balance(pool: SolidlyPool, i: int, j: int, adjusted: int) -> int:
    """The least raw balance of token j that keeps k with `adjusted` of token i."""
    scales = (pool.scale0, pool.scale1)
    start = [mul_div(r, ONE, s) for r, s in zip((pool.reserve0, pool.reserve1), scales, strict=True)]
    least = least_balance(mul_div(adjusted, ONE, scales[i]), solidly.invariant(*start), start[j])
    return -(-least * scales[j] // ONE)


def least_balance(x: int, k: int, near: int) -> int:
    """The least balance y of a stable pair with `invariant(x, y) >= k`, all in 1e18 units."""
    if k == 0:
        return 0

    def reaches(y: int) -> bool:
        try:
            return solidly.invariant(x, y) >= k
        except SwapRevertedError:  # too much for the contract's arithmetic, so more than k
            return True

    return least_input(reaches, solidly.get_y_camelot(x, k, near), UINT256_MAX)


def _sync(kind: str) -> Follow:
    def follow(pool: SolidlyPool, log: Log) -> SolidlyPool:
        reserve0, reserve1 = data(log, kind, kind)
        return replace(pool, reserve0=reserve0, reserve1=reserve1)

    return follow


def _fees(pool: SolidlyPool, log: Log) -> SolidlyPool:
    """Camelot's fee on each token paid in; Velodrome's fees are in its factory and no pair's log."""
    if pool.variant is not SolidlyVariant.CAMELOT:
        raise ValueError("FeePercentUpdated is an event of Camelot pairs: the pool is no such pair")
    fee0, fee1 = data(log, "uint16", "uint16")
    return replace(pool, fee0=fee0, fee1=fee1)


def _kind(pool: SolidlyPool, log: Log) -> SolidlyPool:
    """Camelot's pairs can be switched; then the pool is one of the other family."""
    _before, stable = data(log, "bool", "bool")
    if stable != pool.stable:
        raise UnknownStateError(f"the pair's stable is now {stable}: read the pool anew as the other family")
    return pool


EVENTS: Mapping[str, Follow] = {
    topic("Sync(uint112,uint112)"): _sync("uint112"),  # Camelot
    topic("Sync(uint256,uint256)"): _sync("uint256"),  # Velodrome and Aerodrome
    topic("FeePercentUpdated(uint16,uint16)"): _fees,
    topic("SetStableSwap(bool,bool)"): _kind,
}
