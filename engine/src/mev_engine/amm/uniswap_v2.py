"""Uniswap V2 pairs and forks: the contracts' integer arithmetic, and the same in kernels.

The exact functions take and give Python integers in raw token units and raise `SwapRevertedError`
with the contract's own reason where the contract reverts. The fee is `fee_num / fee_den` of the
input counted (997 / 1000 for 30 bps, 9975 / 10000 for PancakeSwap's 25).

Sources: Uniswap/v2-periphery UniswapV2Library.sol (getAmountOut, getAmountIn) and Uniswap/v2-core
UniswapV2Pair.sol (swap, _update).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mev_engine import wide
from mev_engine.amm.abi import topic, uint
from mev_engine.amm.errors import SwapRevertedError
from mev_engine.amm.evm import check_range
from mev_engine.amm.family import Family, Log
from mev_engine.jit import helper
from mev_engine.types import FloatArray, WordArray
from mev_engine.wide import limbs, load, low64, u256

MAX_RESERVE = 2**112 - 1
_UINT256 = 2**256


def get_amount_out(amount_in: int, reserve_in: int, reserve_out: int, fee_num: int, fee_den: int) -> int:
    """Output of a swap as the router computes it: `gn*x*s // (fd*r + gn*x)`."""
    if amount_in <= 0:
        raise SwapRevertedError("UniswapV2Library: INSUFFICIENT_INPUT_AMOUNT")
    if reserve_in <= 0 or reserve_out <= 0:
        raise SwapRevertedError("UniswapV2Library: INSUFFICIENT_LIQUIDITY")
    amount_with_fee = amount_in * fee_num
    numerator = amount_with_fee * reserve_out
    if numerator >= _UINT256:
        raise SwapRevertedError("ds-math-mul-overflow")
    return numerator // (reserve_in * fee_den + amount_with_fee)


def get_amount_in(amount_out: int, reserve_in: int, reserve_out: int, fee_num: int, fee_den: int) -> int:
    """Input for an output as the router computes it: `fd*r*y // (gn*(s - y)) + 1`.

    Where the division leaves no rest this is one more than needed; see `least_input`.
    """
    if amount_out <= 0:
        raise SwapRevertedError("UniswapV2Library: INSUFFICIENT_OUTPUT_AMOUNT")
    if reserve_in <= 0 or reserve_out <= 0:
        raise SwapRevertedError("UniswapV2Library: INSUFFICIENT_LIQUIDITY")
    numerator = reserve_in * amount_out * fee_den
    if numerator >= _UINT256:
        raise SwapRevertedError("ds-math-mul-overflow")
    if amount_out > reserve_out:
        raise SwapRevertedError("ds-math-sub-underflow")
    if amount_out == reserve_out:
        raise SwapRevertedError("division by zero")
    return numerator // ((reserve_out - amount_out) * fee_num) + 1


def least_input(amount_out: int, reserve_in: int, reserve_out: int, fee_num: int, fee_den: int) -> int:
    """The least x with `get_amount_out(x) >= amount_out`: `ceil(fd*r*y / (gn*(s - y)))`.

    From `gn*x*s >= y*(fd*r + gn*x)`. Needs `0 < amount_out < reserve_out`.
    """
    return -(-reserve_in * amount_out * fee_den // ((reserve_out - amount_out) * fee_num))


def swap(
    reserve_in: int, reserve_out: int, amount_in: int, amount_out: int, fee_num: int, fee_den: int
) -> tuple[int, int]:
    """The pair's own checks for a swap of one token for the other; returns the reserves after it."""
    if amount_out <= 0:
        raise SwapRevertedError("UniswapV2: INSUFFICIENT_OUTPUT_AMOUNT")
    if amount_out >= reserve_out or reserve_in <= 0:  # an output of 0 must be below the other reserve too
        raise SwapRevertedError("UniswapV2: INSUFFICIENT_LIQUIDITY")
    if amount_in <= 0:
        raise SwapRevertedError("UniswapV2: INSUFFICIENT_INPUT_AMOUNT")
    balance_in, balance_out = reserve_in + amount_in, reserve_out - amount_out
    adjusted_in = balance_in * fee_den - amount_in * (fee_den - fee_num)
    if adjusted_in * balance_out * fee_den >= _UINT256:
        raise SwapRevertedError("ds-math-mul-overflow")
    if adjusted_in * balance_out < reserve_in * reserve_out * fee_den:
        raise SwapRevertedError("UniswapV2: K")
    if balance_in > MAX_RESERVE:
        raise SwapRevertedError("UniswapV2: OVERFLOW")
    return balance_in, balance_out


