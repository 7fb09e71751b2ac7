"""The least input for an output, in kernels, by asking a family's `quote`."""

from __future__ import annotations

from typing import Any

from mev_engine.jit import helper
from mev_engine.types import WordArray
from mev_engine.wide import from_float, u256

_DOUBLINGS = 48


def least_by(quote: Any) -> Any:
    """The helper `(words, at, i, j, y, estimate, error, fine) -> (x, ok)` that searches with `quote`.

    x pays y or more, and an input shorter by `fine` or one more doesn't. `estimate`: the real-valued
    input, right to about `error`; the search starts there, gallops and bisects. A `quote` that is not ok
    is of too small an input where a larger one is ok, else of too large a one.

    Made by a function, as one passed to a kernel as an argument would keep the kernel from the disk cache.
    """

    @helper
    def usable_from(words: WordArray, at: int, i: int, j: int, start: Any) -> Any:
        """An input that is quoted, `start` or larger; 0 where there is none: then all are too large."""
        x = start
        for _ in range(_DOUBLINGS):
            _paid, ok = quote(words, at, i, j, x)
            if ok:
                return x
            if (x >> 255) != 0:
                return u256(0)
            x = x << 1
        return u256(0)

    @helper
    def reaches(words: WordArray, at: int, i: int, j: int, y: Any, x: Any, usable: Any) -> Any:
        paid, ok = quote(words, at, i, j, x)
        return (ok and paid >= y) or (not ok and x >= usable)

    @helper
    def search(
        words: WordArray, at: int, i: int, j: int, y: Any, estimate: float, error: float, fine: Any
    ) -> Any:
        low = from_float(estimate)
        if low == ~u256(0):
            return low, False
        high, step = low + 1, from_float(error) + 1
        usable = usable_from(words, at, i, j, high)
        if reaches(words, at, i, j, y, high, usable):
            while low != 0 and reaches(words, at, i, j, y, low, usable):
                high = low
                low = low - step if low > step else u256(0)
                step = step << 1
        else:
            low, high = high, high + step
            while not reaches(words, at, i, j, y, high, usable):
                step = step << 1
                low, high = high, high + step
                if high < low:
                    return high, False
        while high - low > fine + 1:
            middle = low + ((high - low) >> 1)
            if reaches(words, at, i, j, y, middle, usable):
                high = middle
            else:
                low = middle
        paid, ok = quote(words, at, i, j, high)
        return high, ok and paid >= y

    return search
