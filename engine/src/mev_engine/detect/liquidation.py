"""Liquidations on Aave V2 and V3.0: what may be repaid, what it brings, and the best amount to repay.

A liquidator repays part of a user's debt and receives collateral worth more by the bonus. As the collateral
is swapped back into the debt asset through pools whose price falls with the amount, the best repayment is
where the bonus at the margin equals the slippage at the margin, or the most that the protocol allows.

All amounts are raw token units and exact: `Terms.outcome` is what `liquidationCall` does.

Sources: LiquidationLogic.sol and ValidationLogic.sol of core-v3 1.19.3, LendingPoolCollateralManager.sol and
ValidationLogic.sol of protocol-v2 1.0.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mev_engine.amm.errors import SwapRevertedError, UnknownStateError
from mev_engine.detect.best_amount import best_input
from mev_engine.market.aave import AaveMarket, Account
from mev_engine.market.aave_math import BPS, AaveVersion, percent_div, percent_mul, ray_div

Quote = Callable[[int], int]
"""Exact output of a swap: monotone and concave but for rounding. SwapRevertedError counts as 0."""

CLOSE_FACTOR = 5_000  # bps
FULL_CLOSE_BELOW = 95 * 10**16  # V3: at or below this health factor all of a debt may be repaid


class NotLiquidatableError(Exception):
    """`liquidationCall` would revert; the message is the contract's own name of the reason."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one call does: `repaid` debt asset in, `received` collateral out, `fee` held back from it.

    The treasury gets the fee, or a unit less where the user's last scaled units are worth no more.
    """

    repaid: int
    received: int
    fee: int


@dataclass(frozen=True, slots=True)
class Terms:
    """All that decides a liquidation of one (user, debt asset, collateral asset) at one block.

    `max_repay` is the debt times the close factor; `variable_debt` the part at the variable rate. Prices are
    the oracle's, units raw units of a whole token, bonus and fee bps. `available` is the underlying that the
    pool can pay out (None: not followed).
    """

    version: AaveVersion
    user: str
    debt_asset: str
    collateral_asset: str
    health_factor: int
    max_repay: int
    variable_debt: int
    collateral_balance: int
    debt_price: int
    collateral_price: int
    debt_unit: int
    collateral_unit: int
    bonus: int
    protocol_fee: int
    debt_index: int
    income_index: int
    available: int | None

    @property
    def price_per_unit(self) -> tuple[int, int]:
        """Collateral per debt without bonus, raw units, as a fraction."""
        return self.debt_price * self.collateral_unit, self.collateral_price * self.debt_unit

    def outcome(self, debt_to_cover: int) -> Outcome:
        """What `liquidationCall(..., debt_to_cover, receiveAToken=False)` does.

        SwapRevertedError where it would revert for this amount.
        """
        cover = min(debt_to_cover, self.max_repay)
        numerator, denominator = self.price_per_unit
        if self.version is AaveVersion.V2:
            collateral = percent_mul(cover * numerator, self.bonus) // denominator
        else:
            collateral = percent_mul(cover * numerator // denominator, self.bonus)
        repaid = cover
        if collateral > self.collateral_balance:
            collateral = self.collateral_balance
            repaid = percent_div(collateral * denominator // numerator, self.bonus)
            if self.version is AaveVersion.V2:
                repaid = min(repaid, cover)
        fee = self._fee(collateral)
        self._check_burns(repaid, collateral - fee)
        return Outcome(repaid, collateral - fee, fee)

    def least_cover(self, received: int) -> int:
        """The least debt_to_cover that brings this much collateral, where the user has as much."""
        share = self.bonus * BPS - self.protocol_fee * (self.bonus - BPS)
        collateral = max(received, received * self.bonus * BPS // share - 3)  # roundings: less than 3 units
        while collateral - self._fee(collateral) < received:
            collateral += 1
        numerator, denominator = self.price_per_unit
        if self.version is AaveVersion.V2:
            return _ceil(_ceil(collateral * denominator * BPS - BPS // 2, self.bonus), numerator)
        return _ceil(_ceil(collateral * BPS - BPS // 2, self.bonus) * denominator, numerator)

    def _fee(self, collateral: int) -> int:
        """The treasury's part of the bonus in an amount of collateral."""
        bonus = collateral - percent_div(collateral, self.bonus)
        return percent_mul(bonus, self.protocol_fee) if self.protocol_fee else 0

    def _check_burns(self, repaid: int, received: int) -> None:
        """The tokens refuse to burn what scales to nothing, and the pool can't pay what it doesn't hold."""
        if self.variable_debt >= repaid and ray_div(repaid, self.debt_index) == 0:
            raise SwapRevertedError("INVALID_BURN_AMOUNT of the debt")
        if ray_div(received, self.income_index) == 0:
            raise SwapRevertedError("INVALID_BURN_AMOUNT of the collateral")
        if self.available is not None and received > self.available:
            raise SwapRevertedError("NOT_ENOUGH_LIQUIDITY_TO_LIQUIDATE")


