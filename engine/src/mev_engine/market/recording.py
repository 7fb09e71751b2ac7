"""Recordings: a market and the blocks that changed it, as JSON lines (`.gz` by the file's name).

    {"kind": "market", "version": 1, "chain_id", "base_tokens", "wrapped_native", "max_hops",
     "tokens": [...], "pools": [...]}
    {"kind": "block", "block": {...}, "updates": [[pool, "r0", "r1"], ...],
     "new_tokens": [...], "new_pools": [...]}

Objects have the fields of the types in `market.delta`; integers above 2^53 are strings.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeVar

from mev_engine.amm.uniswap_v2 import V2Pair
from mev_engine.market.delta import (
    BlockDelta,
    BlockRef,
    PoolSpec,
    ReserveUpdate,
    StateUpdate,
    TokenSpec,
    pair_spec,
)

VERSION = 1
_SAFE_INTEGER = 2**53


@dataclass(frozen=True, slots=True)
class _PairRow:
    """A pair of the Uniswap V2 kind as a line has it: the arguments of `pair_spec`."""

    address: str
    token0: str
    token1: str
    reserve0: int
    reserve1: int
    fee_num: int
    fee_den: int
    protocol: str


_Spec = TypeVar("_Spec", TokenSpec, _PairRow, BlockRef)


class RecordingError(ValueError):
    """A file that can't be read as a recording; names file, line, field and value."""


@dataclass(frozen=True, slots=True)
class RecordedMarket:
    """The market before the first recorded block: the arguments of `Market.build`."""

    chain_id: int
    base_tokens: tuple[str, ...]
    wrapped_native: str
    max_hops: int
    tokens: tuple[TokenSpec, ...]
    pools: tuple[PoolSpec, ...]


class RecordingWriter:
    """Writes one recording; every block is on disk, as far as this process can see to it, when
    `write` returns. A file that exists already is a FileExistsError, never overwritten."""

    def __init__(self, path: Path, market: RecordedMarket) -> None:
        opened = gzip.open if path.suffix == ".gz" else open
        self._file: IO[Any] = opened(path, "xt", encoding="utf-8")
        header = {"kind": "market", "version": VERSION} | asdict(market)
        header["pools"] = [_pool_row(pool) for pool in market.pools]
        self._line(header)

    def write(self, delta: BlockDelta) -> None:
        row: dict[str, Any] = {
            "kind": "block",
            "block": asdict(delta.block),
            "updates": [_update_row(update) for update in delta.updates],
        }
        if delta.new_tokens:
            row["new_tokens"] = [asdict(token) for token in delta.new_tokens]
        if delta.new_pools:
            row["new_pools"] = [_pool_row(pool) for pool in delta.new_pools]
        self._line(row)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _line(self, row: dict[str, Any]) -> None:
        self._file.write(json.dumps(jsonable(row), separators=(",", ":")) + "\n")
        self._file.flush()


