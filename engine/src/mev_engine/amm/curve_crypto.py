"""Curve tricrypto: three volatile coins around an internal price scale.

Sources: curvefi/curve-crypto-contract, CurveCryptoMath3.vy (newton_y, reduction_coefficient),
CurveCryptoViews3.vy (get_dy), CurveCryptoSwap.vy (_fee). Both generations: the first one (2021-06) has
A_MULTIPLIER 100, the later ones 10000 and other limits. Not here: tricrypto-ng (another solver), pools of
two coins, and the change of the price scale that a real exchange brings along.

Amounts are raw token units, fees 1e-10, the rest in 1e18. Exact functions raise `SwapRevertedError` with
the contract's reason; where it has none (unsafe values, arithmetic) the message says what happened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mev_engine.amm.errors import SwapRevertedError
from mev_engine.amm.evm import UINT256_MAX, check_range, div, least_input, mul_div, u256

ONE = 10**18
FEE_DENOMINATOR = 10**10
N_COINS = 3
_NN: int = N_COINS**N_COINS
_MAX_STEPS = 255
_LIMITS = {
    # A_MULTIPLIER: least and greatest ANN, greatest gamma
    100: (_NN * 100, 10_000 * _NN * 100, 10**16),
    10_000: (_NN * 10_000 // 100, _NN * 10_000 * 1000, 5 * 10**16),
}


@dataclass(frozen=True, slots=True)
class CurveCryptoPool:
    """State of one tricrypto pool.

    balances: raw units. precisions: `10**(18 - decimals)`.
    price_scale: the internal prices of coins 1 and 2 in coin 0, 1e18.
    ann: A * 27 * a_multiplier (`A_precise()` in the first generation, `A()` in later ones).
    a_multiplier: 100 in the first generation, 10000 in later ones.
    gamma, d: as the contract's `gamma()` and `D()`, 1e18. While A or gamma is ramping the later generations
    recompute D for each quote; the state must then hold that one.
    mid_fee, out_fee: 1e-10. fee_gamma: 1e18.
    """

    balances: tuple[int, int, int]
    precisions: tuple[int, int, int]
    price_scale: tuple[int, int]
    ann: int
    gamma: int
    d: int
    mid_fee: int
    out_fee: int
    fee_gamma: int
    a_multiplier: int = 10_000

    def __post_init__(self) -> None:
        check_range("len(balances)", len(self.balances), N_COINS, N_COINS)
        check_range("len(precisions)", len(self.precisions), N_COINS, N_COINS)
        check_range("len(price_scale)", len(self.price_scale), N_COINS - 1, N_COINS - 1)
        for k in range(N_COINS):
            check_range(f"balances[{k}]", self.balances[k], 0, UINT256_MAX)
            check_range(f"precisions[{k}]", self.precisions[k], 1, ONE)
        for k, price in enumerate(self.price_scale):
            check_range(f"price_scale[{k}]", price, 1, 2**128 - 1)
        if self.a_multiplier not in _LIMITS:
            raise ValueError(f"a_multiplier is {self.a_multiplier}: contracts have 100 or 10000")
        low, high, max_gamma = _LIMITS[self.a_multiplier]
        check_range("ann", self.ann, low, high)
        check_range("gamma", self.gamma, 10**10, max_gamma)
        check_range("d", self.d, 0, UINT256_MAX)
        check_range("mid_fee", self.mid_fee, 0, FEE_DENOMINATOR)
        check_range("out_fee", self.out_fee, self.mid_fee, FEE_DENOMINATOR)
        check_range("fee_gamma", self.fee_gamma, 0, ONE)


def reduction_coefficient(x: Sequence[int], fee_gamma: int) -> int:
    """CurveCryptoMath3.reduction_coefficient: 1e18 where the balances are even, less where they are not.

    `fee_gamma / (fee_gamma + 1 - K)` with `K = prod(x) / (sum(x)/n)^n`; K itself where fee_gamma is 0.
    """
    total, k = u256(sum(x)), ONE
    for value in x:
        k = mul_div(k * len(x), value, total)
    return mul_div(fee_gamma, ONE, u256(fee_gamma + ONE - k)) if fee_gamma > 0 else k


def newton_y(ann: int, gamma: int, x: Sequence[int], d: int, j: int, a_multiplier: int) -> int:
    """CurveCryptoMath3.newton_y: the balance of coin j that gives D with the others of `x`, to 1e-14.

    All in the units of `normalised`; reverts outside the limits for which the contract vouches.
    """
    low, high, max_gamma = _LIMITS[a_multiplier]
    if not low <= ann <= high:
        raise SwapRevertedError(f"unsafe values A: {ann}")
    if not 10**10 <= gamma <= max_gamma:
        raise SwapRevertedError(f"unsafe values gamma: {gamma}")
    if not 10**17 <= d <= 10**33:
        raise SwapRevertedError(f"unsafe values D: {d}")
    others = sorted((value for k, value in enumerate(x) if k != j), reverse=True)
    for value in others:
        if not 10**16 <= mul_div(value, ONE, d) <= 10**20:
            raise SwapRevertedError(f"unsafe values x[i]: {value}")

    n = len(x)
    limit = max(others[0] // 10**14, d // 10**14, 100)
    y, k0_i = d // n, ONE
    for value in reversed(others):
        y = mul_div(y, d, value * n)
    for value in others:
        k0_i = mul_div(k0_i * value, n, d)
    others_sum = sum(others)

    for _ in range(_MAX_STEPS):
        before = y
        k0 = mul_div(k0_i * y, n, d)
        total = others_sum + y
        g1k0 = abs(gamma + ONE - k0) + 1
        # D / (A n^n) * (g1k0 / gamma)^2, in the contract's order
        mul1 = mul_div(mul_div(mul_div(ONE, d, gamma), g1k0, gamma), g1k0, 1)
        mul1 = mul_div(mul1, a_multiplier, ann)
        mul2 = ONE + mul_div(2 * ONE, k0, g1k0)
        yfprime = u256(ONE * y + u256(total * mul2) + mul1)
        if yfprime < u256(d * mul2):
            y = before // 2
            continue
        yfprime -= d * mul2
        fprime = div(yfprime, y)
        minus = div(mul1, fprime)
        plus = div(u256(yfprime + ONE * d), fprime) + mul_div(minus, ONE, k0)
        minus += mul_div(ONE, total, fprime)
        y = before // 2 if plus < minus else plus - minus
        if abs(y - before) < max(limit, y // 10**14):
            if not 10**16 <= mul_div(y, ONE, d) <= 10**20:
                raise SwapRevertedError(f"unsafe value for y: {y}")
            return y
    raise SwapRevertedError("Did not converge")


def normalised(pool: CurveCryptoPool, balances: Sequence[int]) -> list[int]:
    """Raw balances in units of 1e-18 of coin 0, by the price scale."""
    scale = (ONE, *pool.price_scale)
    return [mul_div(balances[k] * pool.precisions[k], scale[k], ONE) for k in range(N_COINS)]


def _output(pool: CurveCryptoPool, i: int, j: int, dx: int) -> int:
    """get_dy; negative where the contract's `xp[j] - y - 1` underflows."""
    if i == j or not 0 <= i < N_COINS or not 0 <= j < N_COINS:
        raise SwapRevertedError("coin index out of range")
    if dx == 0:
        raise SwapRevertedError("do not exchange 0 coins")
    balances = list(pool.balances)
    balances[i] = u256(balances[i] + dx)
    xp = normalised(pool, balances)
    y = newton_y(pool.ann, pool.gamma, xp, pool.d, j, pool.a_multiplier)
    dy = xp[j] - y - 1
    if dy < 0:
        return dy
    xp[j] = y
    if j > 0:
        dy = mul_div(dy, ONE, pool.price_scale[j - 1])
    dy //= pool.precisions[j]
    return dy - mul_div(fee_rate(pool, xp), dy, FEE_DENOMINATOR)


