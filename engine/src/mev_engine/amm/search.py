"""The least input for an output, in kernels, by asking a family's `quote`."""

from __future__ import annotations

from typing import Any

from mev_engine.jit import helper
from mev_engine.types import WordArray
from mev_engine.wide import from_float, u256

_CLOSE = 1e-6


def least_by(quote: Any) -> Any:
    """The helper `(words, at, i, j, y, estimate, error, fine) -> (x, ok)` that searches with `quote`.

    x pays y or more, and an input shorter by `fine` or one more doesn't. `estimate`: the real-valued
    input, right to about `error`; the search starts there, gallops and bisects. Where `quote` is not ok
    there or above, x is too much for the pool and so the answer is not ok; far below, it is too little.

    Made by a function, as one passed to a kernel as an argument would keep the kernel from the disk cache.
    """

    @helper
    def reaches(words: WordArray, at: int, i: int, j: int, y: Any, x: Any, far: Any) -> Any:
        paid, ok = quote(words, at, i, j, x)
        return (ok and paid >= y) or (not ok and x >= far)

    @helper
    def search(
        words: WordArray, at: int, i: int, j: int, y: Any, estimate: float, error: float, fine: Any
    ) -> Any:
        start = from_float(estimate)
        if start == ~u256(0):
            return start, False
        far = from_float(estimate * (1.0 - _CLOSE))
        step = from_float(error) + 1
        low, high = start, start + 1
        if reaches(words, at, i, j, y, high, far):
            while low != 0 and reaches(words, at, i, j, y, low, far):
                high = low
                low = low - step if low > step else u256(0)
                step = step << 1
        else:
            low, high = high, high + step
            while not reaches(words, at, i, j, y, high, far):
                step = step << 1
                low, high = high, high + step
                if high < low:
                    return high, False
        while high - low > fine + 1:
            middle = low + ((high - low) >> 1)
            if reaches(words, at, i, j, y, middle, far):
                high = middle
            else:
                low = middle
        paid, ok = quote(words, at, i, j, high)
        return high, ok and paid >= y

    return search
