"""What is known now: tokens, pools, their state as arrays, and the index of cycles."""

from mev_engine.market.delta import (
    BlockDelta,
    BlockRef,
    PoolLog,
    PoolSpec,
    ReserveUpdate,
    StateUpdate,
    TokenSpec,
    pair_spec,
)
from mev_engine.market.market import Market

__all__ = [
    "BlockDelta",
    "BlockRef",
    "Market",
    "PoolLog",
    "PoolSpec",
    "ReserveUpdate",
    "StateUpdate",
    "TokenSpec",
    "pair_spec",
]
