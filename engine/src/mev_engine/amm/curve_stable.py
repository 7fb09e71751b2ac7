"""Curve stableswap: plain pools, pools of lending tokens (by their rates) and metapools.

Sources: curvefi/curve-contract, pools/3pool/StableSwap3Pool.vy (first generation), pools/rai/
StableSwapRAI.vy and pool-templates (later ones), pools/compound/StableSwapCompound.vy (lending);
functions get_D, get_y, get_y_D, get_dy, exchange, calc_token_amount, calc_withdraw_one_coin,
get_virtual_price, get_dy_underlying, _A, _vp_rate_ro.

Amounts are raw token units, fees 1e-10. Exact functions raise `SwapRevertedError`; Vyper gives no reason
for arithmetic, so the message says what happened. Not here: pools whose fee depends on
the balances (aave, saave, stableswap-ng).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from mev_engine.amm.errors import SwapRevertedError
from mev_engine.amm.evm import UINT256_MAX, check_range, div, least_input, mul_div, u256

PRECISION = 10**18
FEE_DENOMINATOR = 10**10
BASE_CACHE_EXPIRES = 600
"""Seconds for which a metapool goes on with its copy of the base pool's virtual price."""
_MAX_STEPS = 255


class Product(Enum):
    """How a contract computes `D^(n+1) / (n^n * prod(x))` in get_D."""

    EACH = "each"
    """`D_P * D / (x * n)` for each coin: most pools."""
    EACH_PLUS_ONE = "each_plus_one"
    """`D_P * D / (x * n + 1)` for each coin: the lending pools."""
    PAIR = "pair"
    """`D * D / x0 * D / x1 / n^n`: two-coin factory pools."""


