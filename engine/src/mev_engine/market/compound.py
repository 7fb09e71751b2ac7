"""State of a Compound V3 market (Comet), and who can be absorbed, as the contract computes it.

One base asset is lent; collaterals earn nothing. An account owes where its `principal` is negative. Anyone
may call `absorb` on an account below its limit: the protocol takes its debt and collateral, and then sells
the collateral below the oracle's price (`buyCollateral`) while its own reserves are below a target.

Amounts are raw token units, prices have 8 decimals of the market's currency, factors are 1e18, indexes 1e15,
rates 1e18 a second. Inputs are bounded so that no product can overflow 256 bits.

Source: compound-finance/comet, Comet.sol and CometCore.sol, with the discount as `storeFrontPriceFactor *
(1 - liquidationFactor)`, as deployed. The later variant with partial liquidation is not covered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mev_engine.amm.errors import SwapRevertedError, UnknownStateError
from mev_engine.amm.evm import check_range
from mev_engine.market.positions import PositionTable
from mev_engine.types import FloatArray

FACTOR = 10**18
INDEX_SCALE = 10**15
MAX_PRINCIPAL = 2**103 - 1
MAX_COLLATERAL = 2**112 - 1
MAX_PRICE = 2**72 - 1


class NotForSaleError(SwapRevertedError):
    """`buyCollateral` would revert: the reserves are at their target."""


@dataclass(slots=True)
class CometAsset:
    """A collateral. `scale` is 10**decimals, `for_sale` what the protocol holds beyond its users' own."""

    asset: str
    scale: int
    liquidate_collateral_factor: int
    liquidation_factor: int
    price: int
    for_sale: int = 0


@dataclass(frozen=True, slots=True)
class RateCurve:
    """Interest a second by utilisation: one slope up to the kink, another beyond."""

    base: int
    slope_low: int
    slope_high: int
    kink: int

    def rate(self, utilization: int) -> int:
        if utilization <= self.kink:
            return self.base + mul_factor(self.slope_low, utilization)
        low = self.base + mul_factor(self.slope_low, self.kink)
        return low + mul_factor(self.slope_high, utilization - self.kink)


@dataclass(slots=True)
class Totals:
    """`totalsBasic` and the base tokens that the contract holds."""

    supply_index: int
    borrow_index: int
    supply: int  # principal
    borrow: int  # principal
    last_accrual: int
    balance: int


@dataclass(frozen=True, slots=True)
class Absorption:
    """What `absorb` does to one account: collateral taken by asset, and the base paid for it.

    `base_paid_out` is by how much the account's base balance rises; the `principal` after it is 0 or more.
    """

    account: str
    seized: Mapping[str, int]
    base_paid_out: int
    principal_before: int
    principal: int


