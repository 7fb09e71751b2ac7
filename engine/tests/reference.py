"""Plain-Python reference for the whole detection: no numba, no index, no floats, no clever order.

Every simple cycle is walked by depth-first search; each is sized by a search over exact integers.
Slow and short on purpose: the engine is compared with it, so it shares no code with the engine but
the types of `market.delta`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mev_engine.market.delta import PoolSpec, TokenSpec

Hop = tuple[int, int, int, int]
"""reserve_in, reserve_out, fee_num, fee_den"""


@dataclass(frozen=True)
class MarketSpec:
    """A market at one block: `pools` with the reserves of that block."""

    tokens: Sequence[TokenSpec]
    pools: Sequence[PoolSpec]


@dataclass(frozen=True)
class Cycle:
    """`tokens` has hops + 1 entries, first = last = base token; `gross_profit` in its raw units."""

    tokens: tuple[str, ...]
    pools: tuple[str, ...]
    amount_in: int
    gross_profit: int


def best_cycles(market: MarketSpec, base_tokens: Sequence[str], max_hops: int) -> list[Cycle]:
    """Every directed simple cycle that gains in exact integers, with its best input; best first.

    A cycle through several base tokens is listed once, from the first of them in `base_tokens`.
    """
    by_address = {pool.address: pool for pool in market.pools}
    found = []
    for tokens, pools in all_cycles(market.pools, base_tokens, max_hops):
        hops = path_hops(by_address, tokens, pools)
        amount_in, profit = best_input(hops)
        if profit > 0:
            found.append(Cycle(tokens, pools, amount_in, profit))
    return sorted(found, key=lambda cycle: -cycle.gross_profit)


def all_cycles(
    pools: Sequence[PoolSpec], base_tokens: Sequence[str], max_hops: int
) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """(tokens, pools) of every directed simple cycle of 2 to `max_hops` hops."""
    neighbours: dict[str, list[tuple[str, str]]] = {}
    for pool in pools:
        neighbours.setdefault(pool.token0, []).append((pool.address, pool.token1))
        neighbours.setdefault(pool.token1, []).append((pool.address, pool.token0))
    for rank, base in enumerate(base_tokens):
        yield from _walk(neighbours, (base,), (), max_hops, set(base_tokens[:rank]))


def _walk(
    neighbours: dict[str, list[tuple[str, str]]],
    tokens: tuple[str, ...],
    pools: tuple[str, ...],
    max_hops: int,
    closed: set[str],
) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    for pool, token in neighbours.get(tokens[-1], []):
        if pool in pools or token in closed:
            continue
        if token == tokens[0]:
            if pools:
                yield (*tokens, token), (*pools, pool)
        elif token not in tokens and len(pools) + 1 < max_hops:
            yield from _walk(neighbours, (*tokens, token), (*pools, pool), max_hops, closed)


def path_hops(pools: dict[str, PoolSpec], tokens: Sequence[str], path: Sequence[str]) -> tuple[Hop, ...]:
    """The reserves along a path, in the direction of the trade."""
    hops = []
    for token, address in zip(tokens, path, strict=False):
        pool = pools[address]
        hops.append(pool.state.side(0 if token == pool.token0 else 1))
    return tuple(hops)


def amount_out(hops: Sequence[Hop], amount: int) -> int:
    """Output of a path by the pairs' integer arithmetic; 0 where a pair would revert."""
    for reserve_in, reserve_out, fee_num, fee_den in hops:
        if reserve_in + amount >= 2**112:
            return 0
        amount = amount * fee_num * reserve_out // (reserve_in * fee_den + amount * fee_num)
    return amount


def profit(hops: Sequence[Hop], amount: int) -> int:
    return amount_out(hops, amount) - amount


def best_input(hops: Sequence[Hop], window: int = 32) -> tuple[int, int]:
    """(input, profit) of the most profitable integer input that this search finds; (0, 0) if none.

    Ternary search brings it near the top. The profit is a staircase there, so then every stair of
    every token of the path is tried, `window` stairs each way: its edge is the least input that
    still buys that amount of that token, found by bisection.
    """
    if any(min(hop[0], hop[1]) == 0 for hop in hops) or not _gains_at_margin(hops):
        return 0, 0
    low, high = 1, min(hops[0][0] * 2**20, 2**112)
    while high - low > 8:
        third = (high - low) // 3
        if profit(hops, low + third) < profit(hops, high - third):
            low += third
        else:
            high -= third
    top = max(range(low, high + 1), key=lambda x: profit(hops, x))
    candidates = {top}
    for position in range(1, len(hops) + 1):
        prefix = hops[:position]
        centre = amount_out(prefix, top)
        for amount in range(max(1, centre - window), centre + window + 1):
            edge = _least_input(prefix, amount, near=top)
            if edge is not None:
                candidates.add(edge)
    return max(((x, profit(hops, x)) for x in candidates), key=lambda c: c[1], default=(0, 0))


def exhaustive_best(hops: Sequence[Hop], limit: int) -> tuple[int, int]:
    """(input, profit) over every input up to `limit`: the truth, where that many can be tried."""
    return max(((x, profit(hops, x)) for x in range(1, limit + 1)), key=lambda c: c[1])


def _gains_at_margin(hops: Sequence[Hop]) -> bool:
    """Whether the product of the marginal rates is above 1, in integers; else no input can gain."""
    gain, loss = 1, 1
    for reserve_in, reserve_out, fee_num, fee_den in hops:
        gain *= fee_num * reserve_out
        loss *= fee_den * reserve_in
    return gain > loss


def _least_input(hops: Sequence[Hop], wanted: int, near: int) -> int | None:
    """The least input that gives `wanted` after `hops`, by bisection; None if none up to 2 * near does."""
    low, high = 0, 2 * near + 2
    if amount_out(hops, high) < wanted:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if amount_out(hops, middle) >= wanted:
            high = middle
        else:
            low = middle
    return high
