"""The exact optimum of a cycle, to the wei, in a kernel: 256-bit integers that repeat the contracts'.

`detect.exact` is the same search in Python integers, readable, and the reference; what it says of the
staircase holds here. A family without integers in kernels is left to it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mev_engine.amm import registry
from mev_engine.detect.exact import GOLDEN, JUST_BEFORE, MOST_REACH, POLISHED, SURPLUS, UNCERTAIN
from mev_engine.detect.walk import answer, orient
from mev_engine.jit import helper, kernel
from mev_engine.types import FloatArray, IndexArray, LoopArray, OffsetArray, WordArray
from mev_engine.wide import from_float, store, to_float, u256

FOUND, NOTHING, ELSEWHERE = 1, 0, -1
"""A gain was found, none is there, or the cycle has a pool that this kernel can't compute."""


@helper
def _hop(e: int, leg_pool: Any, leg_i: Any, leg_j: Any) -> tuple[int, int, int]:
    k = e >> 1
    if e & 1:
        return leg_pool[k], leg_j[k], leg_i[k]
    return leg_pool[k], leg_i[k], leg_j[k]


@helper
def _forward(
    edges: Any,
    first: int,
    last: int,
    x: Any,
    leg_pool: Any,
    leg_i: Any,
    leg_j: Any,
    code: Any,
    words_at: Any,
    words: Any,
) -> tuple[Any, bool]:
    """Output of the hops from `first` to before `last`."""
    for k in range(first, last):
        p, i, j = _hop(edges[k], leg_pool, leg_i, leg_j)
        x, ok = registry.quote(code[p], words, words_at[p], i, j, x)
        if not ok or x == 0:
            return u256(0), False
    return x, True


@helper
def _backward(
    edges: Any, last: int, y: Any, leg_pool: Any, leg_i: Any, leg_j: Any, code: Any, words_at: Any, words: Any
) -> tuple[Any, bool]:
    """An input that buys at least y after hop `last` - 1."""
    for k in range(last - 1, -1, -1):
        p, i, j = _hop(edges[k], leg_pool, leg_i, leg_j)
        y, ok = registry.least(code[p], words, words_at[p], i, j, y)
        if not ok:
            return y, False
    return y, True