@dataclass(frozen=True, slots=True)
class Liquidation:
    """A liquidation that pays, exact at the block's state.

    `repay` is the debt_to_cover to call with and `repaid` what the call then takes; both, and swap_out,
    profits and gas_cost, are raw units of the debt asset, `received` and `protocol_fee` of the collateral.
    `max_repay` is the most that the protocol would allow: `repay` is less where slippage eats the bonus.
    `net_value` is the net profit in the oracle's base currency, so that liquidations can be compared.
    """

    protocol: str
    user: str
    debt_asset: str
    collateral_asset: str
    health_factor: int
    max_repay: int
    repay: int
    repaid: int
    received: int
    protocol_fee: int
    swap_out: int
    gross_profit: int
    gas_cost: int
    net_value: int

    @property
    def net_profit(self) -> int:
        return self.gross_profit - self.gas_cost


def terms(market: AaveMarket, user: str, debt_asset: str, collateral_asset: str) -> Terms:
    """The terms of one pair. NotLiquidatableError, in the contract's order of checks, where it reverts."""
    account = market.account(user)
    return _terms(market, account, user, debt_asset, collateral_asset)


def _terms(market: AaveMarket, account: Account, user: str, debt_asset: str, collateral_asset: str) -> Terms:
    debt = market.reserve(debt_asset)
    collateral = market.reserve(collateral_asset)
    stable, variable = market.owed(user, debt_asset)
    if not (debt.active and collateral.active):
        raise NotLiquidatableError("RESERVE_INACTIVE")
    if debt.paused or collateral.paused:
        raise NotLiquidatableError("RESERVE_PAUSED")
    if not market.sentinel_allows and account.health_factor >= FULL_CLOSE_BELOW:
        raise NotLiquidatableError("PRICE_ORACLE_SENTINEL_CHECK_FAILED")
    if not account.liquidatable:
        raise NotLiquidatableError("HEALTH_FACTOR_NOT_BELOW_THRESHOLD")
    if not market.is_collateral(user, collateral_asset):
        raise NotLiquidatableError("COLLATERAL_CANNOT_BE_LIQUIDATED")
    if stable + variable == 0:
        raise NotLiquidatableError("SPECIFIED_CURRENCY_NOT_BORROWED_BY_USER")

    category = market.user_category(user)
    mode = market.categories.get(category)
    full = market.version is AaveVersion.V3 and account.health_factor <= FULL_CLOSE_BELOW
    return Terms(
        version=market.version,
        user=user,
        debt_asset=debt_asset,
        collateral_asset=collateral_asset,
        health_factor=account.health_factor,
        max_repay=percent_mul(stable + variable, BPS if full else CLOSE_FACTOR),
        variable_debt=variable,
        collateral_balance=market.supplied(user, collateral_asset),
        # in e-mode the contract takes the category's price for any debt, without looking at its category
        debt_price=(mode.price if mode else 0) or market.price(debt_asset, 0),
        collateral_price=market.price(collateral_asset, category),
        debt_unit=debt.unit,
        collateral_unit=collateral.unit,
        bonus=mode.liquidation_bonus
        if mode and collateral.emode_category == category
        else collateral.liquidation_bonus,
        protocol_fee=collateral.protocol_fee,
        debt_index=market.normalized_debt(debt_asset),
        income_index=market.normalized_income(collateral_asset),
        available=collateral.available,
    )


