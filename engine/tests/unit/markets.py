"""Seeded random markets for the tests."""

from __future__ import annotations

import random

from mev_engine.market.delta import BlockRef, PoolSpec, TokenSpec, pair_spec

BLOCK = BlockRef(100, "0x" + "ab" * 32, "0x" + "cd" * 32, 1_700_000_000, 10**9)


def address(number: int) -> str:
    return f"0x{number:040x}"


def random_market(
    rng: random.Random, n_tokens: int, n_pools: int, *, spread: float = 0.02, depth: tuple[int, int] = (3, 6)
) -> tuple[list[TokenSpec], list[PoolSpec]]:
    """Tokens of 6, 8 or 18 decimals with a fair price each, and pools off it by up to `spread`.

    `depth`: powers of ten of whole units a side, priced in token 0. The first `n_tokens - 1` pools pair
    each token with token 0, so that each can be priced; parallel pools are common.
    """
    tokens = [
        TokenSpec(address(i + 1), f"T{i}", rng.choice((6, 8, 18)) if i else 18) for i in range(n_tokens)
    ]
    price = [1.0] + [10 ** rng.uniform(-3, 3) for _ in tokens[1:]]
    pools = []
    for i in range(n_pools):
        a, b = (0, i + 1) if i < n_tokens - 1 else rng.sample(range(n_tokens), 2)
        if rng.random() < 0.5:
            a, b = b, a
        value = 10 ** rng.uniform(*depth)
        off = 1 + rng.uniform(-spread, spread)
        reserve0, reserve1 = (
            max(1, int(value / price[t] * f * 10 ** tokens[t].decimals)) for t, f in ((a, off), (b, 1.0))
        )
        fee_num, fee_den = rng.choice(((997, 1000), (9975, 10000), (998, 1000)))
        sides = (tokens[a].address, tokens[b].address, reserve0, reserve1)
        pools.append(pair_spec(address(1000 + i), *sides, fee_num, fee_den))
    return tokens, pools
