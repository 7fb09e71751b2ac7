"""Balancer's 18-decimal fixed-point arithmetic and its power function, in Python integers.

Every function takes and gives raw integers and rounds as the contract does; 1e18 is one. Sources:
balancer-v2-monorepo and balancer-v3-monorepo, pkg/solidity-utils/contracts/math: FixedPoint.sol
(mulDown, mulUp, divDown, divUp, complement, powDown, powUp) and LogExpMath.sol (pow, exp, ln, log).

Where the contract reverts, `SwapRevertedError` carries V2's name of the error. V3 checks the same
things by the compiler's own checks or by custom errors, whose names `balancer_vault` puts in.
"""

from __future__ import annotations

from mev_engine.amm.errors import SwapRevertedError

ONE = 10**18
_TWO, _FOUR = 2 * ONE, 4 * ONE
_WORD = 2**256

MAX_POW_RELATIVE_ERROR = 10_000
"""The bound on the relative error of `pow`, 1e-14: powDown takes it off, powUp puts it on top."""

MAX_NATURAL_EXPONENT = 130 * ONE
MIN_NATURAL_EXPONENT = -41 * ONE
_MILD_EXPONENT_BOUND = 2**254 // 10**20
_LN_36_LOWER, _LN_36_UPPER = ONE - 10**17, ONE + 10**17
_ONE_20, _ONE_36 = 10**20, 10**36

