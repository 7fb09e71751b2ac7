"""Pool snapshots as files: JSON lines, JSON or CSV, plain or `.gz`.

Known columns: chain_id, block, protocol, pool, fee_ppm, and for CSV token0, token1, symbol0,
symbol1, decimals0, decimals1, and reserve0, reserve1, or sqrt_price_x96, tick, liquidity, tick_spacing;
for JSON lines `type`, and tokens, symbols, decimals, reserves as lists; see `snapshot_rows` and
`snapshot_vaults` for the other families. `.json` holds `pools` as Balancer's subgraph gives them.

A damaged file is refused. A pool that can't be right is left out by name and the rest is read; pools of
kinds that are not handled are counted by name; what the file leaves empty is assumed, and said so.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from mev_engine.market.delta import FLAGS, PoolSpec, TokenSpec
from mev_engine.market.snapshot_rows import (
    ASSUMED_DECIMALS,
    Row,
    RowError,
    TickMap,
    UnhandledError,
    build,
    type_of,
)
from mev_engine.market.snapshot_vaults import ALL_TYPES, from_curve, from_sdk

_CSV_FIELDS = ("chain_id", "protocol", "pool", "token0", "token1")
_CSV_STATES = (
    ("reserve0", "reserve1"),
    ("sqrt_price_x96", "tick", "liquidity", "tick_spacing", "fee_ppm"),
)


class SnapshotError(ValueError):
    """A file that can't be read as a snapshot; names file, line, field and value."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`block` is the highest block named, 0 if none is. `skipped`: pools of kinds that are not handled, by
    name and reason. `excluded`: pools that can't be right, with the reason. `assumed`: what was empty in
    the file, by name of the assumption."""

    path: Path
    chain_id: int
    block: int
    tokens: tuple[TokenSpec, ...]
    pools: tuple[PoolSpec, ...]
    skipped: Mapping[str, int]
    assumed: Mapping[str, int]
    excluded: Mapping[str, str]


def read(
    path: Path,
    *,
    block: int | None = None,
    time: int | None = None,
    chain_id: int | None = None,
    part: str | None = None,
    tick_files: Iterable[Path] = (),
    token_flags: Path | None = None,
) -> Snapshot:
    """Read a snapshot. SnapshotError where a file is damaged, holds several chains, or no pool at all.

    `block`: only the lines that name this block, for files that hold the states before several blocks.
    (In other files a line's block may be the pool's last event, and the state one of a later block.)
    `time`: of the lines with a `timestamp` each pool's last until then (seconds since 1970).
    `chain_id`: of files that do not name it. `part`: which of a `.json` file's parts.
    `tick_files`: tick maps of V3 and V4 pools, JSON lines {"pool", "quality", "ticks": [[tick, net, gross]]}.
    `token_flags`: JSON {address: one of `delta.FLAGS`}, tokens whose pools a market leaves out.
    """
    reader = _Reader(path, block, time, chain_id, _tick_maps(tick_files))
    try:
        with _open(path) as file:
            for line, row in _rows(path, file, part):
                reader.add(line, row)
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise SnapshotError(f"{path}: can't be read: {error}") from error
    return reader.snapshot({} if token_flags is None else _token_flags(token_flags))


def _open(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return path.open(encoding="utf-8", newline="")


def _rows(path: Path, file: IO[str], part: str | None) -> Iterator[tuple[int, dict[str, Any]]]:
    if ".jsonl" in path.suffixes:
        return _json_lines(path, file)
    if ".json" in path.suffixes:
        return _json_pools(path, file, part)
    return _csv_rows(path, file)


def _csv_rows(path: Path, file: IO[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    rows = csv.DictReader(file)
    names = rows.fieldnames or ()
    missing = [name for name in _CSV_FIELDS if name not in names]
    if not any(set(state) <= set(names) for state in _CSV_STATES):
        missing += _CSV_STATES["sqrt_price_x96" in names]
    if missing:
        raise SnapshotError(
            f"{path}:1: no column {', '.join(missing)}: not a CSV of pools with their states "
            f"(columns found: {', '.join(names) or 'none'})"
        )
    for row in rows:
        yield rows.line_num, row


def _json_lines(path: Path, file: IO[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, text in enumerate(file, start=1):
        try:
            row = json.loads(text)
        except ValueError as error:
            raise SnapshotError(f"{path}:{line}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise SnapshotError(f"{path}:{line}: a pool must be an object, found {text.strip()[:80]!r}")
        yield line, row


def _json_pools(path: Path, file: IO[str], part: str | None) -> Iterator[tuple[int, dict[str, Any]]]:
    """{"pools": […]}, or such objects by name; numbers of pools stand for lines."""
    try:
        content = json.load(file)
    except ValueError as error:
        raise SnapshotError(f"{path}: not JSON: {error}") from error
    if part is not None:
        if not isinstance(content, dict) or part not in content:
            raise SnapshotError(f"{path}: no part {part!r}: name one of {', '.join(content)}")
        content = content[part]
    if not isinstance(content, dict) or not isinstance(content.get("pools"), list):
        parts = ", ".join(content) if isinstance(content, dict) else "none"
        raise SnapshotError(f"{path}: no list `pools`: name one of its parts (--part): {parts}")
    for number, pool in enumerate(content["pools"], start=1):
        if not isinstance(pool, dict):
            raise SnapshotError(f"{path}: pool {number} must be an object, found {pool!r}")
        yield number, pool


def _tick_maps(paths: Iterable[Path]) -> dict[str, TickMap]:
    maps: dict[str, TickMap] = {}
    for path in paths:
        try:
            with _open(path) as file:
                for line, row in _json_lines(path, file):
                    pool, ticks = row.get("pool"), row.get("ticks")
                    if not isinstance(pool, str) or not isinstance(ticks, list):
                        raise SnapshotError(f"{path}:{line}: must have `pool` and a list `ticks`")
                    quality = row.get("quality") or ("complete" if row.get("complete") else "unknown")
                    maps[pool.lower()] = TickMap(str(quality), ticks)
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise SnapshotError(f"{path}: can't be read: {error}") from error
    return maps


def _token_flags(path: Path) -> dict[str, str]:
    try:
        with _open(path) as file:
            flags = json.load(file)
    except (OSError, EOFError, ValueError) as error:
        raise SnapshotError(f"{path}: can't be read: {error}") from error
    if not isinstance(flags, dict):
        raise SnapshotError(f"{path}: must be an object {{address: flag}}")
    for address, flag in flags.items():
        if flag not in FLAGS:
            raise SnapshotError(f"{path}: {address} = {flag!r}: must be one of {', '.join(FLAGS)}")
    return {address.lower(): flag for address, flag in flags.items()}


@dataclass(frozen=True, slots=True)
class _Found:
    """A pool that could be built: `tokens` have decimals -1 where the row gives none."""

    line: int
    time: int | None
    spec: PoolSpec
    tokens: tuple[TokenSpec, ...]
    assumed: tuple[str, ...]


class _Reader:
    """Collects the lines of one file."""

    def __init__(
        self,
        path: Path,
        only_block: int | None,
        until: int | None,
        chain_id: int | None,
        tick_maps: Mapping[str, TickMap],
    ) -> None:
        self.path = path
        self.only_block = only_block
        self.until = until
        self.given_chain = chain_id
        self.tick_maps = tick_maps
        self.chain_id: int | None = None
        self.block = 0
        self.found: dict[str, _Found] = {}
        self.skipped: Counter[str] = Counter()
        self.excluded: dict[str, str] = {}

    def add(self, line: int, fields: dict[str, Any]) -> None:
        row = Row(fields, self.tick_maps)
        self._check_chain(line, row)
        try:
            if "poolType" in fields:
                row = Row(from_sdk(fields))
            elif "initial_A" in fields:
                row = Row(from_curve(fields))
            if not self._is_wanted(row):
                return
            self._keep(line, row)
        except UnhandledError as error:
            protocol = str(fields.get("protocol") or fields.get("poolType") or "unnamed")
            self.skipped[f"{protocol} ({type_of(fields)}): {error}"] += 1
        except RowError as error:
            self._exclude(line, fields, str(error))
        except (KeyError, TypeError, AttributeError) as error:  # a field of the subgraph's of another shape
            self._exclude(line, fields, f"a field is missing or of another kind: {error!r}")

    def _check_chain(self, line: int, row: Row) -> None:
        try:
            chain_id = row.integer("chain_id", 1, 2**63, self.given_chain)
        except RowError as error:
            mend = ": name it with --chain-id" if row.get("chain_id") is None else ""
            raise SnapshotError(f"{self.path}:{line}: {error}{mend}") from None
        for known in (self.chain_id, self.given_chain):
            if known not in (None, chain_id):
                raise SnapshotError(f"{self.path}:{line}: chain_id = {chain_id}, but {known} above: split it")
        self.chain_id = chain_id

    def _is_wanted(self, row: Row) -> bool:
        block = None if row.get("block") is None else row.integer("block", 0, 2**63)
        time = None if row.get("timestamp") is None else row.integer("timestamp", 0, 2**63)
        late = self.until is not None and time is not None and time > self.until
        if late or self.only_block not in (None, block):
            return False
        self.block = max(self.block, block or 0)
        return True

    def _keep(self, line: int, row: Row) -> None:
        spec, tokens = build(row, ALL_TYPES)
        time = row.get("timestamp") if self.until is not None else None
        found = _Found(line, time, spec, tokens, tuple(row.assumed))
        before = self.found.get(spec.address)
        if before is not None and (found.time is None or before.time is None or found.time == before.time):
            del self.found[spec.address]
            self.excluded[spec.address] = (
                f"listed twice, on lines {before.line} and {line}: a snapshot holds one state of each pool "
                "(of a file with several blocks or times, name one: --block, --time)"
            )
        elif spec.address not in self.excluded and (before is None or found.time > before.time):  # type: ignore[operator]
            self.found[spec.address] = found

    def _exclude(self, line: int, fields: Mapping[str, Any], reason: str) -> None:
        try:
            name = Row(fields).pool()
        except RowError:
            name = f"line {line}"
        if self.found.pop(name, None) is not None:  # which of the two is right can't be known
            reason = f"listed twice, and on line {line} {reason}"
        self.excluded.setdefault(name, f"line {line}: {reason}")

    def snapshot(self, flags: Mapping[str, str]) -> Snapshot:
        if self.chain_id is None:
            raise SnapshotError(f"{self.path}: holds no pool")
        if not self.found:
            others = [f"{number} of {name}" for name, number in self.skipped.items()]
            others += [f"{name} ({reason})" for name, reason in list(self.excluded.items())[:5]]
            where = "" if self.only_block is None else f" of block {self.only_block}"
            raise SnapshotError(
                f"{self.path}: holds no usable pool{where}, but {', '.join(others) or 'no pool'}"
            )
        assumed: Counter[str] = Counter()
        tokens: dict[str, TokenSpec] = {}
        for found in self.found.values():
            assumed.update(found.assumed)
            for token in found.tokens:
                _learn(tokens, token, assumed)
        unknown = [address for address, token in tokens.items() if token.decimals < 0]
        for address in unknown:
            tokens[address] = replace(tokens[address], decimals=ASSUMED_DECIMALS)
        if unknown:
            assumed[f"{ASSUMED_DECIMALS} decimals (display only)"] = len(unknown)
        return Snapshot(
            self.path,
            self.chain_id,
            self.block,
            tuple(replace(t, flag=flags[t.address]) if t.address in flags else t for t in tokens.values()),
            tuple(found.spec for found in self.found.values()),
            dict(self.skipped),
            dict(assumed),
            dict(self.excluded),
        )


def _learn(tokens: dict[str, TokenSpec], token: TokenSpec, assumed: Counter[str]) -> None:
    """Take over what a row says of a token; what an earlier row said stands."""
    known = tokens.setdefault(token.address, token)
    if known.decimals < 0 <= token.decimals:
        tokens[token.address] = replace(known, decimals=token.decimals)
    elif 0 <= token.decimals != known.decimals:
        assumed["decimals as on a token's first line, where a later line differs"] += 1
