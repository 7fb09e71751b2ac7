"""From a node's JSON to our types. Nothing is trusted: what is malformed is named, never guessed."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mev_engine.amm import uniswap_v3
from mev_engine.market.delta import BlockRef, PoolLog

# keccak256 of the event signatures of Uniswap V2's pair and factory
SYNC = "0x1c411e9a96e071241c2f21f7726b17ae89e3cab4c78be50e062b03a9fffbbad1"  # Sync(uint112,uint112)
PAIR_CREATED = "0x0d3648bd0f6ba80134a33ba9275ac585d9d315f0ad8355cddefde31afa28d0e9"
UINT112 = 2**112

# and of Uniswap V3's: what changes a pool's state, and its factory's PoolCreated
V3_EVENTS = frozenset(uniswap_v3.FAMILY.events)
POOL_CREATED = "0x783cca1c0412dd0d695e784568c96da2e9c22ff989357a2e8b1d9b2b4e6b7118"

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_HASH = re.compile(r"0x[0-9a-fA-F]{64}")
_HEX = re.compile(r"0x([0-9a-fA-F]{2})*")


class MalformedLogError(Exception):
    """A log that cannot be what its topic says. The text names block, transaction, address and data."""

    def __init__(self, reason: str, log: Any, block: BlockRef) -> None:
        get = log.get if isinstance(log, dict) else lambda _key: None
        super().__init__(
            f"malformed log: {reason}; block={block.number} hash={block.hash} "
            f"tx={get('transactionHash')} index={get('logIndex')} address={get('address')} "
            f"topics={str(get('topics'))[:300]} data={str(get('data'))[:300]}"
        )


@dataclass(frozen=True, slots=True)
class PairCreated:
    """A factory's PairCreated event: all addresses lower-case."""

    factory: str
    token0: str
    token1: str
    pair: str


@dataclass(frozen=True, slots=True)
class PoolCreated:
    """A V3 factory's PoolCreated event: addresses lower-case, fee in millionths of the input."""

    factory: str
    token0: str
    token1: str
    fee_pips: int
    tick_spacing: int
    pool: str


@dataclass(slots=True)
class BlockLogs:
    """What the logs of one block say.

    `reserves` holds each known pair's last Sync (raw token units), `followed` the logs of each pool whose
    state follows from them, in their order. `suspects` are addresses with a
    malformed log: their state must be read from the chain. `unattributed` logs name no address, so
    every pool is suspect. `indices` are the log indices, to compare with the subscription's.
    """

    reserves: dict[str, tuple[int, int]] = field(default_factory=dict)
    followed: dict[str, list[PoolLog]] = field(default_factory=dict)
    created: list[PairCreated | PoolCreated] = field(default_factory=list)
    suspects: dict[str, MalformedLogError] = field(default_factory=dict)
    unattributed: list[MalformedLogError] = field(default_factory=list)
    indices: set[int] = field(default_factory=set)


def quantity(value: Any, what: str) -> int:
    """An integer as Ethereum's JSON-RPC writes it. Raises ValueError naming `what`."""
    if not isinstance(value, str) or not re.fullmatch(r"0x[0-9a-fA-F]{1,64}", value):
        raise ValueError(f"{what} = {value!r} is not a hex quantity")
    return int(value, 16)


def block_ref(header: Any) -> BlockRef:
    """A header of newHeads or eth_getBlockBy…. Raises ValueError naming the field and its value.

    A chain without EIP-1559 has no baseFeePerGas: 0.
    """
    if not isinstance(header, dict):
        raise ValueError(f"{header!r} is not a header")
    for name in ("hash", "parentHash"):
        if not isinstance(header.get(name), str) or not _HASH.fullmatch(header[name]):
            raise ValueError(f"{name} = {header.get(name)!r} is not a 32-byte hash")
    timestamp = quantity(header.get("timestamp"), "timestamp")
    if timestamp >= 2**40:  # the year 36812: PostgreSQL could still hold it, nobody could mean it
        raise ValueError(f"timestamp = {timestamp} is absurd")
    return BlockRef(
        number=quantity(header.get("number"), "number"),
        hash=header["hash"].lower(),
        parent_hash=header["parentHash"].lower(),
        timestamp=timestamp,
        base_fee=quantity(header.get("baseFeePerGas") or "0x0", "baseFeePerGas"),
    )


def block_logs(
    logs: Iterable[Any],
    block: BlockRef,
    pools: Collection[str],
    factories: Collection[str],
    followed: Collection[str] = (),
) -> BlockLogs:
    """Sort a block's logs (any order) into what they mean. Logs of strangers are left aside.

    `followed`: those of the pools that are V3 pools, not pairs.
    """
    result = BlockLogs()
    ordered: list[tuple[int, str, Mapping[str, Any]]] = []
    for log in logs:
        address = log.get("address") if isinstance(log, dict) else None
        if not isinstance(address, str) or not _ADDRESS.fullmatch(address):
            result.unattributed.append(MalformedLogError("it names no address", log, block))
            continue
        address = address.lower()
        try:
            ordered.append((_position(log, block), address, log))
        except ValueError as error:
            if address in pools or address in factories:
                result.suspects[address] = MalformedLogError(str(error), log, block)
    # a Sync holds the state after the swap: the last one of a block is the block's
    for index, address, log in sorted(ordered, key=lambda entry: entry[0]):
        result.indices.add(index)
        try:
            _read(log, address, pools, factories, followed, result)
        except ValueError as error:
            result.suspects[address] = MalformedLogError(str(error), log, block)
    return result


