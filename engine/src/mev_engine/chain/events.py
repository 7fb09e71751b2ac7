"""What the follower tells the engine, in the order in which it happened."""

from __future__ import annotations

from dataclasses import dataclass

from mev_engine.market.delta import BlockDelta, BlockRef, PoolSpec, TokenSpec


@dataclass(frozen=True, slots=True)
class BlockId:
    """Enough to name a block whose header may be gone."""

    number: int
    hash: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """The whole state as of block `at`: the first event, and the only one that is not a change.

    `orphaned` are blocks of the last run that are no longer part of the chain; `skipped` (first,
    last) are blocks that were not looked at, inclusive. `other_chain`: the chain has another block 0
    than before, so that no older block is part of it either.
    """

    at: BlockRef
    tokens: tuple[TokenSpec, ...]
    pools: tuple[PoolSpec, ...]
    orphaned: tuple[BlockId, ...] = ()
    skipped: tuple[int, int] | None = None
    other_chain: bool = False


@dataclass(frozen=True, slots=True)
class NewBlock:
    """A complete block on top of the last one."""

    delta: BlockDelta


@dataclass(frozen=True, slots=True)
class Reorganised:
    """`orphaned` blocks are no longer part of the chain; `delta` undoes them (state of its block,
    their common ancestor, read from the chain). The new branch follows as NewBlock."""

    orphaned: tuple[BlockId, ...]
    delta: BlockDelta


@dataclass(frozen=True, slots=True)
class Resynchronised:
    """All reserves were read anew, as of `delta.block`, because of `reason`. The rest as in Loaded."""

    reason: str
    delta: BlockDelta
    orphaned: tuple[BlockId, ...] = ()
    skipped: tuple[int, int] | None = None
    other_chain: bool = False


Event = Loaded | NewBlock | Reorganised | Resynchronised
