"""The real Aave V3 and V2 on a local chain: health factors and liquidations equal to theirs, to the wei.

The engine's market is built from logs alone, so a wrong decoder shows as well as a wrong formula. V2 needs
the npm package @aave/protocol-v2, beside @aave/core-v3 or in tests/contracts. Takes 10 to 30 s for each.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from eth_utils.address import to_checksum_address
from mev_devchain.chain import running_anvil
from mev_devchain.deploy import connect, rpc_call
from mev_engine.amm.errors import SwapRevertedError
from mev_engine.amm.uniswap_v2 import get_amount_out
from mev_engine.chain.lending_events import TokenRole, decode
from mev_engine.detect.liquidation import (
    NotLiquidatableError,
    Quote,
    Terms,
    best_repay,
    find_liquidations,
    pairs,
    terms,
)
from mev_engine.market.aave_math import NO_DEBT, WAD, ray_div

from .aave import ANVIL_OPTIONS, OWNER, Deployed, Listing, deploy_v2, deploy_v3

pytestmark = pytest.mark.chain

USD = 10**8
LISTINGS = (
    Listing("DAI", 18, 7500, 8000, 10500, 1000, USD, category=1, stable=True),
    Listing("USDC", 6, 8000, 8500, 10450, 1000, USD, category=1, stable=True),
    Listing("GUSD", 2, 7000, 7750, 10700, 2000, USD, category=1),
    Listing("WETH", 18, 8000, 8250, 10500, 1000, 1800 * USD, category=2),
    Listing("STETH", 18, 7000, 7900, 10720, 0, 1790 * USD, category=2),
    Listing("WBTC", 8, 7000, 7500, 10650, 1000, 29_000 * USD),
    Listing("LINK", 18, 5000, 6500, 10750, 2500, 7 * USD),
)
CATEGORIES = {1: (9300, 9500, 10100), 2: (9000, 9300, 10100)}
CATEGORY_PRICE = {2: 1800 * USD}
USERS = 300
DAY = 86_400
REASONS = (
    "HEALTH_FACTOR_NOT_BELOW_THRESHOLD",
    "COLLATERAL_CANNOT_BE_LIQUIDATED",
    "SPECIFIED_CURRENCY_NOT_BORROWED_BY_USER",
)
FIRST_CODE = {"Pool": 45, "LendingPool": 42}  # of these reasons, in Errors.sol of each version


@pytest.fixture(scope="module", params=["v3", "v2"])
def aave(
    request: pytest.FixtureRequest, node_modules: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployed]:
    folder = tmp_path_factory.mktemp("aave")
    options = (*ANVIL_OPTIONS, "--cache-path", str(folder / "states"))
    places = (node_modules, Path(__file__).parents[1] / "contracts" / "node_modules")
    v2 = next((p for place in places if (p := place / "@aave" / "protocol-v2").is_dir()), None)
    if request.param == "v2" and v2 is None:
        pytest.skip("npm package @aave/protocol-v2 1.0.1 is not installed")
    with running_anvil(*options, log=folder / "anvil.log", node_modules=node_modules) as anvil:
        web3 = connect(anvil.http)
        if request.param == "v2" and v2 is not None:
            deployed = deploy_v2(web3, v2, [in_ether(listing) for listing in LISTINGS])
        else:
            v3 = node_modules / "@aave" / "core-v3"
            deployed = deploy_v3(web3, v3, LISTINGS, CATEGORIES, CATEGORY_PRICE)
        populate(deployed, random.Random(1))
        deployed.follow()
        yield deployed


def in_ether(listing: Listing) -> Listing:
    """The same for V2: prices in wei, no fee, no category."""
    return replace(listing, fee=0, category=0, price=listing.price * 10**18 // (1800 * USD))


def user(number: int) -> str:
    return f"0x{0xE0000000 + number:040x}"


def raw(deployed: Deployed, asset: str, dollars: float) -> int:
    """Raw units of an asset at its listed price, at least 1."""
    listing = deployed.listings[asset]
    return max(int(dollars * deployed.dollar * 10**listing.decimals / listing.price), 1)


def act(deployed: Deployed, who: str, function: str, *arguments: object) -> None:
    """Queue a call of the pool; it may be refused when mined, as users' wishes are."""
    data = deployed.sender.call_data(deployed.pool_name, function, *arguments)
    deployed.sender.send(who, deployed.pool, data, function)