def _position(log: Mapping[str, Any], block: BlockRef) -> int:
    if str(log.get("blockHash")).lower() != block.hash:
        raise ValueError(f"blockHash = {log.get('blockHash')!r} is not the block that was asked for")
    if log.get("removed"):
        raise ValueError("removed = true in the logs of a block that was asked for by its hash")
    return quantity(log.get("logIndex"), "logIndex")


def _read(
    log: Mapping[str, Any],
    address: str,
    pools: Collection[str],
    factories: Collection[str],
    followed: Collection[str],
    out: BlockLogs,
) -> None:
    if address not in pools and address not in factories:
        return
    topics = log.get("topics")
    if not isinstance(topics, list) or not topics or not all(isinstance(t, str) for t in topics):
        raise ValueError("topics is not a list of hashes")
    first = topics[0].lower()
    if address in followed and first in V3_EVENTS:
        out.followed.setdefault(address, []).append(pool_log(address, topics, log.get("data")))
    elif first == SYNC and address in pools and address not in followed:
        out.reserves[address] = sync(topics, log.get("data"))
    elif first == PAIR_CREATED and address in factories:
        out.created.append(pair_created(address, topics, log.get("data")))
    elif first == POOL_CREATED and address in factories:
        out.created.append(pool_created(address, topics, log.get("data")))
    else:
        raise ValueError(f"topic {first} was not asked for from this address")


def sync(topics: list[str], data: Any) -> tuple[int, int]:
    """Sync(uint112 reserve0, uint112 reserve1): both in raw token units. Raises ValueError."""
    if len(topics) != 1:
        raise ValueError(f"Sync has {len(topics)} topics, not 1")
    reserve0, reserve1 = words(data, 2)
    if reserve0 >= UINT112 or reserve1 >= UINT112:
        raise ValueError("a reserve does not fit uint112")
    return reserve0, reserve1


def pair_created(factory: str, topics: list[str], data: Any) -> PairCreated:
    """PairCreated(address indexed token0, address indexed token1, address pair, uint256). ValueError."""
    if len(topics) != 3 or not all(_HASH.fullmatch(topic) for topic in topics):
        raise ValueError(f"PairCreated has {len(topics)} topics of 32 bytes, not 3")
    pair, _count = words(data, 2)
    return PairCreated(
        factory, as_address(int(topics[1], 16)), as_address(int(topics[2], 16)), as_address(pair)
    )


def pool_created(factory: str, topics: list[str], data: Any) -> PoolCreated:
    """PoolCreated(address indexed token0, address indexed token1, uint24 indexed fee, int24 tickSpacing,
    address pool). ValueError, also where no V3 pool can have that fee or spacing."""
    if len(topics) != 4 or not all(_HASH.fullmatch(topic) for topic in topics):
        raise ValueError(f"PoolCreated has {len(topics)} topics of 32 bytes, not 4")
    token0, token1, fee = (int(topic, 16) for topic in topics[1:])
    if token0 == token1:
        raise ValueError("both tokens are the same")
    spacing, pool = words(data, 2)
    uniswap_v3.empty(fee, spacing)
    return PoolCreated(factory, as_address(token0), as_address(token1), fee, spacing, as_address(pool))


def pool_log(pool: str, topics: list[str], data: Any) -> PoolLog:
    """A pool's log for `amm`, which reads it further. Raises ValueError where it is not hex."""
    if not all(_HASH.fullmatch(topic) for topic in topics):
        raise ValueError("a topic is not 32 bytes")
    if not isinstance(data, str) or not _HEX.fullmatch(data):
        raise ValueError("data is not hex")
    return PoolLog(pool, tuple(topic.lower() for topic in topics), bytes.fromhex(data[2:]))


def words(data: Any, count: int) -> list[int]:
    """`count` 32-byte words of ABI data, exactly. Raises ValueError naming the length found."""
    if not isinstance(data, str) or not _HEX.fullmatch(data):
        raise ValueError("data is not hex")
    if len(data) != 2 + 64 * count:
        raise ValueError(f"data has {(len(data) - 2) // 2} bytes, not {32 * count}")
    return [int(data[2 + 64 * i : 66 + 64 * i], 16) for i in range(count)]


def as_address(word: int) -> str:
    """The address in an ABI word. Raises ValueError where the upper 12 bytes are not zero."""
    if word >> 160:
        raise ValueError(f"the word {word:#066x} is not an address")
    return f"0x{word:040x}"
