"""Concentrated liquidity: what Uniswap V3 and V4 pools share, in exact integers.

Amounts are Python integers in raw token units; prices are `sqrt(token1 / token0) * 2**96`; fees are in
pips (millionths of the input). Where the contract reverts, `SwapRevertedError` carries its reason.
A swap stops at each initialised tick **and at each edge of a bitmap word** (256 tick spacings), as the
contracts' does: rounding and fee are per step, so leaving out an edge gives another answer.

Sources: Uniswap/v3-core TickMath, TickBitmap, SqrtPriceMath, LiquidityMath and the loop of
UniswapV3Pool.swap; Uniswap/v4-core libraries of the same names and Pool.swap give the same values.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from functools import cached_property, lru_cache
from itertools import accumulate
from typing import ClassVar, Self

from mev_engine.amm.errors import SwapRevertedError, UnknownStateError

MIN_TICK, MAX_TICK = -887272, 887272
MIN_SQRT_PRICE = 4295128739
MAX_SQRT_PRICE = 1461446703485210103287273052203988822378723970342
PIPS = 10**6
Q96 = 2**96
_UINT128, _UINT160, _UINT256 = 2**128, 2**160, 2**256


# --- TickMath --------------------------------------------------------------------------------------


def tick_factors() -> tuple[int, ...]:
    """The 20 constants of TickMath.getSqrtRatioAtTick: `2**128 * 1.0001**(-2**i / 2)` to the nearest."""
    with localcontext() as context:
        context.prec = 80
        root, half = Decimal("1.0001").sqrt(), Decimal(2**128)
        exact = (half / root ** (2**i) for i in range(20))
        return tuple(int(x.to_integral_value(ROUND_HALF_EVEN)) for x in exact)


_FACTORS = tick_factors()


@lru_cache(maxsize=2**16)
def sqrt_price_at_tick(tick: int) -> int:
    """`1.0001**(tick / 2) * 2**96` as TickMath.getSqrtRatioAtTick rounds it (up in the last step)."""
    if not MIN_TICK <= tick <= MAX_TICK:
        raise SwapRevertedError("T")
    ratio = _UINT128
    for i, factor in enumerate(_FACTORS):
        if abs(tick) >> i & 1:
            ratio = ratio * factor >> 128
    if tick > 0:
        ratio = (_UINT256 - 1) // ratio
    return -(-ratio >> 32)


def tick_at_sqrt_price(sqrt_price: int) -> int:
    """Greatest tick whose price is at most this one: TickMath.getTickAtSqrtRatio.

    The contract takes an integer logarithm and settles the last unit by comparing prices; the float
    logarithm here is settled by the same comparison, so the answer is the same.
    """
    if not MIN_SQRT_PRICE <= sqrt_price < MAX_SQRT_PRICE:
        raise SwapRevertedError("R")
    guess = math.floor(2 * (math.log(sqrt_price) - 96 * math.log(2)) / math.log(1.0001))
    tick = min(max(guess, MIN_TICK), MAX_TICK - 1)
    while sqrt_price_at_tick(tick) > sqrt_price:
        tick -= 1
    while sqrt_price_at_tick(tick + 1) <= sqrt_price:
        tick += 1
    return tick


# --- SqrtPriceMath ---------------------------------------------------------------------------------


def ceil_div(numerator: int, denominator: int) -> int:
    """`numerator / denominator` rounded up; the denominator is positive."""
    return -(-numerator // denominator)


def amount0_delta(price_a: int, price_b: int, liquidity: int, *, round_up: bool) -> int:
    """Token0 between two prices: `L * 2**96 * (upper - lower) / (upper * lower)` (getAmount0Delta)."""
    lower, upper = min(price_a, price_b), max(price_a, price_b)
    numerator = (liquidity << 96) * (upper - lower)
    if round_up:
        return ceil_div(ceil_div(numerator, upper), lower)
    return numerator // upper // lower


def amount1_delta(price_a: int, price_b: int, liquidity: int, *, round_up: bool) -> int:
    """Token1 between two prices: `L * (upper - lower) / 2**96` (getAmount1Delta)."""
    numerator = liquidity * abs(price_b - price_a)
    return ceil_div(numerator, Q96) if round_up else numerator // Q96


def _next_price_from_amount0(price: int, liquidity: int, amount: int, *, add: bool) -> int:
    """`L*P / (L +- amount*P)` rounded up (getNextSqrtPriceFromAmount0RoundingUp)."""
    if amount == 0:
        return price
    numerator, product = liquidity << 96, amount * price
    if add:
        if product < _UINT256 and numerator + product < _UINT256:
            return ceil_div(numerator * price, numerator + product)
        # the contract's less precise form for a product that overflows 256 bits
        return ceil_div(numerator, numerator // price + amount)
    if product >= _UINT256 or numerator <= product:
        raise SwapRevertedError("SqrtPriceMath: amount of token0 out exceeds the virtual reserve")
    result = ceil_div(numerator * price, numerator - product)
    if result >= _UINT160:
        raise SwapRevertedError("SafeCast: toUint160")
    return result


def _next_price_from_amount1(price: int, liquidity: int, amount: int, *, add: bool) -> int:
    """`P +- amount * 2**96 / L` rounded down (getNextSqrtPriceFromAmount1RoundingDown)."""
    if add:
        result = price + (amount << 96) // liquidity
        if result >= _UINT160:
            raise SwapRevertedError("SafeCast: toUint160")
        return result
    quotient = ceil_div(amount << 96, liquidity)
    if price <= quotient:
        raise SwapRevertedError("SqrtPriceMath: amount of token1 out exceeds the virtual reserve")
    return price - quotient


def next_price_from_input(price: int, liquidity: int, amount_in: int, *, zero_for_one: bool) -> int:
    """Price after an input without its fee, rounded so as not to pass the true one (…FromInput)."""
    if price <= 0 or liquidity <= 0:
        raise SwapRevertedError("SqrtPriceMath: price and liquidity must be positive")
    move = _next_price_from_amount0 if zero_for_one else _next_price_from_amount1
    return move(price, liquidity, amount_in, add=True)


def next_price_from_output(price: int, liquidity: int, amount_out: int, *, zero_for_one: bool) -> int:
    """Price after an output, rounded so as to pass the true one (getNextSqrtPriceFromOutput)."""
    if price <= 0 or liquidity <= 0:
        raise SwapRevertedError("SqrtPriceMath: price and liquidity must be positive")
    move = _next_price_from_amount1 if zero_for_one else _next_price_from_amount0
    return move(price, liquidity, amount_out, add=False)


def input_delta(price: int, target: int, liquidity: int, *, zero_for_one: bool) -> int:
    """Input, without its fee, that moves the price to the target; rounded up."""
    delta = amount0_delta if zero_for_one else amount1_delta
    return delta(price, target, liquidity, round_up=True)


def output_delta(price: int, target: int, liquidity: int, *, zero_for_one: bool) -> int:
    """Output of moving the price to the target; rounded down."""
    delta = amount1_delta if zero_for_one else amount0_delta
    return delta(price, target, liquidity, round_up=False)


Step = tuple[int, int, int, int]
"""Price after the step, input without fee, output, fee."""


# --- The pool --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ConcentratedPool:
    """State that V3 and V4 pools share.

    sqrt_price_x96: uint160, current price. tick: int24 of slot0 (one below the price's own when the
    last swap went down exactly to an initialised tick). liquidity: uint128 in range.
    ticks: every initialised tick to its liquidityNet (int128), also where that is 0: each is a step.
    gross: each of these ticks to its liquidityGross, where it is known; only `changed` needs it.
    known: lowest and highest tick between which `ticks` is all there is; by default the whole map, which
    must then net to zero and give `liquidity` at `tick`. Beyond it no answer is guessed.
    """

    MAX_TICK_SPACING: ClassVar[int]

    sqrt_price_x96: int
    tick: int
    liquidity: int
    tick_spacing: int
    ticks: Mapping[int, int]
    known: tuple[int, int] = (MIN_TICK, MAX_TICK)
    gross: Mapping[int, int] | None = None

    def __post_init__(self) -> None:
        check_range("tick_spacing", self.tick_spacing, 1, self.MAX_TICK_SPACING)
        check_range("sqrt_price_x96", self.sqrt_price_x96, MIN_SQRT_PRICE, MAX_SQRT_PRICE - 1)
        check_range("tick", self.tick, MIN_TICK, MAX_TICK - 1)
        check_range("liquidity", self.liquidity, 0, _UINT128 - 1)
        check_range("known[0]", self.known[0], MIN_TICK, self.tick)
        check_range("known[1]", self.known[1], self.tick + 1, MAX_TICK)
        if not sqrt_price_at_tick(self.tick) <= self.sqrt_price_x96 <= sqrt_price_at_tick(self.tick + 1):
            raise ValueError(f"tick={self.tick} is not that of sqrt_price_x96={self.sqrt_price_x96}")
        for tick, net in self.ticks.items():
            check_range("ticks: tick", tick, *self.known)
            check_range(f"ticks[{tick}]", net, -(2**127), 2**127 - 1)
            if tick % self.tick_spacing:
                raise ValueError(f"ticks: {tick} is not a multiple of tick_spacing={self.tick_spacing}")
        if self.known == (MIN_TICK, MAX_TICK):
            self._check_whole()

    def _check_whole(self) -> None:
        running = 0
        for tick in self.order:
            running += self.ticks[tick]
            check_range(f"liquidity above tick {tick}", running, 0, _UINT128 - 1)
        if running:
            raise ValueError(f"ticks: liquidityNet sums to {running}, not to 0: the map is not whole")
        here = sum(self.ticks[t] for t in self.order[: bisect_right(self.order, self.tick)])
        if here != self.liquidity:
            raise ValueError(
                f"liquidity={self.liquidity}, but ticks give {here} at tick {self.tick}: not of one block"
            )

    @cached_property
    def order(self) -> tuple[int, ...]:
        """The initialised ticks, ascending."""
        return tuple(sorted(self.ticks))

    def next_tick(self, tick: int, *, zero_for_one: bool) -> tuple[int, bool]:
        """Next stop and whether it is initialised (TickBitmap.nextInitializedTickWithinOneWord)."""
        spacing, order = self.tick_spacing, self.order
        compressed = tick // spacing
        if zero_for_one:
            edge = (compressed >> 8 << 8) * spacing
            i = bisect_right(order, compressed * spacing) - 1
            return (order[i], True) if i >= 0 and order[i] >= edge else (edge, False)
        edge = (compressed + 1 | 255) * spacing
        i = bisect_left(order, (compressed + 1) * spacing)
        return (order[i], True) if i < len(order) and order[i] <= edge else (edge, False)

    @cached_property
    def below(self) -> tuple[int, ...]:
        """Liquidity added by the first 0, 1, 2 … of the ticks in `order`."""
        return tuple(accumulate((self.ticks[tick] for tick in self.order), initial=0))

    @property
    def cursor(self) -> int:
        """How many of the initialised ticks are at or below the current one."""
        return bisect_right(self.order, self.tick)

    def after(self, swap: Swap) -> Self:
        """The pool after a swap that was computed on it."""
        return replace(self, sqrt_price_x96=swap.sqrt_price_x96, tick=swap.tick, liquidity=swap.liquidity)

    def moved(self, sqrt_price_x96: int, tick: int, liquidity: int) -> Self:
        """The pool after a Swap event. Ticks do not change, so they are not checked anew: only that
        they give the event's liquidity, where UnknownStateError says that an event was missed."""
        here, there = self.cursor, bisect_right(self.order, tick)
        if not self.known[0] <= tick < self.known[1]:
            raise UnknownStateError(f"tick {tick} is beyond the known {self.known}: read the pool anew")
        expected = self.liquidity + self.below[there] - self.below[here]
        if liquidity != expected:
            raise UnknownStateError(
                f"the swap says liquidity {liquidity} at tick {tick}, the ticks give {expected}: "
                "a Mint or Burn was missed, read the pool anew"
            )
        result = copy(self)
        for name, value in (("sqrt_price_x96", sqrt_price_x96), ("tick", tick), ("liquidity", liquidity)):
            object.__setattr__(result, name, value)
        return result

    def changed(self, lower: int, upper: int, delta: int) -> Self:
        """The pool after `delta` liquidity was put between two ticks, or taken out (negative).

        A tick is there as long as positions end on it: `gross` knows; without it a net that becomes 0
        leaves that open, and UnknownStateError says so.
        """
        if delta == 0:
            return self
        ticks, gross = dict(self.ticks), None if self.gross is None else dict(self.gross)
        for tick, sign in ((lower, 1), (upper, -1)):
            ticks[tick] = ticks.get(tick, 0) + sign * delta
            if gross is not None:
                gross[tick] = gross.get(tick, 0) + delta
                if gross[tick] == 0:
                    del gross[tick], ticks[tick]
            elif delta < 0 and ticks[tick] == 0:
                raise UnknownStateError(f"tick {tick}: its liquidityGross is unknown: read the pool anew")
        inside = lower <= self.tick < upper
        liquidity = self.liquidity + (delta if inside else 0)
        return replace(self, ticks=ticks, gross=gross, liquidity=liquidity)


