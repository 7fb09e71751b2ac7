"""How opportunities are shown to people and to programs, the same for every command."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from decimal import Decimal
from typing import Any

from rich.markup import escape
from rich.table import Table

from mev_engine.detect.opportunity import Opportunity
from mev_engine.market.market import Market
from mev_engine.market.recording import jsonable


def quantity(raw: int, decimals: int) -> str:
    """A raw amount in whole units to six significant digits: 1234567, 6 -> '1.23457'."""
    value = Decimal(raw).scaleb(-decimals)
    return f"{value:.6g}" if value and not Decimal("1e-4") <= abs(value) < Decimal("1e9") else f"{value:,.6f}"


def table(title: str, opportunities: Iterable[Opportunity], market: Market) -> Table:
    """A rich table. Symbols come from strangers' contracts: shown as text, never as markup."""
    result = Table(title=title, title_justify="left", header_style="bold")
    for name in ("#", "path", "through"):
        result.add_column(name, overflow="fold")
    for name in ("input", "gross profit", "gas", "net (native)", "shares a pool with"):
        result.add_column(name, justify="right")
    ranks = {o.id: o.rank for o in opportunities}
    for o in opportunities:
        base = market.tokens[market.token_index[o.tokens[0]]]
        symbol = escape(clean(base.symbol))
        rival = "" if o.conflicts_with is None else f"#{ranks.get(o.conflicts_with, '?')}"
        result.add_row(
            str(o.rank),
            escape(" > ".join(clean(s) for s in o.symbols)),
            escape(", ".join(market.pools[market.pool_index[p]].protocol for p in o.pools)),
            f"{quantity(o.amount_in, base.decimals)} {symbol}",
            f"{quantity(o.gross_profit, base.decimals)} {symbol}",
            quantity(o.gas_cost, 18),
            quantity(o.net_profit, 18),
            rival,
        )
    return result


def clean(symbol: str, length: int = 16) -> str:
    """A name from a stranger, without control characters, cut to what a table can bear."""
    return "".join(c if c.isprintable() else "?" for c in symbol)[:length]


def as_json(opportunity: Opportunity) -> dict[str, Any]:
    """Fields of the opportunity; integers above 2^53 as strings."""
    fields: dict[str, Any] = jsonable(asdict(opportunity))
    return fields
