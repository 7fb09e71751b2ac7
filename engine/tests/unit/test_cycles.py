"""The cycle index against a plain depth-first search."""

from __future__ import annotations

import random

import pytest
from mev_engine.market import Market
from reference import all_cycles

from .markets import random_market


def indexed_cycles(market: Market) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Both directions of every loop, as (tokens, pools)."""
    result = []
    for table in market.cycles.tables:
        for row in table.edges.tolist():
            for edges in (row, [edge ^ 1 for edge in reversed(row)]):
                tokens = [market.tokens[market.edge_token[edge]].address for edge in edges]
                pools = tuple(market.pools[edge >> 1].address for edge in edges)
                result.append(((*tokens, tokens[0]), pools))
    return result


@pytest.mark.parametrize("max_hops", [2, 3, 4])
@pytest.mark.parametrize("seed", range(8))
def test_index_holds_each_simple_cycle_once(seed: int, max_hops: int) -> None:
    # fails if a loop is lost, met twice, starts at a lesser base token, or repeats a token or pool
    rng = random.Random(seed)
    n_tokens = rng.randint(3, 9)
    tokens, pools = random_market(rng, n_tokens, n_tokens + rng.randint(2, 25))
    bases = [t.address for t in rng.sample(tokens, rng.randint(1, 3))]
    # every base must be priced: wrapped native is token 0, which is paired with each token
    market = Market.build(
        tokens, pools, base_tokens=bases, wrapped_native=tokens[0].address, max_hops=max_hops
    )
    expected = list(all_cycles(pools, bases, max_hops))
    assert sorted(indexed_cycles(market)) == sorted(expected)
    assert market.n_cycles == len(expected)


def test_leg_lists_name_exactly_the_loops_through_a_leg() -> None:
    # fails if the incremental scan would look at too few loops, or at others
    tokens, pools = random_market(random.Random(5), 8, 30)
    market = Market.build(tokens, pools, base_tokens=[tokens[0].address], wrapped_native=tokens[0].address)
    for table in market.cycles.tables:
        for leg in range(market.n_pools):
            listed = table.leg_loops[table.leg_offsets[leg] : table.leg_offsets[leg + 1]].tolist()
            through = [i for i, row in enumerate(table.edges.tolist()) if leg in [e >> 1 for e in row]]
            assert listed == through
