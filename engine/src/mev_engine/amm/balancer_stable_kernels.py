"""Balancer stable pools in kernels: float answers in closed form, the surge fee of V3 included.

Relative error of y below 1e-13; the contract's own answer is a few units of 18 decimals beside the real
curve (V2 rounds two terms to amp's precision, so up to some thousand), more the more uneven the pool. V3
refuses trades below 1e-12 tokens, which the float answer doesn't show. The pool's own share token pays
nothing. With the surge fee y need not be concave: where more input pays less, slope and bend are 0.

The exact kernels are in `balancer_stable_words`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mev_engine.amm import balancer_logs, balancer_stable
from mev_engine.amm.abi import topic
from mev_engine.amm.balancer_math import ONE
from mev_engine.amm.balancer_stable import AMP_PRECISION, StablePool, imbalance
from mev_engine.amm.balancer_stable_words import invariant_of, least, live_of, quote, words
from mev_engine.amm.balancer_vault import MAX_BALANCE
from mev_engine.amm.family import Family, Log
from mev_engine.amm.logs import Follow, data, indexed, unknown
from mev_engine.amm.stable_curve import change, curvature
from mev_engine.jit import helper
from mev_engine.types import FloatArray

__all__ = ["FAMILY", "least", "params", "quote", "respond", "words"]

_G, _FEE, _TOKENS, _BPT, _LIMIT, _THRESHOLD, _SURGE, _UNEVEN = range(8)
_HEAD = 8
_SHARE, _UNIT, _PAID, _MOST, _TOKEN = 0, 1, 2, 3, 4
_SAME = 1e-12
_HALVINGS = 60


def params(pool: StablePool) -> FloatArray:
    """Head: g (`stable_curve`), fee, number of tokens with the pool's share, its index or -1, the largest
    ratio of balances, the surge's threshold and highest fee above the static one, the imbalance now.
    For each token: balance and 1 raw unit in units of D, raw units that a unit of D pays, largest input.
    """
    d, live = invariant_of(pool), live_of(pool)
    count, bpt = len(pool.balances), -1 if pool.bpt is None else pool.bpt
    g, uneven = 1.0, 0.0
    usable = bool(d) and min(live) > 0
    if d and usable:
        g = curvature([balance / d for balance in live], pool.amp * len(live) / AMP_PRECISION)
        uneven = imbalance(live) / ONE
    surge = pool.surge
    surges = surge is not None and surge.max_fee >= pool.swap_fee
    threshold, extra = (surge.threshold, surge.max_fee - pool.swap_fee) if surge and surges else (ONE, 0)
    limit = np.inf if pool.max_imbalance is None else pool.max_imbalance
    head = [g, pool.swap_fee / ONE, count, bpt, limit, threshold / ONE, extra / ONE, uneven]
    for k, balance in enumerate(pool.balances):
        if not d or not usable or k == bpt:
            head += [1.0, 0.0, 0.0, np.inf]
            continue
        unit = pool.factor(k) / ONE / d
        head += [balance * unit, unit, 1.0 / unit, float(MAX_BALANCE[pool.vault] - balance)]
    return np.array(head, dtype=np.float64)


@helper
def _uneven(
    params: FloatArray, at: int, i: int, j: int, x: float, y: float
) -> tuple[float, float, float, float, float]:
    """`(imbalance, total, sign of i, sign of j, largest over least)` with balances x of i and y of j.

    The imbalance is the upper half of the balances less the lower one, of the total: the median falls out.
    """
    count, bpt = int(params[at + _TOKENS]), int(params[at + _BPT])
    n = count - (bpt >= 0)
    spread = total = sign_i = sign_j = largest = 0.0
    least_one = np.inf
    for k in range(count):
        if k == bpt:
            continue
        value = x if k == i else (y if k == j else params[at + _HEAD + _TOKEN * k])
        below = 0
        for m in range(count):
            other = x if m == i else (y if m == j else params[at + _HEAD + _TOKEN * m])
            # of equal balances the one paid in is about to be the largest, the one paid out the least
            tied = m == j or k == i or (m < k and k != j and m != i)
            below += m not in (k, bpt) and (other < value or (other == value and tied))
        sign = 0.0 if 2 * below + 1 == n else (1.0 if 2 * below >= n else -1.0)
        spread, total = spread + sign * value, total + value
        largest, least_one = max(largest, value), min(least_one, value)
        if k == i:
            sign_i = sign
        if k == j:
            sign_j = sign
    ratio = largest / least_one if least_one > 0.0 else np.inf
    return spread / total, total, sign_i, sign_j, ratio


@helper
def _answer(params: FloatArray, at: int, i: int, j: int, u: float) -> tuple[float, float, float, float]:
    """`(output, slope, bend, largest balance over least)` of an input u; all in units of D."""
    side, other, g = at + _HEAD + _TOKEN * i, at + _HEAD + _TOKEN * j, params[at + _G]
    a, b, fee, threshold = params[side], params[other], params[at + _FEE], params[at + _THRESHOLD]
    net, grows, bends = u * (1.0 - fee), 1.0 - fee, 0.0  # the input after the fee and its derivatives
    ratio = 0.0
    if threshold < 1.0:  # the surge is measured on a swap without a fee
        out, slope, bend = change(a, b, g, u)
        now, total, sign_i, sign_j, ratio = _uneven(params, at, i, j, a + u, b - out)
        curve, spill = -2.0 * bend * slope, 1.0 - slope
        rise = (sign_i - sign_j * slope - now * spill) / total
        turn = (-sign_j * curve - 2.0 * rise * spill + now * curve) / total
        before = params[at + _UNEVEN]
        starts = rise > _SAME or (rise > -_SAME and turn > 0.0)
        if now > threshold and (starts if abs(now - before) < _SAME else now > before):
            steep = params[at + _SURGE] / (1.0 - threshold)
            fee += steep * (now - threshold)
            net, grows = u * (1.0 - fee), 1.0 - fee - u * steep * rise
            bends = -steep * (2.0 * rise + u * turn)
    out, slope, bend = change(a, b, g, net)
    if threshold >= 1.0 and params[at + _LIMIT] < np.inf:
        ratio = _uneven(params, at, i, j, a + net, b - out)[4]
    if grows <= 0.0:
        return out, 0.0, 0.0, ratio
    return out, slope * grows, max(bend * grows - 0.5 * bends / grows, 0.0), ratio


@helper
def respond(params: FloatArray, at: int, i: int, j: int, x: float) -> tuple[float, float, float]:
    """See `family`; a swap that would leave the balances too far apart pays what the last one before does."""
    side, limit = at + _HEAD + _TOKEN * i, params[at + _LIMIT]
    unit, paid, most = params[side + _UNIT], params[at + _HEAD + _TOKEN * j + _PAID], params[side + _MOST]
    if unit == 0.0 or paid == 0.0:
        return 0.0, 0.0, 0.0
    u = unit * min(x, most)
    y, slope, bend, ratio = _answer(params, at, i, j, u)
    if ratio >= limit:
        low, high = 0.0, u
        if _answer(params, at, i, j, low)[3] >= limit:
            return 0.0, 0.0, 0.0
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            if _answer(params, at, i, j, middle)[3] >= limit:
                high = middle
            else:
                low = middle
        return _answer(params, at, i, j, low)[0] * paid, 0.0, 0.0
    if x > most:
        return y * paid, 0.0, 0.0
    return y * paid, slope * unit * paid, bend * unit


def _rate(kind: str) -> Follow:
    """A cached rate of V2, by the token's index or its address."""

    def follow(pool: StablePool, log: Log) -> StablePool:
        named = indexed(log, 1, kind)
        token = balancer_logs.token_index(pool, named) if kind == "address" else named
        if token >= len(pool.rates):
            raise ValueError(f"the log names token {token}: the pool has {len(pool.rates)}")
        (rate,) = data(log, "uint256")
        return balancer_logs.with_rate(pool, token, rate)

    return follow


def _amp(pool: StablePool, log: Log) -> StablePool:
    """AmpUpdateStopped(uint256 currentValue): with its precision of 1000."""
    return replace(pool, amp=data(log, "uint256")[0])


FAMILY = Family(
    name="balancer_stable",
    code=7,
    state=StablePool,
    coins=lambda pool: len(pool.balances),
    exact_in=balancer_stable.exact_in,
    exact_out=balancer_stable.exact_out,
    params=params,
    words=words,
    events={
        **balancer_logs.EVENTS,
        topic("TokenRateCacheUpdated(uint256,uint256)"): _rate("uint256"),  # ComposableStable
        topic("TokenRateCacheUpdated(address,uint256)"): _rate("address"),  # its first version
        topic("PriceRateCacheUpdated(address,uint256)"): _rate("address"),  # MetaStable
        **unknown("AmpUpdateStarted(uint256,uint256,uint256,uint256)", why="amp moves with every block"),
        topic("AmpUpdateStopped(uint256)"): _amp,
    },
)
