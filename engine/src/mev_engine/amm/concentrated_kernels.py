"""Concentrated liquidity in kernels: the walk over ticks of Uniswap V3 and V4, in float64 and to the wei.

The Python integers of `concentrated`, `uniswap_v3` and `uniswap_v4` are the reference; V4 differs from V3
in one step's rounding only (`is_v4`). Token i is paid in: i = 0 moves the price down.

Floats (`params`): sqrt of the price (raw token1 per raw token0), liquidity, share of an input of token0 and
of token1 that counts, number n of initialised ticks, of which `cursor` are at or below the current
one; then n square roots of prices, then n + 1 liquidities, that below the first tick first.

Words (`words`): sqrt_price_x96 and liquidity as four limbs each; tick, fee of an input of token0, of token1
(pips), tick spacing, n, cursor, lowest and highest known tick; then n ticks, n nets of two limbs (two's
complement) and n prices of four limbs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mev_engine import wide
from mev_engine.amm.concentrated import (
    MAX_SQRT_PRICE,
    MIN_SQRT_PRICE,
    PIPS,
    Q96,
    ConcentratedPool,
    sqrt_price_at_tick,
    tick_factors,
)
from mev_engine.jit import helper
from mev_engine.types import FloatArray, WordArray
from mev_engine.wide import constant, limbs, load, low64, u256

PARAMS_HEAD, WORDS_HEAD = 6, 16
_PIPS = np.uint64(PIPS)
_LOWEST, _HIGHEST = hex(MIN_SQRT_PRICE + 1), hex(MAX_SQRT_PRICE - 1)
_FACTORS = np.array([(f & 2**64 - 1, f >> 64) for f in tick_factors()], dtype=np.uint64)


# --- float64 ------------------------------------------------------------------------------------------


def float_head(pool: ConcentratedPool, fees: tuple[int, int]) -> list[float]:
    """The part of `params` that a swap changes."""
    gammas = (1.0 - fee / PIPS for fee in fees)
    return [
        pool.sqrt_price_x96 / Q96,
        float(pool.liquidity),
        *gammas,
        float(len(pool.order)),
        float(pool.cursor),
    ]


def params(pool: ConcentratedPool, fees: tuple[int, int]) -> FloatArray:
    """The layout above; `fees` in pips for an input of token0 and of token1."""
    order = pool.order
    lowest = pool.liquidity - pool.below[pool.cursor]  # 0 but for a window of a map
    roots = [sqrt_price_at_tick(tick) / Q96 for tick in order]
    return np.array(float_head(pool, fees) + roots + [float(lowest + more) for more in pool.below])


@helper
def respond(params: Any, at: int, i: int, j: int, x: float) -> tuple[float, float, float]:
    """`family`: piecewise the constant product of the virtual reserves `L/s` and `L*s`, s the root of the
    price. Ranges without liquidity are passed at no cost."""
    s, liquidity, gamma = params[at], params[at + 1], params[at + 2 + i]
    n, k = int(params[at + 4]), int(params[at + 5])
    roots, ranges = at + PARAMS_HEAD, at + PARAMS_HEAD + n
    rest, y = gamma * x, 0.0
    while True:
        if i == 0:
            last = k == 0
            stop = 0.0 if last else params[roots + k - 1]
            room = liquidity * (s - stop) / (s * stop) if not last else np.inf
        else:
            last = k == n
            stop = np.inf if last else params[roots + k]
            room = liquidity * (stop - s) if not last else np.inf
        if liquidity > 0.0 and rest < room:
            break
        if last:
            return y, 0.0, 0.0
        if liquidity > 0.0:
            rest -= room
            y += liquidity * (s - stop) if i == 0 else liquidity * (stop - s) / (s * stop)
        s = stop
        k += -1 if i == 0 else 1
        liquidity = params[ranges + k]
    if i == 0:
        after = s * liquidity / (liquidity + rest * s)
        return y + rest * s * after, gamma * after * after, gamma * after / liquidity
    after = s + rest / liquidity
    return y + rest / (s * after), gamma / (after * after), gamma / (after * liquidity)


# --- To the wei ---------------------------------------------------------------------------------------


def word_head(pool: ConcentratedPool, fees: tuple[int, int]) -> list[int]:
    """The part of `words` that a swap changes."""
    numbers = pool.tick, *fees, pool.tick_spacing, len(pool.order), pool.cursor, *pool.known
    return [*limbs(pool.sqrt_price_x96), *limbs(pool.liquidity), *(n % 2**64 for n in numbers)]


def words(pool: ConcentratedPool, fees: tuple[int, int]) -> WordArray:
    """The layout above; `fees` in pips for an input of token0 and of token1."""
    order = pool.order
    result = word_head(pool, fees)
    result += [tick % 2**64 for tick in order]
    for tick in order:
        result += limbs(pool.ticks[tick] % 2**128, 2)
    for tick in order:
        result += limbs(sqrt_price_at_tick(tick))
    return np.array(result, dtype=np.uint64)


@helper
def price_at_tick(tick: int) -> Any:
    """`concentrated.sqrt_price_at_tick`."""
    steps = abs(tick)
    ratio = u256(1) << 128
    for k in range(20):
        if steps >> k & 1:
            factor = (u256(_FACTORS[k, 1]) << 64) | u256(_FACTORS[k, 0])
            ratio = (ratio * factor) >> 128
    if tick > 0:
        ratio = wide.div(~u256(0), ratio)
    rest = low64(ratio) & np.uint64(2**32 - 1)
    return (ratio >> 32) + (1 if rest else 0)


@helper
def _amount0(lower: Any, upper: Any, liquidity: Any, up: bool) -> Any:
    """`concentrated.amount0_delta`; the first quotient fits, as liquidity has 128 bits."""
    if up:
        part, _fits = wide.mul_div_up(liquidity << 96, upper - lower, upper)
        return wide.div_up(part, lower)
    part, _fits = wide.mul_div(liquidity << 96, upper - lower, upper)
    return wide.div(part, lower)


@helper
def _amount1(lower: Any, upper: Any, liquidity: Any, up: bool) -> Any:
    """`concentrated.amount1_delta`."""
    product = wide.times(liquidity, upper - lower)
    amount = u256(product >> 96)
    if up and low64(product) | (low64(product >> 64) & np.uint64(2**32 - 1)):
        return amount + 1
    return amount


@helper
def _input(price: Any, target: Any, liquidity: Any, down: bool) -> Any:
    if down:
        return _amount0(target, price, liquidity, True)
    return _amount1(price, target, liquidity, True)


@helper
def _output(price: Any, target: Any, liquidity: Any, down: bool) -> Any:
    if down:
        return _amount1(target, price, liquidity, False)
    return _amount0(price, target, liquidity, False)


@helper
def _price_after_input(price: Any, liquidity: Any, amount: Any, down: bool) -> tuple[Any, bool]:
    """`concentrated.next_price_from_input`."""
    if down:
        numerator = liquidity << 96
        product = wide.times(amount, price)
        total = numerator + u256(product)
        if u256(product >> 256) == 0 and total >= numerator:
            return wide.mul_div_up(numerator, price, total)
        return wide.div_up(numerator, wide.div(numerator, price) + amount), True
    moved, fits = wide.mul_div(amount, u256(1) << 96, liquidity)
    after = price + moved
    return after, fits and after >= price and after < (u256(1) << 160)


@helper
def _price_after_output(price: Any, liquidity: Any, amount: Any, down: bool) -> tuple[Any, bool]:
    """`concentrated.next_price_from_output`."""
    if down:
        moved, fits = wide.mul_div_up(amount, u256(1) << 96, liquidity)
        return price - moved, fits and price > moved
    numerator = liquidity << 96
    product = wide.times(amount, price)
    if u256(product >> 256) != 0 or numerator <= u256(product):
        return price, False
    after, fits = wide.mul_div_up(numerator, price, numerator - u256(product))
    return after, fits and after < (u256(1) << 160)


@helper
def _next(words: Any, at: int, tick: int, k: int, down: bool) -> tuple[Any, bool]:
    """`ConcentratedPool.next_tick`, with `k` the number of initialised ticks at or below `tick`."""
    spacing = np.int64(words[at + 11])
    compressed = tick // spacing
    if down:
        edge = (compressed >> 8 << 8) * spacing
        if k > 0:
            found = np.int64(words[at + WORDS_HEAD + k - 1])
            if found >= edge:
                return found, True
        return edge, False
    edge = ((compressed + 1) | 255) * spacing
    if k < np.int64(words[at + 12]):
        found = np.int64(words[at + WORDS_HEAD + k])
        if found <= edge:
            return found, True
    return edge, False


@helper
def _crossed(words: Any, at: int, k: int, liquidity: Any, down: bool) -> tuple[Any, int]:
    """Liquidity and number of ticks at or below, beyond the k-th (down) or the next (up) tick."""
    n = np.int64(words[at + 12])
    k = k - 1 if down else k + 1
    index = k if down else k - 1
    net_at = at + WORDS_HEAD + n + 2 * index
    net = (u256(words[net_at + 1]) << 64) | u256(words[net_at])
    liquidity = liquidity - net if down else liquidity + net
    return liquidity & ((u256(1) << 128) - 1), k


@helper
def _walk(words: Any, at: int, down: bool, amount: Any, exact_in: bool, is_v4: bool) -> tuple[Any, bool]:
    """`concentrated.walk` without a price limit: the other amount, and whether all of `amount` was had.

    Not ok, too, in the rare case in which a rounded price meets the stop though the input did not reach it
    and overshoots the amount by a unit: the reference knows what the contract then does.
    """
    price, liquidity = load(words, at), load(words, at + 4)
    tick, k = np.int64(words[at + 8]), np.int64(words[at + 13])
    n = np.int64(words[at + 12])
    fee = words[at + 9] if down else words[at + 10]
    kept = _PIPS - fee
    low, high = np.int64(words[at + 14]), np.int64(words[at + 15])
    limit = constant(_LOWEST) if down else constant(_HIGHEST)
    prices = at + WORDS_HEAD + 3 * n
    remaining, total = amount, u256(0)
    if amount == 0 or amount >> 255 != 0:
        return total, False
    while remaining != 0 and price != limit:
        if liquidity == 0:
            # nothing is rounded on the way to the next tick, so the word edges can be skipped
            if k == (0 if down else n):
                return total, False
            following, initialised = np.int64(words[at + WORDS_HEAD + (k - 1 if down else k)]), True
        else:
            following, initialised = _next(words, at, tick, k, down)
        stop = min(max(following, low), high)
        if initialised:
            stop_price = load(words, prices + 4 * (k - 1 if down else k))
        else:
            stop_price = price_at_tick(stop)
        target = stop_price
        if (down and target < limit) or (not down and target > limit):
            target = limit
        amount_in, amount_out = u256(0), u256(0)
        if exact_in:
            without_fee = u256(0)
            if remaining >> 234 == 0:
                without_fee = wide.div64(remaining * kept, _PIPS)[0]
            else:
                without_fee = wide.mul_div(remaining, u256(kept), u256(_PIPS))[0]
            amount_in = _input(price, target, liquidity, down)
            if without_fee >= amount_in:
                after = target
            else:
                after, fits = _price_after_input(price, liquidity, without_fee, down)
                if not fits:
                    return total, False
                if is_v4 or after != target:  # all is used up
                    return total + _output(price, after, liquidity, down), True
            total = total + _output(price, after, liquidity, down)
        else:
            amount_out = _output(price, target, liquidity, down)
            if remaining >= amount_out:
                after = target
            else:
                after, fits = _price_after_output(price, liquidity, remaining, down)
                if not fits:
                    return total, False
                amount_out = remaining if is_v4 else _output(price, after, liquidity, down)
                if amount_out > remaining:
                    amount_out = remaining
            amount_in = _input(price, after, liquidity, down)
        paid, fits = wide.mul_div_up(amount_in, u256(fee), u256(kept))
        if not fits:
            return total, False  # a fee of all of the input, which V4 allows
        paid = paid + amount_in
        if exact_in:
            if paid > remaining:
                return total, False
            remaining = remaining - paid
        else:
            total = total + paid
            remaining = remaining - amount_out
        if after == stop_price:
            if stop != following:
                return total, False  # beyond the known ticks
            if initialised:
                liquidity, k = _crossed(words, at, k, liquidity, down)
            tick = stop - 1 if down else stop
        elif remaining != 0 and after != limit:
            return total, False  # V3's exact output may stop short by rounding: left to the reference
        price = after
    return total, remaining == 0


@helper
def quote_v3(words: Any, at: int, i: int, j: int, x: Any) -> tuple[Any, bool]:
    """`uniswap_v3.exact_in`: the output where all of the input is used."""
    return _walk(words, at, i == 0, x, True, False)


@helper
def least_v3(words: Any, at: int, i: int, j: int, y: Any) -> tuple[Any, bool]:
    """`uniswap_v3.exact_out`: the input for which the pool pays y; not always the least."""
    return _walk(words, at, i == 0, y, False, False)


@helper
def quote_v4(words: Any, at: int, i: int, j: int, x: Any) -> tuple[Any, bool]:
    """`uniswap_v4.exact_in`."""
    y, ok = _walk(words, at, i == 0, x, True, True)
    return y, ok and x >> 127 == 0 and y >> 127 == 0


@helper
def least_v4(words: Any, at: int, i: int, j: int, y: Any) -> tuple[Any, bool]:
    """`uniswap_v4.exact_out`."""
    x, ok = _walk(words, at, i == 0, y, False, True)
    return x, ok and x >> 127 == 0 and y >> 127 == 0
