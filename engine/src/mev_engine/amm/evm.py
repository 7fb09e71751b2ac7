"""256-bit arithmetic as the contracts do it, and the search for the least input of an output.

For the exact references in Python integers only; nothing here is on the hot path.
"""

from __future__ import annotations

from collections.abc import Callable

from mev_engine.amm.errors import SwapRevertedError

UINT256_MAX = 2**256 - 1


def u256(value: int) -> int:
    """`value`, or the revert of checked arithmetic (Solidity 0.8, Vyper) where it is no uint256."""
    if value < 0:
        raise SwapRevertedError("arithmetic underflow")
    if value > UINT256_MAX:
        raise SwapRevertedError("arithmetic overflow")
    return value


def div(a: int, b: int) -> int:
    """`a / b` rounded down; the revert where b is 0."""
    if b == 0:
        raise SwapRevertedError("division by zero")
    return a // b


def mul_div(a: int, b: int, c: int) -> int:
    """`a * b / c` rounded down, where the contract's product must fit 256 bits."""
    return div(u256(a * b), c)


def least_input(reaches: Callable[[int], bool], guess: int, limit: int) -> int:
    """An x in 1..limit with `reaches(x)` and not `reaches(x - 1)`, where `reaches(0)` counts as false.

    The least one where `reaches` is monotonic. Gallops from `guess`, then bisects: few calls where the
    guess is near. Raises SwapRevertedError where `limit` does not reach.
    """
    high, step = min(max(guess, 1), limit), 1
    low = high
    if reaches(high):
        while low > 0 and reaches(low):
            high, low, step = low, max(low - step, 0), 2 * step
    else:
        while not reaches(high):
            if high == limit:
                raise SwapRevertedError(f"no input up to {limit} gives this output")
            low, high, step = high, min(high + step, limit), 2 * step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return high


def check_range(name: str, value: int, low: int, high: int) -> None:
    """ValueError naming the field and its value unless `low <= value <= high`."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}: it must be an integer from {low} to {high}")
