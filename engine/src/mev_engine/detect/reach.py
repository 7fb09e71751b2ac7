"""Which touched legs can be part of a gain at all: bounds that spare the screen most of its cycles.

A pool in the middle of the market is in hundreds of thousands of cycles, and after most blocks none of
them gains. For each base token the best log rate of any walk of exactly n hops, out to a token and back
from it, is worked out over the edges that cycles use: as many steps as edges, however many cycles there
are. A cycle of at most `hops` hops through edge e from u to v can't rate more than the best walk out to u,
e, and the best walk back from v together. Only legs for which that is above 0 are screened, cycle by cycle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mev_engine.jit import kernel
from mev_engine.market.cycles import CycleIndex
from mev_engine.types import FlagArray, FloatArray, IndexArray

_ROUNDING = 1e-12
"""Sums taken in another order differ by less."""


@dataclass(frozen=True, slots=True)
class Reach:
    """The edges that cycles of an index use. Tokens are renumbered: only those on cycles have a number.

    edges: int32 (n,). tail, head: int32 (n,), the tokens' new numbers. leg_tail, leg_head: int32, those of
    edge 2k of every leg, -1 where it is on no cycle. bases: int32. hops: of the longest cycle.
    """

    edges: IndexArray
    tail: IndexArray
    head: IndexArray
    leg_tail: IndexArray
    leg_head: IndexArray
    bases: IndexArray
    n_tokens: int
    hops: int

    @classmethod
    def of(cls, index: CycleIndex, edge_token: IndexArray, bases: Sequence[int]) -> Reach:
        n_legs = len(edge_token) // 2
        used = np.zeros(n_legs, np.bool_)
        for table in index.tables:
            used |= np.diff(table.leg_offsets) > 0
        legs = np.flatnonzero(used)
        edges = np.sort(np.concatenate([2 * legs, 2 * legs + 1])).astype(np.int32)
        tokens, tail = np.unique(edge_token[edges], return_inverse=True)
        number = np.full(max(int(edge_token.max(initial=-1)), *bases, 0) + 1, -1, np.int32)
        number[tokens] = np.arange(len(tokens))
        ends = np.where(used.repeat(2), number[edge_token], -1).astype(np.int32)
        starts = [number[base] for base in bases if number[base] >= 0]
        return cls(
            edges,
            tail.astype(np.int32),
            number[edge_token[edges ^ 1]],
            np.ascontiguousarray(ends[0::2]),
            np.ascontiguousarray(ends[1::2]),
            np.array(starts, np.int32),
            len(tokens),
            max((table.hops for table in index.tables), default=2),
        )

    def promising(self, legs: IndexArray, log_rate: FloatArray) -> IndexArray:
        """Those of `legs` that may be on a cycle whose log rates sum to more than 0."""
        if not len(self.edges) or not len(legs):
            return legs[:0]
        shape = len(self.bases), self.hops, self.n_tokens
        out, back = np.full(shape, -np.inf), np.full(shape, -np.inf)
        best_walks(self.edges, self.tail, self.head, log_rate, self.bases, out, back)
        flags = np.zeros(len(legs), np.bool_)
        bounds(legs, self.leg_tail, self.leg_head, log_rate, out, back, flags)
        return legs[flags]


@kernel(
    "void(int32[::1], int32[::1], int32[::1], float64[::1], int32[::1], float64[:,:,::1], float64[:,:,::1])"
)
def best_walks(
    edges: IndexArray,
    tail: IndexArray,
    head: IndexArray,
    log_rate: FloatArray,
    bases: IndexArray,
    out: FloatArray,
    back: FloatArray,
) -> None:
    """Best log rate of a walk of n hops from base b to token t, `out[b, n, t]`, and back, `back[b, n, t]`."""
    for b in range(bases.size):
        out[b, 0, bases[b]] = back[b, 0, bases[b]] = 0.0
        for n in range(1, out.shape[1]):
            for k in range(edges.size):
                rate = log_rate[edges[k]]
                out[b, n, head[k]] = max(out[b, n, head[k]], out[b, n - 1, tail[k]] + rate)
                back[b, n, tail[k]] = max(back[b, n, tail[k]], back[b, n - 1, head[k]] + rate)


@kernel(
    "void(int32[::1], int32[::1], int32[::1], float64[::1], float64[:,:,::1], float64[:,:,::1], boolean[::1])"
)
def bounds(
    legs: IndexArray,
    leg_tail: IndexArray,
    leg_head: IndexArray,
    log_rate: FloatArray,
    out: FloatArray,
    back: FloatArray,
    flags: FlagArray,
) -> None:
    """Whether a walk through either edge of a leg can rate above 0."""
    for i in range(legs.size):
        u, v = leg_tail[legs[i]], leg_head[legs[i]]
        if u < 0:
            continue
        forward, backward = log_rate[2 * legs[i]], log_rate[2 * legs[i] + 1]
        for b in range(out.shape[0]):
            for n in range(out.shape[1]):
                for m in range(out.shape[1] - n):
                    there = out[b, n, u] + forward + back[b, m, v]
                    other = out[b, n, v] + backward + back[b, m, u]
                    if there > -_ROUNDING or other > -_ROUNDING:
                        flags[i] = True
