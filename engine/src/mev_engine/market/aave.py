"""State of an Aave market, V2 or V3.0, and each account's health factor as the contract computes it.

Reserves and positions are set from what the chain says (`chain.lending_events` decodes its logs); `at` names
the block time for which indexes, and so balances, are computed. `liquidatable` screens all accounts in
float64 and decides the few near or below 1 exactly.

Amounts are raw token units, prices the oracle's integers (base currency of one whole token: 8 decimals of
USD in V3, wei of ether in V2), rates and indexes ray. Each input is bounded so that no product of the
contract's can overflow 256 bits: what is larger is refused with a ValueError.

Sources: GenericLogic.sol, ReserveLogic.sol and EModeLogic.sol of core-v3 1.19.3, GenericLogic.sol and
ReserveLogic.sol of protocol-v2 1.0.1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mev_engine.amm.errors import UnknownStateError
from mev_engine.amm.evm import check_range
from mev_engine.market.aave_math import (
    BPS,
    NO_DEBT,
    RAY,
    WAD,
    AaveVersion,
    compounded_interest,
    linear_interest,
    percent_mul,
    ray_mul,
    wad_div,
)
from mev_engine.market.positions import PositionTable
from mev_engine.types import FloatArray

MAX_AMOUNT = 2**104 - 1
MAX_PRICE = 2**72 - 1
MAX_INDEX = 2**100 - 1
MAX_RATE = 2**96 - 1  # ray a year: 79 times the principal
MAX_TIME = 2**40 - 1


@dataclass(slots=True)
class Reserve:
    """One reserve: configuration, indexes as of `last_update`, and the oracle's price (0: unknown).

    `available`: underlying that the pool holds, None where it is not followed (then a liquidation is not
    refused for lack of it). `emode_category`: 0 is none; V3 only, as is `protocol_fee` (bps of the bonus).
    """

    asset: str
    decimals: int
    liquidation_threshold: int
    liquidation_bonus: int
    liquidity_index: int = RAY
    variable_borrow_index: int = RAY
    liquidity_rate: int = 0
    variable_borrow_rate: int = 0
    last_update: int = 0
    price: int = 0
    protocol_fee: int = 0
    emode_category: int = 0
    available: int | None = None
    active: bool = True
    paused: bool = False

    def check(self) -> None:
        """ValueError naming asset, field and value where one is out of range."""
        name = f"reserve {self.asset}: "
        check_range(name + "decimals", self.decimals, 0, 18)
        check_range(name + "liquidation_threshold", self.liquidation_threshold, 0, BPS)
        least_bonus = BPS if self.liquidation_threshold else 0  # a reserve that is no collateral has none
        check_range(name + "liquidation_bonus", self.liquidation_bonus, least_bonus, 2**16 - 1)
        check_range(name + "protocol_fee", self.protocol_fee, 0, BPS)
        check_range(name + "emode_category", self.emode_category, 0, 255)
        check_range(name + "liquidity_index", self.liquidity_index, RAY, MAX_INDEX)
        check_range(name + "variable_borrow_index", self.variable_borrow_index, RAY, MAX_INDEX)
        check_range(name + "liquidity_rate", self.liquidity_rate, 0, MAX_RATE)
        check_range(name + "variable_borrow_rate", self.variable_borrow_rate, 0, MAX_RATE)
        check_range(name + "last_update", self.last_update, 0, MAX_TIME)
        check_range(name + "price", self.price, 0, MAX_PRICE)

    @property
    def unit(self) -> int:
        """Raw units of one whole token."""
        return int(10**self.decimals)


@dataclass(slots=True)
class EModeCategory:
    """Efficiency mode (V3.0): for reserves of the category these terms replace the reserve's own.

    `price` is that of the category's own price source, 0 where it has none.
    """

    liquidation_threshold: int
    liquidation_bonus: int
    price: int = 0


@dataclass(frozen=True, slots=True)
class StableDebt:
    """Debt at the user's own fixed rate (V2, V3.0): principal in raw units, rate ray a year."""

    principal: int
    rate: int
    last_update: int


@dataclass(frozen=True, slots=True)
class Account:
    """What `getUserAccountData` says: values in base currency units, threshold bps, health factor wad."""

    collateral: int
    debt: int
    liquidation_threshold: int
    health_factor: int

    @property
    def liquidatable(self) -> bool:
        return self.health_factor < WAD


