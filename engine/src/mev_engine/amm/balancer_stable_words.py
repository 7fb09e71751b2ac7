"""Balancer stable pools in 256 bits: `balancer_stable.exact_in` in kernels, and the search for its inverse.

D doesn't depend on the swap, so `words` holds it. `least` searches the least input for `quote`, where
`balancer_stable.exact_out` is the vault's own dearer figure for a swap with exact output.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mev_engine.amm import words as checked
from mev_engine.amm.balancer_math import ONE
from mev_engine.amm.balancer_stable import (
    AMP_PRECISION,
    StablePool,
    imbalance,
    invariant_rounded,
    invariant_truncated,
)
from mev_engine.amm.balancer_vault import V2
from mev_engine.amm.balancer_words import BALANCE, FACTOR, LIVE, given, layout, own, paid, scaled, token
from mev_engine.amm.errors import SwapRevertedError
from mev_engine.amm.search import least_by
from mev_engine.amm.stable_curve import change_for
from mev_engine.jit import helper
from mev_engine.types import WordArray
from mev_engine.wide import from_float, load, to_float, u256

_ANN, _D, _USABLE, _COUNT, _BPT, _LIMIT, _THRESHOLD, _SURGE, _UNEVEN = range(9)
_MAX_ITERATIONS, _SURGE_STEPS = 255, 200
_PRECISION = AMP_PRECISION


def live_of(pool: StablePool) -> list[int]:
    """Live balances without the pool's own share token; all 0 where they outgrow 256 bits."""
    try:
        live = pool.live_balances()
    except SwapRevertedError:
        live = [0] * len(pool.balances)
    return [balance for k, balance in enumerate(live) if k != pool.bpt]


def invariant_of(pool: StablePool) -> int | None:
    """D as a swap computes it, or None where the contract reverts there."""
    try:
        if pool.rounds_invariant_up:
            return invariant_rounded(pool.amp, live_of(pool), up=True)
        return invariant_truncated(pool.amp, live_of(pool))
    except SwapRevertedError:
        return None


def words(pool: StablePool) -> WordArray:
    """`balancer_words`; the family's own: amp*n, D, whether there is one, number of tokens, the index of the
    pool's share or that number, the largest ratio of balances or 0, the surge's threshold (1e18 without
    one) and highest fee, the imbalance now."""
    d, live, count = invariant_of(pool), live_of(pool), len(pool.balances)
    usable, uneven = d is not None, 0
    threshold, surge = (ONE, 0) if pool.surge is None else (pool.surge.threshold, pool.surge.max_fee)
    if pool.surge is not None and usable and max(live) > 0:
        try:
            uneven = imbalance(live)
        except SwapRevertedError:
            usable = False
    numbers = [pool.amp * len(live), d or 0, int(usable), count, count if pool.bpt is None else pool.bpt]
    return layout(pool, [*numbers, pool.max_imbalance or 0, threshold, surge, uneven], [0] * count)


@helper
def _balance(words: WordArray, at: int, k: int, i: int, j: int, x: Any, y: Any) -> Any:
    """The live balance of token k, x for token i and y for token j."""
    if k == i:
        return x
    if k == j:
        return y
    return token(words, at, k, LIVE)


