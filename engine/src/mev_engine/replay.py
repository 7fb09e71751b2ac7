"""`mev-engine replay`: the engine's own scan over the blocks of a recording."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from mev_engine import report
from mev_engine.detect import GasModel, Opportunity, Scanner, ScanResult
from mev_engine.market import BlockDelta, Market, recording
from mev_engine.types import IndexArray

EPILOG = """\
examples:
  mev-engine run --config engine.toml --record blocks.jsonl.gz
  mev-engine replay blocks.jsonl.gz
  mev-engine replay blocks.jsonl.gz --json | jq -c '.opportunities[] | [.rank, .net_profit]'
  mev-engine replay blocks.jsonl.gz --compare     # exit 1 if the incremental scan misses anything
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    gas = GasModel()
    parser.epilog = EPILOG
    parser.add_argument(
        "recording", type=Path, metavar="RECORDING", help="written by `mev-engine run --record`"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a block instead of text")
    parser.add_argument(
        "--compare",
        action="store_true",
        help="also scan every cycle after each block; what touches the block's pools must be the same",
    )
    parser.add_argument("--limit", type=int, default=5, metavar="N", help="shown a block as text (default 5)")
    for name, default, text in (
        ("--min-profit", 0, "wei after gas, above which an opportunity counts"),
        ("--gas-per-cycle", gas.per_cycle, "gas units of a cycle"),
        ("--gas-per-hop", gas.per_hop, "gas units of each hop"),
        ("--priority-fee", gas.priority_fee, "wei a unit of gas on top of the block's base fee"),
    ):
        parser.add_argument(name, type=int, default=default, metavar="N", help=f"{text} (default {default})")


def run(args: argparse.Namespace) -> int:
    try:
        return _replay(args)
    except ValueError as error:
        print(f"mev-engine replay: {error}", file=sys.stderr)
        return 2


def _replay(args: argparse.Namespace) -> int:
    start, blocks = recording.read(args.recording)
    market = Market.build(
        start.tokens,
        start.pools,
        base_tokens=start.base_tokens,
        wrapped_native=start.wrapped_native,
        max_hops=start.max_hops,
    )
    gas = GasModel(args.gas_per_cycle, args.gas_per_hop, args.priority_fee)
    # a full scan has other best ones, which are searched with more effort: compared, none is
    options = {"refined": 0, "most": 2**31} if args.compare else {}
    scanner = Scanner(market, chain_id=start.chain_id, gas=gas, min_profit=args.min_profit, **options)
    n_blocks = found = different = 0
    started = time.perf_counter()
    for delta in blocks:
        touched = market.apply(delta)
        result = scanner.scan(delta.block, touched)
        n_blocks, found = n_blocks + 1, found + len(result.opportunities)
        if args.json:
            print(json.dumps(_as_json(delta, touched, result)), flush=True)
        else:
            _show(delta, touched, result, market, args.limit)
        if args.compare:
            different += _compare(delta, touched, result, scanner)
    print(
        f"{n_blocks:,} blocks, {found:,} opportunities, {market.n_pools:,} pools, "
        f"{market.n_cycles:,} cycles, {time.perf_counter() - started:.2f} s",
        file=sys.stderr if args.json else sys.stdout,
    )
    if args.compare:
        print(f"compared with full scans: {different} differences", file=sys.stderr)
    return 1 if different else 0


def _compare(delta: BlockDelta, touched: IndexArray, result: ScanResult, scanner: Scanner) -> int:
    """Differences between the incremental scan and a full one, each named on stderr."""
    names = {scanner.market.pools[pool].address for pool in touched}
    full = {_key(o) for o in scanner.scan_all(delta.block).opportunities if names & set(o.pools)}
    incremental = {_key(o) for o in result.opportunities}
    for word, keys in (("missed", full - incremental), ("invented", incremental - full)):
        for pools, amounts in sorted(keys):
            path = " > ".join(pools)
            print(f"block {delta.block.number}: {word} {path}, amounts {amounts}", file=sys.stderr)
    return len(full ^ incremental)


def _key(opportunity: Opportunity) -> tuple[tuple[str, ...], tuple[int, ...]]:
    return opportunity.pools, opportunity.amounts


def _show(delta: BlockDelta, touched: IndexArray, result: ScanResult, market: Market, limit: int) -> None:
    block = delta.block
    print(
        f"block {block.number} {block.hash[:10]}: {len(touched)} pools touched, {result.cycles_screened:,} "
        f"cycles screened in {result.seconds * 1e3:.2f} ms, {len(result.opportunities)} opportunities"
    )
    for o in result.opportunities[:limit]:
        base = market.tokens[market.token_index[o.tokens[0]]]
        print(
            f"  {o.rank}. {' > '.join(report.clean(s) for s in o.symbols)}: "
            f"{report.quantity(o.amount_in, base.decimals)} in, "
            f"{report.quantity(o.gross_profit, base.decimals)} gross, "
            f"{report.quantity(o.net_profit, 18)} net in native coin"
            + ("" if o.conflicts_with is None else f", conflicts with {o.conflicts_with[:8]}")
        )
    if len(result.opportunities) > limit:
        print(f"  … and {len(result.opportunities) - limit} more (--limit)")


def _as_json(delta: BlockDelta, touched: IndexArray, result: ScanResult) -> dict[str, object]:
    return {
        "number": delta.block.number,
        "hash": delta.block.hash,
        "pools_touched": len(touched),
        "cycles_screened": result.cycles_screened,
        "cycles_passed": result.cycles_passed,
        "seconds": result.seconds,
        "opportunities": [report.as_json(o) for o in result.opportunities],
    }
