"""Split trades against exhaustive search, a slow greedy flow, and what the pools' exact integers say."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from mev_engine.amm import registry
from mev_engine.amm.concentrated import sqrt_price_at_tick, tick_at_sqrt_price
from mev_engine.amm.curve_stable import CurveStablePool
from mev_engine.amm.solidly import SolidlyVariant
from mev_engine.amm.solidly_pair import StablePair
from mev_engine.amm.uniswap_v2 import V2Pair
from mev_engine.amm.uniswap_v3 import V3Pool
from mev_engine.detect.splits import Split, best_split
from mev_engine.market.book import Book
from numpy.typing import NDArray

Ends = list[tuple[int, int]]
FREE = np.zeros(max(family.code for family in registry.FAMILIES.values()) + 1)


def network(states: Sequence[Any], ends: Ends) -> tuple[Book, NDArray[np.int32], NDArray[np.int32]]:
    """A book of pools of two tokens each, its edges' tokens, and all its legs."""
    book = Book()
    book.add(list(states))
    return book, np.array(ends, np.int32).ravel(), np.arange(len(states), dtype=np.int32)


def solve(states: Sequence[Any], ends: Ends, gas: float = 0.0, fixed: float = 0.0) -> Split | None:
    """The best split from token 0; checked swap by swap."""
    split, reason = best_split(*network(states, ends), 0, gas=FREE + gas, fixed=fixed)
    assert (split is None) == bool(reason)
    if split is not None:
        check(split, states, ends)
    return split


def check(split: Split, states: Sequence[Any], ends: Ends) -> None:
    """Every output is the pool's own, no pool is met twice, inputs are there in time, nothing is left."""
    held: dict[int, int] = {}
    spent = 0
    assert len({edge >> 1 for edge in split.edges}) == len(split.edges)
    for edge, paid, got in zip(split.edges, split.amounts_in, split.amounts_out, strict=True):
        pool, i = edge >> 1, edge & 1
        family = registry.family_of(states[pool])
        assert got == family.exact_in(states[pool], i, 1 - i, paid)
        token = ends[pool][i]
        if token == 0:
            spent += paid
            if family.name == "uniswap_v2":  # nothing is paid in that only rounds away
                assert family.exact_in(states[pool], i, 1 - i, paid - 1) < got
        else:
            held[token] -= paid
            assert held[token] >= 0
        other = ends[pool][1 - i]
        held[other] = held.get(other, 0) + got
    assert held.pop(0) - spent == split.gross
    assert not any(held.values())
    assert split.gross <= split.bound * (1 + 1e-12)