@helper
def _token_balance(words: WordArray, at: int, i: int, j: int, x: Any) -> Any:
    """`(balancer_stable.token_balance of j, ok)` with x as the balance of token i."""
    held, d, ann = token(words, at, j, LIVE), own(words, at, _D), own(words, at, _ANN)
    count, bpt = np.int64(words[at + 24]), np.int64(words[at + 28])
    n = u256(count - (bpt < count))
    total, product, ok, first = u256(0), u256(0), d != 0, True
    for k in range(count):
        if k == bpt:
            continue
        balance = _balance(words, at, k, i, j, x, held)
        if first:
            product, fits = checked.mul(balance, n)
            ok, first = ok and fits, False
        else:
            product, fits = checked.mul(product, balance)
            product, fits_n = checked.mul_div(product, n, d)
            ok = ok and fits and fits_n
        total, fits = checked.add(total, balance)
        ok = ok and fits
    total = total - held
    square, fits = checked.mul(d, d)
    under, fits_under = checked.mul(ann, product)
    ok = ok and fits and fits_under
    precision = u256(_PRECISION)
    if load(words, at) == V2:
        c, ok_c = checked.div_up(square, under)
        c, fits = checked.mul(c, precision)
        part, fits_part = checked.mul(checked.div_by(d, ann)[0], precision)
    else:
        wide, fits = checked.mul(square, precision)
        c, ok_c = checked.div_up(wide, under)
        part, fits_part = checked.mul_div(d, precision, ann)
    c, fits_c = checked.mul(c, held)
    b, fits_b = checked.add(total, part)
    top, fits_top = checked.add(square, c)
    bottom, fits_bottom = checked.add(d, b)
    if not (ok and ok_c and fits and fits_part and fits_c and fits_b and fits_top and fits_bottom):
        return u256(0), False
    y, ok = checked.div_up(top, bottom)
    for _ in range(_MAX_ITERATIONS):
        before = y
        square, fits = checked.mul(y, y)
        top, fits_top = checked.add(square, c)
        bottom, fits_bottom = checked.add(y + y, b)  # the square fits, so y has 128 bits
        bottom, enough = checked.sub(bottom, d)
        if not (ok and fits and fits_top and fits_bottom and enough):
            return y, False
        y, ok = checked.div_up(top, bottom)
        if ok and (y - before <= 1 or before - y <= 1):
            return y, True
    return y, False


@helper
def _on_swap(words: WordArray, at: int, i: int, j: int, amount: Any) -> Any:
    """`(out_given_in, ok)`, with the limit on the imbalance after it."""
    held = token(words, at, j, LIVE)
    x, fits = checked.add(token(words, at, i, LIVE), amount)
    if not fits:
        return u256(0), False
    y, ok = _token_balance(words, at, i, j, x)
    out, enough = checked.sub(held, y)
    out, enough_one = checked.sub(out, u256(1))
    ok = ok and enough and enough_one
    limit = own(words, at, _LIMIT)
    if ok and limit != 0:
        largest, smallest = u256(0), ~u256(0)
        for k in range(np.int64(words[at + 24])):
            value = _balance(words, at, k, i, j, x, held - out)
            if k != np.int64(words[at + 28]):
                largest = value if value > largest else largest
                smallest = value if value < smallest else smallest
        ratio, some = checked.div_by(largest, smallest)
        ok = some and ratio < limit
    return out, ok


@helper
def _imbalance(words: WordArray, at: int, i: int, j: int, x: Any, y: Any) -> Any:
    """`(balancer_stable.imbalance, ok)` with balances x of i and y of j; V3, so no share token."""
    count = np.int64(words[at + 24])
    middle = count // 2
    lower = upper = total = u256(0)
    ok = True
    for k in range(count):
        value = _balance(words, at, k, i, j, x, y)
        total, fits = checked.add(total, value)
        ok = ok and fits
        below = 0
        for m in range(count):
            other = _balance(words, at, m, i, j, x, y)
            below += other < value or (other == value and m < k)
        if below == middle:
            upper = value
        if below == middle - 1:
            lower = value
    median = upper
    if count % 2 == 0:
        pair, fits = checked.add(lower, upper)
        median, ok = pair >> 1, ok and fits
    spread = u256(0)
    for k in range(count):
        value = _balance(words, at, k, i, j, x, y)
        spread, fits = checked.add(spread, value - median if value > median else median - value)
        ok = ok and fits
    share, fits = checked.mul_div(spread, u256(ONE), total)
    return share, ok and fits


