"""Pools and swaps that are hard on concentrated liquidity, for V3 and V4 alike.

All choices come from the given `Random`, so a failure repeats.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Literal, TypeVar

from mev_engine.amm.concentrated import (
    MAX_SQRT_PRICE,
    MAX_TICK,
    MIN_SQRT_PRICE,
    MIN_TICK,
    ConcentratedPool,
    Swap,
    extreme_price,
    sqrt_price_at_tick,
)
from mev_engine.amm.errors import SwapRevertedError

PoolT = TypeVar("PoolT", bound=ConcentratedPool)
Kind = Literal["swap", "exact_in", "exact_out"]
SwapFunction = Callable[[PoolT, bool, int, int], Swap]
"""Pool, zero_for_one, signed amount (positive: input), price limit."""

STOPS = 6
"""How many stops ahead (initialised ticks and word edges) a swap's end is aimed at."""


@dataclass(frozen=True, slots=True)
class SwapCall:
    """`amount`: for "swap" positive is input and negative output, else positive. limit 0: none given.

    Answers: swap gives (amount_in, amount_out, sqrt_price_x96, tick, liquidity), exact_in
    (amount_out, sqrt_price_x96) and exact_out (amount_in, sqrt_price_x96), where the price may be left out.
    """

    kind: Kind
    zero_for_one: bool
    amount: int
    limit: int


@dataclass(frozen=True, slots=True)
class Position:
    """Liquidity between two ticks."""

    lower: int
    upper: int
    liquidity: int


@dataclass(frozen=True, slots=True)
class Scenario:
    """A pool to be set up."""

    name: str
    sqrt_price_x96: int
    positions: tuple[Position, ...]

    def ticks(self) -> dict[int, int]:
        """Every initialised tick to its liquidityNet, 0 included."""
        net: Counter[int] = Counter()
        for position in self.positions:
            net[position.lower] += position.liquidity
            net[position.upper] -= position.liquidity
        return dict(net)


