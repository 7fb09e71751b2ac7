"""Solidly stable pairs in kernels: x³y + y³x kept, fees in and out of the pool as `solidly.swap` books them.

Float: relative error of y below 1e-13 for pairs whose sides are within 10,000 times of each other, before
rounding to raw units; the contracts' 18-decimal rounding of k is worth a few 1e-18 tokens more in pairs of
less than a thousand tokens. Exact: `quote` and `least` are `solidly_pair.exact_in` and `exact_out`.

In units of the side paid out (its balance 1), with the other side's balance a before and b after the
input v and t the output, keeping k reads `t * (b² + 3 - 3t + t²) = v * (b² + ab + a² + 1) / b`: Newton's
method on it has no differences of large numbers, and climbs to t from below.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mev_engine.amm import solidly, solidly_pair
from mev_engine.amm import words as checked
from mev_engine.amm.errors import SwapRevertedError
from mev_engine.amm.family import Family
from mev_engine.amm.solidly import ONE, SolidlyVariant
from mev_engine.amm.solidly_pair import StablePair
from mev_engine.amm.solidly_volatile_kernels import input_of, kept, most_in
from mev_engine.jit import helper
from mev_engine.types import FloatArray, WordArray
from mev_engine.wide import from_float, load, mul_div_up, to_float, u256

_ENOUGH = 1e-10  # a Newton step this short leaves its square
_FAR = 1e50  # sides so uneven that the next product would leave float64
_NEWTON = 4
_LIMIT = 60


def params(pool: StablePair) -> FloatArray:
    """For token 0, then token 1: balance (tokens), raw units of a token, share kept when paid in, largest
    input (raw)."""
    sides = ((pool.reserve0, pool.scale0, pool.fee0), (pool.reserve1, pool.scale1, pool.fee1))
    return np.array(
        [(r / s, s, kept(pool, fee), most_in(pool, r, fee)) for r, s, fee in sides],
        np.float64,
    ).ravel()


@helper
def respond(params: FloatArray, at: int, i: int, j: int, x: float) -> tuple[float, float, float]:
    """See `family`, and the module for the equation."""
    paid_side, side = at + 4 * i, at + 4 * j
    balance_in, balance_out = params[paid_side], params[side]
    if not (balance_in > 0.0 and balance_out > 0.0):
        return 0.0, 0.0, 0.0
    most = params[paid_side + 3]
    per_raw = params[paid_side + 2] / (params[paid_side + 1] * balance_out)
    whole = balance_out * params[side + 1]
    a, v = balance_in / balance_out, per_raw * min(x, most)
    b = a + v
    if not a > 1.0 / _FAR:
        return 0.0, 0.0, 0.0
    if b > _FAR:
        return whole, 0.0, 0.0
    square = b * b
    target = v * (square + a * b + a * a + 1.0) / b
    t = target / (square + 3.0)
    for _ in range(_LIMIT):
        left = 1.0 - t
        step = (target - t * (square + 3.0 - 3.0 * t + t * t)) / (square + 3.0 * left * left)
        t += step
        if abs(step) <= _ENOUGH * t:
            break
    t = min(t, 1.0)
    y = whole * t
    if x > most:
        return y, 0.0, 0.0
    left = 1.0 - t
    if t > 0.5:  # from k instead, which loses no digits
        left = a * (a * a + 1.0) / (b * (square + left * left))
    other = left * left
    uneven = square - other
    flat, steep = 3.0 * square + other, square + 3.0 * other
    slope = left * flat / (b * steep)
    bend = 6.0 * uneven * uneven * (square + other) / (b * steep * steep * flat)
    return y, slope * per_raw * whole, bend * per_raw


def words(pool: StablePair) -> WordArray:
    """U256 each: reserves 0 and 1, fees 0 and 1, fee_den, owner_fee_share, scales 0 and 1, whether it is
    Camelot's, k, whether k fits."""
    try:
        x, y = (r * ONE // s for r, s in ((pool.reserve0, pool.scale0), (pool.reserve1, pool.scale1)))
        k, fits = solidly.invariant(x, y), max(pool.reserve0, pool.reserve1) * ONE < 2**256
    except SwapRevertedError:
        k, fits = 0, False
    camelot = int(pool.variant is SolidlyVariant.CAMELOT)
    return checked.pack(
        pool.reserve0, pool.reserve1, pool.fee0, pool.fee1, pool.fee_den, pool.owner_fee_share,
        pool.scale0, pool.scale1, camelot, k, int(fits),
    )  # fmt: skip


@helper
def _invariant(x: Any, y: Any) -> Any:
    """`(solidly.invariant, ok)`."""
    xx, ok = checked.mul_one(x, x)
    yy, ok_y = checked.mul_one(y, y)
    xy, ok_xy = checked.mul_one(x, y)
    k, ok_k = checked.mul_one(xy, xx + yy)  # two quotients by 1e18: their sum fits
    return k, ok and ok_y and ok_xy and ok_k


@helper
def _derivative(x: Any, y: Any) -> Any:
    """`(solidly.derivative, ok)`."""
    yy, ok = checked.mul_one(y, y)
    xx, ok_x = checked.mul_one(x, x)
    first, ok_first = checked.mul_one(x + x + x, yy)
    second, ok_second = checked.mul_one(xx, x)
    return first + second, ok and ok_x and ok_first and ok_second


@helper
def _estimate(x: Any, k: Any) -> Any:
    """The real y with `x³y + y³x = k`, but for float64's error: the cubic's hyperbolic solution."""
    a = to_float(x) / ONE
    ratio = 1.5 * math.sqrt(3.0) * (to_float(k) / ONE) / (a * a * a * a)
    return from_float(2.0 * a / math.sqrt(3.0) * math.sinh(math.asinh(ratio) / 3.0) * ONE)


@helper
def _reaches(x: Any, y: Any, k: Any) -> bool:
    value, fits = _invariant(x, y)
    return not fits or value >= k


@helper
def _least_balance(x: Any, k: Any) -> Any:
    """`(solidly_pair.least_balance, ok)`: Newton's method from a float estimate, then unit by unit."""
    if k == 0:
        return u256(0), True
    if x == 0:
        return u256(0), False
    y = _estimate(x, k)
    for _ in range(_NEWTON):
        value, ok = _invariant(x, y)
        slope, ok_slope = _derivative(x, y)
        step, ok_step = checked.mul_div(value - k if value > k else k - value, u256(ONE), slope)
        if not (ok and ok_slope and ok_step) or (value > k and step > y):
            break
        y = y - step if value > k else y + step
        if step <= 1:
            break
    step = u256(1)
    if _reaches(x, y, k):
        low = high = y
        while low != 0 and _reaches(x, low, k):
            high = low
            low = low - step if low > step else u256(0)
            step = step << 1
    else:
        low = high = y
        while not _reaches(x, high, k):
            low = high
            high = high + step if high + step > high else ~u256(0)
            step = step << 1
    while high - low > 1:
        middle = low + ((high - low) >> 1)
        if _reaches(x, middle, k):
            high = middle
        else:
            low = middle
    return high, True


@helper
def _pays(words: WordArray, at: int, i: int, j: int, x: Any, y: Any) -> Any:
    """Whether the pair's swap of x for y goes through, y above 0."""
    one, fee, fee_den = u256(ONE), load(words, at + 8 + 4 * i), load(words, at + 16)
    reserve_in, reserve_out = load(words, at + 4 * i), load(words, at + 4 * j)
    taken, ok = checked.mul_div(x, fee, fee_den)
    leaves, camelot = taken, load(words, at + 32) != 0
    if camelot:
        part, ok_part = checked.mul(x, load(words, at + 20))
        leaves, ok_leaves = checked.mul_div(part, fee, fee_den * fee_den)
        ok = ok and ok_part and ok_leaves
    whole, fits = checked.add(reserve_in, x - leaves)
    if not (ok and fits and y < reserve_out and x != 0):
        return False
    scaled_in, fits_in = checked.mul_div(whole - (taken - leaves), one, load(words, at + 24 + 4 * i))
    scaled_out, fits_out = checked.mul_div(reserve_out - y, one, load(words, at + 24 + 4 * j))
    after, ok = _invariant(scaled_in, scaled_out)
    small = not camelot or (whole >> 112) == 0
    return fits_in and fits_out and ok and small and after >= load(words, at + 36)


@helper
def quote(words: WordArray, at: int, i: int, j: int, x: Any) -> Any:
    """The most that swap pays for x; see `family`."""
    if x == 0:
        return u256(0), False
    one, reserve_out = u256(ONE), load(words, at + 4 * j)
    taken, ok = checked.mul_div(x, load(words, at + 8 + 4 * i), load(words, at + 16))
    balance, fits = checked.add(load(words, at + 4 * i), x - taken)
    scaled, ok_scaled = checked.mul_div(balance, one, load(words, at + 24 + 4 * i))
    if not (ok and fits and ok_scaled and load(words, at + 40) != 0):
        return u256(0), False
    target, found = _least_balance(scaled, load(words, at + 36))
    spare, ok_spare = mul_div_up(target, load(words, at + 24 + 4 * j), one)
    if not found:
        return u256(0), False
    if spare == 0:
        spare = u256(1)
    if not ok_spare or spare >= reserve_out:
        return u256(0), True
    y = reserve_out - spare
    return y, _pays(words, at, i, j, x, y)


@helper
def least(words: WordArray, at: int, i: int, j: int, y: Any) -> Any:
    """The least input for which swap pays y; see `family`."""
    one, reserve_out = u256(ONE), load(words, at + 4 * j)
    if y == 0 or y >= reserve_out or load(words, at + 40) == 0:
        return u256(0), False
    scaled, ok = checked.mul_div(reserve_out - y, one, load(words, at + 24 + 4 * j))
    target, found = _least_balance(scaled, load(words, at + 36))
    balance, fits = mul_div_up(target, load(words, at + 24 + 4 * i), one)
    fee, fee_den = load(words, at + 8 + 4 * i), load(words, at + 16)
    x, ok_x = input_of(balance, load(words, at + 4 * i), fee, fee_den)
    return x, ok and found and fits and ok_x and _pays(words, at, i, j, x, y)


FAMILY = Family(
    name="solidly_stable",
    code=9,
    state=StablePair,
    coins=solidly_pair.coins,
    exact_in=solidly_pair.exact_in,
    exact_out=solidly_pair.exact_out,
    params=params,
    words=words,
    events=solidly_pair.EVENTS,
)