@helper
def _fee(words: WordArray, at: int, i: int, j: int, x: Any) -> Any:
    """`(swap fee on x, ok)`: the static one, or what the surge makes of it."""
    fee, highest, threshold = load(words, at + 4), own(words, at, _SURGE), own(words, at, _THRESHOLD)
    if threshold == u256(ONE):
        return fee, True
    amount, ok = scaled(words, at, i, x)
    if not ok:
        return fee, False
    out, ok = _on_swap(words, at, i, j, amount)
    if not ok:
        return fee, False
    after, held = token(words, at, i, LIVE) + amount, token(words, at, j, LIVE) - out
    now, ok = _imbalance(words, at, i, j, after, held)
    if highest < fee or now <= own(words, at, _UNEVEN) or now <= threshold:
        return fee, ok
    share, fits = checked.mul_div(now - threshold, u256(ONE), u256(ONE) - threshold)
    more, fits_more = checked.mul_one(highest - fee, share)
    return fee + more, ok and fits and fits_more


@helper
def quote(words: WordArray, at: int, i: int, j: int, x: Any) -> Any:
    """`balancer_stable.exact_in`; see `family`. The pool's own share token is no side of a swap."""
    bpt = np.int64(words[at + 28])
    if x == 0 or bpt in (i, j) or own(words, at, _USABLE) == 0 or load(words, at + 8) == 0:
        return u256(0), False
    fee, ok = _fee(words, at, i, j, x)
    amount, ok_given = given(words, at, i, fee, x)
    if not (ok and ok_given):
        return u256(0), False
    calculated, ok = _on_swap(words, at, i, j, amount)
    y, ok_paid = paid(words, at, i, j, x, calculated)
    return y, ok and ok_paid


@helper
def _estimate(words: WordArray, at: int, i: int, j: int, y: Any) -> Any:
    """The real-valued input for y at the static fee, inf where the pool doesn't have it."""
    d, g = to_float(own(words, at, _D)), _PRECISION / to_float(own(words, at, _ANN))
    count, bpt = np.int64(words[at + 24]), np.int64(words[at + 28])
    n = count - (bpt < count)
    g *= d
    for k in range(count):
        if k != bpt:
            live = to_float(token(words, at, k, LIVE))
            if live == 0.0:
                return np.inf
            g *= d / (live * n)
    output = to_float(y) * (to_float(token(words, at, j, FACTOR)) / ONE)
    a, b = to_float(token(words, at, i, LIVE)), to_float(token(words, at, j, LIVE))
    if not output < b:
        return np.inf
    kept = to_float(u256(ONE) - load(words, at + 4)) / ONE
    return change_for(a, b, g, output) / (to_float(token(words, at, i, FACTOR)) / ONE) / kept


@helper
def _with_surge(words: WordArray, at: int, i: int, j: int, estimate: float) -> Any:
    """`(input, error)` that after its own surge fee leaves what `estimate` leaves after the static fee.

    From below, as the surge grows with the input: the first such input, inf where there is none.
    """
    net = estimate * (to_float(u256(ONE) - load(words, at + 4)) / ONE)
    for _ in range(_SURGE_STEPS):
        fee, ok = _fee(words, at, i, j, from_float(estimate) + 1)
        if not ok or fee >= u256(ONE):
            return np.inf, 0.0
        before, estimate = estimate, net / (to_float(u256(ONE) - fee) / ONE)
        if estimate - before <= 1e-14 * estimate:
            break
    return estimate, max(estimate - before, 1e-14 * estimate)


_search = least_by(quote)


@helper
def least(words: WordArray, at: int, i: int, j: int, y: Any) -> Any:
    """An input for y, where one unit less isn't enough; see `family`.

    The first one, where the surge makes more input pay less. Close to the most that such a pool pays the
    search may miss it, and is not ok.
    """
    bpt = np.int64(words[at + 28])
    usable = own(words, at, _USABLE) != 0 and own(words, at, _D) != 0 and bpt not in (i, j)
    if y == 0 or not usable or y >= token(words, at, j, BALANCE):
        return u256(0), False
    estimate = _estimate(words, at, i, j, y)
    error = estimate * 1e-14
    if own(words, at, _THRESHOLD) != u256(ONE) and estimate < np.inf:
        estimate, error = _with_surge(words, at, i, j, estimate)
    return _search(words, at, i, j, y, estimate, error, u256(0))
