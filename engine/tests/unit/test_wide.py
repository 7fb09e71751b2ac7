"""Wide integers in kernels against Python's, at every boundary of limbs and words."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mev_engine import wide
from mev_engine.jit import kernel
from mev_engine.types import WordArray
from mev_engine.wide import limbs, load, store, u128, u256, u512

WORD = 2**256
ARRAYS = "void(uint64[:, ::1], uint64[:, ::1])"

# near powers of two is where carries, borrows and estimated digits go wrong
edges = st.integers(0, 256).flatmap(
    lambda bits: st.sampled_from([2**bits - 1, 2**bits, 2**bits + 1]).map(lambda value: value % WORD)
)
numbers = st.one_of(edges, st.integers(0, 256).flatmap(lambda bits: st.integers(0, 2**bits - 1)))


def rows(values: Sequence[int]) -> WordArray:
    return np.array([limbs(value) for value in values], dtype=np.uint64)


def integers(array: WordArray) -> list[int]:
    return [wide.integer(row) for row in array.tolist()]


@kernel(ARRAYS)
def operate(given: WordArray, result: WordArray) -> None:
    """All operators and divisions of (a, b, c), a shift in c's low byte; see `expected`."""
    a, b, c = load(given[0], 0), load(given[1], 0), load(given[2], 0)
    shift = np.int64(given[2, 0] & np.uint64(255))
    store(result[0], 0, a + b)
    store(result[1], 0, a - b)
    store(result[2], 0, a * b)
    store(result[3], 0, (a & b) | (b ^ c))
    store(result[4], 0, a << shift)
    store(result[5], 0, a >> shift)
    product = wide.times(a, b)
    store(result[6], 0, u256(product))
    store(result[7], 0, u256(product >> 256))
    flags = np.uint64(0)
    for bit, true in enumerate((a == b, a != b, a < b, a <= b, a > b, a >= b)):
        flags |= np.uint64(true) << np.uint64(bit)
    result[8, 0] = flags
    result[8, 1] = np.uint64(wide.leading_zeros(a))
    store(result[9], 0, wide.sqrt(a))
    store(result[10], 0, u256(u128(a)))
    if b != 0:
        store(result[11], 0, wide.div(a, b))
        store(result[12], 0, wide.div_up(a, b))
    if c != 0:
        for row in range(2):
            quotient, fits = wide.mul_div_up(a, b, c) if row else wide.mul_div(a, b, c)
            store(result[13 + row], 0, quotient)
            result[15, row] = np.uint64(fits)
    low = given[1, 0]
    if low:
        quotient, rest = wide.div64(a, low)
        store(result[16], 0, quotient)
        result[17, 0] = rest
    d = b & ((u256(1) << 128) - 1)
    if d != 0 and (a >> 128) < d:
        quotient, rest = wide.div128(a, d)
        store(result[18], 0, quotient)
        store(result[19], 0, rest)
    if c != 0 and b < c:
        quotient, rest = wide.div_rem((u512(b) << 256) | u512(a), c)
        store(result[20], 0, quotient)
        store(result[21], 0, rest)


def expected(a: int, b: int, c: int) -> dict[int, int]:
    shift = c % 256
    flags = sum(t << k for k, t in enumerate((a == b, a != b, a < b, a <= b, a > b, a >= b)))
    result = {
        0: (a + b) % WORD,
        1: (a - b) % WORD,
        2: a * b % WORD,
        3: a & b | b ^ c,
        4: (a << shift) % WORD,
        5: a >> shift,
        6: a * b % WORD,
        7: a * b >> 256,
        8: flags | (256 - a.bit_length()) << 64,
        9: math.isqrt(a),
        10: a % 2**128,
    }
    if b:
        result |= {11: a // b, 12: -(-a // b)}
    if c:
        down, up = a * b // c, -(-a * b // c)
        result |= {13: down * (down < WORD), 14: up % WORD * (down < WORD)}
        result[15] = int(down < WORD) | int(up < WORD) << 64
    if low := b % 2**64:
        result |= {16: a // low, 17: a % low}
    if (d := b % 2**128) and a >> 128 < d:
        result |= {18: a // d, 19: a % d}
    if b < c:
        result |= {20: (b << 256 | a) // c, 21: (b << 256 | a) % c}
    return result


@settings(max_examples=2000, deadline=None)
@given(numbers, numbers, numbers)
# a first estimate of a digit that is two too large, and a quotient of all ones
@example(WORD - 1, 2**255 - 1, 2**255)
@example(WORD - 1, WORD - 2, WORD - 1)
@example(2**192 - 1, 2**128, 2**192 + 2**127)
def test_arithmetic_equals_pythons(a: int, b: int, c: int) -> None:
    # a lost carry, a digit not corrected or a wrong rounding gives another number here
    result = np.zeros((22, 4), dtype=np.uint64)
    operate(rows([a, b, c]), result)
    found = integers(result)
    for row, value in expected(a, b, c).items():
        assert found[row] == value, (row, a, b, c)


@kernel("void(uint64[::1], uint64[::1])")
def digits(given: WordArray, result: WordArray) -> None:
    high, low, d = given[0], given[1], given[2]
    result[0] = wide._digit_by_reciprocal(high, low, d, wide._reciprocal_of(d))
    result[1] = wide._digit(high, low, d, wide._reciprocal(d))


limb = numbers.map(lambda value: value % 2**64)


@settings(max_examples=2000, deadline=None)
@given(limb, limb, limb)
def test_a_digit_is_the_same_by_instruction_and_by_reciprocal(high: int, low: int, d: int) -> None:
    # machines other than x86 take the reciprocal: here both are held to the truth
    d |= 2**63
    result = np.zeros(2, dtype=np.uint64)
    digits(np.array([high, low, d], dtype=np.uint64), result)
    truth = min((high << 64 | low) // d, 2**64 - 1)
    assert result.tolist() == [truth, truth]


@kernel("float64(uint64[::1], float64, uint64[::1])")
def floats(given: WordArray, value: float, result: WordArray) -> float:
    store(result, 0, wide.from_float(value))
    number: float = wide.to_float(load(given, 0))
    return number


@settings(max_examples=500, deadline=None)
@given(numbers, st.one_of(st.floats(), numbers.map(float)))
def test_floats(number: int, value: float) -> None:
    # fails if a shift is one off at 53 or 64 bits, or if NaN, infinity or a negative number wraps
    result = np.zeros(4, dtype=np.uint64)
    given = np.array(limbs(number), dtype=np.uint64)
    assert floats(given, value, result) == pytest.approx(number, rel=2.3e-16)
    held = 0 if not value > 0 else WORD - 1 if value >= WORD else int(value)
    assert wide.integer(result.tolist()) == held


def test_limbs_do_not_wrap() -> None:
    # a Python integer too large must not lose its upper part on the way into an array
    for value in (-1, WORD):
        with pytest.raises(ValueError, match="does not fit 4 limbs"):
            limbs(value)
