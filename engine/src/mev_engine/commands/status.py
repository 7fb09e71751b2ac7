"""`mev-engine status`: blocks seen, rows found and the best of them, as tables for people."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
import urllib.request
from typing import Any
from urllib.error import URLError

from prometheus_client.parser import text_string_to_metric_families
from psycopg import OperationalError
from psycopg.rows import dict_row
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mev_engine.chain.errors import LinkError, RpcError, WrongChainError
from mev_engine.chain.rpc import Link
from mev_engine.cli import config_argument
from mev_engine.report import clean, quantity
from mev_engine.settings import Settings, load
from mev_engine.sinks.postgresql import connect

DECIMALS = "0x313ce567"  # selector of decimals()
PATIENCE = 5.0  # seconds that the engine's own metrics may take
SHOWN = {
    "mev_block_height": "last block",
    "mev_blocks_total": "blocks scanned since start",
    "mev_blocks_missed_total": "blocks missed",
    "mev_reorgs_total": "reorganisations",
    "mev_pools": "pools",
    "mev_cycles": "cycles",
    "mev_opportunities_total": "opportunities since start",
    "mev_jit_compilations": "kernels compiled since start",
}
# Both look at recent blocks only, so that they read the newest partition or two, however old the table is.
TOTALS = """
    SELECT count(*) AS rows, count(*) FILTER (WHERE status = 'orphaned') AS orphaned,
           count(DISTINCT block_number) AS blocks, min(created_at) AS first, max(created_at) AS last
    FROM opportunities WHERE chain_id = %s AND created_at >= now() - make_interval(hours => %s)
"""
# A price gap that nobody closes is found again in every block: the best row of each path is enough.
BEST = """
    SELECT * FROM (
        SELECT DISTINCT ON (pools, path_tokens) id, block_number, path_symbols, path_tokens,
               amount_in, gross_profit, gas_units, gas_cost, net_profit
        FROM opportunities
        WHERE chain_id = %s AND created_at >= now() - make_interval(hours => %s) AND status = 'detected'
        ORDER BY pools, path_tokens, profit_estimate DESC
    ) best ORDER BY net_profit DESC LIMIT %s
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    config_argument(parser)
    parser.add_argument("--limit", type=int, default=5, metavar="N", help="best paths to list (default 5)")
    parser.add_argument(
        "--hours", type=int, default=24, metavar="N", help="rows of blocks this recent (default 24)"
    )
    parser.add_argument(
        "--wait", type=int, default=0, metavar="SECONDS", help="wait this long for a first opportunity"
    )
    parser.add_argument("--json", action="store_true", help="for programs: one JSON object")
    parser.epilog = (
        "Reads the engine's metrics, the database and the tokens' decimals from the chain; changes nothing.\n"
        "Exit code 1 where the engine does not answer, the database cannot be read, or --wait found nothing."
    )


def run(args: argparse.Namespace) -> int:
    settings = load(args.config)
    try:
        totals, best = asyncio.run(_rows_within(settings, args.hours, args.limit, args.wait))
    except OperationalError as error:
        print(f"database {settings.database.host}:{settings.database.port}: {' '.join(str(error).split())}")
        return 1
    metrics, problem = _metrics(settings)
    if args.wait and not best and not problem:
        problem = f"no opportunity within {args.wait} s; see journalctl -u mev-engine@{settings.chain.name}"
    if args.json:
        print(json.dumps({"metrics": metrics, "totals": totals, "best": best}, default=str))
    else:
        _show(Console(), settings, args.hours, metrics, totals, best)
    if problem:
        print(problem)
    return 1 if problem else 0


def _metrics(settings: Settings) -> tuple[dict[str, float], str]:
    """The engine's own figures, and what is wrong where it does not answer."""
    url = f"http://{settings.metrics.host}:{settings.metrics.port}/metrics"
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            text = answer.read().decode()
    except (URLError, TimeoutError) as error:
        return {}, f"engine metrics {url}: {error}; see journalctl -u mev-engine@{settings.chain.name}"
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {sample.name: sample.value for sample in samples if sample.name in SHOWN}, ""


async def _rows_within(
    settings: Settings, hours: int, limit: int, seconds: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """`_rows`, asked again each second until there is one or the time is up."""
    end = time.monotonic() + seconds
    while True:
        totals, best = await _rows(settings, hours, limit)
        if best or time.monotonic() >= end:
            return totals, best
        await asyncio.sleep(1)


async def _rows(settings: Settings, hours: int, limit: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Totals and best rows; a row's `decimals` is None where the chain could not be asked."""
    chain_id = settings.chain.chain_id
    async with await connect(settings.database) as connection:
        cursor = connection.cursor(row_factory=dict_row)
        totals = await (await cursor.execute(TOTALS, (chain_id, hours))).fetchone()
        best = await (await cursor.execute(BEST, (chain_id, hours, limit))).fetchall()
    decimals = await _decimals(settings, sorted({row["path_tokens"][0] for row in best}))
    for row in best:
        row["decimals"] = decimals.get(row.pop("path_tokens")[0])
    return totals or {}, best


async def _decimals(settings: Settings, tokens: list[str]) -> dict[str, int]:
    """Decimals by token, from the first endpoint that answers; empty where none does."""
    calls = [("eth_call", ({"to": token, "data": DECIMALS}, "latest")) for token in tokens]
    for url in settings.chain.endpoints:
        try:
            async with await Link.open(url, expected_chain_id=settings.chain.chain_id) as link:
                answers = await link.batch(calls)
        except (LinkError, RpcError, WrongChainError):
            continue  # amounts are then shown in raw units, and say so
        return {
            token: int(answer, 16)
            for token, answer in zip(tokens, answers, strict=True)
            if isinstance(answer, str) and len(answer) == 66
        }
    return {}


def _show(
    console: Console,
    settings: Settings,
    hours: int,
    metrics: dict[str, float],
    totals: dict[str, Any],
    best: list[dict[str, Any]],
) -> None:
    title = f"Engine {settings.chain.name} (chain id {settings.chain.chain_id})"
    facts = Table(title=title, title_justify="left", box=box.SIMPLE, show_header=False)
    facts.add_column()
    facts.add_column(justify="right")
    for name, meaning in SHOWN.items():
        facts.add_row(meaning, f"{metrics[name]:,.0f}" if name in metrics else "no answer")
    facts.add_row(f"rows of the last {hours} h", f"{totals['rows']:,} in {totals['blocks']:,} blocks")
    facts.add_row("of them orphaned by reorganisations", f"{totals['orphaned']:,}")
    console.print(facts)

    table = Table(title="Best paths, by profit after gas", title_justify="left", box=box.SIMPLE)
    for name in ("block", "path", "input", "profit", "gas units", "gas cost", "net (native coin)"):
        table.add_column(name, justify="left" if name == "path" else "right", no_wrap=name != "path")
    for row in best:
        symbols = [clean(symbol) for symbol in row["path_symbols"]]
        table.add_row(
            f"{row['block_number']:,}",
            escape(" > ".join(symbols)),
            escape(_amount(row["amount_in"], row["decimals"], symbols[0])),
            escape(_amount(row["gross_profit"], row["decimals"], symbols[0])),
            f"{row['gas_units']:,}",
            quantity(int(row["gas_cost"]), 18),
            quantity(int(row["net_profit"]), 18),
        )
    console.print(table if best else f"Nothing was found above min_profit_wei in the last {hours} h.")


def _amount(raw: Any, decimals: int | None, symbol: str) -> str:
    return f"{raw} raw {symbol}" if decimals is None else f"{quantity(int(raw), decimals)} {symbol}"