def populate(deployed: Deployed, rng: random.Random) -> None:
    """A whale in every reserve, then users with one to three collaterals and one or two debts."""
    sender = deployed.sender
    assets = list(deployed.listings)
    for asset in assets:
        token = to_checksum_address(asset)
        sender.do(token, "MintableERC20", "mint(uint256)", raw(deployed, asset, 1e12))
        sender.do(token, "MintableERC20", "approve", deployed.pool, 2**256 - 1)
        act(deployed, OWNER, deployed.supply, token, raw(deployed, asset, 3e7), OWNER, 0)
    sender.must()
    for number in range(USERS):
        who = to_checksum_address(user(number))
        if rng.random() < 0.3 and deployed.market.categories:
            act(deployed, who, "setUserEMode", rng.choice([1, 2]))
        worth = 10 ** rng.uniform(0.5, 6)
        capacity = 0.0
        for asset in rng.sample(assets, rng.choice([1, 1, 2, 3])):
            share = worth * rng.uniform(0.2, 1)
            amount = raw(deployed, asset, share)
            act(deployed, OWNER, deployed.supply, to_checksum_address(asset), amount, who, 0)
            capacity += share * deployed.listings[asset].ltv / 10_000
        borrowed = rng.sample(assets, rng.choice([1, 1, 2]))
        for asset in borrowed:
            amount = raw(deployed, asset, capacity * rng.uniform(0.7, 0.99) / len(borrowed))
            rate_mode = 1 if deployed.listings[asset].stable and rng.random() < 0.4 else 2
            act(deployed, who, "borrow", to_checksum_address(asset), amount, rate_mode, 0, who)
        if number % 60 == 59:
            sender.mine(deployed.now() + rng.randrange(3600, 9 * DAY))
    for number in range(0, USERS, 3):
        change_mind(deployed, rng, to_checksum_address(user(number)))
        if number % 60 == 57:
            sender.mine(deployed.now() + rng.randrange(1, 40 * DAY))
    sender.mine()


def change_mind(deployed: Deployed, rng: random.Random, who: str) -> None:
    """What users do later: each changes balances by another log."""
    address = rng.choice(list(deployed.listings))
    asset, small = to_checksum_address(address), raw(deployed, address, 10 ** rng.uniform(-1, 3))
    choice = rng.randrange(5)
    if choice == 0:
        act(deployed, who, "withdraw", asset, small, who)
    elif choice == 1:
        act(deployed, OWNER, "repay", asset, small, rng.choice([1, 2]), who)
    elif choice == 2:
        act(deployed, who, "setUserUseReserveAsCollateral", asset, rng.random() < 0.5)
    elif choice == 3:
        act(deployed, who, "swapBorrowRateMode", asset, rng.choice([1, 2]))
    else:
        [token] = [t for t, kept in deployed.tokens.items() if kept == (TokenRole.SUPPLIED, address)]
        to = to_checksum_address(user(rng.randrange(USERS)))
        deployed.sender.send(
            who, token, deployed.sender.call_data("AToken", "transfer", to, small), "transfer"
        )


def move(deployed: Deployed, rng: random.Random, spread: float, seconds: int) -> None:
    """New prices and a later block."""
    for asset, listing in deployed.listings.items():
        deployed.set_price(asset, max(int(listing.price * rng.uniform(1 - spread, 1 + spread)), 1))
    deployed.sender.mine(deployed.now() + seconds)
    deployed.follow()
    deployed.market.at(deployed.now())


