"""`mev-engine scan`: what is profitable in a snapshot of pools, before and after gas."""

from __future__ import annotations

import argparse
import json
import sys
import time
from decimal import Decimal, InvalidOperation
from pathlib import Path

from rich.console import Console

from mev_engine import report
from mev_engine.detect import GasModel, Opportunity, Scanner, ScanResult
from mev_engine.market import BlockRef, Market
from mev_engine.market import snapshot as snapshots
from mev_engine.market.snapshot import Snapshot

WRAPPED_NATIVE = {
    1: "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2",  # WETH
    56: "0xbb4cdb9cbd36b01bd1cbaebf2de08d9173bc095c",  # WBNB
    43114: "0xb31f66aa3c1e785363f0875a1b74e27b85fd66c7",  # WAVAX
}
BASE_TOKENS = {  # best first
    1: (
        WRAPPED_NATIVE[1],
        "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48",  # USDC
        "0xdac17f958d2ee523a2206206994597c13d831ec7",  # USDT
        "0x6b175474e89094c44da98b954eedeac495271d0f",  # DAI
        "0x2260fac5e5542a773aa44fbcfedf7c193bc2c599",  # WBTC
    ),
}
GAS = GasModel(priority_fee=0)  # --gas-price is the whole price
EPILOG = """\
examples:
  mev-engine scan pools.jsonl.gz
  mev-engine scan pools.csv --base WETH --base USDC --max-hops 3 --gas-price 12.5
  mev-engine scan pools.csv.gz --json | jq '.opportunities[0]'

A pool's price may be off because its token takes a tax on transfers, because the pools were read at
different blocks, or because nobody would pay the gas: the file can't tell which, and neither can
this scan. What it lists is what the pairs' own arithmetic gives on the reserves in the file.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    parser.add_argument("snapshot", type=Path, metavar="SNAPSHOT", help="pools: .jsonl or .csv, also .gz")
    parser.add_argument(
        "--base",
        action="append",
        metavar="TOKEN",
        help="symbol or address where cycles start and end; repeat, best first "
        "(default: the wrapped native coin; on Ethereum also USDC, USDT, DAI, WBTC where present)",
    )
    parser.add_argument(
        "--block", type=int, metavar="N", help="only the lines of block N, where a file holds several blocks"
    )
    parser.add_argument("--wrapped-native", metavar="TOKEN", help="the wrapped native coin, on other chains")
    parser.add_argument(
        "--max-hops", type=int, choices=(2, 3, 4), default=4, help="longest cycle (default 4)"
    )
    parser.add_argument(
        "--gas-price", type=decimal, default=Decimal(20), metavar="GWEI", help="gas price (default 20 gwei)"
    )
    parser.add_argument(
        "--min-profit",
        type=decimal,
        default=Decimal(0),
        metavar="COINS",
        help="floor of net profit in whole native coins, e.g. 0.01 (default 0)",
    )
    parser.add_argument("--limit", type=int, default=20, metavar="N", help="rows shown a table (default 20)")
    parser.add_argument(
        "--before-gas",
        type=int,
        default=1000,
        metavar="N",
        help="settle exactly the N most promising cycles that can't pay for gas too (default 1000)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")


def run(args: argparse.Namespace) -> int:
    try:
        return _scan(args)
    except ValueError as error:
        print(f"mev-engine scan: {error}", file=sys.stderr)
        return 2


def decimal(text: str) -> Decimal:
    """A number of zero or more, as argparse wants it."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal(-1)
    if not value.is_finite() or value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of zero or more")
    return value


def _scan(args: argparse.Namespace) -> int:
    started = time.perf_counter()
    snapshot = snapshots.read(args.snapshot, block=args.block)
    wrapped_native = _wrapped_native(snapshot, args.wrapped_native)
    bases, left_out = _base_tokens(snapshot, wrapped_native, args.base)
    market = Market.build(
        snapshot.tokens,
        snapshot.pools,
        base_tokens=bases,
        wrapped_native=wrapped_native,
        max_hops=args.max_hops,
    )
    built = time.perf_counter()
    scanner = Scanner(
        market,
        chain_id=snapshot.chain_id,
        gas=GAS,
        min_profit=int(args.min_profit.scaleb(18)),
    )
    block = BlockRef(snapshot.block, "", "", 0, base_fee=int(args.gas_price.scaleb(9)))
    result = scanner.scan_all(block, unprofitable=args.before_gas)
    if args.json:
        print(json.dumps(_as_json(snapshot, market, result)))
    else:
        _show(args, snapshot, market, result, left_out, built - started)
    return 0


