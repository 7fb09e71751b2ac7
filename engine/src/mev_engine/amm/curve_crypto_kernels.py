"""Curve tricrypto in kernels: `K*D^2*S + P = K*D^3 + (D/3)^3`, in units of D, and its moving fee.

Float: the output is solved as a change from the state, so the error of y is relative to y: about 1e-15 plus
1e-17 / gamma. The contract's own answer is beside the real curve by up to 1e-14 of the pool (where its
Newton's method ends) plus 1e-18 / gamma of the trade, and its fee is rounded down to 1e-10. The state's D
must be that of its balances, as the contract leaves it after every exchange; what it is off by counts as
nothing. As the fee falls where a swap evens the pool out, y need not be concave there: bend is 0 then.

Each exchange moves the price scale, by the contract's own price history: no log of the pool tells the
state after it. There is no exact kernel.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mev_engine.amm import curve_crypto
from mev_engine.amm.curve_crypto import FEE_DENOMINATOR, N_COINS, ONE, CurveCryptoPool, normalised
from mev_engine.amm.family import Family
from mev_engine.amm.logs import unknown
from mev_engine.jit import helper
from mev_engine.types import FloatArray

_NN = 27.0
_LEAST, _MOST = 0.01, 100.0
"""Balances in units of D between which the contract's newton_y works."""
_STEPS, _HALVINGS = 60, 50
_D_IS_OFF = 1e-8
_ROUNDING = 1e-12
_ENOUGH = 1e-8  # a Newton step this short leaves its square
_A_GAMMA2, _G, _K0, _SPARE, _BELOW, _MID_FEE, _FEE_SPAN, _FEE_GAMMA, _HEAD = range(9)


def params(pool: CurveCryptoPool) -> FloatArray:
    """Head: A*gamma^2, g = gamma + 1 - K0, K0, S - 1, 1 - K0, mid_fee, out_fee - mid_fee, fee_gamma.
    For each coin: balance and 1 raw unit in units of D, raw units of a unit of D (0 where the
    contract can't use D). ValueError where D is not that of the balances.
    """
    xp, d, gamma = normalised(pool, pool.balances), pool.d, pool.gamma / ONE
    usable = 10**17 <= d <= 10**33 and min(xp) > 0
    cube, product = d**3, 27 * xp[0] * xp[1] * xp[2]
    below = (cube - product) / cube if usable else 0.0  # of integers: no digits are lost in the difference
    spare = (sum(xp) - d) / d if usable else 0.0
    a = pool.ann / pool.a_multiplier / _NN
    if usable:
        _check_d(pool, a * gamma * gamma / (gamma + below) ** 2, spare, below)
    fees = (pool.mid_fee / FEE_DENOMINATOR, (pool.out_fee - pool.mid_fee) / FEE_DENOMINATOR)
    head = [a * gamma * gamma, gamma + below, 1.0 - below, spare, below, *fees, pool.fee_gamma / ONE]
    for k, scale in enumerate((ONE, *pool.price_scale)):
        unit = pool.precisions[k] * scale / ONE / d if usable else 0.0
        head += [xp[k] / d if usable else 0.0, unit, 1.0 / unit if usable else 0.0]
    return np.array(head)


def _check_d(pool: CurveCryptoPool, k: float, spare: float, below: float) -> None:
    """ValueError where D isn't that of the balances: the invariant's value over its derivative by ln D."""
    k *= 1.0 - below
    rest = k * spare - below / _NN
    steep = k * (1.0 + 2.0 * (1.0 - below) / (pool.gamma / ONE + below)) * 3.0 * abs(spare)
    off = rest / (steep + k * (1.0 + spare) + (1.0 - below) / 9.0)
    if not abs(off) <= _D_IS_OFF:
        raise ValueError(
            f"d is {pool.d}: the balances' is another, by a share of {off:.1e}; read both at one block"
        )


@helper
def _start(params: FloatArray, at: int, a: float, b: float, z: float, u: float, low: float) -> Any:
    """An output to start from: the least of two estimates that are above it, but for a few per cent.

    One goes on with the price at 0. The other takes the sum of the balances at `low`, so that K0 = 1 - t
    solves `t * (gamma + t)^2 = 27*A*gamma^2 * (S - 1)`, a cubic.
    """
    ag2, g, k0, spare = params[at + _A_GAMMA2], params[at + _G], params[at + _K0], params[at + _SPARE]
    k = ag2 * k0 / (g * g)
    k1 = k * (1.0 + 2.0 * k0 / g) * spare + k0 / _NN
    straight = u * (k1 / a + k) / (k1 / b + k)
    gamma = g - params[at + _BELOW]
    target = _NN * ag2 * max(spare + u - low, 0.0)
    t = min(target / (gamma * gamma), target ** (1.0 / 3.0))
    for _ in range(2):
        t -= (t * (gamma + t) * (gamma + t) - target) / ((gamma + t) * (gamma + 3.0 * t))
    bent = (u * b - (params[at + _BELOW] - t) / (_NN * z)) / (a + u)
    return max(min(straight, bent), low)


