"""What the engine emits: an opportunity that was verified in exact integers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from mev_engine.market.delta import BlockRef

STRATEGY = "cyclic_arbitrage"


@dataclass(frozen=True, slots=True)
class Opportunity:
    """One cycle, sized and verified against the state after `block`.

    `amounts` has hops + 1 entries in raw token units: the input, then each hop's output, as the
    pairs' own integer arithmetic gives them. `tokens` and `symbols` stand beside them, so that the
    first and last are the base token; `pools` has one entry a hop. `gross_profit` is in the base
    token's raw units; `gas_cost` and `net_profit` are wei of the chain's native coin. `rank` 1 is
    the best of its block; `conflicts_with` names an opportunity of the block's best set (`selection`) that
    shares a pool with this one; None for those in the set.
    """

    id: str
    strategy: str
    block: BlockRef
    tokens: tuple[str, ...]
    symbols: tuple[str, ...]
    pools: tuple[str, ...]
    amounts: tuple[int, ...]
    gross_profit: int
    gas_units: int
    gas_price: int
    gas_cost: int
    net_profit: int
    rank: int
    conflicts_with: str | None

    @property
    def amount_in(self) -> int:
        return self.amounts[0]

    @property
    def amount_out(self) -> int:
        return self.amounts[-1]


def opportunity_id(chain_id: int, block_hash: str, tokens: tuple[str, ...], pools: tuple[str, ...]) -> str:
    """128 bits of SHA-256 over chain, block and path: a re-run names the same thing the same way,
    so that a repeated insert is recognised."""
    text = "|".join((str(chain_id), block_hash, *tokens, *pools))
    return hashlib.sha256(text.encode()).hexdigest()[:32]
