"""The market: tokens, pools, their states as arrays, the index of cycles, kept at one block by `apply`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from mev_engine.amm import registry
from mev_engine.market import cycles
from mev_engine.market.book import Book
from mev_engine.market.delta import BlockDelta, PoolLog, PoolSpec, ReserveUpdate, StateUpdate, TokenSpec
from mev_engine.market.depth import leg_depths
from mev_engine.market.pruning import FIVE_HOPS, Pruning
from mev_engine.types import FloatArray, IndexArray


class Market:
    """Built by `Market.build`, changed only by `apply`. Pool, leg and token numbers never change."""

    def __init__(self, base_tokens: tuple[str, ...], wrapped_native: str, max_hops: int) -> None:
        self.base_tokens = base_tokens
        self.wrapped_native = wrapped_native
        self.max_hops = max_hops
        self.tokens: list[TokenSpec] = []
        self.pools: list[PoolSpec] = []  # states in here are those of the pool's first appearance
        self.token_index: dict[str, int] = {}
        self.pool_index: dict[str, int] = {}
        self.excluded: dict[str, str] = {}  # pools left out, with the reason
        self.book = Book()
        self.edge_token: IndexArray = np.empty(0, dtype=np.int32)  # token that the edge pays in
        self.cycles = cycles.EMPTY

    @classmethod
    def build(
        cls,
        tokens: Iterable[TokenSpec],
        pools: Iterable[PoolSpec],
        *,
        base_tokens: Sequence[str],
        wrapped_native: str,
        max_hops: int = 4,
        pruning: Mapping[int, Pruning] = FIVE_HOPS,
    ) -> Market:
        """A market from scratch. `base_tokens`: where cycles start and end, best first. `pruning`: which
        legs loops of so many hops leave out; those of up to 4 are complete unless it says otherwise.

        Every base token needs a pool with `wrapped_native`, through which profits are compared
        with gas. ValueError, naming what and how to mend it, on anything inconsistent.
        """
        market = cls(tuple(base_tokens), wrapped_native, max_hops)
        new_tokens, new_pools = list(tokens), list(pools)
        market._check_additions(new_tokens, new_pools)
        market._add(new_tokens, market._fit(new_tokens, new_pools))
        market._check_base_tokens()
        market.cycles = cycles.build(
            market.edge_token,
            market.n_tokens,
            [market.token_index[token] for token in market.base_tokens],
            max_hops,
            leg_pool=market.book.leg_pool,
            depth=market.depth(),
            pruning=pruning,
        )
        return market

    @property
    def n_tokens(self) -> int:
        return len(self.tokens)

    @property
    def n_pools(self) -> int:
        return len(self.pools)

    @property
    def n_cycles(self) -> int:
        """Directed cycles in the index."""
        return self.cycles.n_cycles

    def depth(self) -> FloatArray:
        """Native wei of each leg (float64), see `market.depth`."""
        native = self.token_index[self.wrapped_native]
        return leg_depths(self.edge_token, self.book.slope, self.book.curve, self.n_tokens, native)

    def state(self, address: str) -> Any:
        """The present state of a pool; KeyError if it is unknown."""
        return self.book.states[self.pool_index[address]]

    def reserves(self, address: str) -> tuple[int, int]:
        """Exact reserves (raw units of token0, token1) of a V2 pair; KeyError if it is unknown."""
        pair = self.state(address)
        return pair.reserve0, pair.reserve1

    def apply(self, delta: BlockDelta) -> IndexArray:
        """Take over what a block changed; returns the touched pools (sorted int32 numbers).

        An update or a log of a pool that the market does not follow is ignored. A new pool that is
        already known counts as an update. ValueError, with nothing changed, if any entry is malformed;
        UnknownStateError, likewise, where a log does not follow from the state before it.
        """
        new_pools = [spec for spec in delta.new_pools if spec.address not in self.pool_index]
        new_tokens = [spec for spec in delta.new_tokens if spec.address not in self.token_index]
        self._check_additions(new_tokens, new_pools)
        new_pools = self._fit(new_tokens, new_pools)
        states = self._after(delta)

        first_new = self.n_pools
        if new_pools or new_tokens:
            self._add(new_tokens, new_pools)
        for pool, state in states.items():
            self.book.set(pool, state)
        result = np.array(sorted({*states, *range(first_new, self.n_pools)}), dtype=np.int32)
        self.book.refresh(result)
        if new_pools:
            first_leg = int(self.book.first_leg[first_new])
            self.cycles = self.cycles.add(
                self.edge_token[2 * first_leg :],
                self.n_tokens,
                leg_pool=self.book.leg_pool[first_leg:],
                depth=self.depth()[first_leg:],
            )
        return result

    @contextmanager
    def supposing(self, delta: BlockDelta) -> Iterator[IndexArray]:
        """The market after a delta that may never come, such as a pending transaction's; gives the touched
        pools (sorted int32 numbers). At its end the market is as before, to the bit, whatever was raised.

        Errors as of `apply`, and ValueError where the delta has new pools or tokens: the index of cycles
        could not forget them.
        """
        if delta.new_pools or delta.new_tokens:
            raise ValueError(
                f"new_pools has {len(delta.new_pools)} and new_tokens {len(delta.new_tokens)} entries: "
                "suppose changes of known pools only"
            )
        states = self._after(delta)
        touched = np.array(sorted(states), dtype=np.int32)
        with self.book.restoring(touched):
            for pool, state in states.items():
                self.book.set(pool, state)
            self.book.refresh(touched)
            yield touched

    def _after(self, delta: BlockDelta) -> dict[int, Any]:
        """The states after a block of the known pools that it touches, by pool number."""
        twice = [pool for pool, count in Counter(u.pool for u in delta.updates).items() if count > 1]
        if twice:
            raise ValueError(f"block {delta.block.number} updates pool {twice[0]} twice: give its last state")
        known = [StateUpdate(p.address, p.state) for p in delta.new_pools if p.address in self.pool_index]
        states: dict[int, Any] = {}
        for change in (*known, *delta.updates, *delta.logs):
            pool = self.pool_index.get(change.pool)
            if pool is None:
                continue
            before = states.get(pool, self.book.states[pool])
            try:
                states[pool] = _changed(before, change)
            except ValueError as error:
                raise ValueError(f"pool {change.pool}: {error}") from error
        return states

    def _check_additions(self, tokens: list[TokenSpec], pools: list[PoolSpec]) -> None:
        if not tokens and not pools:
            return  # nearly every block: nothing here may grow with the market
        known_tokens = set(self.token_index)
        for token in tokens:
            if token.address in known_tokens:
                raise ValueError(f"token {token.address} ({token.symbol}) is listed twice: list it once")
            known_tokens.add(token.address)
        known_pools = set(self.pool_index)
        for pool in pools:
            if pool.address in known_pools:
                raise ValueError(f"pool {pool.address} is listed twice: list it once, with its last state")
            known_pools.add(pool.address)
            coins = registry.family_of(pool.state).coins(pool.state)
            if len(pool.tokens) != coins:
                raise ValueError(
                    f"pool {pool.address} names {len(pool.tokens)} tokens, its state has {coins}"
                )
            for number, address in enumerate(pool.tokens):
                if address in pool.tokens[:number]:
                    raise ValueError(f"pool {pool.address} has {address} on both sides: leave it out")
                if address not in known_tokens:
                    raise ValueError(
                        f"pool {pool.address}: token{number} {address} is not among the tokens: add it"
                    )

    def _fit(self, tokens: list[TokenSpec], pools: list[PoolSpec]) -> list[PoolSpec]:
        """Those whose tokens do what the pools' maths assumes; the others go to `excluded`."""
        flagged = {
            t.address: f"{t.symbol} ({t.address}) is {t.flag}" for t in (*self.tokens, *tokens) if t.flag
        }
        if not flagged:
            return pools
        reasons = {pool.address: [flagged[t] for t in pool.tokens if t in flagged] for pool in pools}
        self.excluded |= {address: "; ".join(found) for address, found in reasons.items() if found}
        return [pool for pool in pools if not reasons[pool.address]]

    def _check_base_tokens(self) -> None:
        if not self.base_tokens:
            raise ValueError("base_tokens is empty: name at least one token where cycles start and end")
        if len(set(self.base_tokens)) < len(self.base_tokens):
            raise ValueError(f"base_tokens names a token twice: {', '.join(self.base_tokens)}")
        for address in (self.wrapped_native, *self.base_tokens):
            if address not in self.token_index:
                name = "wrapped_native" if address == self.wrapped_native else "base token"
                raise ValueError(f"{name} {address} is not among the market's {self.n_tokens} tokens")
        for base in self.base_tokens:
            if base != self.wrapped_native and not self.native_edges(base):
                symbol = self.tokens[self.token_index[base]].symbol
                raise ValueError(
                    f"base token {base} ({symbol}) has no pool with the wrapped native coin "
                    f"{self.wrapped_native}, so its profits can't be compared with gas: "
                    "add such a pool or leave this base token out"
                )

    def native_edges(self, token: str) -> list[int]:
        """Edges that pay `token` in and the wrapped native coin out."""
        if token not in self.token_index:
            return []
        wanted, native = self.token_index[token], self.token_index[self.wrapped_native]
        edges = np.flatnonzero(self.edge_token == wanted)
        return [int(edge) for edge in edges if self.edge_token[edge ^ 1] == native]

    def _add(self, tokens: list[TokenSpec], pools: list[PoolSpec]) -> None:
        """Append to every table; the arguments have been checked."""
        first_leg = self.book.n_legs
        for token in tokens:
            self.token_index[token.address] = len(self.tokens)
            self.tokens.append(token)
        for pool in pools:
            self.pool_index[pool.address] = len(self.pools)
            self.pools.append(pool)
        self.book.add([pool.state for pool in pools])
        book = self.book
        ends = [
            self.token_index[self.pools[book.leg_pool[k]].tokens[side]]
            for k in range(first_leg, book.n_legs)
            for side in (book.leg_i[k], book.leg_j[k])
        ]
        self.edge_token = np.concatenate([self.edge_token, np.array(ends, dtype=np.int32)])


def _changed(state: Any, change: ReserveUpdate | StateUpdate | PoolLog) -> Any:
    """A pool's state after one change."""
    if isinstance(change, ReserveUpdate):
        return replace(state, reserve0=change.reserve0, reserve1=change.reserve1)
    if isinstance(change, StateUpdate):
        if type(change.state) is not type(state):
            raise ValueError(f"is a {type(state).__name__}, the update a {type(change.state).__name__}")
        return change.state
    apply = registry.family_of(state).events.get(change.topics[0])
    return state if apply is None else apply(state, (change.topics, change.data))
