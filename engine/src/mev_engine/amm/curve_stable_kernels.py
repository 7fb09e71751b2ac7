"""Curve stableswap in kernels; a metapool is the plain pool that `CurveMetapool.at` gives.

Float: relative error of y below 1e-13; the contract's own answer is a few units of 1e-18 tokens beside the
real curve, more the more uneven the pool. Where products of balances outgrow 256 bits (2**128 units and
more) the contract reverts and the float answer goes on. Exact: `quote` is `curve_stable.exact_in`; `least`
searches the least input for it, as `curve_stable.exact_out` does.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mev_engine.amm import curve_logs, curve_stable
from mev_engine.amm import words as checked
from mev_engine.amm.curve_stable import FEE_DENOMINATOR, PRECISION, CurveStablePool, get_d, normalised
from mev_engine.amm.errors import SwapRevertedError
from mev_engine.amm.family import Family
from mev_engine.amm.search import least_by
from mev_engine.amm.stable_curve import change, change_for, curvature
from mev_engine.jit import helper
from mev_engine.types import FloatArray, WordArray
from mev_engine.wide import div64, load, to_float, u256, u512

_MAX_STEPS = 255
_FEE_DEN = np.uint64(FEE_DENOMINATOR)
_AMP, _ANN, _FEE, _D, _USABLE, _STRICT, _FEE_LAST, _KEPT, _COINS, _PRECISION = range(0, 40, 4)
_HEAD, _BALANCE, _RATE, _XP, _COIN = 40, 0, 4, 8, 12


def _invariant(pool: CurveStablePool) -> int | None:
    """D, or None where the contract reverts before any swap."""
    try:
        return get_d(normalised(pool), pool.amp, pool.a_precision, pool.product, pool.reverts_unconverged)
    except SwapRevertedError:
        return None


def params(pool: CurveStablePool) -> FloatArray:
    """g, then for each coin its balance, 1 raw unit of it (both in units of D), and the raw units that a
    unit of D pays after the fee; all 0 but the balances where no swap is possible."""
    d, kept = _invariant(pool), 1.0 - pool.fee / FEE_DENOMINATOR
    if not d or min(normalised(pool)) == 0:
        return np.array([1.0] + [1.0, 0.0, 0.0] * len(pool.balances))
    units = [rate / PRECISION / d for rate in pool.rates]
    shares = [balance * unit for balance, unit in zip(pool.balances, units, strict=True)]
    g = curvature(shares, pool.amp * len(shares) / pool.a_precision)
    coins = [(share, unit, kept / unit) for share, unit in zip(shares, units, strict=True)]
    return np.array([g, *(number for coin in coins for number in coin)])


@helper
def respond(params: FloatArray, at: int, i: int, j: int, x: float) -> tuple[float, float, float]:
    """See `family`, and `stable_curve`."""
    side, other = at + 1 + 3 * i, at + 1 + 3 * j
    unit, paid = params[side + 1], params[other + 2]
    y, slope, bend = change(params[side], params[other], params[at], unit * x)
    return y * paid, slope * unit * paid, bend * unit


def words(pool: CurveStablePool) -> WordArray:
    """U256 each: amp, A*n, fee, D, whether a swap is possible, reverts_unconverged, fee_after_rate, kept,
    number of coins, a_precision; then for each coin balance, rate and normalised balance."""
    d, n = _invariant(pool), len(pool.balances)
    xp = [0] * n if d is None else normalised(pool)
    flags = (int(pool.reverts_unconverged), int(pool.fee_after_rate), pool.kept)
    head = (pool.amp, pool.amp * n, pool.fee, d or 0, int(d is not None), *flags, n, pool.a_precision)
    coins = zip(pool.balances, pool.rates, xp, strict=True)
    return checked.pack(*head, *(number for coin in coins for number in coin))


@helper
def _coin(words: WordArray, at: int, k: int, field: int) -> Any:
    return load(words, at + _HEAD + _COIN * k + field)


@helper
def _solve_balance(words: WordArray, at: int, i: int, j: int, x: Any) -> Any:
    """`(curve_stable.solve_balance, ok)` with x as the normalised balance of coin i."""
    n, ann, d = np.int64(words[at + _COINS]), load(words, at + _ANN), load(words, at + _D)
    precision, ok = load(words, at + _PRECISION), True
    c, others = d, u512(0)
    for k in range(n):
        if k != j:
            balance = x if k == i else _coin(words, at, k, _XP)
            others = others + u512(balance)
            whole, fits = checked.mul(balance, u256(n))
            c, ok_c = checked.mul_div(c, d, whole)
            ok = ok and fits and ok_c
    c, fits = checked.mul(c, d)
    c, ok_c = checked.mul_div(c, precision, ann * u256(n))
    part, ok_part = checked.mul_div(d, precision, ann)
    b = others + u512(part)
    ok = ok and fits and ok_c and ok_part and (b >> 256) == 0
    y = d
    for _ in range(_MAX_STEPS):
        if not ok:
            return y, False
        before = y
        square, fits = checked.mul(y, y)
        top, fits_top = checked.add(square, c)
        under = b + u512(y + y)  # the square fits, so y has 128 bits
        bottom = under - u512(d)
        ok = fits and fits_top and under > u512(d) and (bottom >> 256) == 0
        if ok:
            y = checked.quotient(top, u256(bottom))
            if y - before <= 1 or before - y <= 1:
                return y, True
    return y, ok and words[at + _STRICT] == 0


@helper
def quote(words: WordArray, at: int, i: int, j: int, x: Any) -> Any:
    """`curve_stable.exact_in`; see `family`."""
    one, fee = u256(PRECISION), load(words, at + _FEE)
    added, ok = checked.mul_one(x, _coin(words, at, i, _RATE))
    moved, fits = checked.add(_coin(words, at, i, _XP), added)
    if not (ok and fits and words[at + _USABLE] != 0):
        return u256(0), False
    y, ok = _solve_balance(words, at, i, j, moved)
    gross, enough = checked.sub(_coin(words, at, j, _XP), y)
    gross, enough_kept = checked.sub(gross, load(words, at + _KEPT))
    if not (ok and enough and enough_kept):
        return u256(0), False
    rate, late = _coin(words, at, j, _RATE), words[at + _FEE_LAST] != 0
    if late:
        gross, ok = checked.mul_div(gross, one, rate)
    taken, fits = checked.mul(gross, fee)
    net = gross - div64(taken, _FEE_DEN)[0]
    if not late:
        net, ok = checked.mul_div(net, one, rate)
    return net, ok and fits


@helper
def _estimate(words: WordArray, at: int, i: int, j: int, y: Any) -> Any:
    """The real-valued input for y, inf where the pool doesn't have it."""
    d = to_float(load(words, at + _D))
    product = d / to_float(load(words, at + _ANN)) * float(words[at + _PRECISION])
    n = np.int64(words[at + _COINS])
    for k in range(n):
        balance = to_float(_coin(words, at, k, _XP))
        if balance == 0.0:
            return np.inf
        product *= d / (balance * n)
    kept = 1.0 - float(words[at + _FEE]) / FEE_DENOMINATOR
    output = to_float(y) * (to_float(_coin(words, at, j, _RATE)) / PRECISION) / kept
    a, b = to_float(_coin(words, at, i, _XP)), to_float(_coin(words, at, j, _XP))
    if output >= b:
        return np.inf
    return change_for(a, b, product, output) / (to_float(_coin(words, at, i, _RATE)) / PRECISION)


_search = least_by(quote)


@helper
def least(words: WordArray, at: int, i: int, j: int, y: Any) -> Any:
    """The least input for y, up to the unit by which Newton's method may end early; see `family`."""
    if y == 0 or words[at + _USABLE] == 0 or y >= _coin(words, at, j, _BALANCE):
        return u256(0), False
    estimate = _estimate(words, at, i, j, y)
    return _search(words, at, i, j, y, estimate, estimate * 1e-14, u256(0))


FAMILY = Family(
    name="curve_stable",
    code=4,
    state=CurveStablePool,
    coins=lambda pool: len(pool.balances),
    exact_in=curve_stable.exact_in,
    exact_out=curve_stable.exact_out,
    params=params,
    words=words,
    events=curve_logs.EVENTS,
)
