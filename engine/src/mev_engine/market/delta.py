"""What a block changed: the one type that crosses from `chain` into `market`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TokenSpec:
    """An ERC-20 token. `address` is lower-case 0x hex; `symbol` is for people only."""

    address: str
    symbol: str
    decimals: int


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """A Uniswap V2 style pair with its reserves (raw token units, uint112) at one block.

    The fee is kept as the pair's own arithmetic has it: `fee_num / fee_den` of the input
    counts (997 / 1000 for 30 bps).
    """

    address: str
    token0: str
    token1: str
    reserve0: int
    reserve1: int
    fee_num: int = 997
    fee_den: int = 1000
    protocol: str = "uniswap_v2"


@dataclass(frozen=True, slots=True)
class BlockRef:
    """A block by name. Hashes are lower-case 0x hex; `timestamp` in seconds; `base_fee` in wei."""

    number: int
    hash: str
    parent_hash: str
    timestamp: int
    base_fee: int


@dataclass(frozen=True, slots=True)
class ReserveUpdate:
    """A pair's reserves (raw token units) after its last Sync event of a block."""

    pool: str
    reserve0: int
    reserve1: int


@dataclass(frozen=True, slots=True)
class BlockDelta:
    """Everything that one complete block changed: at most one update a pool, plus new pools."""

    block: BlockRef
    updates: tuple[ReserveUpdate, ...] = ()
    new_tokens: tuple[TokenSpec, ...] = ()
    new_pools: tuple[PoolSpec, ...] = ()
