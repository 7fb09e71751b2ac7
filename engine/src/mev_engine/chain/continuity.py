"""Which remembered blocks are still part of the chain, and whether it is the same chain at all."""

from __future__ import annotations

from mev_engine.chain.events import BlockId
from mev_engine.chain.rpc import Link
from mev_engine.market.delta import BlockRef

Ids = tuple[BlockId, ...]


async def resume_point(link: Link, remembered: Ids) -> tuple[BlockRef | None, Ids]:
    """The newest of the blocks (oldest first) that is on the chain, and those after it."""
    found = await link.blocks_by_number(block.number for block in remembered)
    on_chain = [b for b in remembered if b.number in found and found[b.number].hash == b.hash]
    if not on_chain:
        return None, remembered
    last = on_chain[-1].number
    return found[last], tuple(b for b in remembered if b.number > last)


async def genesis_hash(link: Link) -> str | None:
    """The hash of block 0, which tells another chain of the same id from one that only lost more blocks
    than are remembered, and from a node that is still syncing. None where the node does not have it.
    """
    found = await link.blocks_by_number([0])
    return found[0].hash if 0 in found else None


def is_other_chain(before: str | None, now: str | None) -> bool:
    """Whether both are known and differ."""
    return before is not None and now is not None and before != now
