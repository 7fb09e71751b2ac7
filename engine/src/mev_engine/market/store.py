"""A whole market with its index of cycles in one binary file, that loads in seconds.

Uses `archive` (versioned, checksummed): tokens and pools by number, states as `columns`, the book's
arrays as they are in memory, the index as `CycleIndex.to_arrays` has it. The pools' specs come back with
the states of the block that was saved, not those of their first appearance.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mev_engine.amm import registry
from mev_engine.market import archive
from mev_engine.market.archive import MAGIC, ArchiveError
from mev_engine.market.book import Book
from mev_engine.market.columns import (
    Columns,
    pack_hex,
    pack_json,
    pack_states,
    unpack_hex,
    unpack_json,
    unpack_states,
)
from mev_engine.market.cycles import CycleIndex
from mev_engine.market.delta import FLAGS, PoolSpec, TokenSpec
from mev_engine.market.market import Market

KIND, VERSION = "market", 1
_FAMILY_OF_CODE = {family.code: name for name, family in registry.FAMILIES.items()}
_MEND = "save it anew from the snapshot it was made of"


def is_binary(path: Path) -> bool:
    """Whether the file begins as an archive does, whatever its name. OSError where it can't be read."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def save(path: Path, market: Market, chain_id: int, block: int) -> None:
    """Write the market, all or nothing. ValueError on addresses that are no hex;
    OSError as the disk has it."""
    names = sorted({pool.protocol for pool in market.pools})
    number = {name: k for k, name in enumerate(names)}
    index = market.token_index
    arrays: Columns = {
        "tokens/decimals": np.array([t.decimals for t in market.tokens], dtype=np.int16),
        "tokens/flag": np.array([("", *FLAGS).index(t.flag) for t in market.tokens], dtype=np.uint8),
        "tokens/symbols": pack_json([t.symbol for t in market.tokens]),
        "pools/protocol": np.array([number[pool.protocol] for pool in market.pools], dtype=np.int32),
        "pools/coins": np.array([len(pool.tokens) for pool in market.pools], dtype=np.int32),
        "pools/tokens": np.array([index[t] for pool in market.pools for t in pool.tokens], dtype=np.int32),
        "excluded": pack_json(market.excluded),
        "edge_token": market.edge_token,
    }
    cycle_arrays, cycle_meta = market.cycles.to_arrays()
    groups: dict[str, Mapping[str, NDArray[Any]]] = {
        "tokens/address": pack_hex([token.address for token in market.tokens]),
        "pools/address": pack_hex([pool.address for pool in market.pools]),
        "book": market.book.to_arrays(),
        "cycles": cycle_arrays,
    }
    for code in np.unique(market.book.code).tolist():
        family = _FAMILY_OF_CODE[code]
        own = [market.book.states[pool] for pool in np.flatnonzero(market.book.code == code)]
        groups[f"states/{family}"] = pack_states(family, own)
    for group, columns in groups.items():
        arrays |= {f"{group}/{name}": column for name, column in columns.items()}
    meta = {
        "kind": KIND,
        "version": VERSION,
        "chain_id": chain_id,
        "block": block,
        "base_tokens": list(market.base_tokens),
        "wrapped_native": market.wrapped_native,
        "max_hops": market.max_hops,
        "protocols": names,
        "cycles": cycle_meta,
    }
    archive.save(path, arrays, meta)


def load(path: Path) -> tuple[Market, int, int]:
    """The market, its chain id and block. ArchiveError, naming file and mend, on anything but a whole file
    of this version whose parts fit together; OSError where it can't be read."""
    arrays, meta = archive.load(path)
    if (meta.get("kind"), meta.get("version")) != (KIND, VERSION):
        raise ArchiveError(
            f"{path} can't be loaded: it holds kind {meta.get('kind')!r}, version {meta.get('version')!r}, "
            f"not {KIND!r}, {VERSION}; {_MEND}"
        )
    try:
        with _without_collections():
            return _market(arrays, meta), meta["chain_id"], meta["block"]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise ArchiveError(f"{path} can't be loaded: its parts do not fit: {reason}; {_MEND}") from error