class AaveMarket:
    """Built from its reserves, in the contract's order; changed by the `set_...` methods and `at`."""

    def __init__(self, version: AaveVersion, reserves: Iterable[Reserve], now: int = 0) -> None:
        self.version = version
        self.reserves: list[Reserve] = []
        self.index: dict[str, int] = {}
        self.categories: dict[int, EModeCategory] = {}
        self.positions = PositionTable()
        self.stable: dict[tuple[int, int], StableDebt] = {}  # by (account, reserve)
        self.unknown: dict[str, str] = {}  # accounts that cannot be judged, with the reason
        self.sentinel_allows = True  # V3 on a rollup: while False only accounts below 0.95 are liquidated
        self._rows = [0]  # e-mode category of each row of the screen's tables
        self.now = now
        for reserve in reserves:
            self.add_reserve(reserve)

    def add_reserve(self, reserve: Reserve) -> None:
        """Append a reserve. ValueError where the asset is listed already or a field is out of range."""
        reserve.check()
        if reserve.asset in self.index:
            raise ValueError(f"reserve {reserve.asset} is listed twice: list it once")
        if self.version is AaveVersion.V2 and (reserve.protocol_fee or reserve.emode_category):
            raise ValueError(f"reserve {reserve.asset}: protocol_fee and emode_category are V3's, set 0")
        self.index[reserve.asset] = len(self.reserves)
        self.reserves.append(reserve)

    def reserve(self, asset: str) -> Reserve:
        """ValueError for an asset that is not listed."""
        return self.reserves[self._number(asset)]

    def set_category(self, number: int, category: EModeCategory) -> None:
        """Define or replace an e-mode category, 1 to 255."""
        check_range("category", number, 1, 255)
        check_range(f"category {number}: price", category.price, 0, MAX_PRICE)
        check_range(f"category {number}: liquidation_threshold", category.liquidation_threshold, 1, BPS)
        self.categories[number] = category
        if number not in self._rows:
            self._rows.append(number)

    def at(self, now: int) -> None:
        """Compute balances as of a block's time. It may not lie before a reserve's last update."""
        check_range("now", now, max((r.last_update for r in self.reserves), default=0), MAX_TIME)
        self.now = now

    def set_price(self, asset: str, price: int) -> None:
        check_range(f"reserve {asset}: price", price, 0, MAX_PRICE)
        self.reserve(asset).price = price

    def set_indexes(self, asset: str, time: int, rates: tuple[int, int], indexes: tuple[int, int]) -> None:
        """What ReserveDataUpdated says in the block of `time`; each pair is (liquidity, variable borrow)."""
        reserve = self.reserve(asset)
        reserve.liquidity_rate, reserve.variable_borrow_rate = rates
        reserve.liquidity_index, reserve.variable_borrow_index = indexes
        reserve.last_update = time
        reserve.check()
        self.now = max(self.now, time)

    def set_position(
        self,
        user: str,
        asset: str,
        *,
        supplied: int | None = None,
        owed: int | None = None,
        collateral: bool | None = None,
    ) -> None:
        """Scaled aToken balance, scaled variable debt, and whether the user has it as collateral."""
        for name, amount in (("supplied", supplied), ("owed", owed)):
            if amount is not None:
                check_range(f"{user} in {asset}: {name}", amount, 0, MAX_AMOUNT)
        slot = self.positions.slot(self.positions.account(user), self._number(asset))
        self.positions.write(slot, supplied=supplied, owed=owed, enabled=collateral)

    def add_scaled(self, user: str, asset: str, *, supplied: int = 0, owed: int = 0) -> None:
        """Add signed changes of the scaled balances. ValueError where one would fall below 0."""
        table = self.positions
        slot = table.slot(table.account(user), self._number(asset))
        self.set_position(user, asset, supplied=table.supplied[slot] + supplied, owed=table.owed[slot] + owed)

    def set_stable_debt(self, user: str, asset: str, debt: StableDebt | None) -> None:
        """The user's debt at a fixed rate; None where there is none."""
        account, reserve = self.positions.account(user), self._number(asset)
        slot = self.positions.slot(account, reserve)
        if debt is None or debt.principal == 0:
            self.stable.pop((account, reserve), None)
            self.positions.fixed_debt[slot] = 0
            return
        check_range(f"{user} in {asset}: stable principal", debt.principal, 0, MAX_AMOUNT)
        check_range(f"{user} in {asset}: stable rate", debt.rate, 0, MAX_RATE)
        self.stable[account, reserve] = debt

    def set_user_category(self, user: str, category: int) -> None:
        """The user's e-mode category; 0 is none. ValueError where it is not defined."""
        if category not in self._rows:
            raise ValueError(f"{user}: e-mode category {category} is not defined: set_category first")
        account = self.positions.account(user)  # may replace the array that is written next
        self.positions.category[account] = self._rows.index(category)

    def user_category(self, user: str) -> int:
        """The user's e-mode category, 0 for none."""
        return self._rows[int(self.positions.category[self.positions.account_index[user]])]

    def normalized_income(self, asset: str) -> int:
        """Ray by which a scaled aToken balance is multiplied now."""
        reserve = self.reserve(asset)
        growth = linear_interest(reserve.liquidity_rate, self.now - reserve.last_update)
        return ray_mul(growth, reserve.liquidity_index)

    def normalized_debt(self, asset: str) -> int:
        """Ray by which a scaled variable debt is multiplied now."""
        reserve = self.reserve(asset)
        growth = compounded_interest(
            reserve.variable_borrow_rate, self.now - reserve.last_update, self.version
        )
        return ray_mul(growth, reserve.variable_borrow_index)

    def supplied(self, user: str, asset: str) -> int:
        """The user's aToken balance now, raw units."""
        slot = self._find(user, asset)
        return 0 if slot is None else ray_mul(self.positions.supplied[slot], self.normalized_income(asset))

    def owed(self, user: str, asset: str) -> tuple[int, int]:
        """The user's (stable, variable) debt now, raw units."""
        slot = self._find(user, asset)
        if slot is None:
            return 0, 0
        stable = self.stable.get((self.positions.account_index[user], self._number(asset)))
        return (
            self._stable_balance(stable) if stable else 0,
            ray_mul(self.positions.owed[slot], self.normalized_debt(asset)),
        )

    def is_collateral(self, user: str, asset: str) -> bool:
        """The user has it enabled as collateral, and the reserve has a liquidation threshold."""
        slot = self._find(user, asset)
        reserve = self.reserve(asset)
        return slot is not None and self.positions.enabled[slot] and reserve.liquidation_threshold > 0

    def price(self, asset: str, category: int) -> int:
        """Price of an asset for a user of an e-mode category, as `calculateUserAccountData` takes it."""
        reserve = self.reserve(asset)
        if category and reserve.emode_category == category and self.categories[category].price:
            return self.categories[category].price
        if reserve.price == 0:
            raise UnknownStateError(f"reserve {asset} has no price: set_price")
        return reserve.price

    def threshold(self, asset: str, category: int) -> int:
        """Liquidation threshold (bps) of a collateral for a user of an e-mode category."""
        reserve = self.reserve(asset)
        if category and reserve.emode_category == category:
            return self.categories[category].liquidation_threshold
        return reserve.liquidation_threshold

    def account(self, user: str) -> Account:
        """Exactly what `getUserAccountData` answers at `now`.

        KeyError for a user who never had a position; UnknownStateError where a price is missing.
        """
        category = self.user_category(user)
        collateral = weighted = debt = 0
        for slot in self.positions.slots(self.positions.account_index[user]):
            reserve = self.reserves[self.positions.reserve[slot]]
            counts = self.is_collateral(user, reserve.asset)
            stable, variable = self.owed(user, reserve.asset)
            if not counts and stable + variable == 0:
                continue
            price = self.price(reserve.asset, category)
            if counts:
                value = self.supplied(user, reserve.asset) * price // reserve.unit
                collateral += value
                weighted += value * self.threshold(reserve.asset, category)
            debt += (stable + variable) * price // reserve.unit
        threshold = weighted // collateral if collateral else 0
        health = wad_div(percent_mul(collateral, threshold), debt) if debt else NO_DEBT
        return Account(collateral, debt, threshold, health)

    def liquidatable(self) -> tuple[dict[str, Account], dict[str, str]]:
        """All accounts below 1, decided exactly; the float64 screen leaves out those that cannot be.

        Second, the accounts near or below 1 that could not be judged, with the reason.
        """
        low, _high = self.health_bounds()
        below: dict[str, Account] = {}
        refused: dict[str, str] = {}
        for number in self.positions.maybe_below_one(low):
            user = self.positions.accounts[number]
            if user in self.unknown:
                refused[user] = self.unknown[user]
                continue
            try:
                account = self.account(user)
            except UnknownStateError as error:
                refused[user] = str(error)
                continue
            if account.liquidatable:
                below[user] = account
        return below, refused

    def health_bounds(self) -> tuple[FloatArray, FloatArray]:
        """Bounds (n_accounts,) of every account's health factor, 1.0 being the limit; see `positions`.

        A reserve without a price has infinite slack, so that whoever uses it is looked at exactly.
        """
        shape = (len(self._rows), len(self.reserves))
        value, threshold, debt_value, slack = (np.empty(shape) for _ in range(4))
        for r, reserve in enumerate(self.reserves):
            income, debt = self.normalized_income(reserve.asset), self.normalized_debt(reserve.asset)
            for row, category in enumerate(self._rows):
                own = self.categories[category].price if category == reserve.emode_category != 0 else 0
                price = own or reserve.price
                value[row, r] = income * price / (RAY * reserve.unit)
                debt_value[row, r] = debt * price / (RAY * reserve.unit)
                slack[row, r] = 1 + 0.5 * price / reserve.unit if price else np.inf
                counts = reserve.liquidation_threshold > 0
                threshold[row, r] = self.threshold(reserve.asset, category) if counts else 0
        for (account, r), stable in self.stable.items():
            index = self.normalized_debt(self.reserves[r].asset)
            slot = self.positions.slot(account, r)
            self.positions.fixed_debt[slot] = self._stable_balance(stable) * RAY / index
        return self.positions.bounds(value, threshold, debt_value, slack)

    def _number(self, asset: str) -> int:
        if asset not in self.index:
            raise ValueError(f"reserve {asset} is not known: add_reserve first")
        return self.index[asset]

    def _find(self, user: str, asset: str) -> int | None:
        account = self.positions.account_index.get(user)
        return None if account is None else self.positions.find(account, self._number(asset))

    def _stable_balance(self, debt: StableDebt) -> int:
        growth = compounded_interest(debt.rate, self.now - debt.last_update, self.version)
        return ray_mul(debt.principal, growth)