def _wrapped_native(snapshot: Snapshot, wanted: str | None) -> str:
    if wanted:
        return _find(snapshot, wanted)
    if snapshot.chain_id not in WRAPPED_NATIVE:
        raise ValueError(f"chain {snapshot.chain_id} has no default: name its coin with --wrapped-native")
    return WRAPPED_NATIVE[snapshot.chain_id]


def _base_tokens(
    snapshot: Snapshot, wrapped_native: str, wanted: list[str] | None
) -> tuple[list[str], list[str]]:
    """Base tokens, and those of the defaults that this snapshot can't price."""
    if wanted:
        return [_find(snapshot, name) for name in wanted], []
    priced = {wrapped_native}
    for pool in snapshot.pools:
        if wrapped_native in (pool.token0, pool.token1):
            priced |= {pool.token0, pool.token1}
    defaults = BASE_TOKENS.get(snapshot.chain_id, (wrapped_native,))
    return [t for t in defaults if t in priced], [t for t in defaults if t not in priced]


def _find(snapshot: Snapshot, name: str) -> str:
    """A token's address by address or symbol; symbols are not unique, so several are an error."""
    matches = [t for t in snapshot.tokens if name.lower() in (t.address, t.symbol.lower())]
    if len(matches) == 1:
        return matches[0].address
    if not matches:
        raise ValueError(f"no token {name!r} in {snapshot.path}: give a symbol or an address that is in it")
    addresses = ", ".join(t.address for t in matches[:5])
    raise ValueError(f"{len(matches)} tokens are called {name!r}: give one's address, of {addresses}")


def _show(
    args: argparse.Namespace,
    snapshot: Snapshot,
    market: Market,
    result: ScanResult,
    left_out: list[str],
    load_seconds: float,
) -> None:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 180)
    after, before = result.opportunities, result.unprofitable
    gas = f"gas at {args.gas_price} gwei, {GAS.per_cycle:,} a cycle and {GAS.per_hop:,} a hop"
    _show_table(console, f"Profitable after gas ({gas})", after, args.limit, market)
    _show_table(console, "Profitable before gas only", before, args.limit, market)
    chosen = sum(o.net_profit for o in after if o.conflicts_with is None)
    count = sum(o.conflicts_with is None for o in after)
    console.print(
        f"{market.n_pools:,} pools, {market.n_tokens:,} tokens, {result.cycles_screened:,} cycles of 2 to "
        f"{market.max_hops} hops (index {market.cycles.n_bytes / 2**20:.1f} MiB); "
        f"loaded and indexed in {load_seconds:.2f} s, scanned in {result.seconds:.3f} s"
    )
    console.print(
        f"{result.cycles_passed:,} cycles gain at the margin; settled exactly: {len(after):,} profitable "
        f"after gas, {len(before):,} before gas only; {result.unsettled:,} can't pay for gas and were not "
        "settled (--before-gas)"
    )
    console.print(
        f"{count:,} of those after gas share no pool: {report.quantity(chosen, 18)} native coins together"
    )
    for name, number in snapshot.assumed.items():
        console.print(f"assumed, as the file has none: {name}, {number:,} times")
    for name, number in snapshot.skipped.items():
        console.print(f"left out, as this family is not handled: {report.clean(name, 60)}, {number:,} pools")
    for token in left_out + list(result.unpriced):
        console.print(f"base token without a pool to the wrapped native coin, left out: {token}")
    console.print("Reserves only: a token that taxes transfers looks like profit here. See --help.")


def _show_table(
    console: Console, title: str, found: tuple[Opportunity, ...], limit: int, market: Market
) -> None:
    if not found:
        console.print(f"{title}: none\n")
        return
    console.print(report.table(title, found[:limit], market))
    if len(found) > limit:
        console.print(f"… and {len(found) - limit:,} more (--limit)")
    console.print()


def _as_json(snapshot: Snapshot, market: Market, result: ScanResult) -> dict[str, object]:
    return {
        "snapshot": str(snapshot.path),
        "chain_id": snapshot.chain_id,
        "block": snapshot.block,
        "pools": market.n_pools,
        "tokens": market.n_tokens,
        "base_tokens": market.base_tokens,
        "cycles": market.n_cycles,
        "cycles_screened": result.cycles_screened,
        "cycles_passed": result.cycles_passed,
        "cycles_unsettled": result.unsettled,
        "seconds": result.seconds,
        "assumed": snapshot.assumed,
        "skipped": snapshot.skipped,
        "unpriced": result.unpriced,
        "opportunities": [report.as_json(o) for o in result.opportunities],
        "unprofitable": [report.as_json(o) for o in result.unprofitable],
    }
