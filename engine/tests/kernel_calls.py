"""The families' helpers, called from Python: helpers exist inside kernels only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mev_engine import wide
from mev_engine.amm import registry
from mev_engine.jit import kernel
from mev_engine.types import FlagArray, FloatArray, WordArray


@kernel("void(int64, uint64[::1], int64, int64, boolean, uint64[:, ::1], uint64[:, ::1], boolean[::1])")
def _exact(
    code: int,
    words: WordArray,
    i: int,
    j: int,
    inverse: bool,
    given: WordArray,
    result: WordArray,
    ok: FlagArray,
) -> None:
    for k in range(given.shape[0]):
        if inverse:
            y, fits = registry.least(code, words, 0, i, j, wide.load(given[k], 0))
        else:
            y, fits = registry.quote(code, words, 0, i, j, wide.load(given[k], 0))
        wide.store(result[k], 0, y)
        ok[k] = fits


@kernel("void(int64, float64[::1], int64, int64, float64[::1], float64[:, ::1])")
def _respond(code: int, params: FloatArray, i: int, j: int, given: FloatArray, result: FloatArray) -> None:
    for k in range(given.size):
        y, slope, curve = registry.respond(code, params, 0, i, j, given[k])
        result[k, 0], result[k, 1], result[k, 2] = y, slope, curve


def exact(state: Any, i: int, j: int, given: Sequence[int], *, inverse: bool = False) -> list[int | None]:
    """`quote` of each amount, or `least` of each output; None where the kernel refuses."""
    family = registry.family_of(state)
    assert family.words is not None, f"{family.name} has no integers in kernels"
    amounts = np.array([wide.limbs(amount) for amount in given], dtype=np.uint64)
    result, ok = np.zeros_like(amounts), np.zeros(len(given), dtype=np.bool_)
    _exact(family.code, family.words(state), i, j, inverse, amounts, result, ok)
    values = [wide.integer(row) for row in result.tolist()]
    return [value if fits else None for value, fits in zip(values, ok, strict=True)]


def respond(state: Any, i: int, j: int, given: Sequence[float]) -> FloatArray:
    """float64 (n, 3): output, slope and curvature at each input."""
    family = registry.family_of(state)
    result = np.empty((len(given), 3))
    _respond(family.code, family.params(state), i, j, np.array(given, dtype=np.float64), result)
    return result
