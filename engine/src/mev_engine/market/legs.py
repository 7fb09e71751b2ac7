"""The graph that cycles are walked on: tokens joined by legs.

A *leg* is an unordered pair of tokens of one pool: a pair has one, a pool of n coins n(n-1)/2. Leg k
has the edges 2k, which pays its first token in, and 2k + 1, which pays its second. Leg numbers never
change; a leg that is gone is merely not live.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mev_engine.jit import kernel
from mev_engine.types import FlagArray, FloatArray, IndexArray, OffsetArray


@dataclass(frozen=True, slots=True)
class LegGraph:
    """`edge_token`: int32 (2 n_legs,), token that each edge pays in. `leg_pool`: int32 (n_legs,).
    `depth`: float64 (n_legs,), native wei, or None. `live`: bool (n_legs,).

    The edges of live legs out of token t are `adjacent[offsets[t] : offsets[t + 1]]`, sorted by the
    token that they lead to, then by number."""

    edge_token: IndexArray
    leg_pool: IndexArray
    depth: FloatArray | None
    live: FlagArray
    n_tokens: int
    adjacent: IndexArray
    offsets: OffsetArray

    @classmethod
    def build(
        cls,
        edge_token: IndexArray,
        n_tokens: int,
        leg_pool: IndexArray | None = None,
        depth: FloatArray | None = None,
        live: FlagArray | None = None,
    ) -> LegGraph:
        """ValueError, naming field and mend, on arrays that don't belong together. Left out: every
        leg is a pool of its own, depths are unknown, every leg is live."""
        n_legs = len(edge_token) // 2
        leg_pool = np.arange(n_legs, dtype=np.int32) if leg_pool is None else leg_pool
        live = np.ones(n_legs, dtype=np.bool_) if live is None else live
        if len(edge_token) % 2:
            raise ValueError(f"edge_token has {len(edge_token)} entries: give two for each leg")
        for name, array in (("leg_pool", leg_pool), ("depth", depth), ("live", live)):
            if array is not None and len(array) != n_legs:
                raise ValueError(f"{name} has {len(array)} entries for {n_legs} legs: give one for each leg")
        if n_legs and not 0 <= edge_token.min() <= edge_token.max() < n_tokens:
            raise ValueError(
                f"edge_token holds tokens from {edge_token.min()} to {edge_token.max()}, "
                f"outside 0 to {n_tokens - 1}: give n_tokens as the number of all tokens"
            )
        loose = np.flatnonzero(edge_token[0::2] == edge_token[1::2])
        if len(loose):
            raise ValueError(
                f"leg {loose[0]} has token {edge_token[2 * loose[0]]} at both ends: leave it out"
            )
        if depth is not None and np.isnan(depth).any():
            raise ValueError(f"depth of leg {np.isnan(depth).argmax()} is not a number: give 0 if unknown")
        return cls(edge_token, leg_pool, depth, live, n_tokens, *_sort_edges(edge_token, live, n_tokens))

    @property
    def n_legs(self) -> int:
        return len(self.live)

    @property
    def n_bytes(self) -> int:
        arrays = (self.edge_token, self.leg_pool, self.live, self.adjacent, self.offsets)
        return sum(a.nbytes for a in arrays) + (0 if self.depth is None else self.depth.nbytes)

    def with_legs(
        self, edge_token: IndexArray, n_tokens: int, leg_pool: IndexArray | None, depth: FloatArray | None
    ) -> LegGraph:
        """A graph with legs appended, all live; `n_tokens` is the new number of tokens."""
        n_new = len(edge_token) // 2
        if n_tokens < self.n_tokens:
            raise ValueError(f"n_tokens is {n_tokens}, and the index knows {self.n_tokens}: tokens never go")
        if (depth is None) != (self.depth is None):
            raise ValueError("depth must be given for all legs or for none: give it at the build as well")
        if leg_pool is None:  # pools of their own, whatever the numbers so far
            first = int(self.leg_pool.max(initial=-1)) + 1
            leg_pool = np.arange(first, first + n_new, dtype=np.int32)
        return LegGraph.build(
            np.concatenate([self.edge_token, edge_token]),
            n_tokens,
            np.concatenate([self.leg_pool, leg_pool]),
            None if self.depth is None or depth is None else np.concatenate([self.depth, depth]),
            np.concatenate([self.live, np.ones(n_new, dtype=np.bool_)]),
        )

    def with_live(self, legs: IndexArray, live: bool) -> LegGraph:
        """A graph in which `legs` are live or not."""
        outside = legs[(legs < 0) | (legs >= self.n_legs)]
        if len(outside):
            raise ValueError(f"leg {outside[0]} is not one of the {self.n_legs} that the index knows")
        flags = self.live.copy()
        flags[legs] = live
        adjacent, offsets = _sort_edges(self.edge_token, flags, self.n_tokens)
        return replace(self, live=flags, adjacent=adjacent, offsets=offsets)


@kernel("Tuple((int32[::1], int64[::1]))(int32[::1], boolean[::1], int64)")
def _sort_edges(edge_token: IndexArray, live: FlagArray, n_tokens: int) -> tuple[IndexArray, OffsetArray]:
    """Edges of live legs by tail, then head, then number: two counting sorts, the first by head."""
    counts = np.zeros(n_tokens + 1, np.int64)  # a token has as many edges in as out
    for leg in range(live.size):
        if live[leg]:
            counts[edge_token[2 * leg] + 1] += 1
            counts[edge_token[2 * leg + 1] + 1] += 1
    for t in range(n_tokens):
        counts[t + 1] += counts[t]
    offsets = counts.copy()
    by_head = np.empty(counts[n_tokens], np.int32)
    for edge in range(edge_token.size):
        if live[edge >> 1]:
            head = edge_token[edge ^ 1]
            by_head[counts[head]] = edge
            counts[head] += 1
    counts[:] = offsets
    adjacent = np.empty(by_head.size, np.int32)
    for i in range(by_head.size):
        tail = edge_token[by_head[i]]
        adjacent[counts[tail]] = by_head[i]
        counts[tail] += 1
    return adjacent, offsets