def check_range(name: str, value: int, low: int, high: int) -> None:
    """ValueError naming the field and its value unless `low <= value <= high`."""
    if not low <= value <= high:
        raise ValueError(f"{name}={value} is not in [{low}, {high}]")


@dataclass(frozen=True)
class Swap:
    """What a swap moves, raw units, fee included in the input; the pool's new state; its course.

    steps: passes through the contract's loop; crossed: initialised ticks crossed. Both cost gas.
    """

    amount_in: int
    amount_out: int
    sqrt_price_x96: int
    tick: int
    liquidity: int
    steps: int
    crossed: int


def walk(
    pool: ConcentratedPool,
    step: Callable[[int, int, int, int, int], Step],
    *,
    zero_for_one: bool,
    amount: int,
    limit: int,
    fee_pips: int,
) -> Swap:
    """The loop of UniswapV3Pool.swap and of V4's Pool.swap, whose `step` differs.

    `amount`: positive for exact input, negative for exact output, as in V3. Stops when it is used up or
    the price is `limit`. UnknownStateError when the swap would leave `pool.known`. Exact output is not
    always the least input: a step whose whole range rounds down to just what is left runs to its stop.
    """
    remaining, calculated, steps, crossed = amount, 0, 0, 0
    price, tick, liquidity = pool.sqrt_price_x96, pool.tick, pool.liquidity
    while remaining != 0 and price != limit:
        steps += 1
        start = price
        following, initialised = pool.next_tick(tick, zero_for_one=zero_for_one)
        stop = min(max(following, pool.known[0]), pool.known[1])
        stop_price = sqrt_price_at_tick(stop)
        target = max(stop_price, limit) if zero_for_one else min(stop_price, limit)
        price, amount_in, amount_out, fee = step(price, target, liquidity, remaining, fee_pips)
        if amount > 0:
            remaining -= amount_in + fee
            calculated += amount_out
        else:
            remaining += amount_out
            calculated += amount_in + fee
        if price == stop_price:
            if stop != following:  # a whole map never gets here: the limits lie inside its last ticks
                raise UnknownStateError(f"the swap leaves the known ticks {pool.known}: load more of them")
            if initialised:
                crossed += 1
                liquidity = _cross(liquidity, pool.ticks[stop], zero_for_one=zero_for_one)
            tick = stop - 1 if zero_for_one else stop
        elif price != start:
            tick = tick_at_sqrt_price(price)
    used = amount - remaining
    amount_in, amount_out = (used, calculated) if amount > 0 else (calculated, -used)
    return Swap(amount_in, amount_out, price, tick, liquidity, steps, crossed)


