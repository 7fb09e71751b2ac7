"""Solidly pairs, volatile (x*y) and stable (x³y + y³x): Velodrome V2, Aerodrome V2 and Camelot.

Sources: velodrome-finance/contracts and aerodrome-finance/contracts Pool.sol (getAmountOut, _get_y, _k,
swap; the two are the same), CamelotPair.sol (the same functions). They differ: Velodrome ends Newton's
method on the least y that keeps k, in checked arithmetic (Solidity 0.8); Camelot ends it at a step of
one, in arithmetic that wraps (Solidity 0.5), and has a fee for each direction.

Amounts are raw token units. Exact functions raise `SwapRevertedError` with the contract's own reason;
where a contract gives none (overflow, division by zero) the reason says what happened.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

from mev_engine.amm.errors import SwapRevertedError
from mev_engine.amm.evm import UINT256_MAX, check_range, div, least_input, mul_div, u256

ONE = 10**18
_MAX_RESERVE_CAMELOT = 2**112 - 1
_MAX_STEPS = 255


class SolidlyVariant(Enum):
    """Whose contract: the two round differently and their pools charge differently."""

    VELODROME_V2 = "velodrome_v2"
    """Also Aerodrome V2. The fee leaves the pool at the swap."""
    CAMELOT = "camelot"
    """The fee stays in a volatile pool; from a stable one the owner's share of it leaves."""


@dataclass(frozen=True, slots=True)
class SolidlyPool:
    """State of one pair.

    reserve0, reserve1: raw units, 0 to 2^256 - 1 (Camelot 2^112 - 1).
    scale0, scale1: 10**decimals of each token, from 1 (unused by volatile pools).
    fee0, fee1: fee on token0 and token1 paid in, in `1 / fee_den`, below fee_den. Velodrome has one fee
    for both directions and fee_den 10000; Camelot 100000.
    owner_fee_share: Camelot's factory.ownerFeeShare in `1 / fee_den`, 0 where feeTo is not set.
    """

    reserve0: int
    reserve1: int
    scale0: int
    scale1: int
    fee0: int
    fee1: int
    fee_den: int
    stable: bool
    variant: SolidlyVariant
    owner_fee_share: int = 0

    def __post_init__(self) -> None:
        camelot = self.variant is SolidlyVariant.CAMELOT
        top = _MAX_RESERVE_CAMELOT if camelot else UINT256_MAX
        check_range("reserve0", self.reserve0, 0, top)
        check_range("reserve1", self.reserve1, 0, top)
        check_range("scale0", self.scale0, 1, UINT256_MAX)
        check_range("scale1", self.scale1, 1, UINT256_MAX)
        check_range("fee_den", self.fee_den, 1, 10**18)
        check_range("fee0", self.fee0, 0, self.fee_den - 1)
        check_range("fee1", self.fee1, 0, self.fee_den - 1)
        check_range("owner_fee_share", self.owner_fee_share, 0, self.fee_den if camelot else 0)
        if not camelot and self.fee0 != self.fee1:
            raise ValueError(f"fee1 is {self.fee1}: a Velodrome pool has one fee, and fee0 is {self.fee0}")


@dataclass(frozen=True, slots=True)
class _Side:
    """A pool seen from the token paid in."""

    reserve_in: int
    reserve_out: int
    scale_in: int
    scale_out: int
    fee: int


def _side(pool: SolidlyPool, zero_for_one: bool) -> _Side:
    if zero_for_one:
        return _Side(pool.reserve0, pool.reserve1, pool.scale0, pool.scale1, pool.fee0)
    return _Side(pool.reserve1, pool.reserve0, pool.scale1, pool.scale0, pool.fee1)


def exact_in(pool: SolidlyPool, zero_for_one: bool, amount_in: int) -> int:
    """Output of the pair's own getAmountOut, in raw units (0 is an answer; `swap` refuses it).

    In stable pools of a few thousand tokens or fewer the rounding of Newton's method shows: the output
    can be a unit more than `swap` pays (Camelot), and Velodrome's may not converge ("!y") or overflow in
    the check described at `get_y`. So verify with `swap`.
    """
    check_range("amount_in", amount_in, 0, UINT256_MAX)
    side = _side(pool, zero_for_one)
    if pool.variant is SolidlyVariant.CAMELOT and not pool.stable:
        with_fee = u256(amount_in * (pool.fee_den - side.fee))
        return div(u256(with_fee * side.reserve_out), u256(side.reserve_in * pool.fee_den + with_fee))
    net = amount_in - mul_div(amount_in, side.fee, pool.fee_den)
    return _stable_out(pool, side, net) if pool.stable else _volatile_out(side, net)