def read(path: Path) -> tuple[RecordedMarket, Iterator[BlockDelta]]:
    """The market, and its blocks one after the other. RecordingError on anything malformed; blocks
    before the malformed one have been given by then."""
    lines = _lines(path)
    first = next(lines, None)
    if first is None:
        raise RecordingError(f"{path}: empty: a recording starts with its market")
    return _market(path, first[1]), _blocks(path, lines)


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    line = 0
    try:
        with (
            gzip.open(path, "rt", encoding="utf-8")
            if path.suffix == ".gz"
            else path.open(encoding="utf-8") as file
        ):
            for line, text in enumerate(file, start=1):
                row = json.loads(text)
                if not isinstance(row, dict):
                    raise RecordingError(f"{path}:{line}: must be an object, found {text.strip()[:80]!r}")
                yield line, row
    except json.JSONDecodeError as error:
        raise RecordingError(f"{path}:{line}: not JSON: {error}") from error
    except EOFError as error:
        raise RecordingError(
            f"{path}:{line}: cut short after this line, as by a crash of its writer"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise RecordingError(f"{path}:{line}: can't be read: {error}") from error


def _market(path: Path, row: dict[str, Any]) -> RecordedMarket:
    where = f"{path}:1"
    if (row.get("kind"), row.get("version")) != ("market", VERSION):
        raise RecordingError(
            f"{where}: kind = {row.get('kind')!r}, version = {row.get('version')!r}: "
            f"a recording starts with kind 'market', version {VERSION}"
        )
    base_tokens = _list(where, row, "base_tokens")
    return RecordedMarket(
        chain_id=_value(where, row, "chain_id", int),
        base_tokens=tuple(str(token) for token in base_tokens),
        wrapped_native=_value(where, row, "wrapped_native", str),
        max_hops=_value(where, row, "max_hops", int),
        tokens=_specs(where, row, "tokens", TokenSpec),
        pools=_pairs(where, row, "pools"),
    )


def _blocks(path: Path, lines: Iterator[tuple[int, dict[str, Any]]]) -> Iterator[BlockDelta]:
    for line, row in lines:
        where = f"{path}:{line}"
        if row.get("kind") != "block":
            raise RecordingError(f"{where}: kind = {row.get('kind')!r}: must be 'block'")
        updates = []
        for entry in _list(where, row, "updates"):
            if not isinstance(entry, list) or len(entry) != 3:
                raise RecordingError(f"{where}: updates has {entry!r}: must be [pool, reserve0, reserve1]")
            named = dict(zip(("pool", "reserve0", "reserve1"), entry, strict=True))
            reserves = (_value(where, named, name, int) for name in ("reserve0", "reserve1"))
            updates.append(ReserveUpdate(_value(where, named, "pool", str), *reserves))
        yield BlockDelta(
            _spec(where, row.get("block"), BlockRef),
            tuple(updates),
            new_tokens=_specs(where, {"new_tokens": []} | row, "new_tokens", TokenSpec),
            new_pools=_pairs(where, {"new_pools": []} | row, "new_pools"),
        )


def _update_row(update: ReserveUpdate | StateUpdate) -> list[str]:
    if not isinstance(update, ReserveUpdate):
        raise ValueError(f"pool {update.pool}: a recording holds pairs only")
    return [update.pool, str(update.reserve0), str(update.reserve1)]


def _pool_row(pool: PoolSpec) -> dict[str, Any]:
    """A pool's line. ValueError for what the format does not hold."""
    pair = pool.state
    if not isinstance(pair, V2Pair) or pair.fee_num0 != pair.fee_num1:
        raise ValueError(f"pool {pool.address} ({pool.protocol}): a recording holds pairs with one fee only")
    fee = pair.fee_num0, pair.fee_den
    sides = pool.token0, pool.token1, pair.reserve0, pair.reserve1
    return asdict(_PairRow(pool.address, *sides, *fee, pool.protocol))


def _pairs(where: str, row: dict[str, Any], field: str) -> tuple[PoolSpec, ...]:
    try:
        return tuple(pair_spec(**asdict(pair)) for pair in _specs(where, row, field, _PairRow))
    except RecordingError:
        raise
    except ValueError as error:
        raise RecordingError(f"{where}: {error}") from error


def _specs(where: str, row: dict[str, Any], field: str, kind: type[_Spec]) -> tuple[_Spec, ...]:
    return tuple(
        _spec(f"{where}: {field}[{i}]", entry, kind) for i, entry in enumerate(_list(where, row, field))
    )


def _spec(where: str, row: object, kind: type[_Spec]) -> _Spec:
    """An object with exactly the fields of `kind`, whose types are int or str."""
    if not isinstance(row, dict):
        raise RecordingError(f"{where}: {row!r} must be an object with the fields of {kind.__name__}")
    types = {field.name: int if field.type == "int" else str for field in fields(kind)}
    row = {field.name: field.default for field in fields(kind) if field.default is not MISSING} | row
    if unknown := row.keys() - types.keys():
        raise RecordingError(f"{where}: {kind.__name__} has no field {', '.join(sorted(unknown))}")
    return kind(**{name: _value(where, row, name, expected) for name, expected in types.items()})


def _list(where: str, row: dict[str, Any], field: str) -> Sequence[Any]:
    value = row.get(field)
    if not isinstance(value, list):
        raise RecordingError(f"{where}: {field} = {value!r}: must be a list")
    return value


def _value(where: str, row: dict[str, Any], field: str, kind: type) -> Any:
    value = row.get(field)
    if kind is int and isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value)
    if type(value) is not kind:
        raise RecordingError(
            f"{where}: {field} = {value!r}: must be {'an integer' if kind is int else 'text'}"
        )
    return value


def jsonable(value: Any) -> Any:
    """The same value with integers above 2^53 as strings, which other JSON readers would round."""
    if isinstance(value, dict):
        return {key: jsonable(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(entry) for entry in value]
    if isinstance(value, int) and abs(value) > _SAFE_INTEGER:
        return str(value)
    return value