def _cross(liquidity: int, net: int, *, zero_for_one: bool) -> int:
    """Liquidity on the other side of a tick (LiquidityMath.addDelta)."""
    result = liquidity - net if zero_for_one else liquidity + net
    if result < 0:
        raise SwapRevertedError("LS")
    if result >= _UINT128:
        raise SwapRevertedError("LA")
    return result


def extreme_price(*, zero_for_one: bool) -> int:
    """The furthest limit that a swap may have, which periphery contracts put for none."""
    return MIN_SQRT_PRICE + 1 if zero_for_one else MAX_SQRT_PRICE - 1


def marginal_rate(pool: ConcentratedPool, fee_pips: int, *, zero_for_one: bool) -> float:
    """Output per input, raw units, for the first infinitesimal input, after the fee; 0 if there is none.

    Where the current range has no liquidity the price moves freely to the next range that has some.
    """
    price, tick, liquidity = pool.sqrt_price_x96, pool.tick, pool.liquidity
    while liquidity == 0:
        stop, initialised = pool.next_tick(tick, zero_for_one=zero_for_one)
        if not pool.known[0] <= stop <= pool.known[1]:
            return 0.0
        price = sqrt_price_at_tick(stop)
        tick = stop - 1 if zero_for_one else stop
        if initialised:
            liquidity = _cross(liquidity, pool.ticks[stop], zero_for_one=zero_for_one)
    ratio = (price / Q96) ** 2
    return (ratio if zero_for_one else 1.0 / ratio) * (1.0 - fee_pips / PIPS)
