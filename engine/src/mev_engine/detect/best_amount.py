"""The best integer amount of a profit that is concave but for rounding."""

from __future__ import annotations

from collections.abc import Callable

_WINDOW = 64


def best_amount(profit: Callable[[int], int], low: int, high: int) -> tuple[int, int]:
    """`(x, profit(x))` with the greatest profit found in `low..high`, the least such x among those tried.

    Fibonacci search, one evaluation a step, then every integer within 64 of the best. Where `profit` is a
    concave function plus rounding noise of at most e, a wrong step loses at most 2 * 1.62 * e against a point
    that was tried and is remembered: the result lies within 6 * e of the true optimum, and is the optimum
    where that is sharper than the noise. ValueError where the range is empty.
    """
    if low > high:
        raise ValueError(f"the range {low} to {high} is empty")
    tried: dict[int, int] = {}

    def value(x: int) -> int:
        if x > high:  # the sequence may reach beyond: there it only falls
            return value(high) - (x - high)
        if x not in tried:
            tried[x] = profit(x)
        return tried[x]

    value(low)
    value(high)
    left, steps = low - 1, [1, 2]  # the optimum lies strictly between left and left + steps[-1]
    while steps[-1] <= high - left:
        steps.append(steps[-2] + steps[-1])
    while len(steps) > 2:
        if value(left + steps[-3]) < value(left + steps[-2]):
            left += steps[-3]
        steps.pop()
    best = max(tried, key=lambda x: (tried[x], -x))
    for x in range(max(low, best - _WINDOW), min(high, best + _WINDOW) + 1):
        value(x)
    best = max(tried, key=lambda x: (tried[x], -x))
    return best, tried[best]


def best_input(
    profit: Callable[[int], int],
    high: int,
    most: int,
    least: Callable[[int], int] | None,
) -> int:
    """The input in `1..high` with the greatest profit; `high` buys `most`.

    Where what is bought has the coarser unit, `least(amount)` gives the least input that buys an amount: then
    the search goes over amounts bought, so that it walks the stairs instead of falling between them. `high`
    itself is always tried: a cap may make it cheaper than the search believes.
    """
    if least is not None and most > 0:
        best = least(best_amount(lambda amount: profit(least(amount)), 1, most)[0])
    else:
        best = best_amount(profit, 1, high)[0]
    return max((best, high), key=profit)
