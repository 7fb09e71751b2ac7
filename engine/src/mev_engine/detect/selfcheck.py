"""A small market with known profitable cycles, run once at start-up through the real scan.

Importing this module imports the scanner, and with it compiles, or loads, every kernel.
"""

from __future__ import annotations

from mev_engine.amm.concentrated import Q96
from mev_engine.amm.uniswap_v3 import V3Pool
from mev_engine.detect.gas import GasModel
from mev_engine.detect.scanner import Scanner
from mev_engine.market.delta import BlockDelta, BlockRef, PoolSpec, StateUpdate, TokenSpec, pair_spec
from mev_engine.market.market import Market

_UNIT = 10**18


def warm() -> None:
    """Run every kernel once, through the whole scan of a small market.

    Takes a minute or two where the cache is cold and a second or two where it is warm. RuntimeError unless a
    full and an incremental scan find the same cycles of 2, 3 and 4 hops, some of them through a V3 pool: a
    kernel that loads but can't run is found here.
    """
    tokens = [TokenSpec(f"0x{i:040x}", name, 18) for i, name in enumerate("ABCD", start=1)]
    sides = [(0, 1), (0, 1), (1, 2), (0, 2), (2, 3), (0, 3)]
    pools = [
        pair_spec(f"0x{i:040x}", tokens[a].address, tokens[b].address, 1000 * _UNIT, (1000 + 60 * i) * _UNIT)
        for i, (a, b) in enumerate(sides)
    ]
    # what the service follows: pairs, and a V3 pool whose price is 1 between two pairs whose price is not
    ticks = {-6000: 1000 * _UNIT, 6000: -1000 * _UNIT}
    pool = V3Pool(
        sqrt_price_x96=Q96, tick=0, liquidity=1000 * _UNIT, tick_spacing=60, fee_pips=3000, ticks=ticks
    )
    pools.append(PoolSpec("0x" + "f" * 40, (tokens[0].address, tokens[1].address), pool, "uniswap_v3"))
    base = tokens[0].address
    market = Market.build(tokens, pools, base_tokens=[base], wrapped_native=base)
    scanner = Scanner(market, chain_id=0, gas=GasModel(0, 0, 0), min_profit=0)
    block = BlockRef(0, "0x" + "0" * 64, "0x" + "0" * 64, 0, 0)
    full = scanner.scan_all(block).opportunities
    updates = tuple(StateUpdate(pool.address, pool.state) for pool in pools)
    touched = scanner.scan(block, market.apply(BlockDelta(block, updates))).opportunities
    mixed = any(pools[-1].address in o.pools for o in full)
    if full != touched or {len(o.pools) for o in full} != {2, 3, 4} or not mixed:
        raise RuntimeError(
            f"self-check: the full scan found {[o.pools for o in full]}, the incremental one "
            f"{[o.pools for o in touched]}: this build of the engine must not run"
        )
