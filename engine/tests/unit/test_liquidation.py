"""Lending arithmetic, the float64 screen, the search for the best repayment, and the events, without a chain.

Takes about 10 s.
"""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mev_engine.amm.errors import SwapRevertedError
from mev_engine.amm.uniswap_v2 import get_amount_out
from mev_engine.chain.lending_events import EVENTS, TokenRole, apply_aave, decode
from mev_engine.detect.best_amount import best_amount
from mev_engine.detect.liquidation import (
    NotLiquidatableError,
    Quote,
    Terms,
    best_repay,
    find_liquidations,
    terms,
)
from mev_engine.market.aave import AaveMarket, EModeCategory, Reserve, StableDebt
from mev_engine.market.aave_math import (
    NO_DEBT,
    RAY,
    WAD,
    AaveVersion,
    compounded_interest,
    linear_interest,
    percent_div,
    percent_mul,
    ray_div,
    ray_mul,
)

V2, V3 = AaveVersion.V2, AaveVersion.V3
versions = st.sampled_from([V2, V3])
ALICE = "0xa"
TOKEN = "0x" + "bb" * 20


@given(scaled=st.integers(1, 2**104 - 1), index=st.integers(RAY, 2**100 - 1))
def test_a_whole_balance_scales_back_to_itself(scaled: int, index: int) -> None:
    # fails if a rounding were not half up: then paying back a whole debt would leave or overdraw a unit
    assert ray_div(ray_mul(scaled, index), index) == scaled


@given(value=st.integers(0, 2**128), bps=st.integers(1, 2**16 - 1))
def test_percentages_round_half_up(value: int, bps: int) -> None:
    # fails if one of them rounded down or up: twice the error would leave the half unit
    assert -10_000 < 2 * (10_000 * percent_mul(value, bps) - value * bps) <= 10_000
    assert -bps < 2 * (bps * percent_div(value, bps) - 10_000 * value) <= bps


@given(rate=st.integers(0, 2 * RAY), seconds=st.integers(0, 10 * 365 * 86_400), version=versions)
def test_debt_grows_no_slower_than_supply(rate: int, seconds: int, version: AaveVersion) -> None:
    # fails if a term of the series were missing, or an hour counted as a day
    debt, supply = compounded_interest(rate, seconds, version), linear_interest(rate, seconds)
    assert debt >= supply - seconds  # V2 drops up to a ray a second
    exact = (1 + rate / RAY / (365 * 86_400)) ** seconds
    assert debt / RAY <= exact * (1 + 1e-6)  # the series leaves terms out, and never adds any


# --- the screen ---