def fee_rate(pool: CurveCryptoPool, xp: Sequence[int]) -> int:
    """CurveCryptoSwap._fee in 1e-10: between mid_fee and out_fee, by how uneven `xp` is."""
    f = reduction_coefficient(xp, pool.fee_gamma)
    return u256(pool.mid_fee * f + pool.out_fee * u256(ONE - f)) // ONE


def exact_in(pool: CurveCryptoPool, i: int, j: int, dx: int) -> int:
    """`get_dy`: raw units of coin j for dx of coin i."""
    check_range("dx", dx, 0, UINT256_MAX)
    return u256(_output(pool, i, j, dx))


def exact_out(pool: CurveCryptoPool, i: int, j: int, dy: int) -> int:
    """An input dx whose `exact_in` is at least dy while that of dx - 1 is not.

    newton_y ends 1e-14 short of the solution, so get_dy can dip by that much: near the least input, not
    always the least. The contract has no function for it. Raises SwapRevertedError if no input gives dy.
    """
    check_range("dy", dy, 1, UINT256_MAX)
    if dy >= pool.balances[j]:
        raise SwapRevertedError(f"dy is {dy}: the pool has {pool.balances[j]} of coin {j}")

    def reaches(dx: int) -> bool:
        try:
            return _output(pool, i, j, dx) >= dy
        except SwapRevertedError:  # beyond the contract's limits; the check below raises it
            return True

    dx = least_input(reaches, int(dy / marginal_price(pool, i, j)), UINT256_MAX)
    if exact_in(pool, i, j, dx) < dy:
        raise SwapRevertedError(f"no input gives {dy} of coin {j}")
    return dx


def marginal_price(pool: CurveCryptoPool, i: int, j: int) -> float:
    """Raw units of j per raw unit of i for an infinitely small swap, after the fee.

    The ratio of the invariant's derivatives, from `K*D^2*S + P = K*D^3 + (D/3)^3` with P the product, S the
    sum, `K0 = 27*P/D^3` and `K = A*K0*gamma^2/(gamma + 1 - K0)^2` (Curve's cryptoswap paper, formula 2).
    """
    xp = normalised(pool, pool.balances)
    if min(xp) == 0:
        raise ValueError(f"balances is {pool.balances}: an empty coin has no price")
    x = [value / pool.d for value in xp]  # in units of D, so D = 1
    product, total, gamma = x[0] * x[1] * x[2], sum(x), pool.gamma / ONE
    a = pool.ann / pool.a_multiplier / _NN
    k0 = _NN * product
    g = gamma + 1.0 - k0
    k = a * k0 * gamma * gamma / (g * g)
    # K0's derivative by x_i is K0 / x_i, and that of K by K0 is K / K0 * (g + 2*K0) / g
    slope = [k * (g + 2.0 * k0) / g / value * (total - 1.0) + k + product / value for value in x]
    scale = (ONE, *pool.price_scale)
    unit = [pool.precisions[m] * scale[m] for m in range(N_COINS)]
    kept = 1.0 - fee_rate(pool, xp) / FEE_DENOMINATOR
    return slope[i] / slope[j] * (unit[i] / unit[j]) * kept
