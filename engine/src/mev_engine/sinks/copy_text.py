"""Opportunities as lines of PostgreSQL's COPY in text format: faster than the driver's own adaptation.

Source of the format: PostgreSQL's documentation, "COPY", Text Format, and "Arrays", Input and Output Syntax.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache

from mev_engine.detect.opportunity import Opportunity

COLUMNS = (
    "id", "chain", "chain_id", "strategy_type", "block_number", "block_hash", "created_at", "detected_at",
    "path_tokens", "path_symbols", "pools", "amounts", "amount_in", "amount_out", "gross_profit",
    "gas_units", "gas_price", "gas_cost", "net_profit", "profit_estimate", "rank", "conflicts_with",
)  # fmt: skip

NULL = "\\N"

PLAIN = re.compile(r"[A-Za-z0-9_.]+").fullmatch
"""What needs no quoting in an array and no escape in a line."""


def native_coins(wei: int) -> str:
    """Wei as whole native coins, every digit kept."""
    whole, rest = divmod(abs(wei), 10**18)
    return f"{'-' if wei < 0 else ''}{whole}.{rest:018d}"


def _escaped(text: str) -> str:
    """Text that a symbol may hold, which is whatever its contract says."""
    for raw, written in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r")):
        text = text.replace(raw, written)
    return text


@lru_cache(maxsize=1 << 16)  # the same paths come back block after block
def _array(texts: tuple[str, ...]) -> str:
    # NULL would be read as the absence of a value
    items = [
        text
        if PLAIN(text) and text.upper() != "NULL"
        else _escaped('"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"')
        for text in texts
    ]
    return "{" + ",".join(items) + "}"


def lines(rows: Iterable[Opportunity], *, chain: str, chain_id: int, detected_at: datetime) -> str:
    """A block's rows, one line each, in the order of COLUMNS. `chain` is a plain name."""
    out = []
    seen = detected_at.isoformat()
    block, found = None, ""
    for o in rows:
        if o.block is not block:
            block = o.block
            created = datetime.fromtimestamp(block.timestamp, UTC).isoformat()
            found = f"{block.number}\t{block.hash}\t{created}\t{seen}"
        amounts = o.amounts
        out.append(
            f"{o.id}\t{chain}\t{chain_id}\t{o.strategy}\t{found}\t"
            f"{_array(o.tokens)}\t{_array(o.symbols)}\t{_array(o.pools)}\t{{{','.join(map(str, amounts))}}}\t"
            f"{amounts[0]}\t{amounts[-1]}\t{o.gross_profit}\t{o.gas_units}\t{o.gas_price}\t{o.gas_cost}\t"
            f"{o.net_profit}\t{native_coins(o.net_profit)}\t{o.rank}\t{o.conflicts_with or NULL}\n"
        )
    return "".join(out)
