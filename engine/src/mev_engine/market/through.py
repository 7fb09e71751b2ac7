"""The loops through given legs: what an index gains when these legs come.

A loop from base b through a leg u - v is a path u -> b and a path v -> b that share no token but b,
with the leg between them; where u is b the first path is empty. Both are listed depth first. The
last hop is looked up among the edges between two tokens, never searched for among a hub's, so the
work grows with the ways from the leg towards the base, not with the market.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mev_engine.jit import kernel
from mev_engine.market.legs import LegGraph
from mev_engine.market.loops import MAX_LOOPS, check_size
from mev_engine.types import FlagArray, IndexArray, LoopArray, OffsetArray

_GRAPH = "int32[::1], int32[::1], int32[::1], int64[::1], boolean[::1], boolean[::1]"


def loops_through(
    graph: LegGraph, base_tokens: Sequence[int], legs: IndexArray, hops: int, open_: FlagArray
) -> LoopArray:
    """Loops of `hops` hops, int32 (n, hops), that use at least one of `legs`; each once."""
    bases = np.array(base_tokens, dtype=np.int32)
    arrays = (graph.edge_token, graph.leg_pool, graph.adjacent, graph.offsets)
    loops: LoopArray = _loops_through(legs, bases, hops, MAX_LOOPS, *arrays, open_)
    check_size(len(loops))
    return loops


@kernel("int64(int32[::1], int64[::1], int32[::1], int32, int32)")
def _first_edge(
    adjacent: IndexArray, offsets: OffsetArray, edge_token: IndexArray, tail: int, head: int
) -> int:
    """Where the edges tail -> head begin, or would, among the adjacent ones."""
    low, high = offsets[tail], offsets[tail + 1]
    while low < high:
        middle = (low + high) // 2
        if edge_token[adjacent[middle] ^ 1] < head:
            low = middle + 1
        else:
            high = middle
    return int(low)


@kernel(f"int32[:, ::1](int32, int32, int32, int32, int64, {_GRAPH})")
def _paths_to_base(
    base: int,
    token: int,
    avoid: int,
    pool: int,
    hops: int,
    edge_token: IndexArray,
    leg_pool: IndexArray,
    adjacent: IndexArray,
    offsets: OffsetArray,
    closed: FlagArray,
    open_: FlagArray,
) -> LoopArray:
    """Simple paths token -> base of `hops` edges, neither through the token `avoid` nor the pool `pool`."""
    found = 0
    paths = np.empty((16, hops), np.int32)
    path = np.empty(hops, np.int32)
    tokens = np.empty(hops + 1, np.int32)
    tokens[0] = token
    cursor = np.zeros(hops + 1, np.int64)
    cursor[0] = offsets[token] if hops > 1 else _first_edge(adjacent, offsets, edge_token, token, base)
    depth = 0
    while depth >= 0:
        tail = tokens[depth]
        closing = depth == hops - 1
        i = cursor[depth]
        if i == offsets[tail + 1] or (closing and edge_token[adjacent[i] ^ 1] != base):
            depth -= 1
            continue
        cursor[depth] += 1
        edge = adjacent[i]
        head = edge_token[edge ^ 1]
        if not open_[edge] or leg_pool[edge >> 1] == pool:
            continue
        if not closing and (closed[head] or head == avoid or not open_[edge ^ 1]):
            continue
        clash = False
        for k in range(depth):
            clash |= tokens[k] == head or leg_pool[path[k] >> 1] == leg_pool[edge >> 1]
        if clash:
            continue
        path[depth] = edge
        if closing:
            if found == paths.shape[0]:
                grown = np.empty((2 * found, hops), np.int32)
                grown[:found] = paths
                paths = grown
            paths[found] = path
            found += 1
        else:
            depth += 1
            tokens[depth] = head
            cursor[depth] = offsets[head]
            if depth == hops - 1:
                cursor[depth] = _first_edge(adjacent, offsets, edge_token, head, base)
    return paths[:found]


@kernel("boolean(int32[::1], int32[::1], int32[::1], int32[::1])")
def _share(path: IndexArray, other: IndexArray, edge_token: IndexArray, leg_pool: IndexArray) -> bool:
    """Whether two paths to one base share a token before it, or a pool."""
    for edge in path:
        for rival in other:
            if edge_token[edge] == edge_token[rival] or leg_pool[edge >> 1] == leg_pool[rival >> 1]:
                return True
    return False


@kernel(f"int32[:, ::1](int32, int32, int64, int64, int64, {_GRAPH})")
def _loops_at(
    base: int,
    leg: int,
    left: int,
    hops: int,
    limit: int,
    edge_token: IndexArray,
    leg_pool: IndexArray,
    adjacent: IndexArray,
    offsets: OffsetArray,
    closed: FlagArray,
    open_: FlagArray,
) -> LoopArray:
    """Loops from `base` in which `leg` is walked from its first token u to its second v, after `left`
    hops. No more than `limit`."""
    u, v, pool, right = edge_token[2 * leg], edge_token[2 * leg + 1], leg_pool[leg], hops - 1 - left
    loops = np.empty((0, hops), np.int32)
    if (left == 0) != (u == base) or (right == 0) != (v == base):
        return loops
    firsts = seconds = np.empty((1, 0), np.int32)  # where the leg is the first or last hop: one empty path
    for side in range(2):  # the shorter paths first: they are cheap to list, and often there are none
        if (side == 0) == (left <= right):
            if left and seconds.shape[0]:
                firsts = _paths_to_base(
                    base, u, v, pool, left, edge_token, leg_pool, adjacent, offsets, closed, open_
                )
        elif right and firsts.shape[0]:
            seconds = _paths_to_base(
                base, v, u, pool, right, edge_token, leg_pool, adjacent, offsets, closed, open_
            )
    found = 0
    for i in range(firsts.shape[0]):
        for j in range(seconds.shape[0]):
            first, second = firsts[i], seconds[j]
            if _share(first, second, edge_token, leg_pool):
                continue
            if found == loops.shape[0]:
                grown = np.empty((2 * found + 16, hops), np.int32)
                grown[:found] = loops
                loops = grown
            for k in range(left):
                loops[found, k] = first[left - 1 - k] ^ 1
            loops[found, left] = 2 * leg
            for k in range(right):
                loops[found, left + 1 + k] = second[k]
            found += 1
            if found == limit:
                return loops[:found]
    return loops[:found]


@kernel(f"int32[:, ::1](int32[::1], int32[::1], int64, int64, {_GRAPH.rsplit(', ', 1)[0]})")
def _loops_through(
    legs: IndexArray,
    base_tokens: IndexArray,
    hops: int,
    limit: int,
    edge_token: IndexArray,
    leg_pool: IndexArray,
    adjacent: IndexArray,
    offsets: OffsetArray,
    open_: FlagArray,
) -> LoopArray:
    """As `loops_through`. Not much more than `limit` loops: who gets as many as that has too many."""
    found = 0
    loops = np.empty((16, hops), np.int32)
    present = open_.copy()  # the legs of which the loops are still to be listed are shut
    for leg in legs:
        present[2 * leg] = present[2 * leg + 1] = False
    closed = np.zeros(offsets.size - 1, np.bool_)
    for leg in legs:
        u, v = edge_token[2 * leg], edge_token[2 * leg + 1]
        present[2 * leg], present[2 * leg + 1] = open_[2 * leg], open_[2 * leg + 1]
        closed[:] = False
        for base in base_tokens:
            if closed[u] or closed[v]:
                break  # the other loops are stored from a better base
            closed[base] = True
            if (u != base and not open_[2 * leg]) or (v != base and not open_[2 * leg + 1]):
                continue
            for left in range(hops):
                more = _loops_at(
                    base,
                    leg,
                    left,
                    hops,
                    limit - found,
                    edge_token,
                    leg_pool,
                    adjacent,
                    offsets,
                    closed,
                    present,
                )
                if found + more.shape[0] > loops.shape[0]:
                    grown = np.empty((2 * (found + more.shape[0]), hops), np.int32)
                    grown[:found] = loops[:found]
                    loops = grown
                loops[found : found + more.shape[0]] = more
                found += more.shape[0]
                if found >= limit:
                    return loops[:found].copy()
    return loops[:found].copy()
