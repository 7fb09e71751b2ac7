"""Whole blocks in a big market: from the block's changes to ranked, verified opportunities.

    python -m blocks --pools 100000       one row a number of touched pools, from engine/benchmarks

The market is random but shaped like a chain's: a few hubs, many tokens with one pool, Uniswap V2 pairs and a
share of V3 pools. A block touches pools as often as real ones trade: rank-frequency by Zipf's law with the
exponent that 14 real blocks of Ethereum have (309 changes of 175 V2 pairs, the busiest 4 % of them: 0.9).
In a calm market most pools end a block within the fees of one another, as others have taken what there was:
`CALM` of them are left off by a tenth of that, the rest as far as single real swaps go (`MOVES`). In a storm
(--storm) all are. Prices are put back after each block.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from mev_engine.amm.concentrated import Q96, sqrt_price_at_tick, tick_at_sqrt_price
from mev_engine.amm.uniswap_v3 import V3Pool
from mev_engine.detect import GasModel, Scanner
from mev_engine.market import BlockDelta, BlockRef, Market, PoolSpec, StateUpdate, TokenSpec, pair_spec
from mev_engine.types import FloatArray

BLOCK = BlockRef(1, "0x" + "0" * 64, "0x" + "0" * 64, 0, 20 * 10**9)
MOVES = ((0.05, 1.0e-5), (0.1, 2.0e-5), (0.25, 2.7e-4), (0.5, 1.7e-3), (0.75, 7.7e-3), (0.9, 2.4e-2))
"""Quantiles of |change of ln(reserve)| in those 275 swaps; beyond the last, the last."""
ZIPF = 0.9
CALM = 0.98
V3_SHARE = 0.2
"""Of the pools in the core, where cycles are."""


def make_market(rng: np.random.Generator, n_pools: int, n_core: int, bases: int = 2) -> Market:
    """`n_core` pools join tokens of the core with hubs and each other; the rest are dead ends at the hub."""
    n_tokens = n_pools - n_core + 1
    tokens = [TokenSpec(f"0x{i:040x}", f"T{i}", 18) for i in range(n_tokens)]
    price = np.exp(rng.normal(0.0, 3.0, n_tokens))
    pools = []
    for n in range(n_pools):
        core = n >= n_tokens - 1
        a, b = n + 1, 0
        if core:
            a = int(n_tokens * rng.random() ** 2)
            b = int(rng.integers(1, 4) if rng.random() < 0.75 else rng.integers(n_tokens))
            a = a if a != b else (b + 1) % n_tokens
        value, off = 10 ** rng.uniform(19, 23.5), np.exp(rng.normal(0.0, 0.0005))
        sides = tokens[a].address, tokens[b].address
        reserves = int(value / price[a]), int(value * off / price[b])
        address = f"0x{n_tokens + n:040x}"
        if core and rng.random() < V3_SHARE:
            pools.append(PoolSpec(address, sides, v3_pool(rng, *reserves), "uniswap_v3"))
        else:
            pools.append(pair_spec(address, *sides, *reserves))
    names = [t.address for t in tokens[:bases]]
    market = Market.build(tokens, pools, base_tokens=names, wrapped_native=names[0])
    gc.collect()
    gc.freeze()  # as the service does once it has its market
    return market


def v3_pool(rng: np.random.Generator, reserve0: int, reserve1: int) -> V3Pool:
    """About as deep and priced as a pair with these reserves, in up to 12 overlapping positions."""
    price = int((reserve1 / reserve0) ** 0.5 * Q96)
    tick, spacing = tick_at_sqrt_price(price), 60
    liquidity = int((float(reserve0) * float(reserve1)) ** 0.5)
    ticks: dict[int, int] = {}
    for _ in range(int(rng.integers(1, 13))):
        lower = (tick - int(rng.integers(60, 12_000))) // spacing * spacing
        upper = (tick + int(rng.integers(60, 12_000))) // spacing * spacing + spacing
        part = max(1, int(liquidity * rng.uniform(0.05, 1.0)))
        ticks[lower] = ticks.get(lower, 0) + part
        ticks[upper] = ticks.get(upper, 0) - part
    here = sum(net for at, net in ticks.items() if at <= tick)
    return V3Pool(
        sqrt_price_x96=price, tick=tick, liquidity=here, tick_spacing=spacing, fee_pips=3000, ticks=ticks
    )


def blocks(
    rng: np.random.Generator, market: Market, touched: int, count: int, *, storm: bool = False
) -> Iterator[BlockDelta]:
    """Random blocks that each touch so many pools; the market must be as it is now at each."""
    depth = market.depth()
    by_pool = np.maximum.reduceat(depth, market.book.first_leg[:-1])
    order = np.argsort(-by_pool, kind="stable")  # the deepest trade most
    weight = np.arange(1, market.n_pools + 1, dtype=np.float64) ** -ZIPF
    weight /= weight.sum()
    shares, sizes = zip(*MOVES, strict=True)
    for _ in range(count):
        chosen = order[rng.choice(market.n_pools, touched, replace=False, p=weight)]
        moves = np.interp(rng.random(touched), shares, sizes) * rng.choice((-1.0, 1.0), touched)
        if not storm:
            calm = rng.random(touched) < CALM
            moves[calm] = rng.normal(0.0, 0.0003, int(calm.sum()))
        updates = [
            StateUpdate(market.pools[p].address, moved(market.book.states[p], float(move)))
            for p, move in zip(chosen, moves, strict=True)
        ]
        yield BlockDelta(BLOCK, tuple(updates))


def moved(state: object, move: float) -> object:
    """The state after a trade that changes ln(reserve) by `move` and -`move`."""
    factor = float(np.exp(move))
    if isinstance(state, V3Pool):
        price = int(state.sqrt_price_x96 * factor)
        lowest, highest = (sqrt_price_at_tick(state.order[k]) for k in (0, -1))
        price = min(max(price, lowest), highest - 1)
        tick = tick_at_sqrt_price(price)
        here = sum(net for at, net in state.ticks.items() if at <= tick)
        return state.moved(price, tick, here)
    pair = state
    return type(pair)(  # type: ignore[call-arg]
        int(pair.reserve0 * factor),  # type: ignore[attr-defined]
        int(pair.reserve1 / factor),  # type: ignore[attr-defined]
    )


@dataclass(frozen=True, slots=True)
class Row:
    """Blocks of one size. Milliseconds a block; the rest are medians."""

    touched: int
    apply: FloatArray
    scan: FloatArray
    cycles_touched: int
    cycles_screened: int
    cycles_passed: int
    opportunities: int

    @property
    def p99(self) -> float:
        """Of the whole block: taking its changes over, and the scan."""
        return float(np.percentile(self.apply + self.scan, 99))

    @property
    def median(self) -> float:
        return float(np.median(self.apply + self.scan))


def measure(
    rng: np.random.Generator, scanner: Scanner, touched: int, count: int, *, storm: bool = False
) -> Row:
    """Scan `count` blocks and put the market back after each."""
    market = scanner.market
    applied, scanned, results = [], [], []
    for delta in blocks(rng, market, touched, count, storm=storm):
        before = [StateUpdate(u.pool, market.state(u.pool)) for u in delta.updates]
        started = time.perf_counter()
        pools = market.apply(delta)
        between = time.perf_counter()
        results.append(scanner.scan(BLOCK, pools))
        scanned.append(time.perf_counter() - between)
        applied.append(between - started)
        market.apply(BlockDelta(BLOCK, tuple(before)))
    names = ("cycles_touched", "cycles_screened", "cycles_passed")
    through, screened, passed = (int(np.median([getattr(r, name) for r in results])) for name in names)
    found = int(np.median([len(result.opportunities) for result in results]))
    return Row(touched, np.array(applied) * 1e3, np.array(scanned) * 1e3, through, screened, passed, found)


def describe(market: Market) -> str:
    index, book = market.cycles, market.book
    return (
        f"{market.n_pools:,} pools, {market.n_cycles:,} cycles of 2 to {market.max_hops} hops; "
        f"{index.n_bytes / market.n_cycles:.1f} bytes a cycle, "
        f"{book.n_bytes / market.n_pools:.0f} bytes a pool"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m blocks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pools", type=int, default=100_000, help="default: 100000")
    parser.add_argument("--core", type=int, default=8_500, help="pools with cycles (default: 8500)")
    parser.add_argument("--blocks", type=int, default=100, help="of each size (default: 100)")
    parser.add_argument("--touched", type=int, nargs="+", default=[10, 50, 100, 200, 400], metavar="N")
    parser.add_argument("--storm", action="store_true", help="prices move in every pool touched")
    parser.add_argument("--seed", type=int, default=1, help="of the random numbers (default: 1)")
    args = parser.parse_args(arguments)
    rng = np.random.default_rng(args.seed)
    started = time.perf_counter()
    market = make_market(rng, args.pools, args.core)
    print(f"{describe(market)}; built in {time.perf_counter() - started:.1f} s", flush=True)
    scanner = Scanner(market, chain_id=1, gas=GasModel(), min_profit=0)
    measure(rng, scanner, 50, 5)  # warm
    for touched in args.touched:
        row = measure(rng, scanner, touched, args.blocks, storm=args.storm)
        print(
            f"{touched:4} touched: {row.cycles_touched:11,} cycles through them, {row.cycles_screened:9,} "
            f"screened, {row.cycles_passed:6,} gain before gas, {row.opportunities:4} after; apply "
            f"{np.median(row.apply):.2f} ms, block median {row.median:.2f} ms, p99 {row.p99:.2f} ms",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
