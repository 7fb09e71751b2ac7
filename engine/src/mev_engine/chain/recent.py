"""The last blocks that were processed: what a reorganisation is recognised and undone with."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from mev_engine.chain.events import BlockId
from mev_engine.market.delta import BlockRef

KEPT = 256  # blocks; Ethereum finalises after 64, Polygon reorganised up to 157 deep


@dataclass(frozen=True, slots=True)
class Processed:
    """A block, the pools that it changed, and the indices of its logs (None: they were not read)."""

    block: BlockRef
    touched: frozenset[str]
    log_indices: frozenset[int] | None


class Recent:
    """A chain of processed blocks, oldest first; each is the parent of the next."""

    def __init__(self) -> None:
        self._blocks: deque[Processed] = deque(maxlen=KEPT)
        self._by_hash: dict[str, Processed] = {}

    def __len__(self) -> int:
        return len(self._blocks)

    def __contains__(self, block_hash: str) -> bool:
        return block_hash in self._by_hash

    def get(self, block_hash: str) -> Processed | None:
        return self._by_hash.get(block_hash)

    @property
    def last(self) -> BlockRef:
        return self._blocks[-1].block

    @property
    def oldest(self) -> BlockRef:
        return self._blocks[0].block

    def push(self, processed: Processed) -> None:
        if self._blocks and processed.block.parent_hash != self.last.hash:
            raise ValueError(f"block {processed.block} does not follow {self.last}: a fault in the follower")
        if len(self._blocks) == KEPT:
            del self._by_hash[self._blocks[0].block.hash]
        self._blocks.append(processed)
        self._by_hash[processed.block.hash] = processed

    def restart(self, block: BlockRef) -> None:
        """Forget everything; `block` is the first one, whose state was read whole."""
        self._blocks.clear()
        self._by_hash.clear()
        self.push(Processed(block, frozenset(), None))

    def after(self, block_hash: str) -> list[Processed]:
        """The blocks after the named one, oldest first."""
        position = next(i for i, p in enumerate(self._blocks) if p.block.hash == block_hash)
        return list(self._blocks)[position + 1 :]

    def cut(self, block_hash: str) -> None:
        """Forget the blocks after the named one."""
        while self.last.hash != block_hash:
            del self._by_hash[self._blocks.pop().block.hash]

    def ids(self) -> tuple[BlockId, ...]:
        return tuple(BlockId(p.block.number, p.block.hash) for p in self._blocks)
