"""Compound V3: the values that its own test suite asserts, and properties of the exact arithmetic.

No registry package ships Comet's bytecode, so nothing here is compared with the contract itself; the
published values are from compound-finance/comet, test/ (quote-collateral, interest-rate, is-liquidatable,
absorb). Takes about 5 s.
"""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mev_engine.amm.errors import SwapRevertedError, UnknownStateError
from mev_engine.amm.uniswap_v2 import get_amount_out
from mev_engine.chain.lending_events import LendingEvent, apply_comet, touched
from mev_engine.detect.collateral_sale import best_purchase
from mev_engine.market.compound import (
    FACTOR,
    INDEX_SCALE,
    CometAsset,
    CometMarket,
    NotForSaleError,
    RateCurve,
    Totals,
)

YEAR = 31_536_000
USD = 10**8
FLAT = RateCurve(0, 0, 0, FACTOR)
COMP = CometAsset("COMP", 10**18, FACTOR, FACTOR, 175 * USD)
WETH = CometAsset("WETH", 10**18, FACTOR, FACTOR, 3000 * USD)
WBTC = CometAsset("WBTC", 10**8, FACTOR, FACTOR, 41_000 * USD)


def usdc_market(
    *assets: CometAsset, totals: Totals | None = None, store_front: int = FACTOR, target: int = 100
) -> CometMarket:
    return CometMarket(
        base_asset="USDC",
        base_scale=10**6,
        base_price=USD,
        assets=[replace(asset) for asset in assets],
        supply_curve=FLAT,
        borrow_curve=FLAT,
        store_front_price_factor=store_front,
        target_reserves=target,
        totals=totals or Totals(INDEX_SCALE, INDEX_SCALE, 0, 0, 0, 0),
    )


@pytest.mark.parametrize(
    ("store_front", "factor", "price", "base", "bought"),
    [
        (50, 60, 200, 200 * 10**6, 125 * 10**16),
        (0, 60, 200, 200 * 10**6, 10**18),
        (50, 80, 9, 810 * 10**6, 100 * 10**18),
        (80, 75, 200, 10**21, 625 * 10**28),
        (80, 75, 200, 0, 0),
    ],
)
def test_published_quotes(store_front: int, factor: int, price: int, base: int, bought: int) -> None:
    # fails if the discount or the order of roundings were another
    percent = FACTOR // 100
    asset = replace(COMP, liquidation_factor=factor * percent, price=price * USD)
    assert usdc_market(asset, store_front=store_front * percent).quote_collateral("COMP", base) == bought


