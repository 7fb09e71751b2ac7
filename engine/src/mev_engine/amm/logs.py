"""Event logs beyond plain words: ABI data with ranges and arrays, and logs that tell too little."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError

from mev_engine.amm.abi import topic
from mev_engine.amm.errors import UnknownStateError
from mev_engine.amm.family import Log

Follow = Callable[[Any, Log], Any]
"""The state after a log of the pool."""


def data(log: Log, *types: str) -> tuple[Any, ...]:
    """The values of a log's data, of these ABI types. ValueError where it can't be that data."""
    try:
        return decode(types, log[1])
    except DecodingError as error:
        raise ValueError(f"the log's data is not ({','.join(types)}): {error}") from error


def indexed(log: Log, position: int, kind: str) -> Any:
    """The value of topic `position` (0 is the event's own), of this ABI type. ValueError as in `data`."""
    topics = log[0]
    if len(topics) <= position:
        raise ValueError(f"the log has {len(topics)} topics: {kind} of topic {position} is missing")
    try:
        (value,) = decode((kind,), bytes.fromhex(topics[position].removeprefix("0x")))
    except DecodingError as error:
        raise ValueError(f"topic {position} is {topics[position]}, not {kind}: {error}") from error
    return value


def unknown(*signatures: str, why: str) -> Mapping[str, Follow]:
    """Events after which the state can't be told: each raises UnknownStateError with this reason."""

    def named(signature: str) -> Follow:
        def follow(_state: Any, _log: Log) -> Any:
            raise UnknownStateError(f"after {signature.partition('(')[0]} {why}: read the pool anew")

        return follow

    return {topic(signature): named(signature) for signature in signatures}
