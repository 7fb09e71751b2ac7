"""Detection against the plain-Python reference, and against the exact optimum."""

from __future__ import annotations

import math
import random

import pytest
from mev_engine.amm.uniswap_v2 import V2Pair
from mev_engine.detect import GasModel, Scanner
from mev_engine.detect.exact import Hop, Sized
from mev_engine.detect.exact import best_amounts as best_of
from mev_engine.market import BlockDelta, Market, PoolSpec, ReserveUpdate, TokenSpec, pair_spec
from reference import Hop as Sides
from reference import MarketSpec, best_cycles, best_input, exhaustive_best

from .markets import BLOCK, random_market

FREE = GasModel(0, 0, 0)


def build(tokens: list[TokenSpec], pools: list[PoolSpec], bases: int = 2) -> Market:
    return Market.build(
        tokens,
        pools,
        base_tokens=[t.address for t in tokens[:bases]],
        wrapped_native=tokens[0].address,
    )


@pytest.mark.parametrize("seed", range(4))
def test_scan_finds_what_brute_force_finds(seed: int) -> None:
    # fails if screen, sizing or index loses a cycle, or if its profit falls short of the reference's
    tokens, pools = random_market(random.Random(seed), 7, 16)
    market = build(tokens, pools)
    result = Scanner(market, chain_id=1, gas=FREE, min_profit=-1).scan_all(BLOCK, unprofitable=10**6)
    found = {o.pools + o.tokens: o.gross_profit for o in (*result.opportunities, *result.unprofitable)}
    expected = best_cycles(MarketSpec(tokens, pools), market.base_tokens, 4)
    assert len(expected) > 20, "the market is too tame for this test to mean anything"
    for cycle in expected:
        gross = found.pop(cycle.pools + cycle.tokens)
        assert gross >= cycle.gross_profit * (1 - 1e-6) - 1, cycle
    assert not found, "cycles that the reference says don't gain"


def closed_form(hops: tuple[Sides, ...]) -> tuple[float, float]:
    """(marginal rate a, best input x*) of a cycle in floats."""
    a, b = 1.0, 0.0
    for reserve_in, reserve_out, fee_num, fee_den in hops:
        b += a * fee_num / fee_den / reserve_in
        a *= fee_num / fee_den * reserve_out / reserve_in
    return a, (math.sqrt(a) - 1) / b if a > 1 else 0.0


def best_amounts(path: tuple[Sides, ...], x: float) -> Sized | None:
    return best_of([Hop(V2Pair(r, s, num, num, den), 0, 1) for r, s, num, den in path], x)


def test_equals_the_exhaustive_optimum_on_thin_pools() -> None:
    # fails if the staircase search stops on a worse stair, or misses that no integer input gains
    rng, tried, gained = random.Random(3), 0, 0
    while tried < 60:
        hops = tuple(
            (int(10 ** rng.uniform(2, 5)), int(10 ** rng.uniform(2, 5)), 997, 1000)
            for _ in range(rng.randint(2, 4))
        )
        a, x = closed_form(hops)
        limit = int(x * (math.sqrt(a) + 1)) + 2  # beyond (a - 1)/b even the continuous cycle loses
        if not 1 < a < 4 or limit > 20_000:
            continue
        tried += 1
        _, profit = exhaustive_best(hops, limit)
        best = best_amounts(hops, x)
        assert (best.profit if best else 0) == max(profit, 0), hops
        gained += profit > 0
    assert 40 < gained < 60, "both outcomes must occur for this test to mean anything"


@pytest.mark.parametrize("decimals", [(18, 6, 18), (18, 8, 6), (6, 18, 8), (6, 8, 6)])
@pytest.mark.parametrize("depth", [-3, 0, 3])
def test_as_good_as_a_wide_search_with_coarse_tokens(decimals: tuple[int, ...], depth: int) -> None:
    # fails without the staircase search: the continuous optimum rounded down is below in nearly all cases
    rng = random.Random(f"{decimals} {depth}")
    compared = 0
    while compared < 6:
        hops = []
        for i, digits in enumerate(decimals):
            value = 10 ** (depth + rng.uniform(0, 3))
            back = decimals[(i + 1) % 3]
            rate = 1 + rng.uniform(0, 0.03)
            hops.append((int(value * 10**digits) + 2, int(value * rate * 10**back) + 2, 997, 1000))
        path = tuple(hops)
        a, x = closed_form(path)
        if a <= 1:
            continue
        compared += 1
        _, profit = best_input(path)
        best = best_amounts(path, x)
        assert (best.profit if best else 0) >= profit * (1 - 1e-5) - 1


