"""What a block changed: the one type that crosses from `chain` into `market`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mev_engine.amm.uniswap_v2 import V2Pair

FLAGS = ("fee_on_transfer", "rebasing", "paused", "blacklisted")
"""Why a token is left out: what a pool's maths promises of it is not what arrives."""


@dataclass(frozen=True, slots=True)
class TokenSpec:
    """An ERC-20 token. `address` is lower-case 0x hex; `symbol` is for people only. `flag`: what makes its
    pools unfit for arbitrage, one of `FLAGS`, or empty."""

    address: str
    symbol: str
    decimals: int
    flag: str = ""


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """A pool with its state at one block. `address` is what names it: a contract's lower-case 0x hex, or
    a pool id where one contract holds many (Uniswap V4, Balancer).

    `tokens`: addresses in the order of the pool's own indices. `state`: one of the states that
    `amm.registry` knows. `protocol` is for people.
    """

    address: str
    tokens: tuple[str, ...]
    state: Any
    protocol: str

    @property
    def token0(self) -> str:
        return self.tokens[0]

    @property
    def token1(self) -> str:
        return self.tokens[1]


def pair_spec(
    address: str,
    token0: str,
    token1: str,
    reserve0: int,
    reserve1: int,
    fee_num: int = 997,
    fee_den: int = 1000,
    protocol: str = "uniswap_v2",
) -> PoolSpec:
    """A pair of the Uniswap V2 kind, whose fee is `fee_num / fee_den` of the input counted both ways."""
    try:
        state = V2Pair(reserve0, reserve1, fee_num, fee_num, fee_den)
    except ValueError as error:
        raise ValueError(f"pool {address}: {error}") from None
    return PoolSpec(address, (token0, token1), state, protocol)


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
class StateUpdate:
    """A pool's whole state after a block, or after a pending transaction."""

    pool: str
    state: Any


@dataclass(frozen=True, slots=True)
class PoolLog:
    """A log of a pool as the chain gave it; `amm.registry` knows what it does to the pool's state."""

    pool: str
    topics: tuple[str, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class BlockDelta:
    """Everything that one complete block changed: at most one update a pool, the logs of pools whose state
    follows from the one before, in their order, and new pools."""

    block: BlockRef
    updates: tuple[ReserveUpdate | StateUpdate, ...] = ()
    new_tokens: tuple[TokenSpec, ...] = ()
    new_pools: tuple[PoolSpec, ...] = ()
    logs: tuple[PoolLog, ...] = ()