def scenarios(random: Random, spacing: int, most: int) -> Iterator[Scenario]:
    """Eight pools: spread, crowded, word edges, near empty, full ticks, holes, lowest and highest prices.

    `most`: the contract's maximum of liquidity per tick.
    """
    top = MAX_TICK // spacing

    def made(name: str, at: int, ranges: Sequence[tuple[int, int, int]]) -> Scenario:
        """`at` and ranges in tick spacings; the price is at the tick, next to it, or between two."""
        positions = []
        for a, b, liquidity in ranges:
            low, high = sorted((min(max(a, -top), top - 1), min(max(b, -top), top - 1)))
            high += low == high
            positions.append(Position(low * spacing, high * spacing, liquidity))
        tick = min(
            max(at * spacing + random.choice([0, 0, random.randrange(spacing)]), MIN_TICK), MAX_TICK - 1
        )
        low, high = sqrt_price_at_tick(tick), sqrt_price_at_tick(tick + 1)
        price = random.choice([low, high - 1, random.randrange(low, high)])
        return Scenario(name, price, tuple(positions))

    def some(low: float, high: float) -> int:
        return max(int(10 ** random.uniform(low, high)), 1)

    here = random.randrange(-200_000, 200_000) // spacing
    wide = max(20_000 // spacing, 4)
    yield made(
        "spread",
        here,
        [
            (here - random.randrange(wide), here + random.randrange(1, wide), some(10, 24)) for _ in range(12)
        ] + [(here + (x := random.randrange(-wide, wide)), here + x + random.randrange(1, 9), some(3, 24))
             for _ in range(12)],
    )  # fmt: skip
    near = [here + random.randrange(-12, 12) for _ in range(24)]
    kissing = some(6, 20)  # two ranges that meet with net 0 at the tick between them
    yield made(
        "crowded",
        here,
        [(x, x + random.choice([1, 1, 2, 5]), some(6, 22)) for x in near]
        + [(here - 3, here + 2, kissing), (here + 2, here + 6, kissing)],
    )
    word = here // 256 * 256
    edges = [word + 256 * i + j for i in range(-2, 3) for j in (-1, 0, 1)]
    yield made(
        "word edges",
        random.choice(edges),
        [(random.choice(edges), random.choice(edges), some(6, 22)) for _ in range(14)],
    )
    yield made(
        "near empty",
        here,
        [
            (here - random.randrange(1, wide), here + random.randrange(1, wide), some(0, 2))
            for _ in range(4)
        ],
    )  # fmt: skip
    steps = sorted(random.sample(range(here - wide, here + wide), 8))
    yield made("full ticks", here, [(steps[i], steps[7 - i], most) for i in range(4)])
    yield made(
        "holes",
        here,
        [(here + x, here + x + random.choice([1, 3]), some(3, 20)) for x in (-40, -9, -3, 5, 13, 300)],
    )
    for name, end in (("lowest prices", -top), ("highest prices", top)):
        inward = 1 if end < 0 else -1
        yield made(
            name,
            end + inward * random.choice([0, 1, 3, 40]),
            [(end, end + inward * random.randrange(1, 60), random.choice([1, some(0, 9), some(9, 18)]))
             for _ in range(8)]
            + [(-top, top - 1, some(0, 12))],
        )  # fmt: skip


def swaps(
    random: Random, pool: PoolT, swap: SwapFunction[PoolT], count: int, *, long_walks: bool
) -> Iterator[SwapCall]:
    """`count` swaps on this state. long_walks: also some that use up all liquidity (slow at spacing 1)."""
    for _ in range(count):
        zero_for_one = random.random() < 0.5
        prices = [price for price in _stop_prices(pool, zero_for_one) if price != pool.sqrt_price_x96]
        far = random.random() < 0.5 if long_walks else random.random() < 0.02
        if far or not prices:
            limit = extreme_price(zero_for_one=zero_for_one)
        else:
            limit = random.choice([prices[-1], prices[-1], *prices, _between(random, pool, prices[-1])])
        kind = random.random()
        if kind < 0.05:
            yield _refused(random, pool, zero_for_one)
        elif kind < 0.65 and prices:
            yield SwapCall("swap", zero_for_one, _amount_to(random, pool, swap, random.choice(prices)), limit)
        else:
            size = int(2 ** random.uniform(0, 1.1 * _bits(pool, swap, zero_for_one, prices))) + random.choice(
                [0, 1]
            )
            size = random.choice([size, size, size, size, 1, 2, 2**127 - 1, 2**127, 2**255 - 1])
            yield SwapCall("swap", zero_for_one, random.choice([-1, 1]) * size, limit)


def successive_swaps(
    random: Random, pool: PoolT, swap: SwapFunction[PoolT], count: int, *, long_walks: bool
) -> list[SwapCall]:
    """Swaps to follow one another, each chosen on the state that we foresee after the ones before."""
    calls = []
    for _ in range(count):
        (call,) = swaps(random, pool, swap, 1, long_walks=long_walks)
        calls.append(call)
        with suppress(SwapRevertedError):  # which leaves the state as it is
            pool = pool.after(swap(pool, call.zero_for_one, call.amount, call.limit))
    return calls


def _stop_prices(pool: ConcentratedPool, zero_for_one: bool) -> list[int]:
    prices, tick = [], pool.tick
    for _ in range(STOPS):
        stop, _ = pool.next_tick(tick, zero_for_one=zero_for_one)
        if not MIN_TICK <= stop <= MAX_TICK:
            break
        prices.append(sqrt_price_at_tick(stop))
        tick = stop - 1 if zero_for_one else stop
    return [price for price in prices if MIN_SQRT_PRICE < price < MAX_SQRT_PRICE]


def _between(random: Random, pool: ConcentratedPool, price: int) -> int:
    low, high = sorted((price, pool.sqrt_price_x96))
    return min(
        max(random.choice([random.randrange(low, high + 1), low + 1, high - 1]), MIN_SQRT_PRICE),
        MAX_SQRT_PRICE,
    )


def _refused(random: Random, pool: ConcentratedPool, zero_for_one: bool) -> SwapCall:
    """No amount, or a limit on the wrong side, at the price or out of bounds."""
    price = pool.sqrt_price_x96
    beyond = (
        [MIN_SQRT_PRICE, 0, price, price + 1]
        if zero_for_one
        else [MAX_SQRT_PRICE, 2**160 - 1, price, price - 1]
    )
    amount = random.choice([-1, 1]) * random.randrange(1, 10**9)
    return random.choice(
        [
            SwapCall("swap", zero_for_one, 0, extreme_price(zero_for_one=zero_for_one)),
            SwapCall("swap", zero_for_one, amount, random.choice(beyond)),
        ]
    )


def _amount_to(random: Random, pool: PoolT, swap: SwapFunction[PoolT], price: int) -> int:
    """Just what moves the price to `price`, or one less or more; as input or as output."""
    zero_for_one = price < pool.sqrt_price_x96
    try:
        moved = swap(pool, zero_for_one, 2**200, price)
    except SwapRevertedError:
        return 1
    exact = random.choice([moved.amount_in, -moved.amount_out])
    return exact + random.choice([-1, 0, 0, 1]) or 1


def _bits(pool: PoolT, swap: SwapFunction[PoolT], zero_for_one: bool, prices: Sequence[int]) -> float:
    """Size, in bits, of an input that uses up the liquidity of the stops ahead."""
    if not prices:
        return 60.0
    try:
        return float(swap(pool, zero_for_one, 2**200, prices[-1]).amount_in.bit_length() + 1)
    except SwapRevertedError:
        return 128.0