def exact_out(pool: SolidlyPool, zero_for_one: bool, amount_out: int) -> int:
    """Least input for which the pair's own `swap` pays `amount_out`: by its check of k.

    The contracts have no such function. Where rounding makes getAmountOut promise a unit less than k
    allows, or more (see `exact_in`), this follows k. Raises SwapRevertedError where no input is enough.
    """
    check_range("amount_out", amount_out, 1, UINT256_MAX)
    side = _side(pool, zero_for_one)
    if amount_out >= side.reserve_out:
        raise SwapRevertedError(_REASON[pool.variant][1])
    k = _k(pool, side, side.reserve_in, side.reserve_out)
    spare = side.reserve_out - amount_out

    def reaches(balance_in: int) -> bool:
        try:
            return _k(pool, side, balance_in, spare) >= k
        except SwapRevertedError:  # too much for the contract's arithmetic: `swap` would say so
            return True

    if pool.stable:
        # x given y is the same equation as y given x, so Newton's method ends close to the answer
        x, y = side.reserve_in * ONE // side.scale_in, spare * ONE // side.scale_out
        balance_in = least_input(reaches, get_y_camelot(y, k, x) * side.scale_in // ONE, UINT256_MAX)
    else:
        balance_in = -(-k // spare)
    net = max(balance_in - side.reserve_in, 1)
    # the least x with x - x*fee // den >= net: the left side is ceil(x * (den - fee) / den)
    amount_in = (net - 1) * pool.fee_den // (pool.fee_den - side.fee) + 1
    swap(pool, zero_for_one, amount_in, amount_out)
    return amount_in


def marginal_price(pool: SolidlyPool, zero_for_one: bool) -> float:
    """Raw units out per raw unit in for an infinitely small swap, after the fee; 0.0 if a side is empty."""
    side = _side(pool, zero_for_one)
    if side.reserve_in == 0 or side.reserve_out == 0:
        return 0.0
    kept = 1.0 - side.fee / pool.fee_den
    if not pool.stable:
        return side.reserve_out / side.reserve_in * kept
    x, y = side.reserve_in / side.scale_in, side.reserve_out / side.scale_out
    return y * (3 * x * x + y * y) / (x * (x * x + 3 * y * y)) * (side.scale_out / side.scale_in) * kept


_REASON = {
    SolidlyVariant.VELODROME_V2: (
        "InsufficientOutputAmount",
        "InsufficientLiquidity",
        "InsufficientInputAmount",
        "K",
    ),
    SolidlyVariant.CAMELOT: (
        "CamelotPair: INSUFFICIENT_OUTPUT_AMOUNT",
        "CamelotPair: INSUFFICIENT_LIQUIDITY",
        "CamelotPair: INSUFFICIENT_INPUT_AMOUNT",
        "CamelotPair: K",
    ),
}


def swap(pool: SolidlyPool, zero_for_one: bool, amount_in: int, amount_out: int) -> SolidlyPool:
    """The pair's own swap, without a referrer: its checks, then the pool after it."""
    check_range("amount_in", amount_in, 0, UINT256_MAX)
    check_range("amount_out", amount_out, 0, UINT256_MAX)
    no_output, no_liquidity, no_input, below_k = _REASON[pool.variant]
    side = _side(pool, zero_for_one)
    if amount_out == 0:
        raise SwapRevertedError(no_output)
    if amount_out >= side.reserve_out:
        raise SwapRevertedError(no_liquidity)
    if amount_in == 0:
        raise SwapRevertedError(no_input)
    fee = mul_div(amount_in, side.fee, pool.fee_den)
    if pool.variant is SolidlyVariant.VELODROME_V2:
        leaves = fee
    elif pool.stable:
        leaves = mul_div(amount_in * pool.owner_fee_share, side.fee, pool.fee_den**2)
    else:
        leaves = 0
    balance_in, balance_out = u256(side.reserve_in + amount_in - leaves), side.reserve_out - amount_out
    # what stays of the fee belongs to the liquidity providers, so it does not count for the trader
    adjusted = balance_in - (fee - leaves)
    if _k(pool, side, adjusted, balance_out) < _k(pool, side, side.reserve_in, side.reserve_out):
        raise SwapRevertedError(below_k)
    if pool.variant is SolidlyVariant.CAMELOT and balance_in > _MAX_RESERVE_CAMELOT:
        raise SwapRevertedError("CamelotPair: OVERFLOW")
    if zero_for_one:
        return replace(pool, reserve0=balance_in, reserve1=balance_out)
    return replace(pool, reserve0=balance_out, reserve1=balance_in)


def _volatile_out(side: _Side, net: int) -> int:
    """Pool._getAmountOut, not stable."""
    return div(u256(net * side.reserve_out), u256(side.reserve_in + net))


def _k(pool: SolidlyPool, side: _Side, balance_in: int, balance_out: int) -> int:
    """Pool._k; symmetric in the two tokens. Both contracts check it for overflow."""
    if not pool.stable:
        return u256(balance_in * balance_out)
    return invariant(mul_div(balance_in, ONE, side.scale_in), mul_div(balance_out, ONE, side.scale_out))


def _stable_out(pool: SolidlyPool, side: _Side, net: int) -> int:
    """Pool._getAmountOut and CamelotPair._getAmountOut, stable; `net` is the input after the fee."""
    camelot = pool.variant is SolidlyVariant.CAMELOT
    fit: Callable[[int], int] = _wrap if camelot else u256
    k = _k(pool, side, side.reserve_in, side.reserve_out)
    x, y = (
        mul_div(side.reserve_in, ONE, side.scale_in),
        mul_div(side.reserve_out, ONE, side.scale_out),
    )
    x0 = fit(fit(net * ONE) // side.scale_in + x)
    y_after = get_y_camelot(x0, k, y) if camelot else get_y(x0, k, y, pool.scale0, pool.scale1)
    return fit(fit(y - y_after) * side.scale_out) // ONE


def invariant(x: int, y: int) -> int:
    """Pool._f: x³y + y³x of balances in 1e18 units, in the contract's order of rounding."""
    squares = mul_div(x, x, ONE) + mul_div(y, y, ONE)
    return mul_div(mul_div(x, y, ONE), squares, ONE)


def derivative(x: int, y: int) -> int:
    """Pool._d: 3xy² + x³, the derivative of the invariant by y."""
    return u256(mul_div(3 * x, mul_div(y, y, ONE), ONE) + mul_div(mul_div(x, x, ONE), x, ONE))


def get_y(x0: int, k: int, y: int, scale0: int, scale1: int) -> int:
    """Pool._get_y: the balance y that keeps `k` when the other is x0, by Newton's method from `y`.

    Where a step from below is shorter than one the contract asks its `_k` about (x0, y + 1), although
    these are already in 1e18 units: it scales them a second time, by the two tokens in their own order.
    For tokens with fewer than 18 decimals that always holds. Repeated here as it is.
    """
    for _ in range(_MAX_STEPS):
        f = invariant(x0, y)
        if f < k:
            step = mul_div(k - f, ONE, derivative(x0, y))
            if step == 0:
                if invariant(mul_div(x0, ONE, scale0), mul_div(y + 1, ONE, scale1)) > k:
                    return y + 1
                step = 1
            y = u256(y + step)
        else:
            step = mul_div(f - k, ONE, derivative(x0, y))
            if step == 0:
                if f == k or invariant(x0, u256(y - 1)) < k:
                    return y
                step = 1
            y = u256(y - step)
    raise SwapRevertedError("!y")


def _wrap(value: int) -> int:
    """Arithmetic of Solidity below 0.8, without SafeMath."""
    return value & UINT256_MAX


def _cube(x: int) -> int:
    return _wrap(_wrap(x * x) // ONE * x) // ONE


def invariant_camelot(x0: int, y: int) -> int:
    """CamelotPair._f: the same invariant, rounded in another order, in wrapping arithmetic."""
    return _wrap(_wrap(x0 * _cube(y)) // ONE + _wrap(_cube(x0) * y) // ONE)


def derivative_camelot(x0: int, y: int) -> int:
    """CamelotPair._d: as Pool._d, in wrapping arithmetic."""
    return _wrap(_wrap(3 * x0 * (_wrap(y * y) // ONE)) // ONE + _cube(x0))


def get_y_camelot(x0: int, k: int, y: int) -> int:
    """CamelotPair._get_y: ends at a step of at most one, or with what 255 steps gave."""
    for _ in range(_MAX_STEPS):
        before = y
        f = invariant_camelot(x0, y)
        step = div(_wrap(abs(k - f) * ONE), derivative_camelot(x0, y))
        y = _wrap(y + step if f < k else y - step)
        if abs(y - before) <= 1:
            return y
    return y
