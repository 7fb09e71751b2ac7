"""The best set of opportunities against brute force, and what happens where it can't be proven."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st
from mev_engine.detect.opportunity import STRATEGY, Opportunity
from mev_engine.detect.selection import pack, select

from .markets import BLOCK

Sets = list[tuple[int, ...]]


def packings(max_size: int) -> st.SearchStrategy[list[tuple[tuple[int, ...], int]]]:
    pools = st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True).map(tuple)
    return st.lists(st.tuples(pools, st.integers(-3, 30)), max_size=max_size)


def best_value(sets: Sets, values: list[int]) -> int:
    """The greatest sum of any subset without a common member."""
    best = 0
    for size in range(1, len(sets) + 1):
        for some in combinations(range(len(sets)), size):
            members = [pool for n in some for pool in sets[n]]
            if len(members) == len(set(members)):
                best = max(best, sum(values[n] for n in some))
    return best


def is_free(sets: Sets, chosen: tuple[int, ...]) -> bool:
    members = [pool for n in chosen for pool in sets[n]]
    return len(members) == len(set(members))


@settings(max_examples=150, deadline=None)
@given(packings(10))
def test_equals_brute_force(items: list[tuple[tuple[int, ...], int]]) -> None:
    # fails if the bound cuts off the best set, a dominated set was needed, or components are mixed up
    sets, values = [s for s, _ in items], [v for _, v in items]
    found = pack(sets, values)
    assert found.proven
    assert is_free(sets, found.chosen)
    assert found.value == sum(values[n] for n in found.chosen) == best_value(sets, values)


def crowded(seed: int, n: int, pools: int) -> tuple[Sets, list[int]]:
    rng = random.Random(seed)
    sets = [tuple(rng.sample(range(pools), rng.randint(2, 4))) for _ in range(n)]
    return sets, [rng.randint(900, 1100) for _ in range(n)]


def test_beyond_its_limits_it_says_so_and_is_never_below_greedy() -> None:
    # fails if a cut search claims a proof, passes its limit of nodes, or gives back less than greedy choice
    sets, values = crowded(1, 120, 60)
    taken: set[int] = set()
    greedy = 0
    for n in sorted(range(len(sets)), key=lambda n: -values[n]):
        if not taken & set(sets[n]):
            taken |= set(sets[n])
            greedy += values[n]
    cut = pack(sets, values, max_nodes=50)
    assert not cut.proven
    assert cut.nodes == 50
    large = pack(sets, values, max_exact=100)
    assert (large.proven, large.nodes, large.approximate) == (False, 0, 1)
    for found in (cut, large):
        assert is_free(sets, found.chosen)
        assert found.value >= greedy
    assert pack(sets, values, max_nodes=10**6).value >= max(cut.value, large.value)


def opportunity(number: int, pools: tuple[int, ...], net_profit: int) -> Opportunity:
    names = tuple(f"p{pool}" for pool in pools)
    return Opportunity(
        id=f"o{number}", strategy=STRATEGY, block=BLOCK, tokens=(), symbols=(), pools=names, amounts=(1, 2),
        gross_profit=0, gas_units=0, gas_price=0, gas_cost=0, net_profit=net_profit, rank=number + 1,
        conflicts_with=None,
    )  # fmt: skip


def test_two_small_ones_beat_the_best_that_blocks_both() -> None:
    # fails with greedy choice, and if the loser names none or another than the first taken one
    ranked = [opportunity(0, (1, 2), 10), opportunity(1, (2, 3), 7), opportunity(2, (1, 4), 6)]
    assert [o.conflicts_with for o in select(ranked)] == ["o1", None, None]


@settings(max_examples=100, deadline=None)
@given(packings(12))
def test_whoever_is_not_taken_names_a_taken_one_in_its_way(items: list[tuple[tuple[int, ...], int]]) -> None:
    # fails if two taken ones share a pool, one is left out without a rival, or order or other fields change
    items.sort(key=lambda item: -item[1])
    ranked = [opportunity(n, pools, value) for n, (pools, value) in enumerate(items)]
    chosen = select(ranked)
    assert [replace(o, conflicts_with=None) for o in chosen] == ranked
    taken = {o.id: set(o.pools) for o in chosen if o.conflicts_with is None}
    assert sum(map(len, taken.values())) == len(set().union(*taken.values()))
    for o in chosen:
        if o.conflicts_with is not None:
            assert taken[o.conflicts_with] & set(o.pools)
    gained = sum(o.net_profit for o in chosen if o.conflicts_with is None and o.net_profit > 0)
    assert gained == pack([o.pools for o in ranked], [o.net_profit for o in ranked]).value
