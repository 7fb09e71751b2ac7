"""Rules by which loops are left out of the index before they are enumerated.

Five hops multiply: through two hubs with 10,000 legs each there are 10^8 ways. A searcher gives up
those that can't pay: thin legs, the shallower of many parallel ones, and most of a hub's legs where
it is only passed through. Each rule is local, deterministic (ties go to the lower leg number) and
costs one pass over the legs; each counts what it removed.

The outcome is one flag an edge: *open* if a loop may use the edge at its tail where that tail is not
the loop's start. At the start every leg may be used whose other end is open.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from mev_engine.jit import kernel
from mev_engine.market.legs import LegGraph
from mev_engine.types import FlagArray, FloatArray, IndexArray, OffsetArray

_ANY = 2**62  # a bound that no count reaches


@dataclass(frozen=True, slots=True)
class Pruning:
    """Applied in the order of the fields, each to what the ones before have left. The defaults
    prune nothing, so every simple cycle is indexed.

    min_liquidity: native wei; legs with less depth are left out.
    max_parallel: of the legs between two tokens the deepest so many are kept; None keeps all.
    max_degree: a token between a loop's first and last hop is entered and left only through its
    deepest so many legs; None through all. A leg that is shut at its base token still serves as the
    first or last hop of loops from there. Dead ends don't count: tokens whose legs all lead to one
    other token are left out first, then those that thereby become so. No loop of 3 hops or more is
    lost with them; for 2 hops this rule isn't allowed.
    """

    min_liquidity: float = 0.0
    max_parallel: int | None = None
    max_degree: int | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.min_liquidity < float("inf"):
            raise ValueError(f"min_liquidity is {self.min_liquidity!r}: must be 0 or more wei")
        for name, least in (("max_parallel", 1), ("max_degree", 2)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} is {value!r}: must be {least} or more, or None for no bound")


@dataclass(frozen=True, slots=True)
class PruningReport:
    """How many of the live `legs` each rule left out, `dead_ends` without loss. `start_only`: legs that
    `max_degree` shut at a base token, so that they are kept as first and last hops from there."""

    legs: int
    min_liquidity: int = 0
    max_parallel: int = 0
    dead_ends: int = 0
    max_degree: int = 0
    start_only: int = 0

    @property
    def kept(self) -> int:
        return self.legs - self.min_liquidity - self.max_parallel - self.dead_ends - self.max_degree


NO_PRUNING: Mapping[int, Pruning] = MappingProxyType({})
FIVE_HOPS: Mapping[int, Pruning] = MappingProxyType(
    {5: Pruning(min_liquidity=1e18, max_parallel=3, max_degree=64)}
)
"""Loops of up to 4 hops complete, those of 5 over legs of 1 native coin or more. On 7,246
V2 and V3 pools of Ethereum in mid-2023 and five base tokens this leaves 4 % of the loops of 5 hops,
about as many as there are of 4."""


def open_edges(
    graph: LegGraph, base_tokens: tuple[int, ...], pruning: Pruning
) -> tuple[FlagArray, PruningReport]:
    """Flags (bool, one an edge) and report for the graph's live legs. ValueError without depths."""
    legs = int(np.count_nonzero(graph.live))
    if pruning == Pruning():
        return graph.live.repeat(2), PruningReport(legs)
    if graph.depth is None:
        raise ValueError(f"{pruning} needs the legs' depth: give depth (float64, native wei, one a leg)")
    deep = graph.live & (graph.depth >= pruning.min_liquidity)
    thin = legs - int(np.count_nonzero(deep))
    kept = _keep_parallel(
        graph.adjacent, graph.offsets, graph.edge_token, graph.depth, deep, pruning.max_parallel or _ANY
    )
    parallel = int(np.count_nonzero(deep)) - int(np.count_nonzero(kept))
    if pruning.max_degree is None:
        return kept.repeat(2), PruningReport(legs, thin, parallel)
    leading = _without_dead_ends(graph.adjacent, graph.offsets, graph.edge_token, kept)
    ends = int(np.count_nonzero(kept)) - int(np.count_nonzero(leading))
    flags = _keep_deepest(graph.adjacent, graph.offsets, graph.depth, leading, pruning.max_degree)
    # usable if each end is open, or is a base token, where loops may start; but not from both ends at once
    start = np.isin(graph.edge_token, np.array(base_tokens, dtype=np.int32))
    first, second, start0, start1 = flags[0::2], flags[1::2], start[0::2], start[1::2]
    anywhere = first & second
    only_start = (first & ~second & start1) | (second & ~first & start0)
    lost = int(np.count_nonzero(leading & ~anywhere & ~only_start))
    return flags, PruningReport(legs, thin, parallel, ends, lost, int(np.count_nonzero(only_start)))


