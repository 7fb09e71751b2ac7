"""The pools' states as arrays: what kernels read, whatever the family.

Every pool has a record in two heaps, laid out by its family: `params` (float64) from `params_at[p]` on, and
`words` (uint64, wide integers in limbs) from `words_at[p]`; -1 where the family decides in Python
integers only. A record that outgrows its place moves to the end of the heap.

A *leg* is an unordered pair of a pool's tokens, so a pool of n coins has n(n-1)/2. Leg k pays token
`leg_i[k]` of its pool in along edge 2k and out along edge 2k + 1. `slope[e]` and `curve[e]` are the
marginal answer of an edge (`family.respond` at 0), and `log_rate[e] = ln(slope[e])`, -inf where the pool
can't trade: no cycle through it passes the screen.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mev_engine.amm import registry
from mev_engine.jit import kernel
from mev_engine.types import FloatArray, IndexArray, OffsetArray, WordArray

_NOT_YET = object()


class Book:
    """States of all pools. Numbers of pools and legs never change."""

    def __init__(self) -> None:
        self.states: list[Any] = []
        self.code: IndexArray = np.empty(0, np.int32)
        self.params_at: OffsetArray = np.empty(0, np.int64)
        self.words_at: OffsetArray = np.empty(0, np.int64)
        self.params: FloatArray = np.empty(0)
        self.words: WordArray = np.empty(0, np.uint64)
        self.first_leg: OffsetArray = np.zeros(1, np.int64)
        self.leg_pool: IndexArray = np.empty(0, np.int32)
        self.leg_i: IndexArray = np.empty(0, np.int32)
        self.leg_j: IndexArray = np.empty(0, np.int32)
        self.log_rate: FloatArray = np.empty(0)
        self.slope: FloatArray = np.empty(0)
        self.curve: FloatArray = np.empty(0)
        self._used = [0, 0]  # of params, of words
        self._room: list[tuple[int, int]] = []  # a pool's places in both heaps
        self._laid_out: list[Any] = []  # the ticks that a record was laid out from; None where there are none

    @property
    def n_pools(self) -> int:
        return len(self.states)

    @property
    def n_legs(self) -> int:
        return len(self.leg_pool)

    @property
    def n_bytes(self) -> int:
        """Memory of the arrays."""
        arrays = (getattr(self, name) for name in vars(self))
        return sum(array.nbytes for array in arrays if isinstance(array, np.ndarray))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything but the states, for `archive.save`; the heaps without their spare room."""
        heaps = {"params": self.params[: self._used[0]], "words": self.words[: self._used[1]]}
        room = np.array(self._room, np.int64).reshape(-1, 2)
        return {name: getattr(self, name) for name in _ARRAYS} | heaps | {"room": room}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], states: list[Any]) -> Book:
        """The book that `to_arrays` was called on, whose states are given. KeyError on a name that is
        missing, ValueError on lengths that don't belong together."""
        book = cls()
        for name in (*_ARRAYS, "params", "words"):
            setattr(book, name, arrays[name])
        pools, legs = len(states), len(book.leg_pool)
        lengths = {"code": pools, "params_at": pools, "words_at": pools, "first_leg": pools + 1}
        lengths |= {"leg_i": legs, "leg_j": legs, "slope": 2 * legs, "curve": 2 * legs, "log_rate": 2 * legs}
        for name, length in lengths.items():
            if len(arrays[name]) != length:
                raise ValueError(f"{name} has {len(arrays[name])} entries, {pools} pools need {length}")
        book.states = states
        book._used = [len(book.params), len(book.words)]
        book._room = [(params, words) for params, words in arrays["room"].tolist()]
        book._laid_out = [getattr(state, "ticks", None) for state in states]
        if len(book._room) != pools:
            raise ValueError(f"room has {len(book._room)} entries, {pools} pools need {pools}")
        return book

    def add(self, states: list[Any]) -> None:
        """Append pools with their legs."""
        first, first_leg = self.n_pools, self.n_legs
        families = [registry.family_of(state) for state in states]
        coins = [family.coins(state) for family, state in zip(families, states, strict=True)]
        legs = [list(itertools.combinations(range(n), 2)) for n in coins]
        counts = np.array([len(pairs) for pairs in legs], np.int64)
        ends = np.array([pair for pairs in legs for pair in pairs], np.int32).reshape(-1, 2)
        self.code = np.concatenate([self.code, np.array([f.code for f in families], np.int32)])
        self.first_leg = np.concatenate([self.first_leg, first_leg + np.cumsum(counts)])
        pools = np.repeat(np.arange(first, first + len(states), dtype=np.int32), counts)
        self.leg_pool = np.concatenate([self.leg_pool, pools])
        self.leg_i = np.concatenate([self.leg_i, ends[:, 0]])
        self.leg_j = np.concatenate([self.leg_j, ends[:, 1]])
        for name in ("log_rate", "slope", "curve"):
            setattr(self, name, np.concatenate([getattr(self, name), np.empty(2 * len(ends))]))
        self.params_at = np.concatenate([self.params_at, np.full(len(states), -1)])
        self.words_at = np.concatenate([self.words_at, np.full(len(states), -1)])
        self._room += [(0, 0)] * len(states)
        self._laid_out += [_NOT_YET] * len(states)
        self.states += states
        for pool, state in enumerate(states, first):
            self._write(pool, state)
        self.refresh(np.arange(first, self.n_pools, dtype=np.int32))

    def set(self, pool: int, state: Any) -> None:
        """Give a pool another state of its family; `refresh` it afterwards."""
        self.states[pool] = state
        self._write(pool, state)

    def legs_of(self, pools: IndexArray) -> IndexArray:
        """All legs of some pools (int32, in order)."""
        ranges = [np.arange(self.first_leg[p], self.first_leg[p + 1], dtype=np.int32) for p in pools]
        return np.concatenate(ranges) if ranges else np.empty(0, np.int32)

    def refresh(self, pools: IndexArray) -> None:
        """Bring the edges' marginal answers up to date."""
        refresh(
            pools, self.first_leg, self.leg_i, self.leg_j, self.code, self.params_at, self.params,
            self.slope, self.curve, self.log_rate,
        )  # fmt: skip

    @contextmanager
    def restoring(self, pools: IndexArray) -> Iterator[None]:
        """Within it these pools may be `set` and refreshed; after it all is as before, to the bit, whatever
        was raised."""
        legs = self.legs_of(pools)
        edges = np.concatenate([2 * legs, 2 * legs + 1])
        kept = [(self.states[p], self._room[p], self._laid_out[p]) for p in pools]
        answers = {name: getattr(self, name)[edges] for name in ("slope", "curve", "log_rate")}
        heaps, used = (self.params, self.words), self._used.copy()
        places = self.params_at[pools], self.words_at[pools]
        records = [
            [heap[at : at + room[n]].copy() for at, (_, room, _) in zip(places[n], kept, strict=True)]
            for n, heap in enumerate(heaps)
        ]
        try:
            yield
        finally:
            for p, (state, room, ticks) in zip(pools, kept, strict=True):
                self.states[p], self._room[p], self._laid_out[p] = state, room, ticks
            for name, values in answers.items():
                getattr(self, name)[edges] = values
            self.params, self.words = heaps
            self.params_at[pools], self.words_at[pools] = places
            for n, heap in enumerate(heaps):
                for at, record in zip(places[n], records[n], strict=True):
                    heap[at : at + len(record)] = record
                heap[used[n] : self._used[n]] = 0  # records that had moved to the end
            self._used = used

    def _write(self, pool: int, state: Any) -> None:
        family = registry.family_of(state)
        ticks = getattr(state, "ticks", None)
        if family.head is not None and ticks is self._laid_out[pool]:
            params, words = family.head(state)
            at, start = self.params_at[pool], self.words_at[pool]
            self.params[at : at + len(params)] = params
            self.words[start : start + len(words)] = words
            return
        self._laid_out[pool] = ticks
        room = list(self._room[pool])
        room[0] = self._place(0, pool, family.params(state), room[0])
        if family.words is not None:
            room[1] = self._place(1, pool, family.words(state), room[1])
        self._room[pool] = room[0], room[1]

    def _place(self, heap: int, pool: int, record: Any, room: int) -> int:
        """Write a record where the pool's old one was, or where it does not fit there at the heap's end."""
        name, offsets = (("params", self.params_at), ("words", self.words_at))[heap]
        memory = getattr(self, name)
        if len(record) > room:
            offsets[pool] = self._used[heap]
            # a record that has outgrown its place will do so again: give it air
            room = len(record) if room == 0 else len(record) * 3 // 2
            self._used[heap] += room
            if self._used[heap] > len(memory):
                grown = np.zeros(max(2 * len(memory), self._used[heap], 1024), memory.dtype)
                grown[: len(memory)] = memory
                setattr(self, name, grown)
                memory = grown
        memory[offsets[pool] : offsets[pool] + len(record)] = record
        return room


_ARRAYS = (
    "code", "params_at", "words_at", "first_leg", "leg_pool", "leg_i", "leg_j", "log_rate", "slope", "curve",
)  # fmt: skip


@kernel(
    "void(int32[::1], int64[::1], int32[::1], int32[::1], int32[::1], int64[::1], float64[::1], "
    "float64[::1], float64[::1], float64[::1])"
)
def refresh(
    pools: IndexArray,
    first_leg: OffsetArray,
    leg_i: IndexArray,
    leg_j: IndexArray,
    code: IndexArray,
    params_at: OffsetArray,
    params: FloatArray,
    slope: FloatArray,
    curve: FloatArray,
    log_rate: FloatArray,
) -> None:
    """Set the marginal answers of all edges of `pools`."""
    for p in pools:
        for k in range(first_leg[p], first_leg[p + 1]):
            for back in range(2):
                i, j = (leg_j[k], leg_i[k]) if back else (leg_i[k], leg_j[k])
                _y, rate, bend = registry.respond(code[p], params, params_at[p], i, j, 0.0)
                e = 2 * k + back
                slope[e], curve[e] = rate, bend
                log_rate[e] = math.log(rate) if rate > 0.0 and math.isfinite(rate) else -np.inf
