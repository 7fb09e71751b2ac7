"""Balancer weighted pools in kernels: `y = bo * (1 - (bi / (bi + x))^(wi/wo))`.

Float: relative error of y and slope below 1e-14. The contract's own y is up to 2e-14 of the balance paid
out less, by which it raises the power against the trader, besides its 18 decimals. V3 refuses trades
below 1e-12 tokens, which the float answer doesn't show. Exact: `quote` is `balancer_weighted.exact_in`;
`least` searches the least input for it, where `balancer_weighted.exact_out` is the vault's own dearer figure
for a swap with exact output.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mev_engine.amm import balancer_logs, balancer_weighted
from mev_engine.amm import words as checked
from mev_engine.amm.balancer_math import MAX_POW_RELATIVE_ERROR, ONE
from mev_engine.amm.balancer_pow import pow_up
from mev_engine.amm.balancer_vault import MAX_BALANCE
from mev_engine.amm.balancer_weighted import MAX_IN_RATIO, WeightedPool
from mev_engine.amm.balancer_words import BALANCE, LIVE, OF_TOKEN, given, layout, own, paid, token
from mev_engine.amm.family import Family
from mev_engine.amm.search import least_by
from mev_engine.jit import helper
from mev_engine.types import FloatArray, WordArray
from mev_engine.wide import div64, div128, load, to_float, u256

_POW_ERROR = MAX_POW_RELATIVE_ERROR / ONE
_MAX_RATIO = MAX_IN_RATIO / ONE


def params(pool: WeightedPool) -> FloatArray:
    """The share of an input kept after the fee, then for each token its balance (raw), weight and largest
    input (raw)."""
    kept = (ONE - pool.swap_fee) / ONE
    result = [kept]
    for balance, weight in zip(pool.balances, pool.weights, strict=True):
        most = min(_MAX_RATIO * balance / kept, float(MAX_BALANCE[pool.vault] - balance))
        result += [float(balance), weight / ONE, most]
    return np.array(result)


@helper
def respond(params: FloatArray, at: int, i: int, j: int, x: float) -> tuple[float, float, float]:
    """See `family`; beyond 30 % of the balance paid in the pool takes nothing more."""
    side = at + 1 + 3 * i
    balance_in, weight_in, most = params[side], params[side + 1], params[side + 2]
    balance_out, weight_out = params[at + 1 + 3 * j], params[at + 2 + 3 * j]
    if not (balance_in > 0.0 and balance_out > 0.0):
        return 0.0, 0.0, 0.0
    exponent, per_raw = weight_in / weight_out, params[at] / balance_in
    grown = per_raw * min(x, most)
    log = -exponent * math.log1p(grown)
    y = -balance_out * math.expm1(log)
    if x > most:
        return y, 0.0, 0.0
    share = per_raw / (1.0 + grown)
    return y, balance_out * exponent * math.exp(log) * share, 0.5 * (exponent + 1.0) * share


def words(pool: WeightedPool) -> WordArray:
    """`balancer_words`; the family's own: whether powers are exact, and each token's weight."""
    return layout(pool, [int(pool.exact_powers)], pool.weights)


@helper
def quote(words: WordArray, at: int, i: int, j: int, x: Any) -> Any:
    """`balancer_weighted.exact_in`; see `family`."""
    amount, ok = given(words, at, i, load(words, at + 4), x)
    balance_in, balance_out = token(words, at, i, LIVE), token(words, at, j, LIVE)
    most, fits = checked.mul_one(balance_in, u256(MAX_IN_RATIO))
    total, fits_total = checked.add(balance_in, amount)
    scaled, fits_scaled = checked.mul(balance_in, u256(ONE))
    usable = x != 0 and load(words, at + 8) != 0 and total != 0
    if not (usable and ok and fits and fits_total and fits_scaled and amount <= most):
        return u256(0), False
    base, _ = checked.div_up(scaled, total)
    weight_in, weight_out = token(words, at, i, OF_TOKEN), token(words, at, j, OF_TOKEN)
    exponent, _ = div128(weight_in * u256(ONE), weight_out)
    ratio, ok_ratio = pow_up(base, exponent, own(words, at, 0) != 0)
    left = u256(ONE) - ratio if ratio < u256(ONE) else u256(0)
    calculated, fits = checked.mul_one(balance_out, left)
    y, ok_paid = paid(words, at, i, j, x, calculated)
    return y, ok_ratio and fits and ok_paid


@helper
def _estimate(words: WordArray, at: int, i: int, j: int, y: Any) -> Any:
    """The real-valued input for y."""
    balance_in, balance_out = to_float(token(words, at, i, BALANCE)), to_float(token(words, at, j, BALANCE))
    exponent = to_float(token(words, at, j, OF_TOKEN)) / to_float(token(words, at, i, OF_TOKEN))
    kept = to_float(u256(ONE) - load(words, at + 4)) / ONE
    share = min(to_float(y) / balance_out, 1.0 - 1e-16)
    return balance_in * math.expm1(-exponent * math.log1p(-share)) / kept


_search = least_by(quote)


@helper
def least(words: WordArray, at: int, i: int, j: int, y: Any) -> Any:
    """The least input for y, but for what the contract's share of 18 decimals can tell; see `family`."""
    balance = token(words, at, i, BALANCE)
    if y == 0 or y >= token(words, at, j, BALANCE):
        return u256(0), False
    error, fine = _POW_ERROR * to_float(balance), div64(balance, np.uint64(ONE))[0]
    return _search(words, at, i, j, y, _estimate(words, at, i, j, y), error, fine)


FAMILY = Family(
    name="balancer_weighted",
    code=6,
    state=WeightedPool,
    coins=lambda pool: len(pool.balances),
    exact_in=balancer_weighted.exact_in,
    exact_out=balancer_weighted.exact_out,
    params=params,
    words=words,
    events=balancer_logs.EVENTS,
)