def test_incremental_scan_equals_full_scan_of_touched_pools() -> None:
    # fails if a loop through a touched pool is skipped, counted twice, or read with stale rates
    rng = random.Random(11)
    tokens, pools = random_market(rng, 9, 40)
    market = build(tokens, pools, bases=3)
    # which are the best, and so searched with all effort, depends on what else is scanned
    scanner = Scanner(
        market, chain_id=1, gas=GasModel(60_000, 75_000, 1), min_profit=10**12, refined=0, most=10**6
    )
    seen = 0
    for _ in range(30):
        moved = rng.sample(pools, rng.randint(0, 5))
        updates = tuple(
            ReserveUpdate(p.address, int(r0 * rng.uniform(0.98, 1.02)), r1)
            for p in moved
            for r0, r1 in [market.reserves(p.address)]
        )
        touched = market.apply(BlockDelta(BLOCK, updates))
        names = {p.address for p in moved}
        found = {(o.pools, o.amounts, o.net_profit) for o in scanner.scan(BLOCK, touched).opportunities}
        full = scanner.scan_all(BLOCK).opportunities
        assert found == {(o.pools, o.amounts, o.net_profit) for o in full if names & set(o.pools)}
        seen += len(found)
    assert seen > 100


def test_net_profit_is_gross_at_the_deepest_pool_less_gas() -> None:
    # fails if another pool's price, a float, or another rounding is used
    tokens = [
        TokenSpec(f"0x{i:040x}", s, d) for i, (s, d) in enumerate((("WETH", 18), ("USDC", 6), ("X", 18)))
    ]
    weth, usdc, other = (t.address for t in tokens)
    e18, e6 = 10**18, 10**6
    pools = [
        pair_spec("0xa1", weth, usdc, 900 * e18, 1_800_001 * e6),  # the deepest
        pair_spec("0xa2", usdc, weth, 1_000 * e6, 1 * e18),
        pair_spec("0xb1", usdc, other, 50_000 * e6, 50_000 * e18),
        pair_spec("0xb2", other, usdc, 50_000 * e18, 52_000 * e6),
    ]
    market = Market.build(tokens, pools, base_tokens=[usdc], wrapped_native=weth, max_hops=2)
    gas = GasModel(per_cycle=1000, per_hop=100, priority_fee=7)
    found = {
        o.pools: o for o in Scanner(market, chain_id=1, gas=gas, min_profit=0).scan_all(BLOCK).opportunities
    }
    o = found["0xb1", "0xb2"]
    assert o.gas_units == 1200
    assert o.gas_cost == 1200 * (BLOCK.base_fee + 7)
    assert o.net_profit == o.gross_profit * (900 * e18) // (1_800_001 * e6) - o.gas_cost
    assert o.amounts[-1] - o.amounts[0] == o.gross_profit
    assert o.tokens == (usdc, other, usdc)


def test_only_profits_above_the_floor_are_emitted_and_ranked_with_conflicts() -> None:
    # fails if the floor is applied before gas or with >=, or if a pool is given to two opportunities
    tokens, pools = random_market(random.Random(2), 8, 30)
    market = build(tokens, pools)
    gas = GasModel()
    every = Scanner(market, chain_id=1, gas=gas, min_profit=0).scan_all(BLOCK).opportunities
    floor = every[len(every) // 2].net_profit
    kept = Scanner(market, chain_id=1, gas=gas, min_profit=floor).scan_all(BLOCK).opportunities
    assert [o.id for o in kept] == [o.id for o in every if o.net_profit > floor]
    assert [o.rank for o in kept] == list(range(1, len(kept) + 1))
    profits = [o.net_profit for o in kept]
    assert profits == sorted(profits, reverse=True)
    free = [o for o in kept if o.conflicts_with is None]
    taken = [pool for o in free for pool in o.pools]
    assert 1 < len(free) < len(kept)
    assert len(taken) == len(set(taken))
    by_id = {o.id: o for o in free}
    for o in kept:
        if o.conflicts_with is not None:
            rival = by_id[o.conflicts_with]  # itself without a conflict
            assert set(rival.pools) & set(o.pools)
    # best first, as long as no pool is taken: the best set can't be worth less
    greedy, used = 0, set[str]()
    for o in kept:
        if not used & set(o.pools):
            used |= set(o.pools)
            greedy += o.net_profit
    assert sum(o.net_profit for o in free) >= greedy


def test_a_base_token_whose_price_dries_up_is_named_and_not_guessed() -> None:
    # fails if a cycle without a price to gas is emitted, or disappears without a word
    tokens = [TokenSpec(f"0x{i}", s, 18) for i, s in enumerate(("WETH", "USD", "X"))]
    e = 10**18
    pools = [
        pair_spec("0xa", "0x0", "0x1", e, e),
        pair_spec("0xb", "0x1", "0x2", e, e),
        pair_spec("0xc", "0x1", "0x2", e, 2 * e),
    ]
    market = Market.build(tokens, pools, base_tokens=["0x1"], wrapped_native="0x0")
    scanner = Scanner(market, chain_id=1, gas=FREE, min_profit=0)
    assert len(scanner.scan_all(BLOCK).opportunities) == 1
    touched = market.apply(BlockDelta(BLOCK, (ReserveUpdate("0xa", 0, 0), ReserveUpdate("0xb", e, e))))
    result = scanner.scan(BLOCK, touched)
    assert (result.opportunities, result.unpriced, result.cycles_passed) == ((), ("0x1",), 1)
