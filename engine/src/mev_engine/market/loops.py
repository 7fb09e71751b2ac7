"""All loops of a graph, base token by base token.

For each base token b, best first and never through a better one (those loops are stored from
there), every two-hop path b -> t1 -> t2 is listed, sorted by t2. A loop of five is a leg t2 - t3
between the ends of two such paths, a loop of four a pair of paths to one t2, a loop of three a path
closed by an edge b - t2, a loop of two a pair of edges b - t. So each loop is met once, and the work
is that of writing the result, but for the pairs that share a token or a pool.

Each length has a kernel that counts when it is given an empty table, and fills a table of that many
rows. `open`: see `market.pruning`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mev_engine.jit import kernel
from mev_engine.market.legs import LegGraph
from mev_engine.types import FlagArray, IndexArray, LoopArray, OffsetArray

MAX_LOOPS = 2**30  # a hit is 2 * loop + direction in an int32


def check_size(loops: int) -> None:
    """ValueError where the loops of one length outgrow the index."""
    if loops >= MAX_LOOPS:
        raise ValueError(
            f"the market has {loops} or more loops of one length, and the index holds {MAX_LOOPS}: "
            "lower max_hops, name fewer base tokens, or prune thin legs"
        )


def all_loops(
    graph: LegGraph, base_tokens: Sequence[int], lengths: Sequence[int], open_: FlagArray
) -> dict[int, LoopArray]:
    """Loops of each of `lengths` hops (2 to 5), int32 (n, hops), through open edges."""
    parts: dict[int, list[LoopArray]] = {hops: [np.empty((0, hops), dtype=np.int32)] for hops in lengths}
    closed = np.zeros(graph.n_tokens, dtype=np.bool_)  # tokens that loops from this base may not touch
    for base in base_tokens:
        closed[base] = True
        context = (base, graph.edge_token, graph.leg_pool, graph.adjacent, graph.offsets, closed, open_)
        paths = _two_hop_paths(*context) if max(lengths) > 2 else _NO_PATHS
        for hops in lengths:
            count = _KERNELS[hops](*context, *paths, parts[hops][0])
            check_size(count + sum(len(part) for part in parts[hops]))
            table = np.empty((count, hops), dtype=np.int32)
            if count:
                _KERNELS[hops](*context, *paths, table)
                parts[hops].append(table)
    return {hops: np.concatenate(tables) for hops, tables in parts.items()}


_NO_PATHS = np.empty(0, dtype=np.int64), np.empty((0, 5), dtype=np.int32)
_CONTEXT = "int64, int32[::1], int32[::1], int32[::1], int64[::1], boolean[::1], boolean[::1]"
_FILL = f"int64({_CONTEXT}, int64[::1], int32[:, ::1], int32[:, ::1])"


@kernel(f"Tuple((int64[::1], int32[:, ::1]))({_CONTEXT})")
def _two_hop_paths(
    base: int,
    edge_token: IndexArray,
    leg_pool: IndexArray,
    adjacent: IndexArray,
    offsets: OffsetArray,
    closed: FlagArray,
    open_: FlagArray,
) -> tuple[OffsetArray, LoopArray]:
    """Paths base -> t1 -> t2: rows (edge, edge, pool, pool, t1), those to t2 from `starts[t2]`, and
    among those one t1 after the other."""
    n_tokens = offsets.size - 1
    starts = np.zeros(n_tokens + 2, np.int64)
    paths = np.empty((0, 5), np.int32)
    for filling in range(2):
        for i in range(offsets[base], offsets[base + 1]):
            e1 = adjacent[i]
            t1 = edge_token[e1 ^ 1]
            if closed[t1] or not open_[e1 ^ 1]:
                continue
            for j in range(offsets[t1], offsets[t1 + 1]):
                e2 = adjacent[j]
                t2 = edge_token[e2 ^ 1]
                if closed[t2] or not open_[e2] or not open_[e2 ^ 1] or leg_pool[e1 >> 1] == leg_pool[e2 >> 1]:
                    continue
                if filling:
                    row = starts[t2 + 1]
                    paths[row, 0] = e1
                    paths[row, 1] = e2
                    paths[row, 2] = leg_pool[e1 >> 1]
                    paths[row, 3] = leg_pool[e2 >> 1]
                    paths[row, 4] = t1
                    starts[t2 + 1] += 1
                else:
                    starts[t2 + 2] += 1
        if not filling:
            for t in range(n_tokens + 1):
                starts[t + 1] += starts[t]
            paths = np.empty((starts[n_tokens + 1], 5), np.int32)
    return starts[: n_tokens + 1].copy(), paths


@kernel(_FILL)
def _twos(
    base: int,
    edge_token: IndexArray,
    leg_pool: IndexArray,
    adjacent: IndexArray,
    offsets: OffsetArray,
    closed: FlagArray,
    open_: FlagArray,
    _starts: OffsetArray,
    _paths: LoopArray,
    table: LoopArray,
) -> int:
    """Pairs of parallel edges: the adjacent ones are sorted by their head."""
    found = 0
    first, last = offsets[base], offsets[base + 1]
    for i in range(first, last):
        e1 = adjacent[i]
        t = edge_token[e1 ^ 1]
        if closed[t] or not open_[e1 ^ 1]:
            continue
        for j in range(i - 1, first - 1, -1):
            e2 = adjacent[j]
            if edge_token[e2 ^ 1] != t:
                break
            if not open_[e2 ^ 1] or leg_pool[e1 >> 1] == leg_pool[e2 >> 1]:
                continue
            if table.shape[0]:
                table[found, 0] = e2
                table[found, 1] = e1 ^ 1
            found += 1
    return found


@kernel(_FILL)
def _threes(
    base: int,
    edge_token: IndexArray,
    leg_pool: IndexArray,
    adjacent: IndexArray,
    offsets: OffsetArray,
    closed: FlagArray,
    open_: FlagArray,
    starts: OffsetArray,
    paths: LoopArray,
    table: LoopArray,
) -> int:
    found = 0
    for i in range(offsets[base], offsets[base + 1]):
        edge = adjacent[i]
        t = edge_token[edge ^ 1]
        pool = leg_pool[edge >> 1]
        if closed[t] or not open_[edge ^ 1]:
            continue
        for k in range(starts[t], starts[t + 1]):
            if paths[k, 4] > t:
                break  # it is met from the other end
            if paths[k, 2] == pool or paths[k, 3] == pool:
                continue
            if table.shape[0]:
                table[found, 0] = paths[k, 0]
                table[found, 1] = paths[k, 1]
                table[found, 2] = edge ^ 1
            found += 1
    return found


@kernel(_FILL)
def _fours(
    _base: int,
    _edge_token: IndexArray,
    _leg_pool: IndexArray,
    _adjacent: IndexArray,
    _offsets: OffsetArray,
    _closed: FlagArray,
    _open: FlagArray,
    starts: OffsetArray,
    paths: LoopArray,
    table: LoopArray,
) -> int:
    found = 0
    for t2 in range(starts.size - 1):
        group = starts[t2]
        for i in range(starts[t2], starts[t2 + 1]):
            if found >= MAX_LOOPS:
                return found  # too many already: the caller says so
            if paths[group, 4] != paths[i, 4]:
                group = i
            pool1, pool2 = paths[i, 2], paths[i, 3]
            for j in range(starts[t2], group):  # paths over another t1
                if pool1 in (paths[j, 2], paths[j, 3]) or pool2 in (paths[j, 2], paths[j, 3]):
                    continue
                if table.shape[0]:
                    table[found, 0] = paths[j, 0]
                    table[found, 1] = paths[j, 1]
                    table[found, 2] = paths[i, 1] ^ 1
                    table[found, 3] = paths[i, 0] ^ 1
                found += 1
    return found


@kernel(_FILL)
def _fives(
    _base: int,
    edge_token: IndexArray,
    leg_pool: IndexArray,
    adjacent: IndexArray,
    offsets: OffsetArray,
    _closed: FlagArray,
    open_: FlagArray,
    starts: OffsetArray,
    paths: LoopArray,
    table: LoopArray,
) -> int:
    found = 0
    for k in range(adjacent.size):
        middle = adjacent[k]
        t2, t3, pool = edge_token[middle], edge_token[middle ^ 1], leg_pool[middle >> 1]
        if t2 > t3 or not open_[middle] or not open_[middle ^ 1]:
            continue
        for i in range(starts[t2], starts[t2 + 1]):
            if found >= MAX_LOOPS:
                return found  # too many already: the caller says so
            pool1, pool2, t1 = paths[i, 2], paths[i, 3], paths[i, 4]
            if t1 == t3 or pool in (pool1, pool2):
                continue
            for j in range(starts[t3], starts[t3 + 1]):
                pool5, pool4, t4 = paths[j, 2], paths[j, 3], paths[j, 4]
                if t4 in (t1, t2) or pool in (pool4, pool5):
                    continue
                if pool1 in (pool4, pool5) or pool2 in (pool4, pool5):
                    continue
                if table.shape[0]:
                    table[found, 0] = paths[i, 0]
                    table[found, 1] = paths[i, 1]
                    table[found, 2] = middle
                    table[found, 3] = paths[j, 1] ^ 1
                    table[found, 4] = paths[j, 0] ^ 1
                found += 1
    return found


_KERNELS: dict[int, Any] = {2: _twos, 3: _threes, 4: _fours, 5: _fives}