@pytest.mark.parametrize(
    ("indexes", "principals", "curve", "utilization", "yearly"),
    [
        ((2, 4), (500, 25), (5, 100, 3000), 100, 15),
        ((2, 3), (50, 30), (5, 100, 3000), 900, 385),
        ((1, 1), (100, 110), (10, 20, 100), 1100, 56),
        ((2, 3), (50, 0), (5, 100, 3000), 0, 5),
    ],
)
def test_published_rates(
    indexes: tuple[int, int],
    principals: tuple[int, int],
    curve: tuple[int, int, int],
    utilization: int,
    yearly: int,
) -> None:
    # in thousandths; the suite allows 1e8 of 1e18. Fails if the kink or utilisation were computed otherwise
    milli = FACTOR // 1000
    totals = Totals(indexes[0] * INDEX_SCALE, indexes[1] * INDEX_SCALE, *principals, 0, 0)
    market = usdc_market(COMP, totals=totals)
    base, low, high = (rate * milli // YEAR for rate in curve)
    assert market.utilization() == utilization * milli
    assert (
        abs(RateCurve(base, low, high, 800 * milli).rate(market.utilization()) * YEAR - yearly * milli)
        <= 10**8
    )


def test_published_liquidatability() -> None:
    # fails if the factor were left out, or equality counted as below
    for price, factor, collateral, expected in (
        (100, 100, 100_000, False),
        (100, 100, 95_000, True),
        (100, 80, 100_000, True),
        (50, 100, 100_000, True),
    ):
        asset = replace(COMP, liquidate_collateral_factor=factor * FACTOR // 100, price=price * USD // 100)
        market = usdc_market(asset)
        market.set_principal("alice", -100_000 * 10**6)
        market.add_collateral("alice", "COMP", collateral * 10**18)
        assert market.is_liquidatable("alice") is expected
        assert market.liquidatable() == (["alice"] if expected else [])
    owed_nothing = usdc_market(COMP)
    owed_nothing.set_principal("bob", 10**6)
    assert not owed_nothing.is_liquidatable("bob")
    with pytest.raises(SwapRevertedError, match="NotLiquidatable: bob"):
        owed_nothing.absorption("bob")


def test_published_absorption() -> None:
    """An account whose collateral is worth one unit more than its debt, at liquidateCF 0.6666.

    Fails if seizure, payout, totals or reserves were off by a unit.
    """
    debt = (41_000 + 3_000 + 175) * 10**6 - 1
    assets = [replace(asset, liquidate_collateral_factor=6666 * 10**14) for asset in (COMP, WETH, WBTC)]
    market = usdc_market(*assets, totals=Totals(INDEX_SCALE, INDEX_SCALE, 0, debt, 0, 0))
    market.set_principal("underwater", -debt)
    for asset in assets:
        market.add_collateral("underwater", asset.asset, asset.scale)
    assert market.reserves() == debt

    absorption = market.absorption("underwater")
    assert absorption.seized == {"COMP": 10**18, "WETH": 10**18, "WBTC": 10**8}
    assert absorption.base_paid_out == debt + 1
    assert absorption.principal == 1
    assert market.reserves([absorption]) == -1
    assert market.for_sale("WBTC", [absorption]) == 10**8
    market.absorb(absorption)
    assert (market.totals.supply, market.totals.borrow, market.reserves()) == (1, 0, -1)
    assert market.collateral("underwater") == {}
    assert [asset.for_sale for asset in market.assets] == [10**18, 10**18, 10**8]


def test_when_nothing_is_sold() -> None:
    # fails if the target or the stock were not looked at, or a delisted collateral were guessed at
    market = usdc_market(COMP, totals=Totals(INDEX_SCALE, INDEX_SCALE, 0, 0, 0, 100), store_front=0)
    with pytest.raises(NotForSaleError, match="reserves 100 are not below 100"):
        market.buy_collateral("COMP", 10**6)
    market.totals.balance = 99
    market.add_for_sale("COMP", 10**16)
    assert market.buy_collateral("COMP", 10**6) == 10**24 // 175 // 10**6
    with pytest.raises(SwapRevertedError, match="InsufficientReserves"):
        market.buy_collateral("COMP", 2 * 10**6)
    market.set_principal("alice", -(10**9))
    market.add_collateral("alice", "COMP", 1)
    market.assets[0].liquidation_factor = 0
    with pytest.raises(UnknownStateError, match="COMP is delisted"):
        market.absorption("alice")


def random_market(rng: random.Random, accounts: int) -> CometMarket:
    """Any scales, factors and indexes; accounts near their limit on purpose."""
    base, low, high = (rng.randint(0, FACTOR // 10 // YEAR) for _ in range(3))
    curve = RateCurve(base, low, high, 8 * FACTOR // 10)
    supply_index, borrow_index = rng.randint(1, 3) * INDEX_SCALE, rng.randint(1, 4) * INDEX_SCALE + 7
    market = CometMarket(
        base_asset="base",
        base_scale=10 ** rng.choice([6, 18]),
        base_price=rng.randint(10**6, 10**12),
        assets=[
            CometAsset(
                f"c{number}",
                10 ** rng.choice([2, 6, 8, 18]),
                rng.randint(1, 10_000) * 10**14,
                rng.randint(1, 10_000) * 10**14,
                rng.randint(1, 10 ** rng.randint(1, 13)),
            )
            for number in range(rng.randint(1, 15))
        ],
        supply_curve=curve,
        borrow_curve=replace(curve, base=curve.base + 10**8),
        store_front_price_factor=rng.randint(0, 10_000) * 10**14,
        target_reserves=2**100,
        totals=Totals(supply_index, borrow_index, 10**30, 9 * 10**29, 100, 10**20),
    )
    market.at(rng.randint(100, 10**8))
    for number in range(accounts):
        name, worth = f"a{number}", 0
        for asset in rng.sample(market.assets, rng.randint(1, len(market.assets))):
            held = rng.randint(1, 10 ** rng.randint(0, 4) * asset.scale)
            market.add_collateral(name, asset.asset, held)
            worth += held * asset.price // asset.scale * asset.liquidate_collateral_factor // FACTOR
        owed = int(worth * market.base_scale // market.base_price * rng.choice([0.5, 1, 1.00001, 2]))
        principal = owed * INDEX_SCALE // market.indexes()[1] + rng.randint(-1, 1)
        market.set_principal(name, -min(principal, 2**103 - 1))
    return market


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_screen_finds_all_and_absorption_balances(seed: int) -> None:
    # fails if the screen passed over an account, or an absorption made or lost base beyond rounding
    market = random_market(random.Random(seed), accounts=25)
    expected = [name for name in market.positions.accounts if market.is_liquidatable(name)]
    assert market.liquidatable() == expected
    for name in expected:
        before = market.reserves()
        absorption = market.absorption(name)
        assert absorption.principal >= 0 <= absorption.base_paid_out
        planned = market.reserves([absorption])
        market.absorb(absorption)
        assert market.reserves() == planned
        assert abs(before - planned - absorption.base_paid_out) <= 2 + sum(market.indexes()) // INDEX_SCALE
        assert not market.is_liquidatable(name)


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    stock=st.integers(1, 1000),
    base_price=st.integers(1, 50),
    price=st.integers(20, 400),
)
def test_best_purchase_against_every_amount(seed: int, stock: int, base_price: int, price: int) -> None:
    # fails if the search missed the optimum, bought more than the stock, or the inverse of the quote were off
    rng = random.Random(seed)
    asset = CometAsset("c", 1, FACTOR * 8 // 10, FACTOR * 9 // 10, price, for_sale=stock)
    market = usdc_market(asset, store_front=FACTOR * rng.randint(0, 10) // 10)
    market.base_price, market.base_scale = base_price, 1
    most = market.base_for("c", stock + 1) - 1
    assert market.quote_collateral("c", most) <= stock < market.quote_collateral("c", most + 1)
    depth = stock * rng.randint(1, 100)

    def quote(amount: int) -> int:
        return get_amount_out(amount, depth * base_price, depth * price, 997, 1000)

    def profit(base: int) -> int:
        bought = market.buy_collateral("c", base)
        return quote(bought) - base if bought else 0

    best = max([0, *(profit(base) for base in range(1, most + 1))])
    found = best_purchase(market, "c", quote)
    got = found.gross_profit if found else 0
    assert best - 6 * (price // base_price + 2) <= got <= best
    if found is not None:
        assert profit(found.base_amount) == got == found.swap_out - found.base_amount
        assert found.bought == market.buy_collateral("c", found.base_amount)
        assert best_purchase(market, "c", quote, gas_cost=got) is None


def event(name: str, numbers: dict[str, int], addresses: dict[str, str]) -> LendingEvent:
    return LendingEvent(f"{name}()", "0xcomet", numbers, addresses)


def test_logs_move_collateral_and_name_who_must_be_read() -> None:
    # fails if a side of a transfer were forgotten, or an account with a changed principal were not named
    market = usdc_market(COMP)
    for one in (
        event("SupplyCollateral", {"amount": 10}, {"from": "0x1", "dst": "0xa", "asset": "COMP"}),
        event("TransferCollateral", {"amount": 4}, {"from": "0xa", "to": "0xb", "asset": "COMP"}),
        event("WithdrawCollateral", {"amount": 1}, {"src": "0xb", "to": "0xc", "asset": "COMP"}),
        event("AbsorbCollateral", {"collateralAbsorbed": 6}, {"borrower": "0xa", "asset": "COMP"}),
        event("BuyCollateral", {"collateralAmount": 5}, {"buyer": "0x9", "asset": "COMP"}),
    ):
        apply_comet(market, one)
        assert not touched(one)
    assert market.collateral("0xa") == {}
    assert market.collateral("0xb") == {"COMP": 3}
    assert market.assets[0].for_sale == 1
    with pytest.raises(ValueError, match="0xb: collateral COMP is -1"):
        apply_comet(
            market, event("WithdrawCollateral", {"amount": 4}, {"src": "0xb", "to": "0xc", "asset": "COMP"})
        )
    nobody = "0x" + "00" * 20
    assert touched(event("Transfer", {"amount": 4}, {"from": nobody, "to": "0xb"})) == {"0xb"}
    assert touched(event("AbsorbDebt", {"basePaidOut": 4}, {"borrower": "0xa", "absorber": "0x9"})) == {"0xa"}
