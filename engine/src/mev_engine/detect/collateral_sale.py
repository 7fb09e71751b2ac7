"""Compound V3's side of liquidation: buy collateral from the protocol and swap it into the base asset.

`absorb` pays its caller nothing; what pays is `buyCollateral`, at a discount on the oracle's price. Absorbing
an account first puts its collateral up for sale, so both are looked at together. Amounts are exact raw units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mev_engine.detect.best_amount import best_input
from mev_engine.detect.liquidation import Quote, or_nothing
from mev_engine.market.compound import Absorption, CometMarket


@dataclass(frozen=True, slots=True)
class CollateralPurchase:
    """Absorb `absorbed`, buy `bought` of `asset` for `base_amount`, swap it into `swap_out` of base.

    Profits and gas_cost are in raw units of the base asset.
    """

    absorbed: tuple[str, ...]
    asset: str
    base_amount: int
    bought: int
    swap_out: int
    gross_profit: int
    gas_cost: int

    @property
    def net_profit(self) -> int:
        return self.gross_profit - self.gas_cost


def best_purchase(
    market: CometMarket, asset: str, quote: Quote, gas_cost: int = 0, after: Sequence[Absorption] = ()
) -> CollateralPurchase | None:
    """The purchase with the greatest profit, `after` these absorptions; None where none pays for its gas.

    `quote` swaps the collateral into the base asset. As exact as `best_repay`. NotForSaleError where the
    protocol does not sell.
    """
    stock = market.for_sale(asset, after)
    if stock == 0:
        return None

    def bought(base_amount: int) -> int:
        return market.quote_collateral(asset, base_amount)

    def profit(base_amount: int) -> int:
        return or_nothing(quote, bought(base_amount)) - base_amount

    def least(amount: int) -> int:
        return market.base_for(asset, amount)

    most = least(stock + 1) - 1
    if most < 1:
        return None
    coarse = bought(market.base_scale) < market.base_scale  # a raw unit of collateral is worth more
    base_amount = best_input(profit, most, bought(most), least if coarse else None)
    gross = profit(base_amount)
    if gross <= gas_cost:
        return None
    return CollateralPurchase(
        absorbed=tuple(a.account for a in after),
        asset=asset,
        base_amount=base_amount,
        bought=bought(base_amount),
        swap_out=gross + base_amount,
        gross_profit=gross,
        gas_cost=gas_cost,
    )
