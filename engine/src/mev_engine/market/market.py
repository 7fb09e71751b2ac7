"""The market: tokens and pools as struct-of-arrays, kept at one block by `apply`.

State of pool p, in arrays that the kernels read: `reserve[2p]`, `reserve[2p + 1]` (float64, raw
token units), `gamma[p]` (float64, the share of the input that counts) and `log_rate[2p]`,
`log_rate[2p + 1]`. The exact reserves are Python integers in the list `exact`, in the same order:
only the few cycles that survive sizing read them, and Python's integers are exact at any width.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from mev_engine.amm.uniswap_v2 import MAX_RESERVE, refresh_rates
from mev_engine.market import cycles
from mev_engine.market.delta import BlockDelta, PoolSpec, TokenSpec
from mev_engine.types import FloatArray, IndexArray


class Market:
    """Built by `Market.build`, changed only by `apply`. Pool and token numbers never change."""

    def __init__(self, base_tokens: tuple[str, ...], wrapped_native: str, max_hops: int) -> None:
        self.base_tokens = base_tokens
        self.wrapped_native = wrapped_native
        self.max_hops = max_hops
        self.tokens: list[TokenSpec] = []
        self.pools: list[PoolSpec] = []  # reserves in here are those of the pool's first appearance
        self.token_index: dict[str, int] = {}
        self.pool_index: dict[str, int] = {}
        self.exact: list[int] = []  # reserves, two a pool
        self.edge_token: IndexArray = np.empty(0, dtype=np.int32)  # token that the edge pays in
        self.reserve: FloatArray = np.empty(0)
        self.gamma: FloatArray = np.empty(0)
        self.log_rate: FloatArray = np.empty(0)
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
    ) -> Market:
        """A market from scratch. `base_tokens`: where cycles start and end, best first.

        Every base token needs a pool with `wrapped_native`, through which profits are compared
        with gas. ValueError, naming what and how to mend it, on anything inconsistent.
        """
        if not 2 <= max_hops <= 4:
            raise ValueError(f"max_hops is {max_hops!r}: must be 2, 3 or 4")
        market = cls(tuple(base_tokens), wrapped_native, max_hops)
        new_tokens, new_pools = list(tokens), list(pools)
        market._check_additions(new_tokens, new_pools)
        market._add(new_tokens, new_pools)
        market._check_base_tokens()
        market._index()
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

    def reserves(self, address: str) -> tuple[int, int]:
        """Exact reserves (raw units of token0, token1) of a pool; KeyError if it is unknown."""
        pool = self.pool_index[address]
        return self.exact[2 * pool], self.exact[2 * pool + 1]

    def apply(self, delta: BlockDelta) -> IndexArray:
        """Take over what a block changed; returns the touched pools (sorted int32 numbers).

        An update of a pool that the market does not follow is ignored. A new pool that is already
        known counts as an update. ValueError, with nothing changed, if any entry is malformed.
        """
        new_pools = [spec for spec in delta.new_pools if spec.address not in self.pool_index]
        new_tokens = [spec for spec in delta.new_tokens if spec.address not in self.token_index]
        self._check_additions(new_tokens, new_pools)
        known = {p.address: (p.reserve0, p.reserve1) for p in delta.new_pools if p.address in self.pool_index}
        updates = {u.pool: (u.reserve0, u.reserve1) for u in delta.updates}
        if len(updates) < len(delta.updates):
            twice = Counter(u.pool for u in delta.updates).most_common(1)[0][0]
            raise ValueError(f"block {delta.block.number} updates pool {twice} twice: give its last state")
        updates = known | updates
        for address, (reserve0, reserve1) in updates.items():
            _check_reserve(address, "reserve0", reserve0)
            _check_reserve(address, "reserve1", reserve1)

        first_new = self.n_pools
        if new_pools or new_tokens:
            self._add(new_tokens, new_pools)
        touched = set(range(first_new, self.n_pools))
        for address, (reserve0, reserve1) in updates.items():
            pool = self.pool_index.get(address)
            if pool is None:
                continue
            self.exact[2 * pool], self.exact[2 * pool + 1] = reserve0, reserve1
            self.reserve[2 * pool], self.reserve[2 * pool + 1] = reserve0, reserve1
            touched.add(pool)
        result = np.array(sorted(touched), dtype=np.int32)
        refresh_rates(result, self.reserve, self.gamma, self.log_rate)
        if new_pools:
            self.cycles = self.cycles.add(self.edge_token[2 * first_new :], self.n_tokens)
        return result

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
            if pool.token0 == pool.token1:
                raise ValueError(f"pool {pool.address} has {pool.token0} on both sides: leave it out")
            for side, address in (("token0", pool.token0), ("token1", pool.token1)):
                if address not in known_tokens:
                    raise ValueError(f"pool {pool.address}: {side} {address} is not among the tokens: add it")
            _check_reserve(pool.address, "reserve0", pool.reserve0)
            _check_reserve(pool.address, "reserve1", pool.reserve1)
            if not 0 < pool.fee_num <= pool.fee_den:
                raise ValueError(
                    f"pool {pool.address}: fee {pool.fee_num}/{pool.fee_den} is not a share in (0, 1]"
                )

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
            if base != self.wrapped_native and not self.native_pools(base):
                symbol = self.tokens[self.token_index[base]].symbol
                raise ValueError(
                    f"base token {base} ({symbol}) has no pool with the wrapped native coin "
                    f"{self.wrapped_native}, so its profits can't be compared with gas: "
                    "add such a pool or leave this base token out"
                )

    def native_pools(self, token: str) -> list[int]:
        """Pools between `token` and the wrapped native coin."""
        wanted = {token, self.wrapped_native}
        return [i for i, pool in enumerate(self.pools) if {pool.token0, pool.token1} == wanted]

    def _add(self, tokens: list[TokenSpec], pools: list[PoolSpec]) -> None:
        """Append to every table; the arguments have been checked."""
        first = self.n_pools
        for token in tokens:
            self.token_index[token.address] = len(self.tokens)
            self.tokens.append(token)
        for pool in pools:
            self.pool_index[pool.address] = len(self.pools)
            self.pools.append(pool)
            self.exact += [pool.reserve0, pool.reserve1]
        ends = [self.token_index[token] for pool in pools for token in (pool.token0, pool.token1)]
        self.edge_token = np.concatenate([self.edge_token, np.array(ends, dtype=np.int32)])
        gamma = np.array([pool.fee_num / pool.fee_den for pool in pools], dtype=np.float64)
        self.gamma = np.concatenate([self.gamma, gamma])
        self.reserve = np.concatenate([self.reserve, np.array(self.exact[2 * first :], dtype=np.float64)])
        self.log_rate = np.concatenate([self.log_rate, np.empty(2 * len(pools))])
        refresh_rates(np.arange(first, self.n_pools, dtype=np.int32), self.reserve, self.gamma, self.log_rate)

    def _index(self) -> None:
        bases = [self.token_index[token] for token in self.base_tokens]
        self.cycles = cycles.build(self.edge_token, self.n_tokens, bases, self.max_hops)


def _check_reserve(pool: str, name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_RESERVE:
        raise ValueError(f"pool {pool}: {name} is {value!r}, not an integer from 0 to 2^112 - 1")
