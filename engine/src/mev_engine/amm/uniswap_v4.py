"""Uniswap V4 pools without hooks and with a static fee: the contracts' integer arithmetic.

A pool with hooks or a dynamic fee is refused by name when its state is built: their swaps depend on
code and state outside the pool. Units and stepping: see `concentrated`. Amounts keep V3's sign here
(positive: exact input), which is the opposite of V4's `amountSpecified`.

What differs from V3: the protocol's fee comes on top of the LP fee, per direction; a step that uses up
the amount takes its input or output as it stands instead of from the price; amounts are int128; an
uncovered amount reverts in the quoter for exact input too.

Sources: Uniswap/v4-core Pool.sol (swap), SwapMath.sol, ProtocolFeeLibrary.sol, LPFeeLibrary.sol,
PoolManager.sol; Uniswap/v4-periphery V4Quoter.sol and BaseV4Quoter.sol.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from mev_engine.amm import concentrated_kernels as kernels
from mev_engine.amm.abi import signed, topic, uint
from mev_engine.amm.concentrated import (
    MAX_SQRT_PRICE,
    MIN_SQRT_PRICE,
    PIPS,
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

DYNAMIC_FEE_FLAG = 0x800000
MAX_PROTOCOL_FEE = 1000
_INT128_MAX, _UINT128_MAX = 2**127 - 1, 2**128 - 1


@dataclass(frozen=True, kw_only=True)
class V4Pool(ConcentratedPool):
    """State of a pool in the PoolManager.

    lp_fee: uint24 pips, `fee` of the pool's key. protocol_fee: slot0's uint24, two 12-bit fees in pips:
    the low one for token0 in, the high one for token1 in. hooks: address in the key, 0x0…0 for none.
    """

    MAX_TICK_SPACING: ClassVar[int] = 32767

    lp_fee: int
    protocol_fee: int = 0
    hooks: str = "0x" + "0" * 40

    def __post_init__(self) -> None:
        if int(self.hooks, 16):
            raise ValueError(f"hooks={self.hooks}: pools with hooks are not supported, only 0x0…0")
        if self.lp_fee & DYNAMIC_FEE_FLAG:
            raise ValueError(f"lp_fee={self.lp_fee:#x}: pools with a dynamic fee are not supported")
        super().__post_init__()
        check_range("lp_fee", self.lp_fee, 0, PIPS)
        check_range("protocol_fee", self.protocol_fee, 0, 2**24 - 1)
        check_range("protocol_fee, token0 in", self.protocol_fee & 0xFFF, 0, MAX_PROTOCOL_FEE)
        check_range("protocol_fee, token1 in", self.protocol_fee >> 12, 0, MAX_PROTOCOL_FEE)


def swap_fee(pool: V4Pool, *, zero_for_one: bool) -> int:
    """Pips taken of the input: `p + l - floor(p * l / 1e6)` (ProtocolFeeLibrary.calculateSwapFee)."""
    protocol = pool.protocol_fee & 0xFFF if zero_for_one else pool.protocol_fee >> 12
    return protocol + pool.lp_fee - protocol * pool.lp_fee // PIPS


def swap_step(price: int, target: int, liquidity: int, remaining: int, fee_pips: int) -> Step:
    """One step towards `target` (V4 SwapMath.computeSwapStep).

    `remaining`: positive for input still to be spent, negative for output still to be had.
    """
    zero_for_one = price >= target
    if remaining > 0:
        without_fee = remaining * (PIPS - fee_pips) // PIPS
        amount_in = input_delta(price, target, liquidity, zero_for_one=zero_for_one)
        if without_fee >= amount_in:
            after = target
            # at a fee of 100 % only a step without any input gets here
            fee = amount_in if fee_pips == PIPS else ceil_div(amount_in * fee_pips, PIPS - fee_pips)
        else:
            amount_in = without_fee
            after = next_price_from_input(price, liquidity, amount_in, zero_for_one=zero_for_one)
            fee = remaining - amount_in
        amount_out = output_delta(price, after, liquidity, zero_for_one=zero_for_one)
        return after, amount_in, amount_out, fee
    amount_out = output_delta(price, target, liquidity, zero_for_one=zero_for_one)
    if -remaining >= amount_out:
        after = target
    else:
        amount_out = -remaining
        after = next_price_from_output(price, liquidity, amount_out, zero_for_one=zero_for_one)
    amount_in = input_delta(price, after, liquidity, zero_for_one=zero_for_one)
    return after, amount_in, amount_out, ceil_div(amount_in * fee_pips, PIPS - fee_pips)


def swap(pool: V4Pool, *, zero_for_one: bool, amount: int, sqrt_price_limit_x96: int) -> Swap:
    """PoolManager.swap: positive `amount` is input, negative output; may stop at the limit, part filled."""
    fee_pips = swap_fee(pool, zero_for_one=zero_for_one)
    if amount == 0:
        raise SwapRevertedError("SwapAmountCannotBeZero")
    if fee_pips >= PIPS and amount < 0:
        raise SwapRevertedError("InvalidFeeForExactOut")
    if zero_for_one:
        exceeded, inside = sqrt_price_limit_x96 >= pool.sqrt_price_x96, sqrt_price_limit_x96 > MIN_SQRT_PRICE
    else:
        exceeded, inside = sqrt_price_limit_x96 <= pool.sqrt_price_x96, sqrt_price_limit_x96 < MAX_SQRT_PRICE
    if exceeded:
        raise SwapRevertedError("PriceLimitAlreadyExceeded")
    if not inside:
        raise SwapRevertedError("PriceLimitOutOfBounds")
    result = walk(
        pool,
        swap_step,
        zero_for_one=zero_for_one,
        amount=amount,
        limit=sqrt_price_limit_x96,
        fee_pips=fee_pips,
    )
    if max(result.amount_in, result.amount_out) > _INT128_MAX:
        raise SwapRevertedError("SafeCastOverflow")
    return result


def _quote(pool: V4Pool, amount: int, *, zero_for_one: bool) -> Swap:
    if abs(amount) > _UINT128_MAX:
        raise SwapRevertedError("amount does not fit the quoter's uint128 (ABI decoding reverts)")
    price = extreme_price(zero_for_one=zero_for_one)
    result = swap(pool, zero_for_one=zero_for_one, amount=amount, sqrt_price_limit_x96=price)
    if amount != (result.amount_in if amount > 0 else -result.amount_out):
        raise SwapRevertedError("NotEnoughLiquidity")
    return result


def exact_in(pool: V4Pool, amount_in: int, *, zero_for_one: bool) -> Swap:
    """V4Quoter.quoteExactInputSingle: all of `amount_in` or revert.

    From 2**127 on, which no swap can take, the quoter's cast to int128 wraps, and it answers for an
    exact *output* of `2**128 - amount_in`; here such an input is refused, as the PoolManager does.
    """
    check_range("amount_in", amount_in, 0, 2**256 - 1)
    return _quote(pool, amount_in, zero_for_one=zero_for_one)


def exact_out(pool: V4Pool, amount_out: int, *, zero_for_one: bool) -> Swap:
    """V4Quoter.quoteExactOutputSingle: all of `amount_out` or revert."""
    check_range("amount_out", amount_out, 0, 2**256 - 1)
    return _quote(pool, -amount_out, zero_for_one=zero_for_one)


def marginal_price(pool: V4Pool, *, zero_for_one: bool) -> float:
    """Output per input, raw units, for the first infinitesimal input, after both fees."""
    return marginal_rate(pool, swap_fee(pool, zero_for_one=zero_for_one), zero_for_one=zero_for_one)


# --- The family -------------------------------------------------------------------------------------


def _exact_in(pool: V4Pool, i: int, j: int, amount_in: int) -> int:
    result = exact_in(pool, amount_in, zero_for_one=i == 0)
    if result.amount_in != amount_in:
        raise SwapRevertedError(f"the pool takes {result.amount_in} of {amount_in}")
    return result.amount_out


def _exact_out(pool: V4Pool, i: int, j: int, amount_out: int) -> int:
    return exact_out(pool, amount_out, zero_for_one=i == 0).amount_in


def _fees(pool: V4Pool) -> tuple[int, int]:
    return swap_fee(pool, zero_for_one=True), swap_fee(pool, zero_for_one=False)


def params(pool: V4Pool) -> FloatArray:
    """See `concentrated_kernels`."""
    return kernels.params(pool, _fees(pool))


def words(pool: V4Pool) -> WordArray:
    """See `concentrated_kernels`."""
    return kernels.words(pool, _fees(pool))


def head(pool: V4Pool) -> tuple[list[float], list[int]]:
    """See `Family.head`."""
    return kernels.float_head(pool, _fees(pool)), kernels.word_head(pool, _fees(pool))


def _swap_event(pool: V4Pool, log: Log) -> V4Pool:
    """Swap(id, sender, amount0, amount1, sqrtPriceX96, liquidity, tick, fee)."""
    _topics, data = log
    price, liquidity = uint(data, 2), uint(data, 3)
    return pool.moved(price, signed(data, 4), liquidity)


def _modify_event(pool: V4Pool, log: Log) -> V4Pool:
    """ModifyLiquidity(id, sender, tickLower, tickUpper, liquidityDelta, salt)."""
    _topics, data = log
    return pool.changed(signed(data, 0), signed(data, 1), signed(data, 2))


def _protocol_fee_event(pool: V4Pool, log: Log) -> V4Pool:
    """ProtocolFeeUpdated(id, protocolFee)."""
    _topics, data = log
    return replace(pool, protocol_fee=uint(data, 0))


FAMILY = Family(
    name="uniswap_v4",
    code=3,
    state=V4Pool,
    coins=lambda pool: 2,
    exact_in=_exact_in,
    exact_out=_exact_out,
    params=params,
    words=words,
    head=head,
    events={
        topic("Swap(bytes32,address,int128,int128,uint160,uint128,int24,uint24)"): _swap_event,
        topic("ModifyLiquidity(bytes32,address,int24,int24,int256,bytes32)"): _modify_event,
        topic("ProtocolFeeUpdated(bytes32,uint24)"): _protocol_fee_event,
    },
)
