"""What is known now: tokens, pools, their state as arrays, and the index of cycles."""

from mev_engine.market.delta import BlockDelta, BlockRef, PoolSpec, ReserveUpdate, TokenSpec
from mev_engine.market.market import Market

__all__ = ["BlockDelta", "BlockRef", "Market", "PoolSpec", "ReserveUpdate", "TokenSpec"]