@kernel("boolean[::1](int32[::1], float64[::1], int64)")
def _deepest(legs: IndexArray, depth: FloatArray, wanted: int) -> FlagArray:
    """Which of more than `wanted` legs are the deepest so many; of equal ones those of lower number."""
    values = depth[legs]
    limit = np.partition(values, legs.size - wanted)[legs.size - wanted]
    equal = np.sort(legs[values == limit])
    last = equal[wanted - np.sum(values > limit) - 1]
    chosen: FlagArray = (values > limit) | ((values == limit) & (legs <= last))
    return chosen


@kernel("boolean[::1](int32[::1], int64[::1], int32[::1], float64[::1], boolean[::1], int64)")
def _keep_parallel(
    adjacent: IndexArray,
    offsets: OffsetArray,
    edge_token: IndexArray,
    depth: FloatArray,
    legs: FlagArray,
    max_parallel: int,
) -> FlagArray:
    """Legs without those that `max_parallel` or more deeper ones run beside."""
    kept = legs.copy()
    run = np.empty(adjacent.size, np.int32)
    for t in range(offsets.size - 1):
        size = 0
        for i in range(offsets[t], offsets[t + 1]):
            head = edge_token[adjacent[i] ^ 1]
            if head < t:
                continue  # judged at the other end
            if legs[adjacent[i] >> 1]:
                run[size] = adjacent[i] >> 1
                size += 1
            if i + 1 == offsets[t + 1] or edge_token[adjacent[i + 1] ^ 1] != head:
                if size > max_parallel:
                    kept[run[:size]] = _deepest(run[:size], depth, max_parallel)
                size = 0
    return kept


@kernel("boolean[::1](int32[::1], int64[::1], int32[::1], boolean[::1])")
def _without_dead_ends(
    adjacent: IndexArray, offsets: OffsetArray, edge_token: IndexArray, legs: FlagArray
) -> FlagArray:
    """Legs without those of tokens that have but one neighbour, again and again."""
    kept = legs.copy()
    n_tokens = offsets.size - 1
    neighbours = np.zeros(n_tokens, np.int32)
    ends = np.empty(n_tokens, np.int32)
    size = 0
    for t in range(n_tokens):
        last = -1
        for i in range(offsets[t], offsets[t + 1]):
            head = edge_token[adjacent[i] ^ 1]
            if kept[adjacent[i] >> 1] and head != last:
                neighbours[t] += 1
                last = head
        if neighbours[t] == 1:
            ends[size] = t
            size += 1
    while size:
        size -= 1
        t = ends[size]
        last = -1
        for i in range(offsets[t], offsets[t + 1]):
            if kept[adjacent[i] >> 1]:
                kept[adjacent[i] >> 1] = False
                last = edge_token[adjacent[i] ^ 1]
        if last >= 0:
            neighbours[last] -= 1
            if neighbours[last] == 1:
                ends[size] = last
                size += 1
    return kept


@kernel("boolean[::1](int32[::1], int64[::1], float64[::1], boolean[::1], int64)")
def _keep_deepest(
    adjacent: IndexArray, offsets: OffsetArray, depth: FloatArray, legs: FlagArray, max_degree: int
) -> FlagArray:
    """Edges whose leg is among the `max_degree` deepest at the edge's tail."""
    flags = np.zeros(2 * legs.size, np.bool_)
    run = np.empty(adjacent.size, np.int32)
    for t in range(offsets.size - 1):
        size = 0
        for i in range(offsets[t], offsets[t + 1]):
            if legs[adjacent[i] >> 1]:
                run[size] = adjacent[i]
                size += 1
        edges = run[:size]
        if size > max_degree:
            edges = edges[_deepest((edges >> 1).astype(np.int32), depth, max_degree)]
        flags[edges] = True
    return flags
