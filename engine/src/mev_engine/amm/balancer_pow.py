"""LogExpMath.pow in kernels, for what a weighted pool raises: the share `b / (b + x)`, from 1/1.3 to 1.

`balancer_math.power` digit by digit. Below one every logarithm is negative and every division truncates
toward zero, so the kernel works with its magnitude and needs no signed numbers. Intermediate values stay
below 2**240 on this domain, so nothing here can overflow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mev_engine.amm import words as checked
from mev_engine.amm.balancer_math import (
    _EXP_POWERS,
    _EXP_TERMS,
    _LN_36_LOWER,
    _POWERS,
    MAX_POW_RELATIVE_ERROR,
    ONE,
)
from mev_engine.jit import helper
from mev_engine.wide import div64, div128, u256

_ONE = np.uint64(ONE)
_FIVES = np.uint64(5**20)  # 1e20 is 2**20 * 5**20, and 64 bits hold the second part only
_HUNDRED = np.uint64(100)
_Table = tuple[np.uint64, ...]


def _limbs(numbers: Sequence[int]) -> tuple[_Table, _Table]:
    """Upper and lower limbs, in tuples: a kernel that uses a global array can't be cached on disk."""
    return tuple(np.uint64(n >> 64) for n in numbers), tuple(np.uint64(n & (1 << 64) - 1) for n in numbers)


_LN_FIRST = 7  # up to 1.3 only e**(1/4) and less can be divided out
_EXPONENTS, _VALUES = (_limbs([power[k] for power in _POWERS]) for k in (0, 1))
_EXPONENTS_HIGH, _EXPONENTS_LOW = _EXPONENTS
_VALUES_HIGH, _VALUES_LOW = _VALUES
_COUNT, _EXP_COUNT = len(_POWERS), len(_EXP_POWERS)
_MOST_NEGATIVE = 41


@helper
def _power_of_e(k: int) -> Any:
    """`(x, e^x)` of the contract's table, 20 decimals."""
    exponent = (u256(_EXPONENTS_HIGH[k]) << 64) | u256(_EXPONENTS_LOW[k])
    return exponent, (u256(_VALUES_HIGH[k]) << 64) | u256(_VALUES_LOW[k])


@helper
def _down_20(n: Any) -> Any:
    return div64(n >> 20, _FIVES)[0]


@helper
def _down_36(n: Any) -> Any:
    return div64(div64(n, _ONE)[0], _ONE)[0]


@helper
def _minus_ln_36(x: Any) -> Any:
    """`-_ln_36(x)` for x from 0.9 to 1: 36 decimals."""
    one = u256(ONE) * u256(ONE)
    x = x * u256(ONE)
    z, _ = div128((one - x) * one, x + one)
    square = _down_36(z * z)
    term = series = z
    for n in range(3, 16, 2):
        term = _down_36(term * square)
        series = series + div64(term, np.uint64(n))[0]
    return series + series


@helper
def _minus_ln(x: Any) -> Any:
    """`-_ln(x)` for x from 1/1.4 to 0.9: 18 decimals."""
    one = u256(ONE) * u256(_HUNDRED)
    a = div128(u256(ONE) * u256(ONE), x)[0] * u256(_HUNDRED)
    total = u256(0)
    for k in range(_LN_FIRST, _COUNT):
        exponent, value = _power_of_e(k)
        if a >= value:
            a = div128(a * one, value)[0]
            total = total + exponent
    z, _ = div128((a - one) * one, a + one)
    square = _down_20(z * z)
    term = series = z
    for n in range(3, 12, 2):
        term = _down_20(term * square)
        series = series + div64(term, np.uint64(n))[0]
    return div64(total + series + series, _HUNDRED)[0]


@helper
def _exp(x: Any) -> Any:
    """`balancer_math.exp(x)` for x from 0 to 41."""
    x = x * u256(_HUNDRED)
    one = u256(ONE) * u256(_HUNDRED)
    product = one
    for k in range(_EXP_COUNT):
        exponent, value = _power_of_e(k)
        if x >= exponent:
            x = x - exponent
            product = _down_20(product * value)
    term, series = x, one + x
    for n in range(2, _EXP_TERMS + 1):
        term = div64(_down_20(term * x), np.uint64(n))[0]
        series = series + term
    return div64(_down_20(product * series), _HUNDRED)[0]


@helper
def power(x: Any, y: Any) -> Any:
    """`(balancer_math.power, ok)`: x^y for x from 1/1.4 to 1 and y up to 1e20; all with 18 decimals."""
    if x > u256(_LN_36_LOWER):
        log = _minus_ln_36(x)
        whole, rest = div64(log, _ONE)
        product = whole * y + div64(u256(rest) * y, _ONE)[0]
    else:
        product = _minus_ln(x) * y
    product = div64(product, _ONE)[0]
    if product > u256(ONE) * u256(_MOST_NEGATIVE):
        return u256(0), False
    return div128(u256(ONE) * u256(ONE), _exp(product))[0], True


@helper
def pow_up(x: Any, y: Any, exact_powers: bool) -> Any:
    """`(balancer_math.pow_up, ok)` on the domain of `power`, where its sums can't overflow."""
    one = u256(ONE)
    if exact_powers and y == one:
        return x, True
    if exact_powers and y == one + one:
        return checked.mul_one_up(x, x)
    if exact_powers and y == one << 2:
        square, _ = checked.mul_one_up(x, x)
        return checked.mul_one_up(square, square)
    raw, ok = power(x, y)
    error, _ = checked.mul_one_up(raw, u256(MAX_POW_RELATIVE_ERROR))
    return raw + error + 1, ok