class CometMarket:
    """One Comet: configuration, totals and accounts. `at` names the block time."""

    def __init__(
        self,
        *,
        base_asset: str,
        base_scale: int,
        base_price: int,
        assets: Iterable[CometAsset],
        supply_curve: RateCurve,
        borrow_curve: RateCurve,
        store_front_price_factor: int,
        target_reserves: int,
        totals: Totals,
    ) -> None:
        self.base_asset, self.base_scale, self.base_price = base_asset, base_scale, base_price
        self.supply_curve, self.borrow_curve = supply_curve, borrow_curve
        self.store_front_price_factor, self.target_reserves = store_front_price_factor, target_reserves
        self.totals = totals
        self.assets = list(assets)
        self.index = {asset.asset: number for number, asset in enumerate(self.assets)}
        self.positions = PositionTable()
        self.now = totals.last_accrual
        check_range("base_price", base_price, 1, MAX_PRICE)
        check_range("store_front_price_factor", store_front_price_factor, 0, FACTOR)
        for asset in self.assets:
            check_range(f"{asset.asset}: price", asset.price, 1, MAX_PRICE)
            check_range(f"{asset.asset}: scale", asset.scale, 1, 10**18)
            for name in ("liquidate_collateral_factor", "liquidation_factor"):
                check_range(f"{asset.asset}: {name}", getattr(asset, name), 0, FACTOR)

    def at(self, now: int) -> None:
        """Compute as of a block's time, not before the last accrual."""
        check_range("now", now, self.totals.last_accrual, 2**40 - 1)
        self.now = now

    def set_principal(self, account: str, principal: int) -> None:
        """`userBasic(account).principal`: negative where the account owes."""
        check_range(f"{account}: principal", principal, -MAX_PRINCIPAL, MAX_PRINCIPAL)
        slot = self.positions.slot(self.positions.account(account), len(self.assets))
        self.positions.write(slot, supplied=max(principal, 0), owed=max(-principal, 0), enabled=False)

    def add_collateral(self, account: str, asset: str, amount: int) -> None:
        """Add a signed change of an account's collateral. ValueError where it would fall below 0."""
        slot = self.positions.slot(self.positions.account(account), self.index[asset])
        held = self.positions.supplied[slot] + amount
        check_range(f"{account}: collateral {asset}", held, 0, MAX_COLLATERAL)
        self.positions.write(slot, supplied=held, owed=None, enabled=True)

    def add_for_sale(self, asset: str, amount: int) -> None:
        """Add a signed change of what the protocol has for sale. ValueError where it would fall below 0."""
        entry = self.assets[self.index[asset]]
        check_range(f"{asset}: for_sale", entry.for_sale + amount, 0, MAX_COLLATERAL)
        entry.for_sale += amount

    def principal(self, account: str) -> int:
        """As `set_principal`; KeyError for an account that was never named."""
        slot = self.positions.find(self.positions.account_index[account], len(self.assets))
        return 0 if slot is None else self.positions.supplied[slot] - self.positions.owed[slot]

    def collateral(self, account: str) -> dict[str, int]:
        """Held collateral by asset, without zeros, in the contract's order."""
        held = {}
        for slot in self.positions.slots(self.positions.account_index[account]):
            number = int(self.positions.reserve[slot])
            if number < len(self.assets) and self.positions.supplied[slot]:
                held[number] = self.positions.supplied[slot]
        return {self.assets[number].asset: held[number] for number in sorted(held)}

    def utilization(self) -> int:
        """Borrowed share of what is supplied (1e18 is all), by the stored indexes."""
        supplied = self.totals.supply * self.totals.supply_index // INDEX_SCALE
        borrowed = self.totals.borrow * self.totals.borrow_index // INDEX_SCALE
        return borrowed * FACTOR // supplied if supplied else 0

    def indexes(self) -> tuple[int, int]:
        """(supply, borrow) indexes accrued to `now`: what the next state-changing call stores first."""
        supply, borrow = self.totals.supply_index, self.totals.borrow_index
        seconds = self.now - self.totals.last_accrual
        if seconds > 0:
            utilization = self.utilization()
            supply += mul_factor(supply, self.supply_curve.rate(utilization) * seconds)
            borrow += mul_factor(borrow, self.borrow_curve.rate(utilization) * seconds)
        return supply, borrow

    def balance(self, account: str) -> int:
        """Base that an account is owed (positive) or owes (negative) now."""
        principal = self.principal(account)
        supply, borrow = self.indexes()
        return principal * supply // INDEX_SCALE if principal >= 0 else -(-principal * borrow // INDEX_SCALE)

    def is_liquidatable(self, account: str) -> bool:
        """What `absorb` decides at `now`, after it has accrued interest."""
        if self.principal(account) >= 0:
            return False
        liquidity = -(-self.balance(account) * self.base_price // self.base_scale)
        for asset, held in self.collateral(account).items():
            entry = self.assets[self.index[asset]]
            liquidity += mul_factor(held * entry.price // entry.scale, entry.liquidate_collateral_factor)
        return liquidity < 0

    def liquidatable(self) -> list[str]:
        """All accounts that `absorb` would take, decided exactly after a float64 screen."""
        low, _high = self.health_bounds()
        near = (self.positions.accounts[number] for number in self.positions.maybe_below_one(low))
        return [account for account in near if self.is_liquidatable(account)]

    def health_bounds(self) -> tuple[FloatArray, FloatArray]:
        """Bounds of collateral at its factors over debt, per account (inf without debt); see `positions`."""
        base = len(self.assets)
        value, threshold, debt_value, slack = (np.zeros((1, base + 1)) for _ in range(4))
        for number, asset in enumerate(self.assets):
            value[0, number] = asset.price / asset.scale
            threshold[0, number] = asset.liquidate_collateral_factor / (FACTOR // 10_000)
            slack[0, number] = 2 + FACTOR / max(asset.liquidate_collateral_factor, 1)  # two roundings down
        debt_value[0, base] = self.indexes()[1] * self.base_price / (INDEX_SCALE * self.base_scale)
        slack[0, base] = 2 + self.base_price / self.base_scale
        return self.positions.bounds(value, threshold, debt_value, slack)

    def absorption(self, account: str) -> Absorption:
        """What `absorb` would do to an account.

        SwapRevertedError (NotLiquidatable) where it would revert; UnknownStateError where the account holds a
        delisted collateral, which the contract's releases treat differently.
        """
        if not self.is_liquidatable(account):
            raise SwapRevertedError(f"NotLiquidatable: {account}")
        seized = self.collateral(account)
        value = 0
        for asset, amount in seized.items():
            entry = self.assets[self.index[asset]]
            if not (entry.liquidation_factor and entry.liquidate_collateral_factor):
                raise UnknownStateError(
                    f"{asset} is delisted (a factor is 0): releases differ in absorbing it"
                )
            value += mul_factor(amount * entry.price // entry.scale, entry.liquidation_factor)
        before = self.balance(account)
        after = max(before + value * self.base_scale // self.base_price, 0)
        principal = after * INDEX_SCALE // self.indexes()[0]
        return Absorption(account, seized, after - before, self.principal(account), principal)

    def absorb(self, absorption: Absorption) -> None:
        """Take an absorption over: accrue, move the collateral, clear the account."""
        self.totals.supply_index, self.totals.borrow_index = self.indexes()
        self.totals.last_accrual = self.now
        for asset, amount in absorption.seized.items():
            self.add_collateral(absorption.account, asset, -amount)
            self.add_for_sale(asset, amount)
        self.totals.borrow += absorption.principal_before
        self.totals.supply += absorption.principal
        self.set_principal(absorption.account, absorption.principal)

    def reserves(self, after: Sequence[Absorption] = ()) -> int:
        """The protocol's own base at `now`, negative where it lacks; `after` these absorptions."""
        supply_index, borrow_index = self.indexes()
        supply = self.totals.supply + sum(a.principal for a in after)
        borrow = self.totals.borrow + sum(a.principal_before for a in after)
        owed, lent = supply * supply_index // INDEX_SCALE, borrow * borrow_index // INDEX_SCALE
        return self.totals.balance - owed + lent

    def quote_collateral(self, asset: str, base_amount: int) -> int:
        """Collateral that `base_amount` buys: at the oracle's price less the store front's discount."""
        numerator, denominator = self._store_front(asset)
        return base_amount * numerator // denominator

    def base_for(self, asset: str, amount: int) -> int:
        """The least base that buys `amount` of a collateral."""
        numerator, denominator = self._store_front(asset)
        return -(-amount * denominator // numerator)

    def _store_front(self, asset: str) -> tuple[int, int]:
        """Collateral per base, raw units, as a fraction: two floors in a row are one."""
        entry = self.assets[self.index[asset]]
        discount = mul_factor(self.store_front_price_factor, FACTOR - entry.liquidation_factor)
        price = mul_factor(entry.price, FACTOR - discount)
        if price == 0:
            raise SwapRevertedError(f"{asset}: division by zero, the discounted price is 0")
        return self.base_price * entry.scale, price * self.base_scale

    def for_sale(self, asset: str, after: Sequence[Absorption] = ()) -> int:
        """Collateral that can be bought. NotForSaleError where the reserves are at their target or above."""
        reserves = self.reserves(after)
        if reserves >= self.target_reserves:
            raise NotForSaleError(f"NotForSale: reserves {reserves} are not below {self.target_reserves}")
        return self.assets[self.index[asset]].for_sale + sum(a.seized.get(asset, 0) for a in after)

    def buy_collateral(self, asset: str, base_amount: int, after: Sequence[Absorption] = ()) -> int:
        """What `buyCollateral` pays out; SwapRevertedError where it would revert."""
        bought = self.quote_collateral(asset, base_amount)
        if bought > self.for_sale(asset, after):
            raise SwapRevertedError(f"InsufficientReserves: {bought} of {asset}")
        return bought


def mul_factor(n: int, factor: int) -> int:
    """`n * factor / 1e18`, rounded down."""
    return n * factor // FACTOR
