"""What the chain offers is what the engine reports: a plain search over all cycles finds nothing more."""

from __future__ import annotations

from dataclasses import replace

import pytest
from mev_engine.market.delta import PoolSpec
from mev_engine.market.market import Market
from reference import all_cycles, best_input, path_hops

from .conftest import GAS, Recording, scanner

pytestmark = pytest.mark.chain

WINDOW = 4  # stairs tried each way: the tolerance below is far wider than what more of them would find
BLOCKS = 25
TOLERANCE = 10**4  # the engine's net profit may fall short of the reference's by one part in this


def test_plain_search_of_recorded_blocks_finds_nothing_more(recording: Recording) -> None:
    """25 blocks, every cycle of 2 to 4 hops through a touched pool, exact integers throughout.

    Fails if the index lacks a cycle, the screen drops one that gains, the closed form sizes one badly,
    the price of a base token is wrong, or a touched pool is overlooked.
    """
    market = recording.market()
    scan = scanner(market)
    compared = 0
    for delta in recording.deltas[:BLOCKS]:
        found = scan.scan(delta.block, market.apply(delta)).opportunities
        net_of = {(o.tokens, o.pools): o.net_profit for o in found}
        pools = _pools_now(market)
        touched = {update.pool for update in delta.updates}
        gas_price = delta.block.base_fee + GAS.priority_fee
        for tokens, path in all_cycles(list(pools.values()), market.base_tokens, 4):
            if touched.isdisjoint(path):
                continue
            _, gross = best_input(path_hops(pools, tokens, path), window=WINDOW)
            cost = (GAS.per_cycle + GAS.per_hop * len(path)) * gas_price
            best = _in_wei(pools, tokens[0], market.wrapped_native, gross) - cost
            if gross <= 0 or best <= 0:
                continue
            engine = net_of.get((tokens, path))
            where = f"block {delta.block.number}, cycle {tokens} through {path}"
            assert engine is not None, f"{where}: {best} wei were missed"
            assert (best - engine) * TOLERANCE <= best, f"{where}: {engine} wei, {best} were possible"
            compared += 1
    print(f"{compared} opportunities compared")
    assert compared >= 50


def _pools_now(market: Market) -> dict[str, PoolSpec]:
    """The pools with their present reserves."""
    return {pool.address: replace(pool, state=market.state(pool.address)) for pool in market.pools}


def _in_wei(pools: dict[str, PoolSpec], token: str, native: str, amount: int) -> int:
    """`amount` raw units of `token` in wei, at the mid price of its deepest pool with the native coin."""
    if token == native:
        return amount
    depths = [
        p.state.side(0 if p.token0 == native else 1)[:2]
        for p in pools.values()
        if {p.token0, p.token1} == {token, native}
    ]
    wei, units = max(depths)
    worth: int = amount * wei // units
    return worth
