"""The market's state: all of an update or nothing of it, and new pools."""

from __future__ import annotations

import copy
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from mev_engine.detect import GasModel, Scanner
from mev_engine.market import BlockDelta, Market, PoolSpec, ReserveUpdate, TokenSpec, pair_spec

from .markets import BLOCK, address, random_market


def state(market: Market) -> tuple[Any, ...]:
    book = market.book
    arrays = (book.params, book.words, book.slope, book.log_rate, market.edge_token)
    return (
        copy.copy(book.states),
        copy.copy(market.pool_index),
        copy.copy(market.token_index),
        market.n_cycles,
        *(a.tobytes() for a in arrays),
    )


BAD_RESERVES = [-1, 2**112, 1.5, True, None, "7"]


@pytest.mark.parametrize("bad", BAD_RESERVES, ids=repr)
def test_a_malformed_update_is_named_and_changes_nothing(bad: Any) -> None:
    # fails if the good half of a delta is applied before the bad half is seen
    tokens, pools = random_market(random.Random(1), 5, 10)
    market = Market.build(tokens, pools, base_tokens=[tokens[0].address], wrapped_native=tokens[0].address)
    before = state(market)
    new_token = TokenSpec(address(99), "NEW", 18)
    new_pool = pair_spec(address(5000), tokens[0].address, new_token.address, 10**18, 10**18)
    good = ReserveUpdate(pools[0].address, 1, 2)
    delta = BlockDelta(
        BLOCK,
        (good, ReserveUpdate(pools[1].address, 5, bad)),
        new_tokens=(new_token,),
        new_pools=(new_pool,),
    )
    with pytest.raises(ValueError, match=f"{pools[1].address}.*reserve1.*{bad!r}"):
        market.apply(delta)
    assert state(market) == before
    with pytest.raises(ValueError, match="reserve0"):
        replace(new_pool.state, reserve0=bad)  # so no such pool can come with a block
    with pytest.raises(ValueError, match=f"{pools[0].address} twice"):
        market.apply(BlockDelta(BLOCK, (good, good)))
    assert state(market) == before


def test_growing_block_by_block_equals_building_at_once() -> None:
    # fails if a new pool is left out of index, rates or numbers, or if an old pool changes its number
    rng = random.Random(4)
    tokens, pools = random_market(rng, 8, 30)
    bases, native = [tokens[0].address, tokens[1].address], tokens[0].address
    grown = Market.build(tokens[:5], pools[:4], base_tokens=bases, wrapped_native=native)
    scanner = Scanner(grown, chain_id=1, gas=GasModel(0, 0, 0), min_profit=0)
    scanner.scan_all(BLOCK)
    for first in range(4, len(pools), 7):
        part = pools[first : first + 7]
        fresh = tuple(t for t in tokens if t.address not in grown.token_index)
        touched = grown.apply(BlockDelta(BLOCK, new_tokens=fresh, new_pools=tuple(part)))
        assert [grown.pools[i].address for i in touched] == [p.address for p in part]
        scanner.scan(BLOCK, touched)
    whole = Market.build(tokens, pools, base_tokens=bases, wrapped_native=native)
    assert grown.pool_index == whole.pool_index
    assert grown.n_cycles == whole.n_cycles > 0
    np.testing.assert_array_equal(grown.book.log_rate, whole.book.log_rate)
    fresh_scan = Scanner(whole, chain_id=1, gas=GasModel(0, 0, 0), min_profit=0).scan_all(BLOCK)
    assert scanner.scan_all(BLOCK).opportunities == fresh_scan.opportunities


def test_an_emptied_pool_is_inactive_until_it_is_filled_again() -> None:
    # fails if an empty pool is an error, divides by zero, or takes part in a cycle
    tokens, pools = random_market(random.Random(6), 5, 14, spread=0.1)
    market = Market.build(tokens, pools, base_tokens=[tokens[0].address], wrapped_native=tokens[0].address)
    scanner = Scanner(market, chain_id=1, gas=GasModel(0, 0, 0), min_profit=0)
    full = scanner.scan_all(BLOCK).opportunities
    victim = full[0].pools[0]
    r0, r1 = market.reserves(victim)
    for empty in ((0, 0), (0, 5), (5, 0)):
        touched = market.apply(
            BlockDelta(BLOCK, (ReserveUpdate(victim, *empty), ReserveUpdate("0xother", 1, 1)))
        )
        assert touched.tolist() == [market.pool_index[victim]]
        assert not scanner.scan(BLOCK, touched).opportunities
        assert market.reserves(victim) == empty
    market.apply(BlockDelta(BLOCK, (ReserveUpdate(victim, r0, r1),)))
    assert scanner.scan_all(BLOCK).opportunities == full


def test_build_refuses_what_it_cannot_use() -> None:
    # each message must name the culprit, so that a person can mend the settings
    tokens, pools = random_market(random.Random(1), 4, 8)
    a, b = tokens[0].address, tokens[1].address
    lonely = TokenSpec(address(77), "LONELY", 18)
    cases: list[tuple[str, list[TokenSpec], list[PoolSpec], list[str], int]] = [
        (f"{lonely.address}.*LONELY.*no pool", [*tokens, lonely], pools, [lonely.address], 4),
        (f"{address(88)} is not among", tokens, pools, [address(88)], 4),
        ("names a token twice", tokens, pools, [b, b], 4),
        ("base_tokens is empty", tokens, pools, [], 4),
        ("max_hops is 6", tokens, pools, [a], 6),
        (f"{pools[0].address} is listed twice", tokens, [*pools, pools[0]], [a], 4),
        (f"{a}.*is listed twice", [*tokens, tokens[0]], pools, [a], 4),
        ("0xf: token1 0xnew", tokens, [*pools, pair_spec("0xf", a, "0xnew", 1, 1)], [a], 4),
        ("0xf has .* on both sides", tokens, [*pools, pair_spec("0xf", a, a, 1, 1)], [a], 4),
    ]
    with pytest.raises(ValueError, match="0xf: fee_num0 is 1001"):
        pair_spec("0xf", a, b, 1, 1, 1001, 1000)
    for message, some_tokens, some_pools, bases, hops in cases:
        with pytest.raises(ValueError, match=message):
            Market.build(some_tokens, some_pools, base_tokens=bases, wrapped_native=a, max_hops=hops)
