"""Split routes of whole markets, beside the single cycles that a scan finds in them."""

from __future__ import annotations

import random
from dataclasses import replace
from fractions import Fraction

from mev_engine.amm import registry
from mev_engine.detect import GasModel, Scanner
from mev_engine.detect.opportunity import Opportunity
from mev_engine.detect.routing import Improvement, SplitRoute, improve
from mev_engine.market import Market

from .markets import BLOCK, random_market


def improved(
    seed: int, gas: GasModel, *, min_profit: int = 0
) -> tuple[Market, tuple[Opportunity, ...], Improvement]:
    """A random market, the cycles found in it, and the splits; prices are made up."""
    tokens, pools = random_market(random.Random(seed), 6, 14, depth=(1, 3))
    bases = [token.address for token in tokens[:2]]
    market = Market.build(tokens, pools, base_tokens=bases, wrapped_native=tokens[0].address, max_hops=3)
    result = Scanner(market, chain_id=1, gas=gas, min_profit=0).scan_all(BLOCK, unprofitable=500)
    found = (*result.opportunities, *result.unprofitable)
    prices = {bases[0]: Fraction(1), bases[1]: None}
    return market, found, improve(market, found, gas, BLOCK, prices, chain_id=1, min_profit=min_profit)


def check(market: Market, route: SplitRoute) -> None:
    """The route's figures follow from its swaps, and these from the pools' exact integers."""
    held = {route.base: route.amount_in}
    for swap in route.swaps:
        number = market.pool_index[swap.pool]
        state, tokens = market.book.states[number], market.pools[number].tokens
        i, j = tokens.index(swap.token_in), tokens.index(swap.token_out)
        assert registry.family_of(state).exact_in(state, i, j, swap.amount_in) == swap.amount_out
        held[swap.token_in] -= swap.amount_in
        assert held[swap.token_in] >= 0
        held[swap.token_out] = held.get(swap.token_out, 0) + swap.amount_out
    assert held.pop(route.base) == route.amount_in + route.gross_profit
    assert not any(held.values())
    assert len(set(route.pools)) == len(route.pools)


def test_routes_net_more_than_what_they_replace_and_hold_exactly() -> None:
    # fails if a route is reported that single cycles beat, that misses gas, or whose integers don't hold
    gas, found, replaced = GasModel(60_000, 75_000, 10**9), 0, 0
    for seed in range(12):
        market, cycles, result = improved(seed, gas)
        net = {o.id: o.net_profit for o in cycles}
        for route in result.routes:
            check(market, route)
            assert route.gas_cost == (60_000 + 75_000 * len(route.swaps)) * (BLOCK.base_fee + 10**9)
            assert route.net_profit == route.gross_profit - route.gas_cost
            assert route.net_profit > max(sum(net[name] for name in route.replaces), 0)
            touched = [o for o in cycles if set(o.pools) & set(route.pools)]
            assert route.net_profit > max(o.net_profit for o in touched)
            found += 1
            replaced += len(route.replaces)
        assert all(result.declined.values())
    assert found > 8
    assert replaced > 8


def test_with_huge_gas_the_single_cycles_stay() -> None:
    # fails if gas is charged once for a route instead of for each pool
    _market, cycles, cheap = improved(1, GasModel(0, 1, 0))
    assert cheap.routes
    _market, cycles, dear = improved(1, GasModel(0, 10**9, 0))
    assert cycles
    assert not dear.routes
    assert dear.declined


def test_a_better_single_cycle_stays() -> None:
    # fails if a route is kept although what it would replace is worth more
    gas = GasModel(60_000, 75_000, 1)
    market, cycles, result = improved(3, gas)
    route = result.routes[0]
    rival = next(o for o in cycles if set(o.pools) & set(route.pools))
    raised = [replace(o, net_profit=route.net_profit) if o is rival else o for o in cycles]
    again = improve(market, raised, gas, BLOCK, {route.base: Fraction(1)}, chain_id=1)
    assert route.id not in {other.id for other in again.routes}
    assert any("single cycles or the floor" in reason for reason in again.declined.values())


def test_the_floor_counts() -> None:
    # fails if min_profit is left out or compared with >=
    gas = GasModel(60_000, 75_000, 1)
    _market, _cycles, result = improved(3, gas)
    best = result.routes[0].net_profit
    assert not improved(3, gas, min_profit=best)[2].routes
    assert improved(3, gas, min_profit=best - 1)[2].routes


def test_a_base_without_price_is_named() -> None:
    # fails if gas is compared with a guess, or the group vanishes without a word
    tokens, pools = random_market(random.Random(4), 3, 8)
    bases = [token.address for token in tokens[:2]]
    market = Market.build(tokens, pools, base_tokens=bases, wrapped_native=bases[0], max_hops=3)
    gas = GasModel(0, 0, 0)
    cycles = Scanner(market, chain_id=1, gas=gas, min_profit=0).scan_all(BLOCK).opportunities
    result = improve(market, cycles, gas, BLOCK, {}, chain_id=1)
    assert not result.routes
    assert any(bases[0] in reason for reason in result.declined.values())