def best_repay(pair: Terms, quote: Quote, gas_cost: int = 0) -> Liquidation | None:
    """The repayment with the greatest profit; None where none is left after `gas_cost` (debt raw units).

    `quote` swaps collateral into the debt asset. Within about 6 raw units of the coarser of the two assets of
    the exact optimum, which is only missed where the profit is flat to within that (see `best_amount`).
    """

    def result(debt_to_cover: int) -> tuple[Outcome, int] | None:
        try:
            outcome = pair.outcome(debt_to_cover)
        except SwapRevertedError:
            return None
        return outcome, or_nothing(quote, outcome.received)

    def profit(debt_to_cover: int) -> int:
        found = result(debt_to_cover)
        return found[1] - found[0].repaid if found else -debt_to_cover

    numerator, denominator = pair.price_per_unit
    most = or_nothing(lambda debt_to_cover: pair.outcome(debt_to_cover).received, pair.max_repay)
    repay = best_input(profit, pair.max_repay, most, pair.least_cover if numerator < denominator else None)
    found = result(repay)
    if found is None or found[1] - found[0].repaid <= gas_cost:
        return None
    outcome, swap_out = found
    return Liquidation(
        protocol=pair.version.value,
        user=pair.user,
        debt_asset=pair.debt_asset,
        collateral_asset=pair.collateral_asset,
        health_factor=pair.health_factor,
        max_repay=pair.max_repay,
        repay=repay,
        repaid=outcome.repaid,
        received=outcome.received,
        protocol_fee=outcome.fee,
        swap_out=swap_out,
        gross_profit=swap_out - outcome.repaid,
        gas_cost=gas_cost,
        net_value=(swap_out - outcome.repaid - gas_cost) * pair.debt_price // pair.debt_unit,
    )


def or_nothing(exchange: Quote, amount: int) -> int:
    """What an exchange pays for an amount: 0 where it reverts, as nobody would call it then."""
    try:
        return exchange(amount)
    except SwapRevertedError:
        return 0


def _ceil(a: int, b: int) -> int:
    return -(-a // b)


def pairs(market: AaveMarket, user: str) -> Iterator[tuple[str, str]]:
    """All (debt asset, collateral asset) of a user."""
    slots = market.positions.slots(market.positions.account_index[user])
    assets = [market.reserves[market.positions.reserve[slot]].asset for slot in slots]
    for debt in assets:
        if sum(market.owed(user, debt)):
            yield from ((debt, asset) for asset in assets if market.is_collateral(user, asset))


def find_liquidations(
    market: AaveMarket,
    quotes: Callable[[str, str], Quote | None],
    gas_cost: Callable[[str], int],
) -> tuple[list[Liquidation], dict[tuple[str, ...], str]]:
    """Each user's best liquidation, most valuable first by the oracle's prices; and what was refused, why.

    `quotes(collateral, debt)` gives the swap, None where no pool leads there; `gas_cost(debt)` the call's
    cost in raw units of the debt asset. One a user, as the first one changes the terms of the next. Refusals
    are keyed by (user,) or (user, debt asset, collateral asset).
    """
    below, unjudged = market.liquidatable()
    refused: dict[tuple[str, ...], str] = {(user,): reason for user, reason in unjudged.items()}
    best: dict[str, Liquidation] = {}
    for user, account in below.items():
        for debt_asset, collateral_asset in pairs(market, user):
            key = (user, debt_asset, collateral_asset)
            quote = quotes(collateral_asset, debt_asset)
            if quote is None:
                refused[key] = "no pool swaps the collateral into the debt asset"
                continue
            try:
                pair = _terms(market, account, user, debt_asset, collateral_asset)
            except (NotLiquidatableError, UnknownStateError) as error:
                refused[key] = str(error)
                continue
            found = best_repay(pair, quote, gas_cost(debt_asset))
            if found is not None and (user not in best or found.net_value > best[user].net_value):
                best[user] = found
    return sorted(best.values(), key=lambda found: (-found.net_value, found.user)), refused
