"""Python integers, texts and pool states as columns of numbers, for the binary snapshot.

`pack` and `unpack` keep integers of any width as little-endian 64-bit limbs, two's complement where they
are signed. States: `V2Pair` and the concentrated pools have columns of their own; every other
family goes through `codec` as JSON in a column of bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mev_engine.amm import registry
from mev_engine.amm.concentrated import ConcentratedPool
from mev_engine.amm.uniswap_v2 import V2Pair
from mev_engine.amm.uniswap_v4 import V4Pool
from mev_engine.market import codec
from mev_engine.types import WordArray

Columns = dict[str, NDArray[Any]]


def pack(values: Iterable[int], limbs: int, *, signed: bool = False) -> WordArray:
    """uint64 (n, limbs). OverflowError where a value does not fit."""
    raw = b"".join(value.to_bytes(8 * limbs, "little", signed=signed) for value in values)
    return np.frombuffer(raw, dtype="<u8").reshape(-1, limbs)


def unpack(words: WordArray, *, signed: bool = False) -> list[int]:
    """The integers that were packed."""
    size, raw, read = 8 * words.shape[1], words.tobytes(), int.from_bytes
    return [read(raw[at : at + size], "little", signed=signed) for at in range(0, len(raw), size)]


def pack_json(value: Any) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(value, separators=(",", ":")).encode(), dtype=np.uint8)


def unpack_json(column: NDArray[np.uint8]) -> Any:
    return json.loads(column.tobytes())


def pack_hex(texts: Sequence[str]) -> Columns:
    """Lower-case 0x texts of up to 255 bytes; ValueError naming one that is none."""
    raw = []
    for text in texts:
        digits = text[2:]
        if text[:2] != "0x" or len(digits) % 2 or digits != digits.lower():
            raise ValueError(f"{text!r} is no lower-case 0x hex of whole bytes: name tokens and pools so")
        raw.append(bytes.fromhex(digits))
    return {
        "size": np.array([len(part) for part in raw], dtype=np.uint8),
        "bytes": np.frombuffer(b"".join(raw), dtype=np.uint8),
    }


def unpack_hex(columns: Mapping[str, NDArray[Any]]) -> list[str]:
    digits = columns["bytes"].tobytes().hex()
    sizes = columns["size"].tolist()
    ends = list(accumulate(2 * size for size in sizes))
    _same("bytes of addresses", ends[-1] if ends else 0, len(digits))
    return ["0x" + digits[end - 2 * size : end] for end, size in zip(ends, sizes, strict=True)]


def pack_states(family: str, states: Sequence[Any]) -> Columns:
    """Columns of the states of one family."""
    kind = registry.FAMILIES[family].state
    if kind is V2Pair:
        return _pack_pairs(states)
    if issubclass(kind, ConcentratedPool):
        return _pack_concentrated(states)
    return {"json": pack_json([codec.encode(state) for state in states])}


def unpack_states(family: str, columns: Mapping[str, NDArray[Any]]) -> list[Any]:
    """The states. ValueError, KeyError on columns that are not of this family; ValueError as of the states'
    own checks."""
    kind = registry.FAMILIES[family].state
    if kind is V2Pair:
        return _unpack_pairs(columns)
    if issubclass(kind, ConcentratedPool):
        return _unpack_concentrated(kind, columns)
    return [codec.decode(kind, values) for values in unpack_json(columns["json"])]


# --- Uniswap V2 -------------------------------------------------------------------------------------


def _pack_pairs(pairs: Sequence[V2Pair]) -> Columns:
    return {
        "reserve0": pack((pair.reserve0 for pair in pairs), 2),
        "reserve1": pack((pair.reserve1 for pair in pairs), 2),
        "fees": np.array([(p.fee_num0, p.fee_num1, p.fee_den) for p in pairs], dtype=np.uint32).reshape(
            -1, 3
        ),
    }


def _unpack_pairs(columns: Mapping[str, NDArray[Any]]) -> list[V2Pair]:
    """The checks of `V2Pair`, all pairs at once, so that each need not run its own."""
    reserve0, reserve1, fees = columns["reserve0"], columns["reserve1"], columns["fees"]
    for name in ("reserve0", "reserve1"):
        if (columns[name][:, 1] >> np.uint64(48)).any():
            raise ValueError(f"{name} of a pair is above 2**112 - 1")
        _same(name, len(columns[name]), len(fees))
    nums, den = fees[:, :2], fees[:, 2:]
    if not ((den >= 1) & (den <= 10**6) & (nums >= 1) & (nums <= den)).all():
        raise ValueError("fees of a pair are not 1 to fee_den, or fee_den not 1 to 10**6")
    setters = [getattr(V2Pair, name).__set__ for name in V2Pair.__slots__]
    pairs = [object.__new__(V2Pair) for _ in range(len(fees))]
    for setter, values in zip(setters, (unpack(reserve0), unpack(reserve1), *fees.T.tolist()), strict=True):
        for pair, value in zip(pairs, values, strict=True):
            setter(pair, value)
    return pairs


# --- Uniswap V3 and V4 ------------------------------------------------------------------------------

_SPECIAL = {"uniswap_v3": ("fee_pips",), "uniswap_v4": ("lp_fee", "protocol_fee")}


def _fee_names(kind: type[Any]) -> tuple[str, ...]:
    return _SPECIAL["uniswap_v4" if kind is V4Pool else "uniswap_v3"]


def _pack_concentrated(pools: Sequence[Any]) -> Columns:
    if not pools:
        return {}
    fee_names = _fee_names(type(pools[0]))
    scalars = [(p.tick, p.tick_spacing, *p.known, *(getattr(p, name) for name in fee_names)) for p in pools]
    entries = [(tick, net) for p in pools for tick, net in p.ticks.items()]
    gross = [p.gross[tick] for p in pools if p.gross is not None for tick in p.ticks]
    return {
        "sqrt_price_x96": pack((p.sqrt_price_x96 for p in pools), 3),
        "liquidity": pack((p.liquidity for p in pools), 2),
        "scalars": np.array(scalars, dtype=np.int32),
        "n_ticks": np.array([len(p.ticks) for p in pools], dtype=np.int32),
        "ticks": np.array([tick for tick, _ in entries], dtype=np.int32),
        "nets": pack((net for _, net in entries), 2, signed=True),
        "has_gross": np.array([p.gross is not None for p in pools], dtype=np.bool_),
        "gross": pack(gross, 2),
    }


def _unpack_concentrated(kind: type[Any], columns: Mapping[str, NDArray[Any]]) -> list[Any]:
    ticks, nets = columns["ticks"].tolist(), unpack(columns["nets"], signed=True)
    gross = iter(unpack(columns["gross"]))
    counts = columns["n_ticks"].tolist()
    _same("ticks", len(ticks), sum(counts))
    fee_names, pools, at = _fee_names(kind), [], 0
    prices, liquidities = unpack(columns["sqrt_price_x96"]), unpack(columns["liquidity"])
    rows = zip(
        prices, liquidities, columns["scalars"].tolist(), counts, columns["has_gross"].tolist(), strict=True
    )
    for price, liquidity, (tick, spacing, low, high, *fees), n, has_gross in rows:
        own = ticks[at : at + n]
        state = kind(
            sqrt_price_x96=price,
            tick=tick,
            liquidity=liquidity,
            tick_spacing=spacing,
            ticks=dict(zip(own, nets[at : at + n], strict=True)),
            known=(low, high),
            gross={tick: next(gross) for tick in own} if has_gross else None,
            **dict(zip(fee_names, fees, strict=True)),
        )
        pools.append(state)
        at += n
    return pools


def _same(name: str, found: int, expected: int) -> None:
    if found != expected:
        raise ValueError(f"{name}: {found} entries where there must be {expected}")