@dataclass(frozen=True, slots=True)
class CurveStablePool:
    """State of one pool of 2 to 8 coins.

    balances: raw units, without the admin's fees.
    rates: value of a raw unit, times 1e18: `10**(36 - decimals)` for a plain coin, times `rate / 1e18` for
    a lending token or another one whose rate (in 1e18) a contract gives; the last one of a metapool is the
    base pool's virtual price.
    amp: A as `_A()` returns it, so times a_precision (`ramped_amp` for a changing one).
    a_precision: 1 in first-generation pools, 100 in later ones.
    fee, admin_fee: 1e-10; the admin's is a share of the fee.
    fee_after_rate: whether get_dy takes the fee after converting to raw units (first generation).
    kept: what get_dy and exchange hold back for rounding in units of 1e-18: 1, in the lending pools 0.
    reverts_unconverged: whether get_D and get_y revert where Newton's method has not ended after 255 steps
    (later pools), or go on with the last value. In very uneven pools D can swing between two values.
    lp_supply: LP tokens, raw; needed only for the functions on LP tokens.
    """

    balances: tuple[int, ...]
    rates: tuple[int, ...]
    amp: int
    fee: int
    admin_fee: int = 0
    a_precision: int = 100
    product: Product = Product.EACH
    fee_after_rate: bool = False
    kept: int = 1
    reverts_unconverged: bool = True
    lp_supply: int = 0

    def __post_init__(self) -> None:
        check_range("len(balances)", len(self.balances), 2, 2 if self.product is Product.PAIR else 8)
        check_range("len(rates)", len(self.rates), len(self.balances), len(self.balances))
        for k, balance in enumerate(self.balances):
            check_range(f"balances[{k}]", balance, 0, UINT256_MAX)
        for k, rate in enumerate(self.rates):
            check_range(f"rates[{k}]", rate, 1, UINT256_MAX)
        if self.a_precision not in {1, 100}:
            raise ValueError(f"a_precision is {self.a_precision}: contracts have 1 or 100")
        check_range("amp", self.amp, self.a_precision, 10**6 * self.a_precision)
        check_range("fee", self.fee, 0, FEE_DENOMINATOR // 2)
        check_range("admin_fee", self.admin_fee, 0, FEE_DENOMINATOR)
        check_range("kept", self.kept, 0, 1)
        check_range("lp_supply", self.lp_supply, 0, UINT256_MAX)


@dataclass(frozen=True, slots=True)
class CurveMetapool:
    """A pool whose last coin is the LP token of a base pool.

    own: the pool's state; its last rate is the stored copy of the base pool's virtual price.
    base: the base pool, with lp_supply.
    base_cache_updated: seconds since 1970 at which the copy was taken.
    """

    own: CurveStablePool
    base: CurveStablePool
    base_cache_updated: int

    def __post_init__(self) -> None:
        check_range("base.lp_supply", self.base.lp_supply, 1, UINT256_MAX)
        check_range("base_cache_updated", self.base_cache_updated, 0, UINT256_MAX)

    def at(self, timestamp: int) -> CurveStablePool:
        """The pool as a block of that time sees it, exact functions of a plain pool apply to it."""
        if timestamp <= self.base_cache_updated + BASE_CACHE_EXPIRES:
            return self.own
        return replace(self.own, rates=(*self.own.rates[:-1], virtual_price(self.base)))


def ramped_amp(initial: int, future: int, initial_time: int, future_time: int, timestamp: int) -> int:
    """`_A()`: the amplification at a time, on a line between two set points."""
    if timestamp >= future_time:
        return future
    moved = div(abs(future - initial) * (timestamp - initial_time), future_time - initial_time)
    return initial + moved if future > initial else initial - moved


def normalised(pool: CurveStablePool) -> list[int]:
    """`_xp()`: the balances in units of 1e-18."""
    return [mul_div(r, b, PRECISION) for r, b in zip(pool.rates, pool.balances, strict=True)]


def get_d(
    xp: Sequence[int], amp: int, a_precision: int, product: Product = Product.EACH, strict: bool = True
) -> int:
    """get_D: the invariant of normalised balances, by Newton's method until a step of at most one.

    `strict`: see reverts_unconverged.
    """
    n, total = len(xp), u256(sum(xp))
    if total == 0:
        return 0
    ann, d = amp * n, total
    for _ in range(_MAX_STEPS):
        d_p = d
        if product is Product.PAIR:
            d_p = div(mul_div(mul_div(d, d, xp[0]), d, xp[1]), n**n)
        else:
            plus = 1 if product is Product.EACH_PLUS_ONE else 0
            for x in xp:
                d_p = mul_div(d_p, d, u256(x * n + plus))
        before = d
        d = mul_div(
            mul_div(ann, total, a_precision) + d_p * n,
            d,
            u256(mul_div(ann - a_precision, d, a_precision) + (n + 1) * d_p),
        )
        if abs(d - before) <= 1:
            return d
    if strict:
        raise SwapRevertedError("D did not converge")
    return d


def solve_balance(j: int, xp: Sequence[int], amp: int, a_precision: int, d: int, strict: bool = True) -> int:
    """get_y and get_y_D: the normalised balance of coin j that gives D with the others of `xp`."""
    n = len(xp)
    ann, c, others = amp * n, d, 0
    for k, x in enumerate(xp):
        if k != j:
            others += x
            c = mul_div(c, d, u256(x * n))
    c = div(u256(u256(c * d) * a_precision), ann * n)
    b = u256(others + mul_div(d, a_precision, ann))
    y = d
    for _ in range(_MAX_STEPS):
        before = y
        y = div(u256(y * y + c), u256(2 * y + b - d))
        if abs(y - before) <= 1:
            return y
    if strict:
        raise SwapRevertedError("y did not converge")
    return y


def _d(pool: CurveStablePool, xp: Sequence[int]) -> int:
    return get_d(xp, pool.amp, pool.a_precision, pool.product, pool.reverts_unconverged)


def _y(pool: CurveStablePool, j: int, xp: Sequence[int], d: int) -> int:
    return solve_balance(j, xp, pool.amp, pool.a_precision, d, pool.reverts_unconverged)


def _check_coins(n: int, i: int, j: int) -> None:
    if i == j or not 0 <= i < n or not 0 <= j < n:
        raise SwapRevertedError(f"coins {i} and {j}: the pool has coins 0 to {n - 1}, and they must differ")


def _gross(pool: CurveStablePool, xp: list[int], i: int, j: int, x: int) -> int:
    """`xp[j] - y - 1` for the balance x of coin i; negative where the contract underflows."""
    d = _d(pool, xp)
    moved = [x if k == i else value for k, value in enumerate(xp)]
    return xp[j] - _y(pool, j, moved, d) - pool.kept


def _net(pool: CurveStablePool, j: int, gross: int) -> int:
    """get_dy's end: the fee and the conversion to raw units."""
    if pool.fee_after_rate:
        dy = mul_div(gross, PRECISION, pool.rates[j])
        return dy - mul_div(pool.fee, dy, FEE_DENOMINATOR)
    return mul_div(gross - mul_div(pool.fee, gross, FEE_DENOMINATOR), PRECISION, pool.rates[j])


def exact_in(pool: CurveStablePool, i: int, j: int, dx: int) -> int:
    """`get_dy`: raw units of coin j for dx of coin i. `exchange` pays the same or one unit beside it."""
    check_range("dx", dx, 0, UINT256_MAX)
    _check_coins(len(pool.balances), i, j)
    xp = normalised(pool)
    gross = _gross(pool, xp, i, j, u256(xp[i] + mul_div(dx, pool.rates[i], PRECISION)))
    return _net(pool, j, u256(gross))


def exact_out(pool: CurveStablePool, i: int, j: int, dy: int) -> int:
    """An input dx whose `exact_in` is at least dy while that of dx - 1 is not: the least, up to the unit
    by which Newton's method may end early. Most contracts have no function for it.
    """
    check_range("dy", dy, 1, UINT256_MAX)
    _check_coins(len(pool.balances), i, j)
    if dy >= pool.balances[j]:
        raise SwapRevertedError(f"dy is {dy}: the pool has {pool.balances[j]} of coin {j}")
    xp = normalised(pool)
    d = _d(pool, xp)
    gross = dy * pool.rates[j] // PRECISION * FEE_DENOMINATOR // (FEE_DENOMINATOR - pool.fee) + pool.kept
    if gross >= xp[j]:
        raise SwapRevertedError(f"dy is {dy}: with the fee it is more than the pool has of coin {j}")
    moved = [value - gross if k == j else value for k, value in enumerate(xp)]
    near = (_y(pool, i, moved, d) - xp[i]) * PRECISION // pool.rates[i]

    def reaches(dx: int) -> bool:
        try:
            out = _gross(pool, xp, i, j, xp[i] + dx * pool.rates[i] // PRECISION)
            return out >= 0 and _net(pool, j, out) >= dy
        except SwapRevertedError:  # too much for the contract's arithmetic; the check below raises it
            return True

    dx = least_input(reaches, near, UINT256_MAX)
    if exact_in(pool, i, j, dx) < dy:
        raise SwapRevertedError(f"no input gives {dy} of coin {j}")
    return dx


def exchange(pool: CurveStablePool, i: int, j: int, dx: int) -> tuple[int, CurveStablePool]:
    """`exchange`: what the pool really pays for dx, and the pool after it.

    The fee is taken before the conversion in all pools, so a first-generation get_dy may differ by one.
    Lending pools (kept 0) book both balances anew from their normalised values.
    """
    check_range("dx", dx, 0, UINT256_MAX)
    _check_coins(len(pool.balances), i, j)
    xp = normalised(pool)
    x = u256(xp[i] + mul_div(dx, pool.rates[i], PRECISION))
    gross = u256(_gross(pool, xp, i, j, x))
    fee = mul_div(gross, pool.fee, FEE_DENOMINATOR)
    admin = mul_div(fee, pool.admin_fee, FEE_DENOMINATOR)
    dy = mul_div(gross - fee, PRECISION, pool.rates[j])
    balances = list(pool.balances)
    if pool.kept == 0:
        balances[i] = mul_div(x, PRECISION, pool.rates[i])
        balances[j] = mul_div(xp[j] - gross + fee - admin, PRECISION, pool.rates[j])
    else:
        balances[i] = u256(balances[i] + dx)
        balances[j] = u256(balances[j] - dy - mul_div(admin, PRECISION, pool.rates[j]))
    return dy, replace(pool, balances=tuple(balances))


def marginal_price(pool: CurveStablePool, i: int, j: int) -> float:
    """Raw units of j per raw unit of i for an infinitely small swap, after the fee.

    From `Ann*S + D = Ann*D + D_P`: the price is `(Ann + D_P/x_i) / (Ann + D_P/x_j)`. 0.0 if a coin is out.
    """
    _check_coins(len(pool.balances), i, j)
    xp = normalised(pool)
    if min(xp) == 0:
        return 0.0
    n, d = len(xp), _d(pool, xp)
    d_p = float(d)
    for x in xp:
        d_p *= d / (x * n)
    ann = pool.amp * n / pool.a_precision
    price = (ann + d_p / xp[i]) / (ann + d_p / xp[j])
    return price * (pool.rates[i] / pool.rates[j]) * (1.0 - pool.fee / FEE_DENOMINATOR)


def virtual_price(pool: CurveStablePool) -> int:
    """`get_virtual_price`: value of an LP token, times 1e18."""
    d = _d(pool, normalised(pool))
    return mul_div(d, PRECISION, pool.lp_supply)


def calc_token_amount(pool: CurveStablePool, amounts: Sequence[int], deposit: bool) -> int:
    """`calc_token_amount`: LP tokens for a deposit or withdrawal of raw amounts, before any fee."""
    check_range("len(amounts)", len(amounts), len(pool.balances), len(pool.balances))
    sign = 1 if deposit else -1
    after = tuple(u256(b + sign * a) for b, a in zip(pool.balances, amounts, strict=True))
    before = _d(pool, normalised(pool))
    moved = _d(pool, normalised(replace(pool, balances=after)))
    return mul_div(u256(sign * (moved - before)), pool.lp_supply, before)


def calc_withdraw_one_coin(pool: CurveStablePool, lp_amount: int, i: int) -> int:
    """`calc_withdraw_one_coin`: raw units of coin i for LP tokens, after the fee on the imbalance."""
    n = len(pool.balances)
    if not 0 <= i < n:
        raise SwapRevertedError(f"coin {i}: the pool has coins 0 to {n - 1}")
    fee = pool.fee * n // (4 * (n - 1))
    xp = normalised(pool)
    d0 = _d(pool, xp)
    d1 = u256(d0 - mul_div(lp_amount, d0, pool.lp_supply))
    new_y = _y(pool, i, xp, d1)
    u256(xp[i] - new_y)  # the contract's own figure without fee, of no use here, but it may revert
    reduced = []
    for k, x in enumerate(xp):
        ideal = mul_div(x, d1, d0)
        expected = u256(ideal - new_y if k == i else x - ideal)
        reduced.append(u256(x - mul_div(fee, expected, FEE_DENOMINATOR)))
    dy = reduced[i] - _y(pool, i, reduced, d1)
    return mul_div(u256(dy - 1), PRECISION, pool.rates[i])


def exact_in_underlying(pool: CurveMetapool, timestamp: int, i: int, j: int, dx: int) -> int:
    """`get_dy_underlying`: coins 0 to m - 1 are the metapool's own, then come those of the base pool.

    The contract's own estimate: for a coin of the base pool paid in it takes half the base pool's fee,
    which `exchange_underlying` replaces by the fee on the deposit's imbalance.
    """
    check_range("dx", dx, 0, UINT256_MAX)
    last = len(pool.own.balances) - 1
    _check_coins(last + len(pool.base.balances), i, j)
    if i >= last and j >= last:
        return exact_in(pool.base, i - last, j - last, dx)
    own = pool.at(timestamp)
    xp = normalised(own)
    if i < last:
        x = u256(xp[i] + mul_div(dx, own.rates[i], PRECISION))
    else:
        deposit = [dx if k == i - last else 0 for k in range(len(pool.base.balances))]
        value = mul_div(calc_token_amount(pool.base, deposit, True), own.rates[last], PRECISION)
        x = u256(value - mul_div(value, pool.base.fee, 2 * FEE_DENOMINATOR) + xp[last])
    gross = u256(_gross(own, xp, min(i, last), min(j, last), x))
    out = mul_div(gross - mul_div(own.fee, gross, FEE_DENOMINATOR), PRECISION, own.rates[min(j, last)])
    return out if j < last else calc_withdraw_one_coin(pool.base, out, j - last)
