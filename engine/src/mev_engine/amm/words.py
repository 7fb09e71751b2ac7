"""Checked 256-bit arithmetic in kernels, as contracts compute, and the layout of numbers as words.

Each operation gives its value and whether it fits; the value of one that doesn't is no answer. The ok
flags of a formula are gathered with `and` by the caller, so a kernel goes on to its end without branches.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mev_engine.jit import helper
from mev_engine.types import WordArray
from mev_engine.wide import div, div64, div128, div_rem, times, u256, u512


def pack(*values: int) -> WordArray:
    """Integers below 2**256 as 4 uint64 each, least limb first: number k is `load(words, at + 4 * k)`."""
    return np.frombuffer(b"".join(value.to_bytes(32, "little") for value in values), np.uint64).copy()


@helper
def add(a: Any, b: Any) -> Any:
    """`(a + b, ok)` of U256."""
    total = a + b
    return total, total >= a


@helper
def sub(a: Any, b: Any) -> Any:
    """`(a - b, ok)` of U256."""
    return a - b, a >= b


@helper
def mul(a: Any, b: Any) -> Any:
    """`(a * b, ok)` of U256."""
    product = times(a, b)
    return u256(product), u256(product >> 256) == 0


@helper
def div_by(a: Any, b: Any) -> Any:
    """`(a // b, ok)` of U256; 0 and not ok where b is 0."""
    if b == 0:
        return u256(0), False
    return quotient(a, b), True


@helper
def mul_div(a: Any, b: Any, c: Any) -> Any:
    """`(a * b // c, ok)` where the contract's product must fit 256 bits, unlike `wide.mul_div`."""
    product, fits = mul(a, b)
    if not fits or c == 0:
        return u256(0), False
    return quotient(product, c), True


@helper
def div_up(a: Any, b: Any) -> Any:
    """`(ceil(a / b), ok)` of U256; 0 and not ok where b is 0."""
    if b == 0:
        return u256(0), False
    quotient, rest = div_rem(u512(a), b)
    if rest == 0:
        return quotient, True
    return quotient + 1, True


@helper
def mul_one(a: Any, b: Any) -> Any:
    """`(a * b // 1e18, ok)` where the contract's product must fit 256 bits."""
    product, fits = mul(a, b)
    quotient, _rest = div64(product, np.uint64(10**18))
    return quotient, fits


@helper
def mul_one_up(a: Any, b: Any) -> Any:
    """As `mul_one`, rounded up."""
    product, fits = mul(a, b)
    quotient, rest = div64(product, np.uint64(10**18))
    return (quotient if rest == 0 else quotient + 1), fits


@helper
def quotient(n: Any, d: Any) -> Any:
    """`n // d` of U256, d above 0; twice as fast where d and the quotient have 128 bits."""
    if (d >> 128) == 0 and (n >> 128) < d:
        return div128(n, d)[0]
    return div(n, d)
