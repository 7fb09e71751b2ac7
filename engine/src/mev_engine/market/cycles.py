"""Index of every simple cycle of 2 to 4 hops through the base tokens, and of the cycles of each pool.

A *loop* is a cycle without its direction. It is stored once, from its best-ranked base token, as a
row of int32 edges: edge `2p` pays token0 of pool p in, `2p + 1` token1. Walked as stored it is one
cycle, walked backwards over `edge ^ 1` the other: half the memory, and one gather serves both.
Rows, not columns, as the hot path gathers scattered loops: a loop of four is one cache line.

Memory: a loop of h hops takes 4h bytes of edges, 4h in the pools' lists and 4 in the scanner's
stamp, so 36 bytes for four hops, which are 18 a cycle.

How: for each base token b, best first and never through a better one (those loops are stored from
there), every two-hop path b -> t1 -> t2 is listed, sorted by t2. A loop of four is a pair of such
paths to one t2, a loop of three such a path closed by an edge b - t2, a loop of two a pair of edges
b - t. So the work is that of writing the result, and each loop is met once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mev_engine.jit import kernel
from mev_engine.types import FlagArray, IndexArray, LoopArray, OffsetArray

MAX_LOOPS = 2**30  # a hit is 2 * loop + direction in an int32


@dataclass(frozen=True, slots=True)
class LoopTable:
    """All loops of one length. `edges`: int32 (n, hops). Pool p is in loops
    `pool_loops[pool_offsets[p] : pool_offsets[p + 1]]` (CSR; ascending)."""

    hops: int
    edges: LoopArray
    pool_offsets: OffsetArray
    pool_loops: IndexArray


@dataclass(frozen=True, slots=True)
class CycleIndex:
    """Loop tables by rising number of hops."""

    tables: tuple[LoopTable, ...]

    @property
    def n_cycles(self) -> int:
        """Directed cycles: two for each loop."""
        return 2 * sum(len(table.edges) for table in self.tables)

    @property
    def n_bytes(self) -> int:
        """Memory of edges and pool lists."""
        return sum(t.edges.nbytes + t.pool_offsets.nbytes + t.pool_loops.nbytes for t in self.tables)


def build(edge_token: IndexArray, n_tokens: int, base_tokens: Sequence[int], max_hops: int) -> CycleIndex:
    """Index the loops of pools whose edge e pays token `edge_token[e]` in (int32, two a pool).

    `base_tokens`: token numbers, best first. A ValueError names the count where the loops of one
    length outgrow the index.
    """
    n_pools = len(edge_token) // 2
    edges = np.arange(len(edge_token), dtype=np.int32)
    head = edge_token[edges ^ 1]
    adjacent = np.lexsort((edges, head, edge_token)).astype(np.int32)  # by tail, then head, then edge
    offsets = np.searchsorted(edge_token[adjacent], np.arange(n_tokens + 1)).astype(np.int64)
    parts: dict[int, list[LoopArray]] = {2: [], 3: [], 4: []}
    closed = np.zeros(n_tokens, dtype=np.bool_)  # tokens that loops from this base may not touch
    for base in base_tokens:
        closed[base] = True
        paths = _two_hop_paths(base, edge_token, adjacent, offsets, closed)
        counts = _count_loops(base, edge_token, adjacent, offsets, closed, *paths)
        _check_size(max(counts[: max_hops - 1]))
        tables = [
            np.empty((count if hops <= max_hops else 0, hops), dtype=np.int32)
            for hops, count in zip((2, 3, 4), counts, strict=True)
        ]
        _fill_loops(base, edge_token, adjacent, offsets, closed, *paths, *tables)
        for table in tables:
            parts[table.shape[1]].append(table)
    return CycleIndex(tuple(_table(hops, parts[hops], n_pools) for hops in range(2, max_hops + 1)))


def _table(hops: int, parts: list[LoopArray], n_pools: int) -> LoopTable:
    loops = np.concatenate(parts)
    _check_size(len(loops))
    offsets, members = _loops_by_pool(loops, n_pools)
    return LoopTable(hops, loops, offsets, members)


def _check_size(loops: int) -> None:
    if loops >= MAX_LOOPS:
        raise ValueError(
            f"the market has {loops} loops of one length, and the index holds {MAX_LOOPS}: "
            "lower max_hops, name fewer base tokens, or leave out thin pools"
        )


@kernel("Tuple((int64[::1], int32[:, ::1]))(int64, int32[::1], int32[::1], int64[::1], boolean[::1])")
def _two_hop_paths(
    base: int, edge_token: IndexArray, adjacent: IndexArray, offsets: OffsetArray, closed: FlagArray
) -> tuple[OffsetArray, LoopArray]:
    """Paths base -> t1 -> t2 over open tokens: rows (e1, e2), those to t2 from `starts[t2]`,
    and among those one t1 after the other."""
    n_tokens = offsets.size - 1
    starts = np.zeros(n_tokens + 2, np.int64)
    paths = np.empty((0, 2), np.int32)
    for filling in range(2):
        for i in range(offsets[base], offsets[base + 1]):
            first = adjacent[i]
            t1 = edge_token[first ^ 1]
            if closed[t1]:
                continue
            for j in range(offsets[t1], offsets[t1 + 1]):
                second = adjacent[j]
                t2 = edge_token[second ^ 1]
                if closed[t2]:
                    continue
                if filling:
                    paths[starts[t2 + 1], 0] = first
                    paths[starts[t2 + 1], 1] = second
                    starts[t2 + 1] += 1
                else:
                    starts[t2 + 2] += 1
        if not filling:
            for t in range(n_tokens + 1):
                starts[t + 1] += starts[t]
            paths = np.empty((starts[n_tokens + 1], 2), np.int32)
    return starts[: n_tokens + 1].copy(), paths


@kernel(
    "UniTuple(int64, 3)(int64, int32[::1], int32[::1], int64[::1], boolean[::1], int64[::1], int32[:, ::1])"
)
def _count_loops(
    base: int,
    edge_token: IndexArray,
    adjacent: IndexArray,
    offsets: OffsetArray,
    closed: FlagArray,
    starts: OffsetArray,
    paths: LoopArray,
) -> tuple[int, int, int]:
    """Numbers of loops of 2, 3 and 4 hops from `base`: the sizes that `_fill_loops` fills."""
    twos = threes = fours = 0
    direct = np.zeros(offsets.size - 1, np.int64)  # edges base -> t
    for i in range(offsets[base], offsets[base + 1]):
        direct[edge_token[adjacent[i] ^ 1]] += 1
    for t2 in range(offsets.size - 1):
        if closed[t2]:
            continue
        twos += direct[t2] * (direct[t2] - 1) // 2
        group = starts[t2]
        for i in range(starts[t2], starts[t2 + 1]):
            t1 = edge_token[paths[i, 1]]
            if t1 < t2:
                threes += direct[t2]
            if edge_token[paths[group, 1]] != t1:
                group = i
            fours += group - starts[t2]
    return twos, threes, fours


@kernel(
    "void(int64, int32[::1], int32[::1], int64[::1], boolean[::1], int64[::1], int32[:, ::1], "
    "int32[:, ::1], int32[:, ::1], int32[:, ::1])"
)
def _fill_loops(
    base: int,
    edge_token: IndexArray,
    adjacent: IndexArray,
    offsets: OffsetArray,
    closed: FlagArray,
    starts: OffsetArray,
    paths: LoopArray,
    twos: LoopArray,
    threes: LoopArray,
    fours: LoopArray,
) -> None:
    """Write the loops from `base`; a table of length 0 is one that is not wanted."""
    n2 = n3 = n4 = 0
    first, last = offsets[base], offsets[base + 1]
    for i in range(first, last):
        e1 = adjacent[i]
        t = edge_token[e1 ^ 1]
        if closed[t]:
            continue
        j = i - 1  # earlier parallel edges: the list is sorted by head
        while twos.shape[0] and j >= first and edge_token[adjacent[j] ^ 1] == t:
            twos[n2, 0] = adjacent[j]
            twos[n2, 1] = e1 ^ 1
            n2 += 1
            j -= 1
        for k in range(starts[t], starts[t + 1] if threes.shape[0] else starts[t]):
            if edge_token[paths[k, 1]] < t:  # else it is met from the other end
                threes[n3, 0] = paths[k, 0]
                threes[n3, 1] = paths[k, 1]
                threes[n3, 2] = e1 ^ 1
                n3 += 1
    if not fours.shape[0]:
        return
    for t2 in range(offsets.size - 1):
        group = starts[t2]
        for i in range(starts[t2], starts[t2 + 1]):
            if edge_token[paths[group, 1]] != edge_token[paths[i, 1]]:
                group = i
            for j in range(starts[t2], group):  # paths over another t1
                fours[n4, 0] = paths[j, 0]
                fours[n4, 1] = paths[j, 1]
                fours[n4, 2] = paths[i, 1] ^ 1
                fours[n4, 3] = paths[i, 0] ^ 1
                n4 += 1


@kernel("Tuple((int64[::1], int32[::1]))(int32[:, ::1], int64)")
def _loops_by_pool(loops: LoopArray, n_pools: int) -> tuple[OffsetArray, IndexArray]:
    """CSR lists of the loops through each pool."""
    offsets = np.zeros(n_pools + 2, np.int64)
    for i in range(loops.shape[0]):
        for k in range(loops.shape[1]):
            offsets[(loops[i, k] >> 1) + 2] += 1
    for p in range(n_pools):
        offsets[p + 2] += offsets[p + 1]
    members = np.empty(loops.size, np.int32)
    for i in range(loops.shape[0]):
        for k in range(loops.shape[1]):
            p = (loops[i, k] >> 1) + 1
            members[offsets[p]] = i
            offsets[p] += 1
    return offsets[: n_pools + 1].copy(), members
