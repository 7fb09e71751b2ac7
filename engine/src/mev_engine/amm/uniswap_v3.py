"""Uniswap V3 pools: the contracts' integer arithmetic, step by step over the whole tick map.

The same arithmetic, with another fee or spacing, is PancakeSwap V3's and Aerodrome Slipstream's (whose
fee module may change the fee: take it from the pool's `fee()`); their protocol and gauge shares come
out of the fee and change no amount. Units and stepping: see `concentrated`.

Sources: Uniswap/v3-core UniswapV3Pool.sol (swap) and SwapMath.sol; Uniswap/v3-periphery QuoterV2.sol.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from mev_engine.amm import concentrated_kernels as kernels
from mev_engine.amm.abi import signed, topic, topic_signed, uint
from mev_engine.amm.concentrated import (
    MAX_SQRT_PRICE,
    MIN_SQRT_PRICE,
    PIPS,
    Q96,
    ConcentratedPool,
    Step,
    Swap,
    ceil_div,
    check_range,
    extreme_price,
    input_delta,
    marginal_rate,
    next_price_from_input,
    next_price_from_output,
    output_delta,
    walk,
)
from mev_engine.amm.errors import SwapRevertedError
from mev_engine.amm.family import Family, Log
from mev_engine.types import FloatArray, WordArray

_INT256_MAX = 2**255 - 1


@dataclass(frozen=True, kw_only=True)
class V3Pool(ConcentratedPool):
    """A pool of Uniswap V3 or of a fork with its arithmetic. fee_pips: uint24, millionths of the input."""

    MAX_TICK_SPACING: ClassVar[int] = 16383

    fee_pips: int

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("fee_pips", self.fee_pips, 0, PIPS - 1)


def swap_step(price: int, target: int, liquidity: int, remaining: int, fee_pips: int) -> Step:
    """One step towards `target` (SwapMath.computeSwapStep).

    `remaining`: positive for input still to be spent, negative for output still to be had.
    """
    zero_for_one = price >= target
    exact_in = remaining >= 0
    amount_in = amount_out = 0
    if exact_in:
        without_fee = remaining * (PIPS - fee_pips) // PIPS
        amount_in = input_delta(price, target, liquidity, zero_for_one=zero_for_one)
        if without_fee >= amount_in:
            after = target
        else:
            after = next_price_from_input(price, liquidity, without_fee, zero_for_one=zero_for_one)
    else:
        amount_out = output_delta(price, target, liquidity, zero_for_one=zero_for_one)
        if -remaining >= amount_out:
            after = target
        else:
            after = next_price_from_output(price, liquidity, -remaining, zero_for_one=zero_for_one)
    reached = after == target
    if not (reached and exact_in):
        amount_in = input_delta(price, after, liquidity, zero_for_one=zero_for_one)
    if not (reached and not exact_in):
        amount_out = output_delta(price, after, liquidity, zero_for_one=zero_for_one)
    if not exact_in:
        amount_out = min(amount_out, -remaining)
    if exact_in and not reached:
        return after, amount_in, amount_out, remaining - amount_in
    return after, amount_in, amount_out, ceil_div(amount_in * fee_pips, PIPS - fee_pips)


def swap(pool: V3Pool, *, zero_for_one: bool, amount: int, sqrt_price_limit_x96: int) -> Swap:
    """UniswapV3Pool.swap: positive `amount` is input, negative output; may stop at the limit, part filled."""
    if amount == 0:
        raise SwapRevertedError("AS")
    if zero_for_one:
        allowed = MIN_SQRT_PRICE < sqrt_price_limit_x96 < pool.sqrt_price_x96
    else:
        allowed = pool.sqrt_price_x96 < sqrt_price_limit_x96 < MAX_SQRT_PRICE
    if not allowed:
        raise SwapRevertedError("SPL")
    return walk(
        pool,
        swap_step,
        zero_for_one=zero_for_one,
        amount=amount,
        limit=sqrt_price_limit_x96,
        fee_pips=pool.fee_pips,
    )


def _quote(pool: V3Pool, amount: int, *, zero_for_one: bool, limit: int | None) -> Swap:
    if abs(amount) > _INT256_MAX:
        raise SwapRevertedError("SafeCast: toInt256")
    price = extreme_price(zero_for_one=zero_for_one) if limit is None else limit
    result = swap(pool, zero_for_one=zero_for_one, amount=amount, sqrt_price_limit_x96=price)
    if result.amount_in <= 0:
        raise SwapRevertedError("QuoterV2: nothing to pay: the whole swap is where there is no liquidity")
    return result


def exact_in(pool: V3Pool, amount_in: int, *, zero_for_one: bool, limit: int | None = None) -> Swap:
    """QuoterV2.quoteExactInputSingle. A pool that runs dry takes less than `amount_in`, without revert.

    Where it takes nothing at all, quoter and router revert (uniswapV3SwapCallback), but not the pool.
    """
    if amount_in < 0:
        raise SwapRevertedError("SafeCast: toInt256")
    return _quote(pool, amount_in, zero_for_one=zero_for_one, limit=limit)


def exact_out(pool: V3Pool, amount_out: int, *, zero_for_one: bool, limit: int | None = None) -> Swap:
    """QuoterV2.quoteExactOutputSingle. Without a limit it is all or revert; with one, what there is.

    As with `exact_in`, nothing at all to pay is a revert.
    """
    if amount_out < 0:
        raise SwapRevertedError("SafeCast: toInt256")
    result = _quote(pool, -amount_out, zero_for_one=zero_for_one, limit=limit)
    if limit is None and result.amount_out != amount_out:
        raise SwapRevertedError("QuoterV2: amountReceived != amountOutCached")
    return result


def marginal_price(pool: V3Pool, *, zero_for_one: bool) -> float:
    """Output per input, raw units, for the first infinitesimal input, after the fee."""
    return marginal_rate(pool, pool.fee_pips, zero_for_one=zero_for_one)


# --- The family -------------------------------------------------------------------------------------


def _exact_in(pool: V3Pool, i: int, j: int, amount_in: int) -> int:
    result = exact_in(pool, amount_in, zero_for_one=i == 0)
    if result.amount_in != amount_in:
        raise SwapRevertedError(f"the pool takes {result.amount_in} of {amount_in}")
    return result.amount_out


def _exact_out(pool: V3Pool, i: int, j: int, amount_out: int) -> int:
    return exact_out(pool, amount_out, zero_for_one=i == 0).amount_in


def _fees(pool: V3Pool) -> tuple[int, int]:
    return pool.fee_pips, pool.fee_pips


def params(pool: V3Pool) -> FloatArray:
    """See `concentrated_kernels`."""
    return kernels.params(pool, _fees(pool))


def words(pool: V3Pool) -> WordArray:
    """See `concentrated_kernels`."""
    return kernels.words(pool, _fees(pool))


def head(pool: V3Pool) -> tuple[list[float], list[int]]:
    """See `Family.head`."""
    return kernels.float_head(pool, _fees(pool)), kernels.word_head(pool, _fees(pool))


def empty(fee_pips: int, tick_spacing: int) -> V3Pool:
    """A pool that is not initialised yet, as the market holds it: no liquidity, so that it trades nothing.

    Its slot0 is all zero, which no V3Pool can have: the price stands at 1 until Initialize sets it.
    """
    return V3Pool(
        sqrt_price_x96=Q96, tick=0, liquidity=0, tick_spacing=tick_spacing, fee_pips=fee_pips,
        ticks={}, gross={},
    )  # fmt: skip


def _initialize_event(pool: V3Pool, log: Log) -> V3Pool:
    """Initialize(sqrtPriceX96, tick): comes once, and before any position can exist."""
    _topics, data = log
    return replace(pool, sqrt_price_x96=uint(data, 0), tick=signed(data, 1), liquidity=0, ticks={}, gross={})


def _swap_event(pool: V3Pool, log: Log) -> V3Pool:
    """Swap(sender, recipient, amount0, amount1, sqrtPriceX96, liquidity, tick[, two protocol fees])."""
    _topics, data = log
    price, liquidity = uint(data, 2), uint(data, 3)
    return pool.moved(price, signed(data, 4), liquidity)


def _mint_event(pool: V3Pool, log: Log) -> V3Pool:
    """Mint(sender, owner, tickLower, tickUpper, amount, amount0, amount1)."""
    topics, data = log
    return pool.changed(topic_signed(topics[2]), topic_signed(topics[3]), uint(data, 1))


def _burn_event(pool: V3Pool, log: Log) -> V3Pool:
    """Burn(owner, tickLower, tickUpper, amount, amount0, amount1)."""
    topics, data = log
    return pool.changed(topic_signed(topics[2]), topic_signed(topics[3]), -uint(data, 0))


_SWAP = "Swap(address,address,int256,int256,uint160,uint128,int24"
FAMILY = Family(
    name="uniswap_v3",
    code=2,
    state=V3Pool,
    coins=lambda pool: 2,
    exact_in=_exact_in,
    exact_out=_exact_out,
    params=params,
    words=words,
    head=head,
    events={
        topic("Initialize(uint160,int24)"): _initialize_event,
        topic(f"{_SWAP})"): _swap_event,
        topic(f"{_SWAP},uint128,uint128)"): _swap_event,  # PancakeSwap
        topic("Mint(address,address,int24,int24,uint128,uint256,uint256)"): _mint_event,
        topic("Burn(address,int24,int24,uint128,uint256,uint256)"): _burn_event,
    },
)
