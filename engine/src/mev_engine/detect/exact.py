"""The exact optimum of one cycle, in Python integers: the reference, and the way for any family.

The exact profit is a staircase in the input: where a token with few decimals lies on the path, whole
ranges of inputs buy the same output, and the continuous optimum is somewhere on a stair, not at
its edge. So candidates are not inputs but integer amounts of the path's *coarsest* token, that
whose one unit is worth most. Each gives an output, and the least input that buys that amount is found back
through the pools' inverses.

Each candidate falls short of the continuous profit by what rounding wastes: up to a unit of every coarse
token, and of a fee taken from one, where the waste hardly changes over hundreds of amounts. And the
continuous profit is flat at its top, so thousands of amounts can be the best. First those next to the
optimum are tried, then samples spread evenly (by the golden ratio) over all that can still beat the
best so far: that range shrinks as it gets better, and what fits the rest of the samples is tried whole.
Float64 can't tell a wei of a large amount, so some samples go next to the optimum and next to the best.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from mev_engine.amm import registry
from mev_engine.amm.errors import SwapRevertedError, UnknownStateError
from mev_engine.detect.walk import trace
from mev_engine.market.book import Book
from mev_engine.types import FloatArray

MOST_REACH = 2.0**62
GOLDEN = 0.6180339887498949
SURPLUS = 8
"""Units by which an exact output's input is lowered at most, where effort is made."""
UNCERTAIN = 1e-15
"""Of the output: float64 can't tell the continuous profit from one that much higher."""
JUST_BEFORE = 1e-6
POLISHED = 1e-10
"""Of an amount: where float64 is trusted to have placed an optimum."""


class Effort(NamedTuple):
    """`near`: candidates on each side of the optimum that are always tried. `samples`: how many more are,
    unless the continuous profit leaves no more than a unit, or the share `tolerance` of the profit, to be
    gained."""

    near: int
    samples: int
    tolerance: float


FAST = Effort(1, 24, 1e-7)
"""For ranking a block's candidates."""
EMITTED = Effort(8, 512, 1e-9)
"""For the best of a block, once they are known."""
THOROUGH = Effort(8, 4096, 0.0)
"""Where time does not matter: milliseconds a cycle."""


class Hop(NamedTuple):
    """A swap of token i for token j of a pool in this state."""

    state: Any
    i: int
    j: int

    def quote(self, amount: int) -> int:
        """What the pool pays; 0 where the contract would revert or the state does not say."""
        try:
            return registry.family_of(self.state).exact_in(self.state, self.i, self.j, amount)
        except (SwapRevertedError, UnknownStateError):
            return 0

    def least(self, amount: int) -> int:
        """An input that buys at least `amount`, the least or close to it; 0 where there is none."""
        try:
            return registry.family_of(self.state).exact_out(self.state, self.i, self.j, amount)
        except (SwapRevertedError, UnknownStateError):
            return 0


@dataclass(frozen=True, slots=True)
class Sized:
    """`amounts`: the input and each hop's output, raw units."""

    amounts: tuple[int, ...]

    @property
    def profit(self) -> int:
        """Output less input, > 0. Of the amounts themselves: the least input that buys a wanted output
        may, swapped forward, buy a unit more of it."""
        return self.amounts[-1] - self.amounts[0]


def best_amounts(hops: Sequence[Hop], start: float, effort: Effort = THOROUGH) -> Sized | None:
    """The most profitable integer trade around `start` (raw units), or None if none gains.

    `start` is the continuous optimum, from `detect.kernels.size_hits` or `detect.walk`.
    """
    start = max(start, 1.0)
    rows = _rows(hops, start)
    gain = math.sqrt(max(float(rows[-1, 1]), 0.0)) - 1.0
    if not rows[-1, 1] > 0.0:  # the best input is where a pool has no more to give: look from just before
        start = max(start * (1.0 - JUST_BEFORE), 1.0)
        rows, gain = _rows(hops, start), 0.0
    position = int(np.argmin(rows[:, 1])) + 1
    y, slope = float(rows[position - 1, 0]), float(rows[position - 1, 1])
    whole_y, whole_slope, curve = (float(value) for value in rows[-1])

    best_input = math.floor(start)
    best_profit = max(_through(hops, best_input) - best_input, 0)
    if slope > 0.0 and whole_slope > 0.0 and curve > 0.0:
        top = whole_y - start + gain * gain / curve
        centre = math.floor(max(y + slope * gain / curve, 1.0))
        offsets = _offsets(
            effort, float(centre), lambda best: (top - best + UNCERTAIN * whole_y, slope, curve)
        )
        off = next(offsets)
        while off is not None:
            amount = centre + off
            out = _through(hops[position:], amount) if amount > 0 else 0
            needed = _back(hops[:position], amount) if out else 0
            # an exact output may ask for a few units more than the least input
            for _ in range(SURPLUS if needed > 1 and effort.near > 1 else 0):
                if _through(hops[:position], needed - 1) < amount:
                    break
                needed -= 1
            if needed and out - needed > best_profit:
                best_input, best_profit = needed, out - needed
            off = offsets.send(best_profit)
    # beyond the position, too, some of the amount may buy nothing
    if best_profit and position < len(hops):
        needed = _back(hops, best_input + best_profit)
        best_input = min(best_input, needed or best_input)
    amounts = amounts_out(hops, best_input)
    return Sized(amounts) if best_profit > 0 and amounts[-1] > amounts[0] else None


