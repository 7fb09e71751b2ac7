"""Index of the simple cycles of 2 to 5 hops through the base tokens, and of the cycles of each leg.

A *loop* is a cycle without its direction. It is stored once, from its best-ranked base token, as a
row of int32 edges (see `market.legs`). Walked as stored it is one cycle, walked backwards over
`edge ^ 1` the other: half the memory, and one gather serves both. Rows, not columns, as the hot path
gathers scattered loops: a loop of four is one cache line. No loop uses a token or a pool twice.

Memory: a loop of h hops takes 4h bytes of edges, 4h in the legs' lists and 4 in the scanner's stamp,
so 36 bytes for four hops and 44 for five, which are 18 and 22 a cycle.

Changes never rebuild. What a new leg brings is enumerated through that leg and goes to the length's
second table, the overflow; this is merged into the main one when it exceeds `OVERFLOW_SHARE` of it.
Loops through a leg that went stay as they are: the market gives the leg's edges a log rate of -inf,
so they never pass the screen. They are dead, and are dropped when more than `DEAD_SHARE` of the
loops of their length are. An index is never changed: every change returns a new one, which shares
the tables that stayed the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mev_engine.market import tables
from mev_engine.market.legs import LegGraph
from mev_engine.market.loops import all_loops, check_size
from mev_engine.market.pruning import NO_PRUNING, Pruning, PruningReport, open_edges
from mev_engine.market.tables import LoopTable
from mev_engine.market.through import loops_through
from mev_engine.types import FlagArray, FloatArray, IndexArray, LoopArray

MAX_HOPS = 5
OVERFLOW_SHARE = 1 / 32
"""Of the main table. Small, as the overflow is merged with every addition."""
DEAD_SHARE = 1 / 4
"""Of the loops of one length. Dead loops cost memory, and the time in which they fail the screen."""


@dataclass(frozen=True, slots=True)
class Length:
    """All loops of one length: the main table and perhaps its overflow, of which loops `dead` are
    dead. `open_`, `pruned`: what `pruning.open_edges` says for this length."""

    hops: int
    tables: tuple[LoopTable, ...]
    dead: int
    open_: FlagArray
    pruned: PruningReport

    @property
    def n_loops(self) -> int:
        """Live and dead."""
        return sum(len(table.edges) for table in self.tables)

    def compacted(self, n_legs: int) -> Length:
        """The live loops in one table."""
        if not self.dead and len(self.tables) == 1:
            return self
        live = [table.edges[tables.are_live(table.edges, self.open_)] for table in self.tables]
        return replace(self, tables=(tables.build(np.concatenate(live), n_legs),), dead=0)

    def updated(
        self, graph: LegGraph, base_tokens: tuple[int, ...], open_: FlagArray, pruned: PruningReport
    ) -> Length:
        """For a graph with other legs, of which the edges `open_` are open."""
        was_open = np.concatenate([self.open_, np.zeros(len(open_) - len(self.open_), dtype=np.bool_)])
        changed = _legs_of(open_ != was_open)
        own = [tables.with_leg_count(table, graph.n_legs) for table in self.tables]
        dead = self.dead + sum(tables.newly_dead(table, changed, was_open, open_) for table in own)
        opened = _legs_of(open_ & ~was_open)
        fresh = loops_through(graph, base_tokens, opened, self.hops, open_)
        # a leg that was here before: some of its loops still are
        known = np.concatenate([tables.rows_through(table, opened) for table in own])
        fresh = _without(fresh, known)
        if len(fresh):
            own = _with_overflow(own, tables.build(fresh, graph.n_legs))
        result = Length(self.hops, tuple(own), dead, open_, pruned)
        check_size(result.n_loops)
        return result.compacted(graph.n_legs) if dead > DEAD_SHARE * result.n_loops else result


@dataclass(frozen=True, slots=True)
class CycleIndex:
    """Loops by rising length. `pruning`: rules by length; a length without any is complete."""

    graph: LegGraph
    base_tokens: tuple[int, ...]
    pruning: Mapping[int, Pruning]
    lengths: tuple[Length, ...]

    @property
    def tables(self) -> tuple[LoopTable, ...]:
        """All tables by rising number of hops; of one length there can be two."""
        return tuple(table for length in self.lengths for table in length.tables)

    @property
    def n_cycles(self) -> int:
        """Directed cycles: two for each live loop."""
        return 2 * sum(length.n_loops - length.dead for length in self.lengths)

    @property
    def n_bytes(self) -> int:
        """Memory of edges, legs' lists and graph."""
        lists = sum(t.edges.nbytes + t.leg_offsets.nbytes + t.leg_loops.nbytes for t in self.tables)
        return lists + self.graph.n_bytes

    @property
    def pruned(self) -> dict[int, PruningReport]:
        """What the pruning left out, by number of hops."""
        return {length.hops: length.pruned for length in self.lengths}

    def add(
        self,
        edge_token: IndexArray,
        n_tokens: int,
        *,
        leg_pool: IndexArray | None = None,
        depth: FloatArray | None = None,
    ) -> CycleIndex:
        """With new legs, numbered on from the last one. Arguments as for `build`, for the new legs
        only; `n_tokens` counts all tokens, old and new."""
        return self._updated(self.graph.with_legs(edge_token, n_tokens, leg_pool, depth))

    def remove(self, legs: IndexArray) -> CycleIndex:
        """Without `legs` (int32 numbers). They may come back by `restore`."""
        return self._updated(self.graph.with_live(legs, False))

    def restore(self, legs: IndexArray) -> CycleIndex:
        """With `legs` that had been removed."""
        return self._updated(self.graph.with_live(legs, True))

    def compacted(self) -> CycleIndex:
        """Without dead loops, one table for each length. Takes seconds on tens of millions of loops."""
        return replace(self, lengths=tuple(one.compacted(self.graph.n_legs) for one in self.lengths))

    def to_arrays(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Arrays and meta for `archive.save`, from which `from_arrays` makes the compacted index."""
        whole, graph = self.compacted(), self.graph
        arrays: dict[str, NDArray[Any]] = {name: getattr(graph, name) for name in _GRAPH_ARRAYS}
        if graph.depth is not None:
            arrays["depth"] = graph.depth
        for table in whole.tables:
            arrays |= {f"{name}_{table.hops}": getattr(table, name) for name in _TABLE_ARRAYS}
        meta = {
            "n_tokens": graph.n_tokens,
            "base_tokens": list(self.base_tokens),
            "lengths": [length.hops for length in self.lengths],
            "pruning": {str(hops): asdict(rules) for hops, rules in self.pruning.items()},
        }
        return arrays, meta

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> CycleIndex:
        """The index that `to_arrays` was called on. KeyError on a name that is missing."""
        graph = LegGraph.build(
            n_tokens=meta["n_tokens"],
            depth=arrays.get("depth"),
            **{name: arrays[name] for name in _GRAPH_ARRAYS},
        )
        bases = tuple(meta["base_tokens"])
        pruning = {int(hops): Pruning(**rules) for hops, rules in meta["pruning"].items()}
        lengths = []
        for hops, opened in _open_edges(graph, bases, pruning, meta["lengths"]).items():
            table = LoopTable(hops, *(arrays[f"{name}_{hops}"] for name in _TABLE_ARRAYS))
            lengths.append(Length(hops, (table,), 0, *opened))
        return cls(graph, bases, pruning, tuple(lengths))

    def _updated(self, graph: LegGraph) -> CycleIndex:
        opened = _open_edges(graph, self.base_tokens, self.pruning, [one.hops for one in self.lengths])
        lengths = (one.updated(graph, self.base_tokens, *opened[one.hops]) for one in self.lengths)
        return replace(self, graph=graph, lengths=tuple(lengths))


_GRAPH_ARRAYS = ("edge_token", "leg_pool", "live")
_TABLE_ARRAYS = ("edges", "leg_offsets", "leg_loops")
EMPTY = CycleIndex(LegGraph.build(np.empty(0, dtype=np.int32), 0), (), NO_PRUNING, ())


def build(
    edge_token: IndexArray,
    n_tokens: int,
    base_tokens: Sequence[int],
    max_hops: int,
    *,
    leg_pool: IndexArray | None = None,
    depth: FloatArray | None = None,
    live: FlagArray | None = None,
    pruning: Mapping[int, Pruning] = NO_PRUNING,
) -> CycleIndex:
    """Index the loops of 2 to `max_hops` hops (5 at most) of legs whose edge e pays token
    `edge_token[e]` in (int32, two a leg).

    base_tokens: token numbers, best first.
    leg_pool: int32, pool of each leg; left out, every leg is a pool of its own.
    depth: float64, native wei, of each leg; needed where there is pruning. It is looked at now and
        for legs that come later; a leg whose depth changed is judged anew by the next build.
    live: which legs take part; left out, all.
    pruning: rules by number of hops, such as `pruning.FIVE_HOPS`; none by default.

    ValueError, naming field and mend, on arguments and rules that don't fit, and where the loops of
    one length outgrow the index.
    """
    if not 2 <= max_hops <= MAX_HOPS:
        raise ValueError(f"max_hops is {max_hops!r}: must be 2 to {MAX_HOPS}")
    outside = [base for base in base_tokens if not 0 <= base < n_tokens]
    if outside:
        raise ValueError(f"base token {outside[0]} is not one of the {n_tokens} tokens")
    if pruning.get(2, Pruning()).max_degree is not None:
        raise ValueError("pruning has max_degree for loops of 2 hops: use max_parallel there")
    graph, bases = LegGraph.build(edge_token, n_tokens, leg_pool, depth, live), tuple(base_tokens)
    opened = _open_edges(graph, bases, pruning, range(2, max_hops + 1))
    alike: dict[int, list[int]] = {}  # lengths that share their open edges share the walk too
    for hops, (open_, _) in opened.items():
        alike.setdefault(id(open_), []).append(hops)
    lengths: list[Length] = []
    for group in alike.values():
        for hops, loops in all_loops(graph, bases, group, opened[group[0]][0]).items():
            lengths.append(Length(hops, (tables.build(loops, graph.n_legs),), 0, *opened[hops]))
    return CycleIndex(graph, bases, pruning, tuple(sorted(lengths, key=lambda one: one.hops)))


def _open_edges(
    graph: LegGraph, base_tokens: tuple[int, ...], pruning: Mapping[int, Pruning], lengths: Iterable[int]
) -> dict[int, tuple[FlagArray, PruningReport]]:
    """What `pruning.open_edges` says for each length; lengths with the same rules share one result."""
    by_length = {hops: pruning.get(hops, Pruning()) for hops in lengths}
    opened = {rules: open_edges(graph, base_tokens, rules) for rules in set(by_length.values())}
    return {hops: opened[rules] for hops, rules in by_length.items()}


def _legs_of(edges: FlagArray) -> IndexArray:
    """Legs of which either edge is flagged."""
    return np.flatnonzero(edges[0::2] | edges[1::2]).astype(np.int32)


def _with_overflow(own: list[LoopTable], fresh: LoopTable) -> list[LoopTable]:
    """The main table and its overflow, with `fresh` loops."""
    main, *rest = own
    overflow = tables.merge(rest[0], fresh) if rest else fresh
    if len(overflow.edges) > OVERFLOW_SHARE * len(main.edges):
        return [tables.merge(main, overflow)]
    return [main, overflow]


def _without(fresh: LoopArray, known: LoopArray) -> LoopArray:
    """Rows of `fresh` that are not among `known`, in whichever direction they are stored."""
    if not len(known):
        return fresh
    both = np.concatenate([known, fresh])
    backwards = both[:, 0] >> 1 > both[:, -1] >> 1
    both[backwards] = both[backwards, ::-1] ^ 1
    order = np.lexsort(both.T)  # stable: the known one of two comes first
    again = (both[order[1:]] == both[order[:-1]]).all(axis=1)
    keep = np.ones(len(both), dtype=np.bool_)
    keep[order[1:][again]] = False
    return fresh[keep[len(known) :]]
