"""Pool snapshots as files: JSON lines or CSV, plain or `.gz`, one pool a line.

Known columns: chain_id, block, protocol, pool, fee_ppm, and for CSV token0, token1, symbol0,
symbol1, decimals0, decimals1, reserve0, reserve1; for JSON lines `type`, and tokens, symbols,
decimals, reserves as pairs. Pairs of the Uniswap V2 kind are read; other families are counted by
name, so that nothing goes missing silently. What the file leaves empty is assumed, and said so.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from mev_engine.amm.uniswap_v2 import MAX_RESERVE
from mev_engine.market.delta import PoolSpec, TokenSpec, pair_spec

ASSUMED_DECIMALS = 18
ASSUMED_FEE_PPM = 3000
_ADDRESS = re.compile(r"0x[0-9a-f]{40}")
_CSV_FIELDS = ("chain_id", "protocol", "pool", "token0", "token1", "reserve0", "reserve1")


class SnapshotError(ValueError):
    """A file that can't be read as a snapshot; names file, line, field and value."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`block` is the highest block named, 0 if none is. `skipped`: pools of families that are not
    handled, by name. `assumed`: what was empty in the file, by name of the assumption."""

    path: Path
    chain_id: int
    block: int
    tokens: tuple[TokenSpec, ...]
    pools: tuple[PoolSpec, ...]
    skipped: Mapping[str, int]
    assumed: Mapping[str, int]


def read(path: Path, *, block: int | None = None) -> Snapshot:
    """Read a snapshot. SnapshotError on malformed lines, on a pool listed twice, on several chains.

    `block`: only the lines that name this block, for files that hold the states before several blocks.
    (In other files a line's block may be the pool's last event, and the state one of a later block.)
    """
    reader = _Reader(path, block)
    try:
        with _open(path) as file:
            rows = _json_rows(path, file) if ".jsonl" in path.suffixes else _csv_rows(path, file)
            for line, row in rows:
                reader.add(line, row)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise SnapshotError(f"{path}: can't be read: {error}") from error
    return reader.snapshot()


def fee_fraction(fee_ppm: int) -> tuple[int, int]:
    """`(fee_num, fee_den)` with the least power of ten that is exact, as the contracts write it:
    3000 ppm -> 997 / 1000, 2500 ppm -> 9975 / 10000."""
    for unit in (1000, 100, 10, 1):
        if fee_ppm % unit == 0:
            return (1_000_000 - fee_ppm) // unit, 1_000_000 // unit
    raise AssertionError("unreachable: every integer is a multiple of 1")


def _open(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return path.open(encoding="utf-8", newline="")


def _csv_rows(path: Path, file: IO[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    rows = csv.DictReader(file)
    missing = [name for name in _CSV_FIELDS if name not in (rows.fieldnames or ())]
    if missing:
        raise SnapshotError(
            f"{path}:1: no column {', '.join(missing)}: not a CSV of Uniswap V2 pairs with reserves "
            f"(columns found: {', '.join(rows.fieldnames or ['none'])})"
        )
    for row in rows:
        yield rows.line_num, {"type": "v2"} | row


def _json_rows(path: Path, file: IO[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, text in enumerate(file, start=1):
        try:
            row = json.loads(text)
        except json.JSONDecodeError as error:
            raise SnapshotError(f"{path}:{line}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise SnapshotError(f"{path}:{line}: a pool must be an object, found {text.strip()[:80]!r}")
        if row.get("type") == "v2":
            for name in ("token", "symbol", "decimals", "reserve"):
                pair = row.get(name if name == "decimals" else name + "s")
                if not isinstance(pair, list) or len(pair) != 2:
                    raise SnapshotError(f"{path}:{line}: {name} = {pair!r}: a V2 pair has two, as a list")
                row[name + "0"], row[name + "1"] = pair
        yield line, row


class _Reader:
    """Collects the lines of one file."""

    def __init__(self, path: Path, only_block: int | None) -> None:
        self.path = path
        self.only_block = only_block
        self.chain_id: int | None = None
        self.block = 0
        self.tokens: dict[str, TokenSpec] = {}
        self.pools: dict[str, PoolSpec] = {}
        self.lines: dict[str, int] = {}
        self.skipped: Counter[str] = Counter()
        self.assumed: Counter[str] = Counter()

    def add(self, line: int, row: dict[str, Any]) -> None:
        chain_id = self._integer(line, row, "chain_id", 1, 2**63)
        if self.chain_id not in (None, chain_id):
            raise SnapshotError(
                f"{self.path}:{line}: chain_id = {chain_id}, but {self.chain_id} above: split it"
            )
        self.chain_id = chain_id
        named = row.get("block") not in ("", None)
        block = self._integer(line, row, "block", 0, 2**63) if named else None
        if self.only_block not in (None, block):
            return
        self.block = max(self.block, block or 0)
        protocol = str(row.get("protocol") or "unnamed")
        if row.get("type") != "v2":
            self.skipped[f"{protocol} ({row.get('type')})"] += 1
            return
        address = self._address(line, row, "pool")
        if address in self.lines:
            raise SnapshotError(
                f"{self.path}:{line}: pool = {address} is on line {self.lines[address]} already: "
                "a snapshot holds one state of each pool (of a file with several blocks, name one: --block)"
            )
        self.lines[address] = line
        token0, token1 = (self._token(line, row, side) for side in "01")
        if token0 == token1:
            raise SnapshotError(f"{self.path}:{line}: token1 = {token1!r} is token0 too")
        if row.get("fee_ppm") in ("", None):
            self.assumed[f"fee {ASSUMED_FEE_PPM} ppm"] += 1
            fee_ppm = ASSUMED_FEE_PPM
        else:
            fee_ppm = self._integer(line, row, "fee_ppm", 0, 999_999)
        self.pools[address] = pair_spec(
            address,
            token0,
            token1,
            self._integer(line, row, "reserve0", 0, MAX_RESERVE),
            self._integer(line, row, "reserve1", 0, MAX_RESERVE),
            *fee_fraction(fee_ppm),
            protocol=protocol,
        )

    def snapshot(self) -> Snapshot:
        if self.chain_id is None:
            raise SnapshotError(f"{self.path}: holds no pool")
        if not self.pools:
            others = ", ".join(f"{number} of {name}" for name, number in self.skipped.items()) or "no pool"
            where = "" if self.only_block is None else f" of block {self.only_block}"
            raise SnapshotError(f"{self.path}: holds no Uniswap V2 pair{where}, but {others}")
        return Snapshot(
            self.path,
            self.chain_id,
            self.block,
            tuple(self.tokens.values()),
            tuple(self.pools.values()),
            dict(self.skipped),
            {name: number for name, number in self.assumed.items() if number},
        )

    def _token(self, line: int, row: dict[str, Any], side: str) -> str:
        address = self._address(line, row, "token" + side)
        symbol = str(row.get("symbol" + side) or "")
        given = row.get("decimals" + side) not in ("", None)
        decimals = self._integer(line, row, "decimals" + side, 0, 255) if given else ASSUMED_DECIMALS
        if address not in self.tokens:
            self.assumed[f"{ASSUMED_DECIMALS} decimals (display only)"] += not given
            self.tokens[address] = TokenSpec(address, symbol or address[:8] + "…", decimals)
        elif given and decimals != self.tokens[address].decimals:
            self.assumed["decimals as on a token's first line, where a later line differs"] += 1
        return address

    def _address(self, line: int, row: dict[str, Any], field: str) -> str:
        value = row.get(field)
        address = value.lower() if isinstance(value, str) else ""
        if not _ADDRESS.fullmatch(address):
            raise SnapshotError(
                f"{self.path}:{line}: {field} = {value!r}: not an address (0x and 40 hex digits)"
            )
        return address

    def _integer(self, line: int, row: dict[str, Any], field: str, least: int, most: int) -> int:
        value = row.get(field)
        digits = isinstance(value, str) and value.isascii() and value.isdigit()
        number = int(value) if digits or type(value) is int else None  # type: ignore[arg-type]
        if number is None or not least <= number <= most:
            raise SnapshotError(
                f"{self.path}:{line}: {field} = {value!r}: not an integer from {least} to {most}"
            )
        return number