# --- The family -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class V2Pair:
    """State of one pair. reserve0, reserve1: raw units, uint112. fee_num0, fee_num1: what counts of an
    input of token0 and of token1, out of fee_den (both 997 of 1000 in Uniswap's own)."""

    reserve0: int
    reserve1: int
    fee_num0: int = 997
    fee_num1: int = 997
    fee_den: int = 1000

    def __post_init__(self) -> None:
        check_range("reserve0", self.reserve0, 0, MAX_RESERVE)
        check_range("reserve1", self.reserve1, 0, MAX_RESERVE)
        check_range("fee_den", self.fee_den, 1, 10**6)
        check_range("fee_num0", self.fee_num0, 1, self.fee_den)
        check_range("fee_num1", self.fee_num1, 1, self.fee_den)

    def side(self, i: int) -> tuple[int, int, int, int]:
        """reserve_in, reserve_out, fee_num, fee_den for token i paid in."""
        if i == 0:
            return self.reserve0, self.reserve1, self.fee_num0, self.fee_den
        return self.reserve1, self.reserve0, self.fee_num1, self.fee_den


def exact_in(pair: V2Pair, i: int, j: int, amount_in: int) -> int:
    """What the pair pays for `amount_in` of token i: the router's figure, if the pair then takes it."""
    side = pair.side(i)
    amount_out = get_amount_out(amount_in, *side)
    if side[0] + amount_in > MAX_RESERVE:
        raise SwapRevertedError("UniswapV2: OVERFLOW")
    return amount_out


def exact_out(pair: V2Pair, i: int, j: int, amount_out: int) -> int:
    """The least input of token i for which the pair pays `amount_out`."""
    side = pair.side(i)
    get_amount_in(amount_out, *side)  # its reverts
    amount_in = least_input(amount_out, *side)
    if side[0] + amount_in > MAX_RESERVE:
        raise SwapRevertedError("UniswapV2: OVERFLOW")
    return amount_in


def params(pair: V2Pair) -> FloatArray:
    """reserve0, reserve1, and the share of an input of token0 and of token1 that counts."""
    gammas = pair.fee_num0 / pair.fee_den, pair.fee_num1 / pair.fee_den
    return np.array((float(pair.reserve0), float(pair.reserve1), *gammas))


@helper
def respond(params: Any, at: int, i: int, j: int, x: float) -> tuple[float, float, float]:
    """`family`: `y = g*x*s / (r + g*x)`."""
    r, s, gamma = params[at + i], params[at + j], params[at + 2 + i]
    if not (r > 0.0 and s > 0.0):
        return 0.0, 0.0, 0.0
    d = 1.0 / (r + gamma * x)
    c = gamma * d
    return c * x * s, c * d * r * s, c


def words(pair: V2Pair) -> WordArray:
    """reserve0 and reserve1 as four limbs each, then fee_num0, fee_num1, fee_den."""
    fees = pair.fee_num0, pair.fee_num1, pair.fee_den
    return np.array([*limbs(pair.reserve0), *limbs(pair.reserve1), *fees], dtype=np.uint64)


@helper
def quote(words: Any, at: int, i: int, j: int, x: Any) -> tuple[Any, bool]:
    """`exact_in`. No product here can outgrow 256 bits: 112 + 20 + 112."""
    r, s = load(words, at + 4 * i), load(words, at + 4 * j)
    limit = (u256(1) << 112) - 1
    if x == 0 or x > limit or r == 0 or s == 0 or r + x > limit:
        return u256(0), False
    with_fee = x * words[at + 8 + i]
    d = r * words[at + 10] + with_fee
    return _ratio(with_fee * s, d), True


@helper
def least(words: Any, at: int, i: int, j: int, y: Any) -> tuple[Any, bool]:
    """`exact_out`."""
    r, s = load(words, at + 4 * i), load(words, at + 4 * j)
    if y == 0 or y >= s or r == 0:
        return u256(0), False
    d = (s - y) * words[at + 8 + i]
    x = wide.div_up(r * y * words[at + 10], d)
    return x, r + x <= (u256(1) << 112) - 1


@helper
def _ratio(n: Any, d: Any) -> Any:
    """`n // d` of a quotient below 2**112: by the short division where the fee's denominator allows."""
    if low64(d >> 128) == 0:
        return wide.div128(n, d)[0]
    return wide.div(n, d)


def _sync(pair: V2Pair, log: Log) -> V2Pair:
    """Sync(uint112 reserve0, uint112 reserve1)."""
    _topics, data = log
    return replace(pair, reserve0=uint(data, 0), reserve1=uint(data, 1))


FAMILY = Family(
    name="uniswap_v2",
    code=1,
    state=V2Pair,
    coins=lambda pair: 2,
    exact_in=exact_in,
    exact_out=exact_out,
    params=params,
    words=words,
    events={topic("Sync(uint112,uint112)"): _sync},
)
