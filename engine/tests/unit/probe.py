"""Pool families' helpers made callable from tests: a helper exists in kernels only, so each gets one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from mev_engine.amm.errors import SwapRevertedError
from mev_engine.amm.words import pack
from mev_engine.jit import kernel
from mev_engine.types import FloatArray
from mev_engine.wide import load, store

Response = tuple[float, float, float]
Answer = int | None


def responder(respond: Any) -> Callable[[FloatArray, int, int, float], Response]:
    """`(params, i, j, x) -> (y, slope, c)`, with the parameters at an offset that isn't 0."""

    @kernel("void(float64[::1], int64, int64, float64, float64[::1])")
    def run(params: Any, i: int, j: int, x: float, out: Any) -> None:
        out[0], out[1], out[2] = respond(params, 3, i, j, x)

    def call(params: FloatArray, i: int, j: int, x: float) -> Response:
        out = np.empty(3)
        run(np.concatenate((np.full(3, np.nan), params)), i, j, x, out)
        y, slope, c = (float(value) for value in out)
        assert np.isfinite(out).all(), (y, slope, c)
        assert y >= 0.0, y
        assert slope >= 0.0, slope
        assert c >= 0.0, c
        return y, slope, c

    return call


def quoter(quote: Any) -> Callable[[Any, int, int, int], Answer]:
    """`(words, i, j, amount) -> amount`, None where the helper is not ok."""

    @kernel("boolean(uint64[::1], int64, int64, uint64[::1])")
    def run(words: Any, i: int, j: int, amount: Any) -> bool:
        value, ok = quote(words, 4, i, j, load(amount, 0))
        store(amount, 0, value)
        return bool(ok)

    def call(words: Any, i: int, j: int, amount: int) -> Answer:
        cell = pack(amount)
        ok = run(np.concatenate((pack(2**256 - 1), words)), i, j, cell)
        return sum(int(limb) << 64 * k for k, limb in enumerate(cell)) if ok else None

    return call


def reference(function: Callable[..., int], *args: Any) -> Answer:
    """The exact function's answer, None where the contract reverts."""
    try:
        return function(*args)
    except SwapRevertedError:
        return None


def slope_and_bend(exact: Callable[[int], int], x: int, h: int) -> tuple[float, float]:
    """dy/dx and -y''/(2*y') at x by central differences of exact values over h."""
    before, here, after = exact(x - h), exact(x), exact(x + h)
    slope = (after - before) / (2 * h)
    return slope, (2 * here - after - before) / h**2 / (2 * slope)