def test_two_parallel_pools_equal_the_exhaustive_search() -> None:
    # fails if the split is off, if a remainder is lost, or if one pool is used where two pay
    rng, both = random.Random(5), 0
    for _ in range(40):
        a, b, c = (rng.randint(2_000, 6_000) for _ in range(3))
        rate = rng.uniform(1.05, 1.3)  # the same in both, so that nothing is gained between them
        states = [V2Pair(a, int(a * rate)), V2Pair(b, int(b * rate)), V2Pair(2 * c, 2 * c)]
        ends = [(0, 1), (0, 1), (1, 0)]
        x = np.arange(3_000)
        first, second, last = (x * 997 * s.reserve1 // (s.reserve0 * 1000 + x * 997) for s in states)
        arrived = first[:, None] + second[None, :]
        gained = np.where(arrived < x.size, last[np.minimum(arrived, x.size - 1)], 0)
        gained = gained - x[:, None] - x[None, :]
        split = solve(states, ends)
        single = max(gained[0].max(), gained[:, 0].max())
        found = split.gross if split is not None else 0
        # the proposal rounds three swaps
        assert gained.max() - 3 <= found <= gained.max()
        if split is not None:
            assert found >= single - 3
            both += found > single
    assert both > 20


def random_graph(
    rng: random.Random, kinds: Sequence[type], n_tokens: int, n_pools: int
) -> tuple[list[Any], Ends]:
    """Pools off the tokens' prices by up to 3 %, V3 pools with several ranges around the price."""
    price = [1.0, *(10 ** rng.uniform(-3, 3) for _ in range(n_tokens - 1))]
    states: list[Any] = []
    ends: Ends = []
    for n in range(n_pools):
        a, b = (n + 1, 0) if n + 1 < n_tokens else rng.sample(range(n_tokens), 2)
        value = 10 ** rng.uniform(14, 17)
        off = rng.uniform(0.97, 1.03)
        reserves = int(value / price[a]), int(value * off / price[b])
        if rng.choice(kinds) is V2Pair:
            states.append(V2Pair(*reserves, 997, 997, 1000))
        else:
            states.append(v3_pool(rng, *reserves))
        ends.append((a, b))
    return states, ends


def v3_pool(rng: random.Random, reserve0: int, reserve1: int) -> V3Pool:
    """Liquidity of a pair with these reserves, and more in two narrower ranges."""
    sqrt_price = math.isqrt((reserve1 << 192) // reserve0)
    tick, spacing = tick_at_sqrt_price(sqrt_price), 60
    centre = tick // spacing * spacing
    depth = math.isqrt(reserve0 * reserve1)
    ticks: dict[int, int] = {}
    for width, share in ((200, 1), (rng.randint(2, 20), 2), (rng.randint(1, 3), 4)):
        for side in (-width, width):
            at = centre + side * spacing
            ticks[at] = ticks.get(at, 0) + (depth * share if side < 0 else -depth * share)
    liquidity = sum(net for at, net in ticks.items() if at <= tick)
    assert sqrt_price_at_tick(tick) <= sqrt_price
    return V3Pool(
        sqrt_price_x96=sqrt_price, tick=tick, liquidity=liquidity, tick_spacing=spacing, ticks=ticks,
        fee_pips=rng.choice((500, 3000)),
    )  # fmt: skip


def simple_paths(ends: Ends) -> list[list[tuple[int, int]]]:
    """Paths from token 0 back to it that meet no other token twice, as (pool, side paid in)."""
    paths: list[list[tuple[int, int]]] = []
    waiting: list[tuple[list[int], list[tuple[int, int]]]] = [([0], [])]
    while waiting:
        tokens, path = waiting.pop()
        for pool, pair in enumerate(ends):
            if tokens[-1] not in pair or any(pool == p for p, _ in path):
                continue
            i = pair.index(tokens[-1])
            if pair[1 - i] == 0:
                paths.append([*path, (pool, i)])
            elif pair[1 - i] not in tokens:
                waiting.append(([*tokens, pair[1 - i]], [*path, (pool, i)]))
    return paths


def greedy_flow(states: Sequence[V2Pair], ends: Ends, step: float) -> float:
    """What small amounts gain that go, one after the other, along the best path."""
    used = [[0.0, 0.0] for _ in states]  # input so far, by side

    def out(pool: int, i: int, x: float) -> float:
        s = states[pool]
        r, t = (s.reserve0, s.reserve1) if i == 0 else (s.reserve1, s.reserve0)
        return 0.997 * x * t / (r + 0.997 * x)

    def through(path: list[tuple[int, int]], x: float) -> float:
        for pool, i in path:
            if used[pool][1 - i]:
                return 0.0  # a pool goes one way only
            x = out(pool, i, used[pool][i] + x) - out(pool, i, used[pool][i])
        return x

    gained = 0.0
    while True:
        best = max(simple_paths(ends), key=lambda path: through(path, step))
        x = step
        if through(best, x) <= x * (1 + 1e-9):
            return gained
        gained += through(best, x) - x
        for pool, i in best:
            before = used[pool][i]
            used[pool][i] += x
            x = out(pool, i, used[pool][i]) - out(pool, i, before)


@pytest.mark.parametrize("seed", range(8))
def test_never_below_a_greedy_flow(seed: int) -> None:
    # fails if the dual stops early, drops a leg, or its flow can't be carried out as it is
    rng = random.Random(seed)
    states, _ends = random_graph(rng, [V2Pair], 2, 8)
    # many ways from and to the base token, and no circle without it
    ends = [(0, 1), (0, 2), (0, 3), (1, 2), (2, 3), (1, 0), (2, 0), (3, 0)]
    split = solve(states, ends)
    gross = split.gross if split is not None else 0
    paid = zip(split.edges, split.amounts_in, strict=True) if split is not None else ()
    base_in = sum(x for edge, x in paid if ends[edge >> 1][edge & 1] == 0)
    assert gross >= greedy_flow(states, ends, max(base_in, 10**9) / 200) * (1 - 1e-9)
    assert gross > 0


@pytest.mark.parametrize("kinds", [[V2Pair], [V3Pool], [V2Pair, V3Pool]])
def test_exact_gain_meets_the_bound_that_nothing_can_beat(kinds: list[type]) -> None:
    # fails if integers lose what floats proposed, or if a range of V3 liquidity is answered wrongly
    rng, met = random.Random(len(kinds) + len(kinds[0].__name__)), 0
    for _ in range(25):
        states, ends = random_graph(rng, kinds, rng.randint(2, 6), rng.randint(4, 14))
        split = solve(states, ends)
        if split is not None:
            assert split.gross >= split.bound * (1 - 1e-6) - 10_000  # a unit of the coarsest is ~1000 here
            met += 1
    assert met > 15


def flat_pool(rng: random.Random) -> Any:
    """A stable pool of two coins of 18 decimals, out of balance by up to a half."""
    x, y = (int(10 ** rng.uniform(23, 24) * rng.uniform(0.5, 1.5)) for _ in range(2))
    one = 10**18
    if rng.random() < 0.5:
        return CurveStablePool((x, y), (one, one), amp=rng.choice((100, 2000)) * 100, fee=4 * 10**6)
    return StablePair(x, y, one, one, 5, 5, 10_000, stable=True, variant=SolidlyVariant.VELODROME_V2)


def test_flat_curves_meet_the_bound_too() -> None:
    # fails if pools that hardly bend throw the dual's steps off: their trades jump with the prices
    rng, met = random.Random(8), 0
    for _ in range(15):
        n_tokens = rng.randint(2, 4)
        ends = [(n, n + 1) for n in range(n_tokens - 1)]
        ends += [tuple(rng.sample(range(n_tokens), 2)) for _ in range(6)]  # type: ignore[misc]
        states = [
            flat_pool(rng) if rng.random() < 0.7 else V2Pair(10**23, int(10**23 * rng.uniform(0.9, 1.1)))
            for _ in ends
        ]
        split = solve(states, ends)
        if split is not None:
            assert split.gross >= split.bound * (1 - 1e-6)
            met += 1
    assert met > 8


def test_legs_that_do_not_pay_for_their_gas_are_left_out() -> None:
    # fails if a leg stays that costs more than it adds, against the best of all sets of legs
    rng, fewer, worse = random.Random(1), 0, 0
    for _ in range(12):
        states, ends = random_graph(rng, [V2Pair], 3, 7)
        free = solve(states, ends)
        if free is None:
            continue
        gas = free.gross / (4 * len(free.edges))
        split = solve(states, ends, gas)
        net = split.gross - gas * len(split.edges) if split else 0.0
        best = 0.0
        for size in range(3, len(states) + 1):
            for some in itertools.combinations(range(len(states)), size):
                one = solve([states[n] for n in some], [ends[n] for n in some])
                if one is not None:
                    best = max(best, one.gross - gas * len(one.edges))
        assert net >= 0.95 * best
        worse += net < best * (1 - 1e-9)
        fewer += len(split.edges if split else ()) < len(free.edges)
    assert fewer > 3
    assert worse <= 2, "the trials should find the best set nearly always"


def test_with_gas_too_high_for_a_second_pool_a_single_cycle_is_left() -> None:
    # fails if gas is not counted for each pool: then the split would stay
    states = [V2Pair(10**9, 12 * 10**8), V2Pair(10**7, 12 * 10**6), V2Pair(10**9, 10**9)]
    ends = [(0, 1), (0, 1), (1, 0)]
    free = solve(states, ends)
    assert free is not None
    assert len(free.edges) == 3
    book, edge_token, legs = network(states, ends)
    assert best_split(book, edge_token, legs, 0, gas=FREE + free.gross / 10, fixed=0.0) == (
        None,
        "nothing to split: a single cycle is best",
    )
    split, reason = best_split(book, edge_token, legs, 0, gas=FREE + free.gross, fixed=0.0)
    assert split is None
    assert reason == "no flow gains more than its gas"


def test_a_circle_that_nothing_can_start_is_not_proposed() -> None:
    # fails if the flow between tokens 1 and 2, whose surplus alone goes to the base, is taken as it is:
    # `check` would miss its inputs. From token 1 it is an ordinary arbitrage
    e = 10**9
    states = [V2Pair(e, e), V2Pair(e, e * 13 // 10), V2Pair(e, e), V2Pair(e, e * 99 // 100), V2Pair(e, e)]
    ends = [(0, 1), (1, 2), (2, 1), (0, 1), (1, 2)]
    assert solve(states, ends) is None
    turned = [(1, 0), (0, 2), (2, 0), (1, 0), (0, 2)]
    split = solve(states, turned)
    assert split is not None
    assert {1, 2, 4} <= {edge >> 1 for edge in split.edges}


def test_a_circle_that_the_base_amount_carries_is_executed() -> None:
    # fails if legs between tokens 1 and 2 both ways are dropped although what arrives is enough for them
    e = 10**9
    states = [V2Pair(e, 2 * e), V2Pair(e, e), V2Pair(e // 10, e // 8), V2Pair(e // 10, e // 10)]
    ends = [(0, 1), (1, 0), (1, 2), (2, 1)]
    split = solve(states, ends)
    assert split is not None
    assert {edge >> 1 for edge in split.edges} == {0, 1, 2, 3}
    assert split.gross >= split.bound * (1 - 1e-6)


def test_what_buys_nothing_goes_the_other_way() -> None:
    # fails if a share too small for a unit of the coarse token 2 is paid in, or is lost
    e = 10**9
    states = [V2Pair(e, e * 13 // 10), V2Pair(e, e), V2Pair(3_000, 3), V2Pair(3, 3_000)]
    ends = [(0, 1), (1, 0), (1, 2), (2, 0)]
    assert best_split(*network(states, ends), 0, gas=FREE, fixed=0.0) == (
        None,
        "nothing to split: a single cycle is best",
    )
    split = solve([*states, V2Pair(e, e)], [*ends, (1, 0)])
    assert split is not None
    assert sorted(edge >> 1 for edge in split.edges) == [0, 1, 4]


def test_two_legs_of_one_pool_are_refused() -> None:
    # fails if a pool's legs are solved as if they were two pools
    book, edge_token, _legs = network([V2Pair(10**9, 10**9)], [(0, 1)])
    with pytest.raises(ValueError, match="legs has two of one pool"):
        best_split(book, edge_token, np.zeros(2, np.int32), 0, gas=FREE, fixed=0.0)
