"""What executing a cycle costs: gas units by family, their price, and Arbitrum's fee for data on L1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from mev_engine.amm.registry import FAMILIES
from mev_engine.market.delta import BlockRef
from mev_engine.types import OffsetArray

HOP_PERCENT: Mapping[str, int] = {"uniswap_v3": 150, "uniswap_v4": 150}
"""What a hop costs in percent of one through a pair (100 for families that are not here). V3's is measured on
the local chain, with plain ERC-20 tokens, and covers one crossed tick; V4's is V3's, not measured."""

TICK_GAS, NEW_TICK_GAS = 25_000, 60_000
"""Gas units of each further tick that a V3 swap crosses: one crossed before, and one crossed for the first
time, whose three slots of outside growth are still empty. Measured on the local chain."""


@dataclass(frozen=True, slots=True)
class GasModel:
    """Cost of executing a cycle: `per_cycle` and for each hop `per_hop` gas units, which is a pair's, or as
    much more as `HOP_PERCENT` says, or what `by_family` has for the pool's family; at base fee plus
    `priority_fee` (wei a unit).

    The base fee is the scanned block's. A transaction can be in the next one at the earliest, whose
    base fee differs by up to 1/8 either way (EIP-1559): so may the cost, and a result near the floor
    may not hold."""

    per_cycle: int = 60_000
    per_hop: int = 75_000
    priority_fee: int = 10**9
    by_family: Mapping[str, int] = field(default_factory=dict)

    def hop(self, family: str) -> int:
        """Gas units of a hop through a pool of a family (its name)."""
        if family in self.by_family:
            return self.by_family[family]
        return -(-self.per_hop * HOP_PERCENT.get(family, 100) // 100)

    def by_code(self) -> OffsetArray:
        """Gas units of a hop by the family's code (int64)."""
        units = np.full(max(family.code for family in FAMILIES.values()) + 1, self.per_hop, np.int64)
        for name, family in FAMILIES.items():
            units[family.code] = self.hop(name)
        return units

    def price(self, block: BlockRef) -> int:
        return block.base_fee + self.priority_fee


# --- Arbitrum ---------------------------------------------------------------------------------------


def arbitrum_units(compressed_bytes: int, *, estimate: bool = True) -> int:
    """L1 gas units that a transaction of this size (bytes, brotli level 0) is charged: 16 a byte.

    `estimate`: with what a node adds in an estimate, before the transaction is signed: 16 bytes, then 1 %.
    Source: OffchainLabs/nitro, docs/arbos/l1-pricing.md and arbos/l1pricing/l1pricing.go
    (getPosterUnitsWithoutCache, estimationPaddingUnits, estimationPaddingBasisPoints).
    """
    if compressed_bytes < 0:
        raise ValueError(f"compressed_bytes is {compressed_bytes}: a size is 0 or more")
    if not estimate:
        return 16 * compressed_bytes
    return (16 * compressed_bytes + 16 * 16) * 10_100 // 10_000


def arbitrum_l1_fee(compressed_bytes: int, l1_base_fee: int, *, estimate: bool = True) -> int:
    """The fee for data on L1 (wei): `arbitrum_units` at `l1_base_fee`, wei a unit, the chain's own estimate
    (ArbGasInfo.getL1BaseFeeEstimate). Source: as there, GetPosterInfo."""
    if l1_base_fee < 0:
        raise ValueError(f"l1_base_fee is {l1_base_fee} wei: a price is 0 or more")
    return arbitrum_units(compressed_bytes, estimate=estimate) * l1_base_fee


def arbitrum_l1_gas(compressed_bytes: int, l1_base_fee: int, l2_gas_price: int) -> int:
    """The same fee as gas units on Arbitrum, rounded up: fee / price (both wei). These come on top of what
    execution uses. Source: docs.arbitrum.io, "How to estimate gas": extra buffer B = L1C / P."""
    if l2_gas_price <= 0:
        raise ValueError(f"l2_gas_price is {l2_gas_price} wei: a price is above 0")
    return -(-arbitrum_l1_fee(compressed_bytes, l1_base_fee) // l2_gas_price)


@dataclass(frozen=True, slots=True)
class CallData:
    """Compressed bytes of a cycle's transaction: its envelope with the signature, and each hop's share.
    Addresses and amounts don't compress, so these are what is sent."""

    per_cycle: int = 140
    per_hop: int = 40


def on_arbitrum(model: GasModel, data: CallData, l1_base_fee: int, l2_gas_price: int) -> GasModel:
    """The model with the fee for L1 data as gas units, for one block: prices change from block to block.

    Each part is rounded up, so a cycle is never charged less than `arbitrum_l1_gas` of all its bytes.
    """
    cycle = arbitrum_l1_gas(data.per_cycle, l1_base_fee, l2_gas_price)
    # one unit more: units of the sum of several hops' bytes may round differently
    units = arbitrum_units(data.per_cycle + data.per_hop) - arbitrum_units(data.per_cycle) + 1
    hop = -(-units * l1_base_fee // l2_gas_price)
    return replace(
        model,
        per_cycle=model.per_cycle + cycle,
        per_hop=model.per_hop + hop,
        by_family={name: model.hop(name) + hop for name in {*FAMILIES, *model.by_family}},
    )
