"""Tables of loops of one length, with the lists of the loops through each leg."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mev_engine.jit import kernel
from mev_engine.types import FlagArray, IndexArray, LoopArray, OffsetArray


@dataclass(frozen=True, slots=True)
class LoopTable:
    """Loops of one length. `edges`: int32 (n, hops). Leg k is in loops
    `leg_loops[leg_offsets[k] : leg_offsets[k + 1]]` (CSR; ascending)."""

    hops: int
    edges: LoopArray
    leg_offsets: OffsetArray
    leg_loops: IndexArray


def build(loops: LoopArray, n_legs: int) -> LoopTable:
    """A table of `loops`, whose legs are below `n_legs`."""
    return LoopTable(loops.shape[1], loops, *_loops_by_leg(loops, n_legs))


def with_leg_count(table: LoopTable, n_legs: int) -> LoopTable:
    """With empty lists for further legs, so that touched legs can be looked up in every table."""
    more = n_legs + 1 - len(table.leg_offsets)
    if not more:
        return table
    return replace(table, leg_offsets=np.pad(table.leg_offsets, (0, more), mode="edge"))


def merge(table: LoopTable, more: LoopTable) -> LoopTable:
    """The loops of both, those of `more` last. They must have the same number of legs."""
    lists = _merge_lists(
        table.leg_offsets, table.leg_loops, more.leg_offsets, more.leg_loops, len(table.edges)
    )
    return LoopTable(table.hops, np.concatenate([table.edges, more.edges]), *lists)


def rows_through(table: LoopTable, legs: IndexArray) -> LoopArray:
    """Rows of the loops through any of `legs`, each once."""
    spans = [table.leg_loops[table.leg_offsets[leg] : table.leg_offsets[leg + 1]] for leg in legs]
    rows: LoopArray = table.edges[np.unique(np.concatenate([*spans, np.empty(0, dtype=np.int32)]))]
    return rows


def newly_dead(table: LoopTable, changed: IndexArray, was_open: FlagArray, open_: FlagArray) -> int:
    """How many loops died less how many came alive, where only the edges of `changed` legs changed."""
    return int(_newly_dead(table.edges, table.leg_offsets, table.leg_loops, changed, was_open, open_))


@kernel("boolean[::1](int32[:, ::1], boolean[::1])")
def are_live(loops: LoopArray, open_: FlagArray) -> FlagArray:
    """Which loops use open edges only; their first and last token is the start, where all may be used."""
    live = np.empty(loops.shape[0], np.bool_)
    last = loops.shape[1] - 1
    for i in range(loops.shape[0]):
        every = True
        for k in range(last):
            every &= open_[loops[i, k] ^ 1] and open_[loops[i, k + 1]]
        live[i] = every
    return live


@kernel("int64(int32[:, ::1], int64[::1], int32[::1], int32[::1], boolean[::1], boolean[::1])")
def _newly_dead(
    loops: LoopArray,
    leg_offsets: OffsetArray,
    leg_loops: IndexArray,
    changed: IndexArray,
    was_open: FlagArray,
    open_: FlagArray,
) -> int:
    dead = 0
    last = loops.shape[1] - 1
    is_changed = np.zeros(open_.size // 2, np.bool_)
    for leg in changed:
        is_changed[leg] = True
    for leg in changed:
        for i in range(leg_offsets[leg], leg_offsets[leg + 1]):
            row = loops[leg_loops[i]]
            k = 0
            while not is_changed[row[k] >> 1]:
                k += 1
            if row[k] >> 1 != leg:
                continue  # counted with that leg
            before = after = True
            for k in range(last):
                before &= was_open[row[k] ^ 1] and was_open[row[k + 1]]
                after &= open_[row[k] ^ 1] and open_[row[k + 1]]
            dead += before - after
    return dead


@kernel("Tuple((int64[::1], int32[::1]))(int32[:, ::1], int64)")
def _loops_by_leg(loops: LoopArray, n_legs: int) -> tuple[OffsetArray, IndexArray]:
    """CSR lists of the loops through each leg."""
    offsets = np.zeros(n_legs + 2, np.int64)
    for i in range(loops.shape[0]):
        for k in range(loops.shape[1]):
            offsets[(loops[i, k] >> 1) + 2] += 1
    for leg in range(n_legs):
        offsets[leg + 2] += offsets[leg + 1]
    members = np.empty(loops.size, np.int32)
    for i in range(loops.shape[0]):
        for k in range(loops.shape[1]):
            leg = (loops[i, k] >> 1) + 1
            members[offsets[leg]] = i
            offsets[leg] += 1
    return offsets[: n_legs + 1].copy(), members


@kernel("Tuple((int64[::1], int32[::1]))(int64[::1], int32[::1], int64[::1], int32[::1], int64)")
def _merge_lists(
    offsets: OffsetArray, loops: IndexArray, more_offsets: OffsetArray, more_loops: IndexArray, shift: int
) -> tuple[OffsetArray, IndexArray]:
    """Each leg's list, then its list among the loops that come after the first `shift`."""
    members = np.empty(loops.size + more_loops.size, np.int32)
    n = 0
    for leg in range(offsets.size - 1):
        for i in range(offsets[leg], offsets[leg + 1]):
            members[n] = loops[i]
            n += 1
        for i in range(more_offsets[leg], more_offsets[leg + 1]):
            members[n] = more_loops[i] + shift
            n += 1
    return offsets + more_offsets, members