def test_every_account_equals_the_contract(aave: Deployed) -> None:
    """300 accounts at 5 sets of prices and times.

    Fails if a balance, an index, a price, a threshold or a rounding of the health factor were off by one
    anywhere, if a log were misread, or if the float64 screen passed over an account that is below 1.
    """
    rng, compared, below_one = random.Random(2), 0, 0
    market = aave.market
    for spread, seconds in ((0.0, 1), (0.05, 3600), (0.2, 30 * DAY), (0.4, 12), (0.7, 200 * DAY)):
        move(aave, rng, spread, seconds)
        low, high = market.health_bounds()
        expected_below = set()
        for number in range(USERS):
            name = user(number)
            if name not in market.positions.account_index:
                continue  # all that it tried was refused
            collateral, debt, _, threshold, _, health = aave.user_data(name)
            account = market.account(name)
            assert (
                account.collateral,
                account.debt,
                account.liquidation_threshold,
                account.health_factor,
            ) == (collateral, debt, threshold, health), name
            index = market.positions.account_index[name]
            exact = float("inf") if health == NO_DEBT else health / WAD
            assert low[index] <= exact <= high[index], name
            if health < WAD:
                expected_below.add(name)
            compared += 1
        below, refused = market.liquidatable()
        assert set(below) == expected_below
        assert not refused
        below_one += len(below)
    print(f"{compared} accounts compared, {below_one} of them below 1")
    assert compared > 5 * USERS * 0.9
    assert below_one > 100