def random_market(rng: random.Random, users: int) -> AaveMarket:
    """Any decimals, prices, dust and whales, e-mode with its own price, stable debt: near 1 on purpose."""
    version = rng.choice([V2, V3])
    reserves = [
        Reserve(
            f"0x{number}",
            rng.choice([2, 6, 8, 18]),
            rng.choice([0, 100, 4500, 8250, 9300]),
            rng.randint(10_100, 11_500),
            liquidity_index=rng.randint(RAY, 3 * RAY),
            variable_borrow_index=rng.randint(RAY, 3 * RAY),
            liquidity_rate=rng.randint(0, RAY // 5),
            variable_borrow_rate=rng.randint(0, RAY),
            price=rng.randint(1, 10 ** rng.randint(1, 15)),
            emode_category=rng.choice([0, 1, 2]) if version is V3 else 0,
        )
        for number in range(rng.randint(1, 12))
    ]
    market = AaveMarket(version, reserves)
    market.set_category(1, EModeCategory(9500, 10_100))
    market.set_category(2, EModeCategory(9300, 10_200, price=rng.randint(1, 10**12)))
    market.at(rng.randint(0, 10**8))
    for number in range(users):
        user = f"user{number}"
        for reserve in rng.sample(reserves, min(len(reserves), rng.randint(1, 4))):
            amount = rng.randint(1, 10 ** rng.randint(1, 28))
            market.set_position(user, reserve.asset, supplied=amount, collateral=rng.random() < 0.8)
        debt = rng.choice(reserves)
        collateral = market.account(user).collateral  # owe about what makes the factor 1
        units = collateral * debt.unit // debt.price * RAY // market.normalized_debt(debt.asset)
        owed = int(units * rng.choice([0, 0.3, 0.8, 0.825, 0.93, 1, 3, rng.random()]))
        market.set_position(user, debt.asset, owed=min(owed + rng.randint(0, 2), 2**104 - 1))
        if rng.random() < 0.2:
            stable = StableDebt(rng.randint(0, 10**6), rng.randint(0, RAY), rng.randint(0, market.now))
            market.set_stable_debt(user, rng.choice(reserves).asset, stable)
        if version is V3 and rng.random() < 0.4:
            market.set_user_category(user, rng.choice([0, 1, 2]))
    return market


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_screen_never_passes_over_a_liquidatable_account(seed: int) -> None:
    # fails if the bound were too tight for dust, coarse decimals, mixed thresholds, e-mode or stable debt
    market = random_market(random.Random(seed), users=40)
    low, high = market.health_bounds()
    below, refused = market.liquidatable()
    assert not refused
    for user, number in market.positions.account_index.items():
        account = market.account(user)
        exact = float("inf") if account.health_factor == NO_DEBT else account.health_factor / WAD
        assert low[number] <= exact <= high[number], (user, account)
        assert (user in below) == (account.health_factor < WAD)


def test_the_screen_leaves_few_to_decide() -> None:
    # fails if the bound were so wide that the screen sorted nobody out: the exact path is far slower
    market = random_market(random.Random(5), users=0)
    wide, asset = 0, market.reserves[0]
    asset.liquidation_threshold, asset.decimals, asset.price, asset.emode_category = 8000, 18, 10**11, 0
    for number in range(2000):
        market.set_position(f"u{number}", asset.asset, supplied=10**20, owed=7 * 10**19, collateral=True)
    low, high = market.health_bounds()
    wide = int((high - low > 1e-9 * high).sum())
    assert wide == 0


def test_who_cannot_be_judged_is_named() -> None:
    # fails if a missing price counted as 0 (everybody liquidatable) or as infinite (nobody)
    market = AaveMarket(V3, [Reserve("0xc", 18, 8000, 10_500, price=10**8), Reserve("0xd", 6, 8000, 10_500)])
    market.set_position(ALICE, "0xc", supplied=10**20, collateral=True)
    market.set_position(ALICE, "0xd", owed=10**6)
    assert market.liquidatable() == ({}, {ALICE: "reserve 0xd has no price: set_price"})
    market.set_price("0xd", 10**8)
    assert market.liquidatable() == ({}, {})
    market.unknown[ALICE] = "must be read"
    market.set_price("0xc", 1)
    assert market.liquidatable() == ({}, {ALICE: "must be read"})


def test_bad_state_is_refused_by_name() -> None:
    # fails if a value that could overflow the contract's 256 bits, or an unknown name, were taken
    market = AaveMarket(V2, [Reserve("0xc", 18, 8000, 10_500)])
    with pytest.raises(ValueError, match=r"0xa in 0xc: supplied is -1"):
        market.set_position(ALICE, "0xc", supplied=-1)
    with pytest.raises(ValueError, match=r"reserve 0xc: price is 4722366482869645213696"):
        market.set_price("0xc", 2**72)
    with pytest.raises(ValueError, match=r"reserve 0xe is not known: add_reserve first"):
        market.set_position(ALICE, "0xe", owed=1)
    with pytest.raises(ValueError, match=r"reserve 0xc is listed twice"):
        market.add_reserve(Reserve("0xc", 6, 0, 0))
    with pytest.raises(ValueError, match=r"protocol_fee and emode_category are V3's"):
        market.add_reserve(Reserve("0xf", 6, 0, 0, protocol_fee=1000))


# --- one liquidation ---


def a_pair(rng: random.Random, max_repay: int) -> Terms:
    """Terms of one liquidation with units of any coarseness."""
    version = rng.choice([V2, V3])
    bonus = rng.randint(10_100, 11_500)
    pair = Terms(
        version=version,
        user=ALICE,
        debt_asset="0xd",
        collateral_asset="0xc",
        health_factor=WAD * 9 // 10,
        max_repay=max_repay,
        variable_debt=2 * max_repay,
        collateral_balance=0,
        debt_price=rng.randint(1, 100),
        collateral_price=rng.randint(1, 100),
        debt_unit=1,
        collateral_unit=1,
        bonus=bonus,
        protocol_fee=rng.choice([0, 1000, 2500]) if version is V3 else 0,
        debt_index=rng.randint(RAY, 2 * RAY),
        income_index=rng.randint(RAY, 2 * RAY),
        available=None,
    )
    enough = max_repay * pair.debt_price * bonus // (pair.collateral_price * 10_000) + 1
    return replace(pair, collateral_balance=int(enough * rng.choice([0.3, 0.9, 2])) + 1)


def a_pool(rng: random.Random, pair: Terms) -> Quote:
    """A constant product pool near the oracle's price, as deep as a few repayments."""
    depth = pair.max_repay * rng.randint(1, 200)
    debt_reserve = depth * pair.collateral_price
    collateral_reserve = int(depth * pair.debt_price * rng.uniform(0.97, 1.03)) + 1
    return lambda amount: get_amount_out(amount, collateral_reserve, debt_reserve, 997, 1000)


def profit(pair: Terms, quote: Quote, debt_to_cover: int) -> int:
    try:
        outcome = pair.outcome(debt_to_cover)
        return quote(outcome.received) - outcome.repaid
    except SwapRevertedError:
        return 0


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), max_repay=st.integers(1, 1500))
def test_best_repay_against_every_amount(seed: int, max_repay: int) -> None:
    """Fails if the search stopped at a side of the optimum, fell between stairs or missed the cap."""
    rng = random.Random(seed)
    pair = a_pair(rng, max_repay)
    quote = a_pool(rng, pair)
    best = max(profit(pair, quote, x) for x in range(1, max_repay + 1))
    found = best_repay(pair, quote)
    got = found.gross_profit if found else 0
    coarse = max(1, -(-pair.collateral_price // pair.debt_price))  # a unit of collateral in units of debt
    assert max(best, 0) - 6 * (coarse + 1) <= got <= max(best, 0)
    if found is not None:
        outcome = pair.outcome(found.repay)
        assert (found.repaid, found.received) == (outcome.repaid, outcome.received)
        assert found.gross_profit == quote(outcome.received) - outcome.repaid
        assert best_repay(pair, quote, gas_cost=found.gross_profit) is None


@given(seed=st.integers(0, 2**32))
def test_least_cover_is_the_least(seed: int) -> None:
    # fails if a rounding were inverted the wrong way: one unit less would do, or this one would not
    rng = random.Random(seed)
    pair = replace(a_pair(rng, rng.randint(1, 10**9)), collateral_balance=10**20)
    most = pair.outcome(pair.max_repay).received if pair.max_repay > 10**6 else 0
    assume(most > 1)
    wanted = rng.randint(1, most)
    cover = pair.least_cover(wanted)
    assert received(pair, cover - 1) < wanted <= received(pair, cover)


def received(pair: Terms, debt_to_cover: int) -> int:
    try:
        return pair.outcome(debt_to_cover).received
    except SwapRevertedError:
        return 0


def test_best_repay_is_nearly_always_the_exact_optimum() -> None:
    # the bound above allows a few units; this says how often they are needed. Fails if the search degraded
    rng, equal, profitable = random.Random(11), 0, 0
    for _ in range(300):
        pair = a_pair(rng, rng.randint(50, 1500))
        quote = a_pool(rng, pair)
        best = max(profit(pair, quote, x) for x in range(1, pair.max_repay + 1))
        found = best_repay(pair, quote)
        profitable += best > 0
        equal += best > 0 and found is not None and found.gross_profit == best
    print(f"{equal} of {profitable} optima exact")
    assert profitable > 50
    assert equal >= 0.98 * profitable


@given(
    peak=st.integers(-50, 10**30),
    low=st.integers(0, 10**6),
    width=st.integers(0, 10**30),
    slope=st.integers(1, 10**6),
)
def test_best_amount_of_an_exact_concave_function(peak: int, low: int, width: int, slope: int) -> None:
    # fails if an end of the range, a range of one or a wide one were searched wrongly
    best, value = best_amount(lambda x: -slope * abs(x - peak), low, low + width)
    assert best == min(max(peak, low), low + width)
    assert value == -slope * abs(best - peak)


def test_close_factor_and_liquidity() -> None:
    # fails if the limit at 0.95 were on the wrong side, V2 had V3's, or the pool's lack were not seen
    for version, price, share in ((V3, 9_500, 1), (V3, 9_501, 2), (V2, 9_500, 2), (V2, 100, 2)):
        market = AaveMarket(
            version,
            [Reserve("0xc", 4, 10_000, 10_500, price=price), Reserve("0xd", 4, 0, 0, price=10_000)],
        )
        market.set_position(ALICE, "0xc", supplied=10**8, collateral=True)
        market.set_position(ALICE, "0xd", owed=10**8)
        assert terms(market, ALICE, "0xd", "0xc").max_repay == 10**8 // share
    market.reserve("0xc").available = 1000
    with pytest.raises(SwapRevertedError, match="NOT_ENOUGH_LIQUIDITY"):
        terms(market, ALICE, "0xd", "0xc").outcome(10**8)
    market.reserve("0xd").paused = True
    with pytest.raises(NotLiquidatableError, match="RESERVE_PAUSED"):
        terms(market, ALICE, "0xd", "0xc")
    _found, refused = find_liquidations(market, lambda _c, _d: lambda amount: amount, lambda _d: 0)
    assert refused == {(ALICE, "0xd", "0xc"): "RESERVE_PAUSED"}
    _found, refused = find_liquidations(market, lambda _c, _d: None, lambda _d: 0)
    assert refused == {(ALICE, "0xd", "0xc"): "no pool swaps the collateral into the debt asset"}


# --- events ---

PUBLISHED = {
    "LiquidationCall": "0xe413a321e8681d831f4dbccbca790d2952b56f977908e45be37335533e005286",
    "ReserveDataUpdated": "0x804c9b842b2748a22bb64b345453a3de7ca54a6ca45ce00d415894979e22897a",
    "SupplyCollateral": "0xfa56f7b24f17183d81894d3ac2ee654e3c26388d17a28dbd9549b8114304e1f4",
    "AbsorbDebt": "0x1547a878dc89ad3c367b6338b4be6a65a5dd74fb77ae044da1e8747ef1f4f62f",
    "AbsorbCollateral": "0x9850ab1af75177e4a9201c65a2cf7976d5d28e40ef63494b44366f86b2f9412e",
    "BuyCollateral": "0xf891b2a411b0e66a5f0a6ff1368670fefa287a13f541eb633a386a1a9cc7046b",
}
"""Topics as block explorers show them."""


def test_topics_are_the_published_ones() -> None:
    # fails if a signature had a wrong type: its logs would never be asked for
    topics = {event.signature.partition("(")[0]: topic for topic, event in EVENTS.items()}
    assert {name: topics[name] for name in PUBLISHED} == PUBLISHED


def log(signature: str, indexed: list[int], data: list[int]) -> dict[str, object]:
    [topic] = [t for t, event in EVENTS.items() if event.signature == signature]
    return {
        "address": TOKEN,
        "topics": [topic, *(f"0x{word:064x}" for word in indexed)],
        "data": "0x" + "".join(f"{word:064x}" for word in data),
    }


def test_malformed_logs_are_named() -> None:
    # fails if a short, long or overflowing log were taken for something
    transfer = "BalanceTransfer(address,address,uint256,uint256)"
    assert decode(log(transfer, [1, 2], [3, RAY])) is not None
    assert decode({"topics": ["0x" + "12" * 32], "data": "0x"}) is None
    with pytest.raises(ValueError, match="has 2 topics, not 3"):
        decode(log(transfer, [1], [3, RAY]))
    with pytest.raises(ValueError, match="data has 96 bytes, not 64"):
        decode(log(transfer, [1, 2], [3, RAY, 5]))
    with pytest.raises(ValueError, match="is not an address"):
        decode(log(transfer, [1, 2**160], [3, RAY]))
    with pytest.raises(ValueError, match="categoryId = 256 does not fit uint8"):
        decode(log("UserEModeSet(address,uint8)", [1], [256]))
    with pytest.raises(ValueError, match="topics is not a list of hashes"):
        decode({"topics": ["0x12"], "data": "0x"})


def test_a_log_that_contradicts_the_market_stops_it() -> None:
    # fails if a balance below 0 were clipped: the market would be out of step without anybody knowing
    asset = "0xc"
    market = AaveMarket(V3, [Reserve(asset, 18, 8000, 10_500)])
    event = decode(log("BalanceTransfer(address,address,uint256,uint256)", [1, 2], [3, RAY]))
    assert event is not None
    with pytest.raises(ValueError, match=r"supplied is -3"):
        apply_aave(market, event, {TOKEN: (TokenRole.SUPPLIED, asset)}, time=1)