@helper
def _solve(params: FloatArray, at: int, a: float, b: float, z: float, u: float) -> Any:
    """The output from balance b for an input u to balance a, z being the third; before the fee.

    Newton's method on the invariant times g^2, which has no pole, held between two bounds: at the lower one
    the product of the balances is that of even ones, at the upper one b is empty.
    """
    ag2, g0, k00, spare = params[at + _A_GAMMA2], params[at + _G], params[at + _K0], params[at + _SPARE]
    x, below = a + u, params[at + _BELOW]
    q = _NN * z * x
    low, high = max((_NN * z * u * b - max(below, 0.0)) / q, 0.0), (1.0 - _ROUNDING) * b
    output = min(_start(params, at, a, b, z, u, low), high)
    for _ in range(_STEPS):
        dp = z * (u * b - output * x)
        g, k0 = g0 - _NN * dp, k00 + _NN * dp
        k = ag2 * k0 / (g * g)
        moved = ag2 * _NN * dp * (g0 * g0 + k00 * (g + g0)) / (g * g * g0 * g0)
        h = k * (u - output) + moved * spare + dp
        if h > 0.0:
            low = output
        else:
            high = output
        total = max(spare + u - output, 0.0)
        steep = (k * (1.0 + 2.0 * k0 / g) * total + k0 / _NN) / (b - output) + k
        slope = steep - 2.0 * q / g * h
        after = output + h / slope if slope > 0.0 else high
        if not low * (1.0 - _ROUNDING) <= after <= high * (1.0 + _ROUNDING):
            after = 0.5 * (low + high)
        after = min(max(after, low), high)
        step, output = after - output, after
        if abs(step) * (g + q * output) <= _ENOUGH * output * g:
            break
    return output


@helper
def _answer(
    params: FloatArray, at: int, a: float, b: float, z: float, u: float, output: float
) -> tuple[float, float, float]:
    """`(y, slope, bend)` after the fee, in units of D, from an input and its output before the fee."""
    x, y = a + u, b - output
    dp = z * (u * b - output * x)
    g, k0 = params[at + _G] - _NN * dp, params[at + _K0] + _NN * dp
    total, p, r = max(params[at + _SPARE] + u - output, 0.0), k0 / _NN, k0 / g
    k = params[at + _A_GAMMA2] * k0 / (g * g)
    k1 = k * (1.0 + 2.0 * r) * total
    fx, fy = (k1 + p) / x + k, (k1 + p) / y + k
    slope = fx / fy
    left, right, apart = 1.0 / x, slope / y, k * (1.0 / x - 1.0 / y) / fy
    curve = (
        -(
            k1 * (left * left + right * right)
            + 2.0 * p * left * right
            + apart * apart * (k * total * (1.0 + 2.0 * r + 2.0 * r * r) + 2.0 * p * (1.0 + 2.0 * r))
        )
        / fy
    )
    # the fee by how even the balances are after the swap, and its derivatives
    s, ds = 1.0 + total, 1.0 - slope
    even = k0 / (s * s * s)
    log1 = left - right - 3.0 * ds / s
    log2 = -left * left - right * right - curve / y + 3.0 * (curve / s + ds * ds / (s * s))
    even1, even2 = even * log1, even * (log1 * log1 + log2)
    share, share1, share2, gamma = even, even1, even2, params[at + _FEE_GAMMA]
    if gamma > 0.0:
        w = gamma + max(1.0 - even, 0.0)
        share = gamma / w
        share1 = share * even1 / w
        share2 = share * (even2 / w + 2.0 * even1 * even1 / (w * w))
    span = params[at + _FEE_SPAN]
    kept = 1.0 - params[at + _MID_FEE] - span * (1.0 - share)
    after = slope * kept + output * span * share1
    if after <= 0.0:
        return output * kept, 0.0, 0.0
    bent = curve * kept + 2.0 * slope * span * share1 + output * span * share2
    return output * kept, after, max(-0.5 * bent / after, 0.0)


@helper
def respond(params: FloatArray, at: int, i: int, j: int, x: float) -> tuple[float, float, float]:
    """See `family`; beyond the balances for which the contract vouches it pays what it pays there."""
    side, other, third = at + _HEAD + 3 * i, at + _HEAD + 3 * j, at + _HEAD + 3 * (N_COINS - i - j)
    a, b, z, unit, paid = params[side], params[other], params[third], params[side + 1], params[other + 2]
    u = unit * x
    if not (_LEAST <= z <= _MOST and a <= _MOST and a + u >= _LEAST and b > _LEAST):
        return 0.0, 0.0, 0.0
    most = min(u, _MOST - a)
    output = _solve(params, at, a, b, z, most)
    if b - output < _LEAST:
        low, high = 0.0, most
        for _ in range(_HALVINGS):
            most = 0.5 * (low + high)
            output = _solve(params, at, a, b, z, most)
            if b - output < _LEAST:
                high = most
            else:
                low = most
        most, output = low, _solve(params, at, a, b, z, low)
    y, slope, bend = _answer(params, at, a, b, z, most, output)
    if most < u:
        return y * paid, 0.0, 0.0
    return y * paid, slope * unit * paid, bend * unit


FAMILY = Family(
    name="curve_crypto",
    code=5,
    state=CurveCryptoPool,
    coins=lambda pool: N_COINS,
    exact_in=curve_crypto.exact_in,
    exact_out=curve_crypto.exact_out,
    params=params,
    events={
        **unknown(
            "TokenExchange(address,uint256,uint256,uint256,uint256)",
            "AddLiquidity(address,uint256[3],uint256,uint256)",
            "RemoveLiquidityOne(address,uint256,uint256,uint256)",
            "ClaimAdminFee(address,uint256)",
            why="the price scale and D move by the contract's own price history",
        ),
        **unknown("RemoveLiquidity(address,uint256[3],uint256)", why="D falls with the LP supply"),
        **unknown(
            "RampAgamma(uint256,uint256,uint256,uint256,uint256,uint256)",
            "StopRampA(uint256,uint256,uint256)",
            why="D is computed anew from A and gamma",
        ),
        **unknown(
            "NewParameters(uint256,uint256,uint256,uint256,uint256,uint256,uint256)",
            why="the fee's parameters are read together",
        ),
    },
)