@helper
def sample(n: int, reach: float, top: int, best: int) -> int:
    """`exact.sample`, which see."""
    if n % 3 == 2:
        return best + ((n // 3) % 16 + 1) * (1 if n & 1 else -1)
    u = n * GOLDEN % 1.0
    if n % 3:
        return int((2.0 * u - 1.0) * reach)
    return top + int(reach**u) * (1 if n & 1 else -1)


@helper
def _try(
    edges: Any,
    position: int,
    centre: Any,
    off: int,
    near: int,
    best_x: Any,
    best_profit: Any,
    leg_pool: Any,
    leg_i: Any,
    leg_j: Any,
    code: Any,
    words_at: Any,
    words: Any,
) -> tuple[Any, Any]:
    """The better of the best so far and the trade with `centre + off` after hop `position` - 1."""
    if off < 0 and centre <= u256(-off):
        return best_x, best_profit
    amount = centre + off  # a negative one wraps to the difference
    out, ok = _forward(edges, position, edges.size, amount, leg_pool, leg_i, leg_j, code, words_at, words)
    if ok:
        x, ok = _backward(edges, position, amount, leg_pool, leg_i, leg_j, code, words_at, words)
        # an exact output may ask for a few units more than the least input
        for _ in range(SURPLUS if ok and near > 1 else 0):
            less, ok = _forward(edges, 0, position, x - 1, leg_pool, leg_i, leg_j, code, words_at, words)
            if not ok or less < amount:
                ok = True
                break
            x = x - 1
        if ok and out > x and out - x > best_profit:
            return x, out - x
    return best_x, best_profit


@helper
def best_trade(
    edges: Any,
    start: float,
    near: int,
    samples: int,
    tolerance: float,
    leg_pool: Any,
    leg_i: Any,
    leg_j: Any,
    code: Any,
    params_at: Any,
    params: Any,
    words_at: Any,
    words: Any,
) -> Any:
    """The input (U256) of the most profitable integer trade found around `start`; 0 where none gains."""
    start = max(start, 1.0)
    whole_y, whole_slope, curve = answer(edges, leg_pool, leg_i, leg_j, code, params_at, params, start)
    gain = math.sqrt(max(whole_slope, 0.0)) - 1.0
    if not whole_slope > 0.0:  # the best input is where a pool has no more to give: look from just before
        start = max(start * (1.0 - JUST_BEFORE), 1.0)
        whole_y, whole_slope, curve = answer(edges, leg_pool, leg_i, leg_j, code, params_at, params, start)
        gain = 0.0
    position, y, slope = 0, 0.0, np.inf
    for k in range(1, edges.size + 1):
        here = answer(edges[:k], leg_pool, leg_i, leg_j, code, params_at, params, start)
        if here[1] < slope:
            position, y, slope = k, here[0], here[1]
    # the continuous optimum itself is the first candidate: where an inverse is refused, it is the only one
    best_x, best_profit = u256(0), u256(0)
    x = from_float(start)
    out, ok = _forward(edges, 0, edges.size, x, leg_pool, leg_i, leg_j, code, words_at, words)
    if ok and out > x:
        best_x, best_profit = x, out - x
    if not (slope > 0.0 and whole_slope > 0.0 and curve > 0.0):
        return best_x
    top = whole_y - start + gain * gain / curve
    centre = from_float(max(y + slope * gain / curve, 1.0))
    best_off = 0
    for n in range(2 * near + 1):
        off = (n + 1) >> 1 if n & 1 else -(n >> 1)
        before = best_profit
        best_x, best_profit = _try(
            edges, position, centre, off, near, best_x, best_profit,
            leg_pool, leg_i, leg_j, code, words_at, words,
        )  # fmt: skip
        if best_profit != before:
            best_off = off
    # float64 can't place the optimum of a large amount to the unit: halve the steps towards it
    step = near * to_float(centre) * POLISHED
    while step >= 1.0 and tolerance < POLISHED:
        for side in range(2):
            off = best_off + int(-step if side else step)
            before = best_profit
            best_x, best_profit = _try(
                edges, position, centre, off, near, best_x, best_profit,
                leg_pool, leg_i, leg_j, code, words_at, words,
            )  # fmt: skip
            if best_profit != before:
                best_off = off
        step *= 0.5
    top_off = best_off
    for n in range(samples):
        gap = top - to_float(best_profit) + UNCERTAIN * whole_y
        if gap <= max(1.0, tolerance * to_float(best_profit)):
            break
        reach = min(slope * math.sqrt(gap / curve), MOST_REACH)
        few = 2.0 * (reach - near) < samples - n
        for m in range(near + 1, int(reach) + 1 if few else near + 2):
            for side in range(2 if few else 1):
                off = (-m if side else m) if few else sample(n, reach, top_off, best_off)
                before = best_profit
                best_x, best_profit = _try(
                    edges, position, centre, off, near, best_x, best_profit,
                    leg_pool, leg_i, leg_j, code, words_at, words,
                )  # fmt: skip
                if best_profit != before:
                    best_off = off
        if few:
            break
    # beyond the position, too, some of the amount may buy nothing
    if best_profit != 0 and position < edges.size:
        x, ok = _backward(
            edges, edges.size, best_x + best_profit, leg_pool, leg_i, leg_j, code, words_at, words
        )  # fmt: skip
        if ok and x < best_x:
            best_x = x
    return best_x


@kernel(
    "void(int32[::1], int32[:, ::1], float64[::1], int64, int64, float64, int32[::1], int32[::1], "
    "int32[::1], int32[::1], int64[::1], float64[::1], int64[::1], uint64[::1], uint64[:, :, ::1], int8[::1])"
)
def settle(
    hits: IndexArray,
    loops: LoopArray,
    start: FloatArray,
    near: int,
    samples: int,
    tolerance: float,
    leg_pool: IndexArray,
    leg_i: IndexArray,
    leg_j: IndexArray,
    code: IndexArray,
    params_at: OffsetArray,
    params: FloatArray,
    words_at: OffsetArray,
    words: WordArray,
    amounts: WordArray,
    outcome: Any,
) -> None:
    """The best trade of each hit around its `start` (raw base units), with an `exact.Effort`.

    `amounts`: uint64 (hits, hops + 1, 4), the input and each hop's output; `outcome`: int8 (hits,).
    """
    hops = loops.shape[1]
    edges = np.empty(hops, np.int32)
    for n in range(hits.size):
        orient(loops, hits[n], edges)
        outcome[n] = NOTHING
        for e in edges:
            if words_at[leg_pool[e >> 1]] < 0:
                outcome[n] = ELSEWHERE
        if outcome[n] == ELSEWHERE:
            continue
        x = best_trade(
            edges, start[n], near, samples, tolerance, leg_pool, leg_i, leg_j, code, params_at, params,
            words_at, words,
        )  # fmt: skip
        if x == 0:
            continue
        first, ok = x, True
        for k in range(hops):
            store(amounts[n, k], 0, x)
            p, i, j = _hop(edges[k], leg_pool, leg_i, leg_j)
            x, ok = registry.quote(code[p], words, words_at[p], i, j, x)
            if not ok:
                break
        store(amounts[n, hops], 0, x)
        if ok and x > first:
            outcome[n] = FOUND
