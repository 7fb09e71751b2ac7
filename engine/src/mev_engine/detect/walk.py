"""Cycles through pools of any family, in float64: what they answer at an input, and their best input.

A hop answers with output, slope and curvature (`amm.family.respond`), so near any input it is a Moebius map.
Those compose: over the hops, `curve += slope * c`, then `slope *= s`. The composed map has its best input in
closed form, `h = (sqrt(slope) - 1) / curve` further on, and there everything is asked anew. For constant
products the first step is the answer; in concentrated liquidity the steps walk over the ranges towards
the optimum; for curves they converge cubically. Output is concave in the input, so the sign of `slope - 1`
brackets the optimum, and a step that leaves the bracket is replaced by its middle.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mev_engine.amm import registry
from mev_engine.jit import helper, kernel
from mev_engine.types import FloatArray, IndexArray, LoopArray, OffsetArray

MAX_STEPS = 100
_CONVERGED = 1e-13
_ERROR = 1e-11
"""Of the output: what the float answers of the families may be off together."""


@helper
def answer(
    edges: Any, leg_pool: Any, leg_i: Any, leg_j: Any, code: Any, params_at: Any, params: Any, x: float
) -> tuple[float, float, float]:
    """(output, slope, curve) of a path of edges at an input of x raw units."""
    slope, curve = 1.0, 0.0
    for e in edges:
        k = e >> 1
        p = leg_pool[k]
        i, j = (leg_j[k], leg_i[k]) if e & 1 else (leg_i[k], leg_j[k])
        x, s, c = registry.respond(code[p], params, params_at[p], i, j, x)
        curve += slope * c
        slope *= s
    return x, slope, curve


@helper
def best_input(
    edges: Any, leg_pool: Any, leg_i: Any, leg_j: Any, code: Any, params_at: Any, params: Any
) -> tuple[float, float]:
    """(input, output) at the optimum of a cycle, raw base units; (0, 0) where nothing gains."""
    x, low, high = 0.0, 0.0, np.inf
    y, best = 0.0, 0.0
    for _ in range(MAX_STEPS):
        y, slope, curve = answer(edges, leg_pool, leg_i, leg_j, code, params_at, params, x)
        if abs(slope - 1.0) < _CONVERGED:
            return x, y
        if slope > 1.0:
            low = x
        else:
            high = x
        if high == 0.0:
            return 0.0, 0.0
        best = x + (math.sqrt(slope) - 1.0) / curve if slope > 0.0 and curve > 0.0 else np.inf
        if not (low < best < high):
            best = 0.5 * (low + high) if high < np.inf else 2.0 * x + 1.0
        if abs(best - x) <= _CONVERGED * x:
            return x, y
        x = best
    return x, y


@helper
def orient(loops: Any, hit: int, edges: Any) -> None:
    """Write the edges of a hit, `2 * loop + direction`, in the order of the trade."""
    loop, hops = hit >> 1, loops.shape[1]
    for k in range(hops):
        edges[k] = loops[loop, hops - 1 - k] ^ 1 if hit & 1 else loops[loop, k]


@kernel(
    "void(int32[::1], int32[:, ::1], float64[::1], float64[::1], float64[::1], int32[::1], int32[::1], "
    "int32[::1], int32[::1], int64[::1], float64[::1], float64[::1], float64[::1])"
)
def size_others(
    hits: IndexArray,
    loops: LoopArray,
    slope: FloatArray,
    curve: FloatArray,
    enough: FloatArray,
    leg_pool: IndexArray,
    leg_i: IndexArray,
    leg_j: IndexArray,
    code: IndexArray,
    params_at: OffsetArray,
    params: FloatArray,
    amount: FloatArray,
    bound: FloatArray,
) -> None:
    """`size_hits` for the hits with a pool that is no constant product; leaves the others as they are.

    No pool pays more than its marginal rate, so taking the others' curves as straight bounds a cycle's
    profit from above. Where that bound is below `enough` (raw base units, one a hit) it is the answer, and
    the walk, which takes a hundred times as long, is spared.
    """
    hops = loops.shape[1]
    edges = np.empty(hops, np.int32)
    for n in range(hits.size):
        orient(loops, hits[n], edges)
        constant_product, a, b = True, 1.0, 0.0
        for e in edges:
            if code[leg_pool[e >> 1]] == 1:
                b += a * curve[e]
            else:
                constant_product = False
            a *= slope[e]
        if constant_product:
            continue
        gain = math.sqrt(a) - 1.0
        most = gain * gain / b * (1.0 + 1e-9) if b > 0.0 else np.inf
        if most < enough[n]:
            amount[n], bound[n] = 0.0, most
        else:
            x, y = best_input(edges, leg_pool, leg_i, leg_j, code, params_at, params)
            amount[n], bound[n] = x, y - x + _ERROR * y


@kernel(
    "void(int32[::1], int32[::1], int32[::1], int32[::1], int32[::1], int64[::1], float64[::1], float64, "
    "float64[:, ::1])"
)
def trace(
    edges: IndexArray,
    leg_pool: IndexArray,
    leg_i: IndexArray,
    leg_j: IndexArray,
    code: IndexArray,
    params_at: OffsetArray,
    params: FloatArray,
    x: float,
    result: FloatArray,
) -> None:
    """For each prefix of a path: (output, slope, curve) at an input of x; `result`: float64 (hops, 3)."""
    for k in range(edges.size):
        result[k] = answer(edges[: k + 1], leg_pool, leg_i, leg_j, code, params_at, params, x)


@kernel(
    "UniTuple(float64, 2)(int32[::1], int32[::1], int32[::1], int32[::1], int32[::1], int64[::1], "
    "float64[::1])"
)
def optimum(
    edges: IndexArray,
    leg_pool: IndexArray,
    leg_i: IndexArray,
    leg_j: IndexArray,
    code: IndexArray,
    params_at: OffsetArray,
    params: FloatArray,
) -> tuple[float, float]:
    """`best_input` of one path, for Python."""
    result: tuple[float, float] = best_input(edges, leg_pool, leg_i, leg_j, code, params_at, params)
    return result