# e^(2^7) and e^(2^6) as plain integers: with decimals they would leave no room in 256 bits
_LARGE_POWERS = (
    (128 * ONE, 38877084059945950922200000000000000000000000000000000000),
    (64 * ONE, 6235149080811616882910000000),
)
# (x, e^x) for x = 2^5 to 2^-4, both with 20 decimals; the contract's values, not the nearest ones
_POWERS = (
    (32 * _ONE_20, 7896296018268069516100000000000000),
    (16 * _ONE_20, 888611052050787263676000000),
    (8 * _ONE_20, 298095798704172827474000),
    (4 * _ONE_20, 5459815003314423907810),
    (2 * _ONE_20, 738905609893065022723),
    (_ONE_20, 271828182845904523536),
    (_ONE_20 // 2, 164872127070012814685),
    (_ONE_20 // 4, 128402541668774148407),
    (_ONE_20 // 8, 113314845306682631683),
    (_ONE_20 // 16, 106449445891785942956),
)
_EXP_POWERS = _POWERS[:8]  # exp leaves 1/8 and 1/16 to its series
_EXP_TERMS = 12


def word(value: int, overflow: str = "MUL_OVERFLOW") -> int:
    """`value`, or the revert named `overflow` where it doesn't fit in 256 bits."""
    if value >= _WORD:
        raise SwapRevertedError(overflow)
    return value


def add(a: int, b: int) -> int:
    """FixedPoint.add."""
    return word(a + b, "ADD_OVERFLOW")


def sub(a: int, b: int) -> int:
    """FixedPoint.sub."""
    if b > a:
        raise SwapRevertedError("SUB_OVERFLOW")
    return a - b


def mul_down(a: int, b: int) -> int:
    """FixedPoint.mulDown: `a*b // 1e18`."""
    return word(a * b) // ONE


def mul_up(a: int, b: int) -> int:
    """FixedPoint.mulUp: `ceil(a*b / 1e18)`."""
    return -(-word(a * b) // ONE)


def div_down(a: int, b: int) -> int:
    """FixedPoint.divDown: `a*1e18 // b`."""
    if b == 0:
        raise SwapRevertedError("ZERO_DIVISION")
    return word(a * ONE, "DIV_INTERNAL") // b


def div_up(a: int, b: int) -> int:
    """FixedPoint.divUp: `ceil(a*1e18 / b)`."""
    if b == 0:
        raise SwapRevertedError("ZERO_DIVISION")
    return -(-word(a * ONE, "DIV_INTERNAL") // b)


def div_up_raw(a: int, b: int) -> int:
    """Math.divUp in V2, FixedPoint.divUpRaw in V3: `ceil(a / b)`."""
    if b == 0:
        raise SwapRevertedError("ZERO_DIVISION")
    return -(-a // b)


def complement(x: int) -> int:
    """FixedPoint.complement: `1e18 - x`, 0 where that is negative."""
    return max(ONE - x, 0)


def pow_down(x: int, y: int, *, exact_powers: bool) -> int:
    """FixedPoint.powDown: x^y less the error bound of `power`, so never above the real x^y.

    `exact_powers`: multiply for y of 1, 2 and 4. All V3 pools and V2 pools deployed since 2022 do
    so; the first V2 pools go through `power` for these too.
    """
    if exact_powers and y == ONE:
        return x
    if exact_powers and y == _TWO:
        return mul_down(x, x)
    if exact_powers and y == _FOUR:
        square = mul_down(x, x)
        return mul_down(square, square)
    raw = power(x, y)
    return max(raw - _max_error(raw), 0)


def pow_up(x: int, y: int, *, exact_powers: bool) -> int:
    """FixedPoint.powUp: x^y with the error bound of `power` on top; `exact_powers` as in `pow_down`."""
    if exact_powers and y == ONE:
        return x
    if exact_powers and y == _TWO:
        return mul_up(x, x)
    if exact_powers and y == _FOUR:
        square = mul_up(x, x)
        return mul_up(square, square)
    raw = power(x, y)
    return add(raw, _max_error(raw))


def _max_error(raw: int) -> int:
    return add(mul_up(raw, MAX_POW_RELATIVE_ERROR), 1)


def power(x: int, y: int) -> int:
    """LogExpMath.pow: x^y as exp(y * ln x). `x`, `y`: unsigned, 18 decimals."""
    if x < 0 or y < 0:
        raise ValueError(f"power takes unsigned numbers: x is {x}, y is {y}")
    if y == 0:
        return ONE
    if x == 0:
        return 0
    if x >= 2**255:
        raise SwapRevertedError("X_OUT_OF_BOUNDS")
    if y >= _MILD_EXPONENT_BOUND:
        raise SwapRevertedError("Y_OUT_OF_BOUNDS")
    if _LN_36_LOWER < x < _LN_36_UPPER:
        # 36 decimals times 18 could overflow: the whole and the rest are multiplied apart
        log = _ln_36(x)
        whole = _div(log, ONE)
        product = whole * y + _div((log - whole * ONE) * y, ONE)
    else:
        product = _ln(x) * y
    product = _div(product, ONE)
    if not MIN_NATURAL_EXPONENT <= product <= MAX_NATURAL_EXPONENT:
        raise SwapRevertedError("PRODUCT_OUT_OF_BOUNDS")
    return exp(product)


def exp(x: int) -> int:
    """LogExpMath.exp: e^x. `x`: signed, 18 decimals, from -41 to 130."""
    if not MIN_NATURAL_EXPONENT <= x <= MAX_NATURAL_EXPONENT:
        raise SwapRevertedError("INVALID_EXPONENT")
    if x < 0:
        return ONE * ONE // exp(-x)
    factor = 1
    for exponent, value in _LARGE_POWERS:
        if x >= exponent:
            x -= exponent
            factor = value
            break  # both together are above the largest exponent
    x *= 100
    product = _ONE_20
    for exponent, value in _EXP_POWERS:
        if x >= exponent:
            x -= exponent
            product = product * value // _ONE_20
    term, series = x, _ONE_20 + x
    for n in range(2, _EXP_TERMS + 1):
        term = term * x // _ONE_20 // n
        series += term
    return product * series // _ONE_20 * factor // 100


def ln(x: int) -> int:
    """LogExpMath.ln: the natural logarithm. `x`: signed, 18 decimals."""
    if x <= 0:
        raise SwapRevertedError("OUT_OF_BOUNDS")
    return _div(_ln_36(x), ONE) if _LN_36_LOWER < x < _LN_36_UPPER else _ln(x)


def log(x: int, base: int) -> int:
    """LogExpMath.log: the logarithm of `x` to `base`, both signed with 18 decimals and positive."""
    if base == ONE:
        raise SwapRevertedError("division by zero")
    return _div(_log_36(x) * ONE, _log_36(base))


def _log_36(x: int) -> int:
    """ln x with 36 decimals, of which only a number near one has more than 18."""
    if x <= 0:
        raise SwapRevertedError("OUT_OF_BOUNDS")
    return _ln_36(x) if _LN_36_LOWER < x < _LN_36_UPPER else _ln(x) * ONE


def _ln(x: int) -> int:
    """LogExpMath._ln: ln x with 18 decimals, by dividing out powers of e and a series for the rest."""
    if x < ONE:
        return -_ln(ONE * ONE // x)
    total = 0
    for exponent, value in _LARGE_POWERS:
        if x >= value * ONE:
            x //= value
            total += exponent
    total *= 100
    x *= 100
    for exponent, value in _POWERS:
        if x >= value:
            x = x * _ONE_20 // value
            total += exponent
    return (total + _ln_series(x, _ONE_20, last_term=11)) // 100


def _ln_36(x: int) -> int:
    """LogExpMath._ln_36: ln x with 36 decimals, for `x` (18 decimals) between 0.9 and 1.1."""
    return _ln_series(x * ONE, _ONE_36, last_term=15)


def _ln_series(x: int, one: int, last_term: int) -> int:
    """`2 * (z + z^3/3 + ... + z^last/last)` with `z = (x - 1) / (x + 1)`; truncated at each step."""
    z = _div((x - one) * one, x + one)
    square = z * z // one
    term = series = z
    for n in range(3, last_term + 1, 2):
        term = _div(term * square, one)
        series += _div(term, n)
    return 2 * series


def _div(a: int, b: int) -> int:
    """Solidity's signed division: toward zero, where Python's goes down."""
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient
