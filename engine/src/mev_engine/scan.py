"""`mev-engine scan`: what is profitable in a snapshot of pools, before and after gas."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from mev_engine import loading, report
from mev_engine.detect import GasModel, Opportunity, Scanner, ScanResult
from mev_engine.loading import Loaded
from mev_engine.market import BlockRef, Market, store

GAS = GasModel(priority_fee=0)  # --gas-price is the whole price
EPILOG = """\
examples:
  mev-engine scan pools.jsonl.gz
  mev-engine scan pools.csv --base WETH --base USDC --max-hops 3 --gas-price 12.5
  mev-engine scan pools.csv.gz --json | jq '.opportunities[0]'
  mev-engine scan v3.csv.gz --ticks v3_ticks.jsonl.gz --save market.mev
  mev-engine scan market.mev --min-profit 0.01

A pool's price may be off because its token takes a tax on transfers, because the pools were read at
different blocks, or because nobody would pay the gas: the file can't tell which, and neither can
this scan (--token-flags can). What it lists is what the pools' own arithmetic gives on the states in
the file. Pools that can't be right are left out by name, and the rest is scanned.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    loading.add_arguments(parser)
    parser.add_argument(
        "--base",
        action="append",
        metavar="TOKEN",
        help="symbol or address where cycles start and end; repeat, best first "
        "(default: the wrapped native coin; on Ethereum also USDC, USDT, DAI, WBTC where present)",
    )
    parser.add_argument("--wrapped-native", metavar="TOKEN", help="the wrapped native coin, on other chains")
    parser.add_argument(
        "--max-hops",
        type=int,
        choices=(2, 3, 4, 5),
        help=f"longest cycle (default {loading.DEFAULT_HOPS}; of 5 hops only those through deep pools)",
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
    parser.add_argument(
        "--save", type=Path, metavar="FILE", help="write the market with its cycles, to load in seconds"
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
    loaded = loading.load(args)
    market = loaded.market
    if args.save is not None:
        try:
            store.save(args.save, market, loaded.chain_id, loaded.block)
        except OSError as error:
            raise ValueError(f"{args.save}: can't be written: {error}") from error
    built = time.perf_counter()
    floor = int(args.min_profit.scaleb(18))
    # a file is scanned once and nobody waits for the block: everything that may pay is settled
    scanner = Scanner(market, chain_id=loaded.chain_id, gas=GAS, min_profit=floor, most=2**31)
    block = BlockRef(loaded.block, "", "", 0, base_fee=int(args.gas_price.scaleb(9)))
    result = scanner.scan_all(block, unprofitable=args.before_gas)
    if args.json:
        print(json.dumps(_as_json(loaded, result)))
    else:
        _show(args, loaded, result, built - started)
    return 0


def _show(args: argparse.Namespace, loaded: Loaded, result: ScanResult, load_seconds: float) -> None:
    market = loaded.market
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
    for name, number in loaded.assumed.items():
        console.print(f"assumed, as the file has none: {name}, {number:,} times")
    for name, number in loaded.skipped.items():
        console.print(f"not handled: {escape(report.clean(name, 100))}, {number:,} pools")
    _show_excluded(console, loaded.excluded, args.limit)
    for token in (*loaded.left_out, *result.unpriced):
        console.print(f"base token without a pool to the wrapped native coin, left out: {token}")
    console.print("States only: a token that taxes transfers looks like profit here. See --help.")


def _show_excluded(console: Console, excluded: Mapping[str, str], limit: int) -> None:
    for pool, reason in list(excluded.items())[:limit]:
        console.print(f"left out: {pool}: {escape(report.clean(reason, 160))}")
    if len(excluded) > limit:
        console.print(f"… and {len(excluded) - limit:,} more left out (--limit, or --json for all)")


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


def _as_json(loaded: Loaded, result: ScanResult) -> dict[str, object]:
    market = loaded.market
    return {
        "snapshot": str(loaded.path),
        "chain_id": loaded.chain_id,
        "block": loaded.block,
        "pools": market.n_pools,
        "tokens": market.n_tokens,
        "base_tokens": market.base_tokens,
        "cycles": market.n_cycles,
        "cycles_screened": result.cycles_screened,
        "cycles_passed": result.cycles_passed,
        "cycles_unsettled": result.unsettled,
        "seconds": result.seconds,
        "assumed": loaded.assumed,
        "skipped": loaded.skipped,
        "excluded": loaded.excluded,
        "unpriced": result.unpriced,
        "opportunities": [report.as_json(o) for o in result.opportunities],
        "unprofitable": [report.as_json(o) for o in result.unprofitable],
    }