def _rows(hops: Sequence[Hop], x: float) -> FloatArray:
    """`walk.trace` of the hops."""
    book, edges = book_of(hops)
    rows = np.empty((len(hops), 3))
    trace(edges, book.leg_pool, book.leg_i, book.leg_j, book.code, book.params_at, book.params, x, rows)
    return rows


def _offsets(
    effort: Effort, centre: float, range_of: Callable[[int], tuple[float, float, float]]
) -> Generator[int | None, int, None]:
    """Candidates as offsets from `centre`; told the best profit after each, ends with None."""
    best = best_off = 0

    def told(off: int, profit: int) -> None:
        nonlocal best, best_off
        if profit != best:
            best, best_off = profit, off

    for n in range(2 * effort.near + 1):
        off = (n + 1) >> 1 if n & 1 else -(n >> 1)
        told(off, (yield off))
    # float64 can't place the optimum of a large amount to the unit: halve the steps towards it
    step = effort.near * centre * POLISHED
    while step >= 1.0 and effort.tolerance < POLISHED:
        for side in (1, -1):
            off = best_off + int(side * step)
            told(off, (yield off))
        step *= 0.5
    top_off = best_off
    for n in range(effort.samples):
        gap, slope, curve = range_of(best)
        if gap <= max(1.0, effort.tolerance * best):
            break
        reach = min(slope * math.sqrt(gap / curve), MOST_REACH)
        if 2.0 * (reach - effort.near) < effort.samples - n:
            for m in range(effort.near + 1, int(reach) + 1):
                yield m
                yield -m
            break
        off = sample(n, reach, top_off, best_off)
        told(off, (yield off))
    yield None


def sample(n: int, reach: float, top: int, best: int) -> int:
    """The n-th sample, an offset from the optimum. In turns: around the optimum, as many in each power of
    ten, as waste can repeat over any; anywhere in reach; beside the best so far, whose waste changes
    slowly."""
    if n % 3 == 2:
        return best + ((n // 3) % 16 + 1) * (1 if n & 1 else -1)
    u = n * GOLDEN % 1.0
    if n % 3:
        return int((2.0 * u - 1.0) * reach)
    return top + int(reach**u) * (1 if n & 1 else -1)


def amounts_out(hops: Sequence[Hop], amount_in: int) -> tuple[int, ...]:
    """The input and each hop's output; 0 from a hop on that reverts."""
    amounts = [amount_in]
    for hop in hops:
        amounts.append(hop.quote(amounts[-1]) if amounts[-1] else 0)
    return tuple(amounts)


def book_of(hops: Sequence[Hop]) -> tuple[Book, Any]:
    """A book of just these pools, and the path's edges in it (int32)."""
    book = Book()
    book.add([hop.state for hop in hops])
    edges = []
    for number, hop in enumerate(hops):
        for leg in range(book.first_leg[number], book.first_leg[number + 1]):
            if {book.leg_i[leg], book.leg_j[leg]} == {hop.i, hop.j}:
                edges.append(2 * leg + int(book.leg_j[leg] == hop.i))
    return book, np.array(edges, dtype=np.int32)


def _through(hops: Sequence[Hop], amount: int) -> int:
    for hop in hops:
        amount = hop.quote(amount) if amount else 0
    return amount


def _back(hops: Sequence[Hop], amount: int) -> int:
    for hop in reversed(hops):
        amount = hop.least(amount) if amount else 0
    return amount
