"""Split arbitrage over the pools of a block's best cycles, where it beats those cycles after gas.

Cycles belong together that trade a pair of tokens in common, through one pool or through parallel ones.
Through the pools of each group `detect.splits` finds the best split trade; it is kept where its net profit,
exact and after gas, is above that of the single cycles that it would stand in for.

Only pools on cycles that gain at the margin can be part of a best flow. Each path of it ends at a marginal
rate of 1, and rates only fall as pools are traded, so it began above 1. Looking at the cycles that a scan
has found is therefore enough, as far as it has found them all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from mev_engine.detect.gas import GasModel
from mev_engine.detect.opportunity import Opportunity, opportunity_id
from mev_engine.detect.selection import components, pack
from mev_engine.detect.splits import Split, best_split
from mev_engine.market.delta import BlockRef
from mev_engine.market.market import Market
from mev_engine.types import IndexArray

MAX_POOLS = 200
"""Of a group of cycles: those of the best-ranked come first."""


class Price(Protocol):
    """Native wei for a base token's raw unit, as an exact ratio; a `Fraction` is one."""

    @property
    def numerator(self) -> int: ...
    @property
    def denominator(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Swap:
    """Exact amounts in raw units; tokens and pool by address."""

    pool: str
    token_in: str
    token_out: str
    amount_in: int
    amount_out: int


@dataclass(frozen=True, slots=True)
class SplitRoute:
    """A split arbitrage, verified swap by swap against the state after `block`.

    `swaps` are in an order in which each input has arrived before it is paid in; every pool is met once
    and every token but `base` is used up. `gross_profit`: raw units of `base`; `gas_cost` and
    `net_profit`: wei of the native coin. `replaces`: ids of the opportunities that share a pool with it
    and would be chosen without it, whose net profits together are less."""

    id: str
    block: BlockRef
    base: str
    swaps: tuple[Swap, ...]
    gross_profit: int
    gas_units: int
    gas_price: int
    gas_cost: int
    net_profit: int
    replaces: tuple[str, ...]

    @property
    def pools(self) -> tuple[str, ...]:
        return tuple(swap.pool for swap in self.swaps)

    @property
    def amount_in(self) -> int:
        """What must be there at the start, as a flash loan would bring it."""
        return sum(swap.amount_in for swap in self.swaps if swap.token_in == self.base)


@dataclass(frozen=True, slots=True)
class Improvement:
    """`routes`: best first. `declined`: why a group of cycles stays as it is, by the id of its best."""

    routes: list[SplitRoute]
    declined: dict[str, str]


def improve(
    market: Market,
    opportunities: Sequence[Opportunity],
    gas: GasModel,
    block: BlockRef,
    prices: Mapping[str, Price | None],
    *,
    chain_id: int,
    min_profit: int = 0,
    max_pools: int = MAX_POOLS,
) -> Improvement:
    """Splits that beat the single cycles among `opportunities` (best first), which the market's present
    states must be those of. Pass the ones that can't pay for their gas alone, too: together they may.

    `prices`: by base token, None where there is none. `min_profit`: wei; only what is above it counts.
    Of a pool of more than two tokens only the pair that the best cycle trades is used.
    """
    routes, declined = [], {}
    pairs = [[frozenset(pair) for pair in zip(o.tokens, o.tokens[1:], strict=False)] for o in opportunities]
    for group in components(pairs):
        members = [opportunities[n] for n in group]
        if len(members) == 1:
            continue
        legs = _legs(market, members, max_pools)
        reasons: list[str] = []
        found: list[SplitRoute] = []
        for base in dict.fromkeys(o.tokens[0] for o in members):
            price = prices.get(base)
            if price is None:
                reasons.append(f"base token {base} has no price")
                continue
            wei = gas.price(block) * price.denominator / price.numerator  # raw base units for a unit of gas
            split, why = best_split(
                market.book, market.edge_token, legs, market.token_index[base],
                gas=gas.by_code().astype(np.float64) * wei, fixed=gas.per_cycle * wei,
            )  # fmt: skip
            if split is None:
                reasons.append(why)
            else:
                found.append(_route(market, split, base, gas, block, price, chain_id))
        best, why = _best(found, members, min_profit)
        if best is not None:
            routes.append(best)
        else:
            declined[members[0].id] = "; ".join(dict.fromkeys([*reasons, why] if why else reasons))
    routes.sort(key=lambda route: (-route.net_profit, route.id))
    return Improvement(routes, declined)


def _legs(market: Market, members: Sequence[Opportunity], max_pools: int) -> IndexArray:
    """Legs on these cycles, one a pool: that of the best-ranked cycle through it."""
    book = market.book
    legs: dict[int, int] = {}
    for opportunity in members:
        for pool, *pair in zip(opportunity.pools, opportunity.tokens, opportunity.tokens[1:], strict=False):
            number = market.pool_index[pool]
            if number in legs or len(legs) == max_pools:
                continue
            wanted = {market.token_index[token] for token in pair}
            legs[number] = next(
                leg
                for leg in range(int(book.first_leg[number]), int(book.first_leg[number + 1]))
                if set(market.edge_token[2 * leg : 2 * leg + 2].tolist()) == wanted
            )
    return np.array(list(legs.values()), np.int32)


def _route(
    market: Market,
    split: Split,
    base: str,
    gas: GasModel,
    block: BlockRef,
    price: Price,
    chain_id: int,
) -> SplitRoute:
    names = [market.tokens[token].address for token in market.edge_token[list(split.edges)]]
    others = [market.tokens[market.edge_token[edge ^ 1]].address for edge in split.edges]
    numbers = [int(market.book.leg_pool[edge >> 1]) for edge in split.edges]
    pools = [market.pools[number].address for number in numbers]
    swaps = tuple(map(Swap, pools, names, others, split.amounts_in, split.amounts_out))
    used = gas.per_cycle + int(gas.by_code()[market.book.code[numbers]].sum())
    cost = used * gas.price(block)
    path = tuple(token for swap in swaps for token in (swap.token_in, swap.token_out))
    return SplitRoute(
        id=opportunity_id(chain_id, block.hash, path, tuple(pools)),
        block=block,
        base=base,
        swaps=swaps,
        gross_profit=split.gross,
        gas_units=used,
        gas_price=gas.price(block),
        gas_cost=cost,
        net_profit=split.gross * price.numerator // price.denominator - cost,
        replaces=(),
    )


def _best(
    found: Sequence[SplitRoute], members: Sequence[Opportunity], min_profit: int
) -> tuple[SplitRoute | None, str]:
    """The best route, if it is worth more than the single cycles that would be chosen and share a pool
    with it, which `replaces` then names."""
    if not found:
        return None, ""
    route = max(found, key=lambda route: route.net_profit)
    pools = set(route.pools)
    chosen = pack([o.pools for o in members], [o.net_profit for o in members]).chosen
    rivals = [members[n] for n in chosen if pools & set(members[n].pools)]
    most = max(min_profit, sum(o.net_profit for o in rivals))
    if route.net_profit > most:
        return replace(route, replaces=tuple(o.id for o in rivals)), ""
    return None, f"the best split nets {route.net_profit} wei, single cycles or the floor {most}"