@contextmanager
def _without_collections() -> Iterator[None]:
    """Hundreds of thousands of objects that all stay: a search for garbage finds none."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _market(arrays: Columns, meta: Mapping[str, Any]) -> Market:
    market = Market(tuple(meta["base_tokens"]), meta["wrapped_native"], meta["max_hops"])
    market.tokens = _tokens(arrays)
    states = _states(arrays)
    market.pools = _pools(arrays, meta["protocols"], [token.address for token in market.tokens], states)
    market.token_index = {token.address: k for k, token in enumerate(market.tokens)}
    market.pool_index = {pool.address: k for k, pool in enumerate(market.pools)}
    market.excluded = unpack_json(arrays["excluded"])
    market.edge_token = arrays["edge_token"]
    market.book = Book.from_arrays(_group(arrays, "book"), states)
    _check_layout(market.book)
    market.cycles = CycleIndex.from_arrays(_group(arrays, "cycles"), meta["cycles"])
    if not len(market.edge_token) == len(market.cycles.graph.edge_token) == 2 * market.book.n_legs:
        raise ValueError("the index of cycles is of other pools")
    for address in (*market.base_tokens, market.wrapped_native):
        if address not in market.token_index:
            raise ValueError(f"token {address} is not among the tokens")
    return market


def _group(arrays: Columns, group: str) -> Columns:
    start = group + "/"
    return {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}


def _tokens(arrays: Columns) -> list[TokenSpec]:
    flags = ("", *FLAGS)
    return [
        TokenSpec(address, symbol, decimals, flags[flag])
        for address, symbol, decimals, flag in zip(
            unpack_hex(_group(arrays, "tokens/address")),
            unpack_json(arrays["tokens/symbols"]),
            arrays["tokens/decimals"].tolist(),
            arrays["tokens/flag"].tolist(),
            strict=True,
        )
    ]


def _states(arrays: Columns) -> list[Any]:
    code = arrays["book/code"]
    states: list[Any] = [None] * len(code)
    for number in np.unique(code).tolist():
        family = _FAMILY_OF_CODE[number]
        own = unpack_states(family, _group(arrays, f"states/{family}"))
        for pool, state in zip(np.flatnonzero(code == number).tolist(), own, strict=True):
            states[pool] = state
    return states


def _pools(arrays: Columns, protocols: list[str], tokens: list[str], states: list[Any]) -> list[PoolSpec]:
    ids, at = arrays["pools/tokens"].tolist(), 0
    pools = []
    for address, coins, protocol, state in zip(
        unpack_hex(_group(arrays, "pools/address")),
        arrays["pools/coins"].tolist(),
        arrays["pools/protocol"].tolist(),
        states,
        strict=True,
    ):
        own = tuple([tokens[k] for k in ids[at : at + coins]])
        pools.append(PoolSpec(address, own, state, protocols[protocol]))
        at += coins
    if at != len(ids):
        raise ValueError(f"pools name {len(ids)} tokens where they must name {at}")
    return pools


def _check_layout(book: Book) -> None:
    """The first pool of each family laid out anew: an engine with another layout must not read the old."""
    for code in np.unique(book.code):
        pool = int(np.argmax(book.code == code))
        family = registry.FAMILIES[_FAMILY_OF_CODE[int(code)]]
        laid_out = [("params", family.params)] + ([("words", family.words)] if family.words else [])
        for name, layout in laid_out:
            record = layout(book.states[pool])
            start = getattr(book, f"{name}_at")[pool]
            if not np.array_equal(
                getattr(book, name)[start : start + len(record)], record, equal_nan=name == "params"
            ):
                raise ValueError(f"{name} of {family.name} are of another engine's layout")
