"""The exact optimum of mixed cycles: the kernel, the search in Python integers, and trying every input."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from mev_engine.amm.concentrated import tick_at_sqrt_price
from mev_engine.amm.solidly import SolidlyVariant
from mev_engine.amm.solidly_pair import VolatilePair
from mev_engine.amm.uniswap_v2 import V2Pair
from mev_engine.amm.uniswap_v3 import V3Pool
from mev_engine.amm.uniswap_v4 import V4Pool
from mev_engine.detect import settle, walk
from mev_engine.detect.exact import FAST, THOROUGH, Effort, Hop, amounts_out, best_amounts, book_of
from mev_engine.wide import integer

LIMIT = 6000
"""Inputs that are tried one by one."""


def pair(rng: random.Random, depth: float, price: float) -> V2Pair:
    num, den = rng.choice(((997, 1000), (9975, 10_000), (1, 1)))
    return V2Pair(max(1, int(depth)), max(1, int(depth * price)), num, num, den)


def solidly(rng: random.Random, depth: float, price: float) -> VolatilePair:
    reserves = max(1, int(depth)), max(1, int(depth * price))
    fee = rng.choice((1, 5, 30))
    return VolatilePair(*reserves, 10**18, 10**18, fee, fee, 10_000, False, SolidlyVariant.VELODROME_V2)


def concentrated(kind: type[V3Pool] | type[V4Pool], rng: random.Random, depth: float, price: float) -> Any:
    """Two positions around the price, so that a swap crosses ticks."""
    root = int(price**0.5 * 2**96)
    tick, spacing = tick_at_sqrt_price(root), 10
    ticks: dict[int, int] = {}
    for width in (rng.randint(20, 400), rng.randint(400, 5000)):
        lower, upper = ((tick + side * width) // spacing * spacing for side in (-1, 1))
        part = max(1, int(depth * price**0.5 * rng.uniform(0.5, 4.0)))
        ticks[lower] = ticks.get(lower, 0) + part
        ticks[upper] = ticks.get(upper, 0) - part
    fees: dict[str, Any] = {"fee_pips": 500} if kind is V3Pool else {"lp_fee": 500}
    here = sum(net for at, net in ticks.items() if at <= tick)
    return kind(sqrt_price_x96=root, tick=tick, liquidity=here, tick_spacing=spacing, ticks=ticks, **fees)


def cycle(rng: random.Random, scale: float) -> list[Hop]:
    """Two or three pools whose prices multiply to a little more than 1, each traded from token 0 or 1."""
    hops = []
    length = rng.choice((2, 3))
    prices = [10 ** rng.uniform(-0.5, 0.5) for _ in range(length - 1)]
    prices.append(rng.uniform(1.01, 1.3) / float(np.prod(prices)))
    for price in prices:
        depth = scale * 10 ** rng.uniform(0, 1)
        i = rng.randint(0, 1)
        shown = price if i == 0 else 1 / price  # token1 for token0
        kind = rng.choice(("v2", "v2", "v3", "v4", "solidly"))
        if kind in ("v3", "v4"):
            state = concentrated(V3Pool if kind == "v3" else V4Pool, rng, depth, shown)
        else:
            state = (pair if kind == "v2" else solidly)(rng, depth, shown)
        hops.append(Hop(state, i, 1 - i))
    return hops


def in_kernel(hops: list[Hop], effort: Effort) -> tuple[float, tuple[int, ...] | None]:
    """(continuous optimum, amounts) as the scanner gets them."""
    book, edges = book_of(hops)
    arrays = book.leg_pool, book.leg_i, book.leg_j, book.code, book.params_at, book.params
    start, _ = walk.optimum(edges, *arrays)
    words, outcome = np.zeros((1, len(hops) + 1, 4), np.uint64), np.empty(1, np.int8)
    hits, starts = np.zeros(1, np.int32), np.array([start])
    settle.settle(
        hits, edges[None, :].copy(), starts, *effort, *arrays, book.words_at, book.words, words, outcome
    )
    assert outcome[0] != settle.ELSEWHERE
    found = tuple(integer(limbs) for limbs in words[0].tolist())
    return start, found if outcome[0] == settle.FOUND else None


def test_equals_trying_every_input() -> None:
    # fails if the search stops on a worse stair, or an inverse of a mixed path misses the least input
    rng, tried, gained = random.Random(1), 0, 0
    while tried < 40:
        hops = cycle(rng, 3000.0)
        start, amounts = in_kernel(hops, THOROUGH)
        if not 1.0 < start < LIMIT / 3:
            continue
        tried += 1
        best = max(amounts_out(hops, x)[-1] - x for x in range(1, LIMIT))
        assert (amounts[-1] - amounts[0] if amounts else 0) == max(best, 0), hops
        gained += amounts is not None
    assert gained > 25, "too few of the cycles gain for this test to mean anything"


@pytest.mark.parametrize("effort", [FAST, THOROUGH])
def test_kernel_and_reference_agree(effort: Effort) -> None:
    # fails if one of the two takes other candidates, or computes one of them differently
    rng, gained = random.Random(2), 0
    for _ in range(60 if effort is FAST else 6):
        hops = cycle(rng, 10 ** rng.uniform(4, 24))
        start, amounts = in_kernel(hops, effort)
        if start == 0.0:
            assert amounts is None
            continue
        reference = best_amounts(hops, start, effort)
        assert amounts == (reference.amounts if reference else None)
        if amounts:
            assert amounts == amounts_out(hops, amounts[0])
            gained += 1
    assert gained > 3