def test_liquidations_do_what_the_terms_say(aave: Deployed) -> None:
    """Calls of all sizes on users near and below 1, each mined and compared; wrong ones are refused by name.

    Fails if debt taken, collateral received or the treasury's fee were off by one, if a close factor or a
    limit of the collateral were wrong, or if we and the contract disagreed on who can be liquidated.
    """
    rng, market = random.Random(3), aave.market
    done: Counter[str] = Counter()
    for spread in (0.12, 0.15, 0.35, 0.5):
        move(aave, rng, spread, 3600)
        below, _ = market.liquidatable()
        for name in rng.sample(sorted(below), min(20, len(below))):
            options = list(pairs(market, name))
            if not options or not market.account(name).liquidatable:
                continue
            debt, collateral = rng.choice(options)
            time = aave.now() + rng.randrange(1, 100)
            market.at(time)
            pair = terms(market, name, debt, collateral)
            to_cover = rng.choice(
                [2**256 - 1, pair.max_repay, pair.max_repay // 2 + 1, rng.randint(1, pair.max_repay), 1]
            )
            done[_liquidate(aave, pair, to_cover, time)] += 1
    print(dict(done))
    assert done["whole close factor"] + done["part"] + done["all collateral"] >= 40
    assert done["all collateral"] >= 3
    assert done["part"] >= 10

    market.at(aave.now())
    refused = Counter(_refusals(aave, rng))
    print(dict(refused))
    assert set(refused) == set(REASONS)


def _liquidate(aave: Deployed, pair: Terms, to_cover: int, time: int) -> str:
    """Mine the call at `time`; compare its log and what the liquidator and the treasury gained."""
    sender = aave.sender
    balances = [
        (pair.collateral_asset, OWNER),
        (pair.debt_asset, OWNER),
    ]
    before = [sender.words(t, "MintableERC20", "balanceOf", o)[0] for t, o in balances]
    data = _call(aave, pair.collateral_asset, pair.debt_asset, pair.user, to_cover)
    transaction_hash = sender.send(OWNER, aave.pool, data, "liquidationCall")
    succeeded = sender.mine(time)[transaction_hash]
    try:
        outcome = pair.outcome(to_cover)
    except SwapRevertedError:
        assert not succeeded, (pair, to_cover)
        aave.follow()
        return "reverted"
    assert succeeded, (pair, to_cover)
    after = [sender.words(t, "MintableERC20", "balanceOf", o)[0] for t, o in balances]
    if pair.collateral_asset == pair.debt_asset:
        assert after[0] - before[0] == outcome.received - outcome.repaid
    else:
        assert [after[0] - before[0], before[1] - after[1]] == [outcome.received, outcome.repaid]
    receipt = rpc_call(sender.web3, "eth_getTransactionReceipt", transaction_hash)
    events = [event for log in receipt["logs"] if (event := decode(log)) is not None]
    [call] = [event.numbers for event in events if event.name == "LiquidationCall"]
    assert call["debtToCover"] == outcome.repaid
    assert call["liquidatedCollateralAmount"] == outcome.received
    to_treasury = [event.numbers["value"] for event in events if event.name == "BalanceTransfer"]
    left = ray_div(pair.collateral_balance, pair.income_index) - ray_div(outcome.received, pair.income_index)
    fee = min(ray_div(outcome.fee, pair.income_index), left)  # scaled: no more than the user has left
    assert to_treasury == ([fee] if outcome.fee else [])
    aave.follow()
    if outcome.received + outcome.fee == pair.collateral_balance:
        return "all collateral"
    return "whole close factor" if outcome.repaid == pair.max_repay else "part"


def _call(aave: Deployed, collateral: str, debt: str, name: str, amount: int) -> str:
    addresses = [to_checksum_address(address) for address in (collateral, debt, name)]
    return aave.sender.call_data(aave.pool_name, "liquidationCall", *addresses, amount, False)


def _refusals(aave: Deployed, rng: random.Random) -> Iterator[str]:
    """For every user a random pair, wanted or not: where `terms` refuses, the contract must say the same."""
    market = aave.market
    for name in sorted(market.positions.account_index):
        debt, collateral = rng.choice(list(aave.listings)), rng.choice(list(aave.listings))
        try:
            terms(market, name, debt, collateral)
        except NotLiquidatableError as error:
            reason = str(error)
        else:
            continue
        said = aave.refusal(OWNER, _call(aave, collateral, debt, name, 2**255))
        assert said == str(FIRST_CODE[aave.pool_name] + REASONS.index(reason)), (name, reason)
        yield reason


def test_no_other_repayment_earns_more(aave: Deployed) -> None:
    """Every liquidatable pair against a shallow pool; random other repayments never earn more.

    Fails if the search stopped at a side of the optimum, or the report named amounts that do not belong
    together.
    """
    rng, market = random.Random(4), aave.market
    move(aave, rng, 0.45, 60)

    def depth(asset: str) -> int:
        listing = aave.listings[asset]
        return int(50_000 * aave.dollar * 10**listing.decimals / market.reserve(asset).price)

    def quotes(collateral: str, debt: str) -> Quote:
        return lambda amount: get_amount_out(amount, depth(collateral), depth(debt), 997, 1000)

    found, refused = find_liquidations(market, quotes, lambda _asset: 0)
    assert len(found) >= 20, refused
    partial = 0
    for best in found:
        pair = terms(market, best.user, best.debt_asset, best.collateral_asset)
        quote = quotes(best.collateral_asset, best.debt_asset)
        again = best_repay(pair, quote)
        assert again is not None
        assert again == best
        outcome = pair.outcome(best.repay)
        assert best.gross_profit == quote(outcome.received) - outcome.repaid > 0
        partial += best.repay < best.max_repay
        slack = 8 + 8 * pair.price_per_unit[1] // pair.price_per_unit[0]  # raw units of the coarser asset
        for _ in range(100):
            profit = _profit(pair, quote, rng.randint(pair.max_repay // 1000 + 1, pair.max_repay))
            assert profit <= best.gross_profit + slack
    print(f"{len(found)} liquidations, {partial} of them less than the protocol allows")
    assert partial >= 5
    assert [f.net_value for f in found] == sorted((f.net_value for f in found), reverse=True)


def _profit(pair: Terms, quote: Quote, debt_to_cover: int) -> int:
    try:
        outcome = pair.outcome(debt_to_cover)
        return quote(outcome.received) - outcome.repaid
    except SwapRevertedError:
        return 0
