"""The hot loops: screen the loops through touched legs, and size those that pass.

float64 only finds and sizes; what is emitted is decided in exact integers (`detect.exact`).
"""

from __future__ import annotations

import math

import numpy as np

from mev_engine.jit import kernel
from mev_engine.types import FloatArray, IndexArray, LoopArray, OffsetArray

# Reordering and fused multiply-add, but not "no infinities": the rates of an empty pool are -inf.
FASTMATH = {"reassoc", "contract", "arcp", "nsz"}

# Bound on the relative error of sqrt(a): four hops of three roundings each, and the root's.
_ROOT_ERROR = 4e-15


@kernel(
    "Tuple((int64, int32[::1]))"
    "(int32[::1], int64[::1], int32[::1], int32[:, ::1], float64[::1], int32[::1], int32)",
    fastmath=FASTMATH,
)
def screen_touched(
    touched: IndexArray,
    leg_offsets: OffsetArray,
    leg_loops: IndexArray,
    loops: LoopArray,
    log_rate: FloatArray,
    stamp: IndexArray,
    generation: int,
) -> tuple[int, IndexArray]:
    """Loops through the touched legs, each once, that gain at the margin in one direction.

    A cycle gains iff the sum of its edges' log rates is above 0. As fees make the two directions'
    sums add up to at most 0, at most one of them does. `stamp` (int32, one a loop) holds the
    generation in which a loop was last met. Returns the number of loops screened and the hits as
    `2 * loop + direction`, direction 1 being backwards.
    """
    capacity = 0
    for i in range(touched.size):
        capacity += leg_offsets[touched[i] + 1] - leg_offsets[touched[i]]
    hits = np.empty(min(capacity, loops.shape[0]), np.int32)
    screened = found = 0
    for i in range(touched.size):
        for k in range(leg_offsets[touched[i]], leg_offsets[touched[i] + 1]):
            loop = leg_loops[k]
            if stamp[loop] == generation:
                continue
            stamp[loop] = generation
            screened += 1
            forward = backward = 0.0
            for j in range(loops.shape[1]):
                edge = loops[loop, j]
                forward += log_rate[edge]
                backward += log_rate[edge ^ 1]
            if forward > 0.0:
                hits[found] = 2 * loop
                found += 1
            elif backward > 0.0:
                hits[found] = 2 * loop + 1
                found += 1
    return screened, hits[:found]


@kernel("int32[::1](int32[:, ::1], float64[::1])", fastmath=FASTMATH)
def screen_all(loops: LoopArray, log_rate: FloatArray) -> IndexArray:
    """Every loop of a table, in memory order: the same test and the same hits as `screen_touched`."""
    hits = np.empty(loops.shape[0], np.int32)
    found = 0
    for loop in range(loops.shape[0]):
        forward = backward = 0.0
        for j in range(loops.shape[1]):
            edge = loops[loop, j]
            forward += log_rate[edge]
            backward += log_rate[edge ^ 1]
        if forward > 0.0:
            hits[found] = 2 * loop
            found += 1
        elif backward > 0.0:
            hits[found] = 2 * loop + 1
            found += 1
    return hits[:found]


@kernel(
    "void(int32[::1], int32[:, ::1], float64[::1], float64[::1], float64[::1], float64[::1])",
    fastmath=FASTMATH,
)
def size_hits(
    hits: IndexArray,
    loops: LoopArray,
    slope: FloatArray,
    curve: FloatArray,
    amount: FloatArray,
    bound: FloatArray,
) -> None:
    """Best input of each hit (raw base units) and an upper bound on its gross profit, for constant products.

    An edge is the map `y = slope*x / (1 + curve*x)` (`Book`; in a pair slope is `gamma*s/r` and curve
    `gamma/r`). So is a cycle, `a*x / (1 + b*x)`: over the hops, `b += a*curve`, then `a *= slope`. Hence
    `x* = (sqrt(a) - 1)/b` and the profit there is `(sqrt(a) - 1)^2 / b`. Integer swaps round down, so no
    integer input can earn more; the bound adds what float64 may have lost.
    """
    hops = loops.shape[1]
    one = np.uint32(1)  # unsigned, as numba tests a signed index for being negative: a fifth of the time
    for i in range(hits.size):
        loop, backwards = np.uint32(hits[i]) >> one, np.uint32(hits[i]) & one
        a, b = 1.0, 0.0
        for j in range(hops):
            k = hops - 1 - j if backwards else j
            edge = np.uint32(loops[loop, np.uint32(k)]) ^ backwards
            b += a * curve[edge]
            a *= slope[edge]
        gain = math.sqrt(a) - 1.0
        amount[i] = gain / b
        gain += _ROOT_ERROR * (gain + 1.0)
        bound[i] = gain * gain / b * (1.0 + 1e-12)
