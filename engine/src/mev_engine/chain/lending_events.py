"""Logs that change positions in Aave V2, Aave V3 and Compound V3 (Comet), decoded and applied.

`decode` reads one log by its topic; `apply_aave` takes it over into a market, given which contract is which.
Scaled balances follow exactly from the tokens' own events; the pool's Deposit, Supply, Withdraw, Borrow,
Repay and LiquidationCall say the same again in raw units, and change nothing. A log that is malformed is a
ValueError that names the field, never a guess.

Two things no log tells. Aave V2's stable debt token emits the same Mint for a borrow and for a repayment
smaller than the interest: the account is marked as unknown until it is read. Comet accrues interest without
a log (`accrueAccount`): `touched` names the accounts whose principal must be read; collateral follows from
the logs.

Sources: the ABIs of aave/core-v3 1.19.3 and aave/protocol-v2 1.0.1, and compound-finance/comet,
CometMainInterface.sol.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from eth_utils.crypto import keccak

from mev_engine.chain.decode import as_address, words
from mev_engine.market.aave import AaveMarket, StableDebt
from mev_engine.market.aave_math import AaveVersion, ray_div
from mev_engine.market.compound import CometMarket

_SIGNATURES = """
Deposit(address indexed reserve, address user, address indexed onBehalfOf, uint256 amount,\
 uint16 indexed referral)
Supply(address indexed reserve, address user, address indexed onBehalfOf, uint256 amount,\
 uint16 indexed referral)
Withdraw(address indexed reserve, address indexed user, address indexed to, uint256 amount)
Borrow(address indexed reserve, address user, address indexed onBehalfOf, uint256 amount, uint256 rateMode,\
 uint256 borrowRate, uint16 indexed referral)
Borrow(address indexed reserve, address user, address indexed onBehalfOf, uint256 amount, uint8 rateMode,\
 uint256 borrowRate, uint16 indexed referral)
Repay(address indexed reserve, address indexed user, address indexed repayer, uint256 amount)
Repay(address indexed reserve, address indexed user, address indexed repayer, uint256 amount, bool useATokens)
LiquidationCall(address indexed collateralAsset, address indexed debtAsset, address indexed user,\
 uint256 debtToCover, uint256 liquidatedCollateralAmount, address liquidator, bool receiveAToken)
ReserveDataUpdated(address indexed reserve, uint256 liquidityRate, uint256 stableBorrowRate,\
 uint256 variableBorrowRate, uint256 liquidityIndex, uint256 variableBorrowIndex)
ReserveUsedAsCollateralEnabled(address indexed reserve, address indexed user)
ReserveUsedAsCollateralDisabled(address indexed reserve, address indexed user)
UserEModeSet(address indexed user, uint8 categoryId)
CollateralConfigurationChanged(address indexed asset, uint256 ltv, uint256 liquidationThreshold,\
 uint256 liquidationBonus)
LiquidationProtocolFeeChanged(address indexed asset, uint256 oldFee, uint256 newFee)
EModeAssetCategoryChanged(address indexed asset, uint8 oldCategoryId, uint8 newCategoryId)
ReservePaused(address indexed asset, bool paused)
ReserveActive(address indexed asset, bool active)
Mint(address indexed user, uint256 value, uint256 index)
Mint(address indexed caller, address indexed user, uint256 value, uint256 index)
Mint(address indexed caller, address indexed user, uint256 value, uint256 balanceIncrease, uint256 index)
Mint(address indexed caller, address indexed user, uint256 amount, uint256 currentBalance,\
 uint256 balanceIncrease, uint256 newRate, uint256 avgStableRate, uint256 newTotalSupply)
Burn(address indexed user, uint256 value, uint256 index)
Burn(address indexed user, address indexed target, uint256 value, uint256 index)
Burn(address indexed user, address indexed target, uint256 value, uint256 balanceIncrease, uint256 index)
Burn(address indexed user, uint256 amount, uint256 currentBalance, uint256 balanceIncrease,\
 uint256 avgStableRate, uint256 newTotalSupply)
BalanceTransfer(address indexed from, address indexed to, uint256 value, uint256 index)
Supply(address indexed from, address indexed dst, uint256 amount)
Withdraw(address indexed src, address indexed to, uint256 amount)
Transfer(address indexed from, address indexed to, uint256 amount)
SupplyCollateral(address indexed from, address indexed dst, address indexed asset, uint256 amount)
TransferCollateral(address indexed from, address indexed to, address indexed asset, uint256 amount)
WithdrawCollateral(address indexed src, address indexed to, address indexed asset, uint256 amount)
AbsorbDebt(address indexed absorber, address indexed borrower, uint256 basePaidOut, uint256 usdValue)
AbsorbCollateral(address indexed absorber, address indexed borrower, address indexed asset,\
 uint256 collateralAbsorbed, uint256 usdValue)
BuyCollateral(address indexed buyer, address indexed asset, uint256 baseAmount, uint256 collateralAmount)
"""

_BITS = {"uint8": 8, "uint16": 16, "uint256": 256, "bool": 1, "address": 160}
_NOBODY = f"0x{0:040x}"


@dataclass(frozen=True, slots=True)
class LendingEvent:
    """One log: `numbers` and `addresses` (lower-case) hold its arguments by name; a bool is 0 or 1."""

    signature: str
    contract: str
    numbers: Mapping[str, int]
    addresses: Mapping[str, str]

    @property
    def name(self) -> str:
        return self.signature.partition("(")[0]


class TokenRole(Enum):
    """What a token contract of an Aave reserve keeps."""

    SUPPLIED = "aToken"
    VARIABLE_DEBT = "variable debt"
    STABLE_DEBT = "stable debt"


@dataclass(frozen=True, slots=True)
class _Parameter:
    name: str
    kind: str
    indexed: bool


@dataclass(frozen=True, slots=True)
class _EventType:
    signature: str
    parameters: tuple[_Parameter, ...]


def _event_type(line: str) -> _EventType:
    name, _, rest = line.rstrip(")").partition("(")
    parameters = []
    for entry in rest.split(","):
        kind, *indexed, argument = entry.split()
        parameters.append(_Parameter(argument, kind, bool(indexed)))
    signature = f"{name}({','.join(p.kind for p in parameters)})"
    return _EventType(signature, tuple(parameters))


EVENTS: dict[str, _EventType] = {
    "0x" + keccak(text=event.signature).hex(): event
    for event in map(_event_type, _SIGNATURES.strip().splitlines())
}
"""By topic 0; what `eth_getLogs` is asked for."""


def decode(log: Mapping[str, Any]) -> LendingEvent | None:
    """One log of a node's JSON, None where its topic is not one of `EVENTS`. ValueError where malformed."""
    topics = log.get("topics")
    if not isinstance(topics, list) or not all(
        isinstance(topic, str) and re.fullmatch(r"0x[0-9a-fA-F]{64}", topic) for topic in topics
    ):
        raise ValueError("topics is not a list of hashes")
    contract = str(log.get("address")).lower()
    event = EVENTS.get(topics[0].lower()) if topics else None
    if event is None:
        return None
    indexed = [p for p in event.parameters if p.indexed]
    plain = [p for p in event.parameters if not p.indexed]
    if len(topics) != 1 + len(indexed):
        raise ValueError(f"{event.signature} has {len(topics)} topics, not {1 + len(indexed)}")
    values = [*(int(topic, 16) for topic in topics[1:]), *words(log.get("data"), len(plain))]
    numbers, addresses = {}, {}
    for parameter, word in zip([*indexed, *plain], values, strict=True):
        if parameter.kind == "address":
            addresses[parameter.name] = as_address(word)
        elif word >> _BITS[parameter.kind]:
            raise ValueError(f"{event.signature}: {parameter.name} = {word} does not fit {parameter.kind}")
        else:
            numbers[parameter.name] = word
    return LendingEvent(event.signature, contract, numbers, addresses)


def apply_aave(
    market: AaveMarket, event: LendingEvent, tokens: Mapping[str, tuple[TokenRole, str]], time: int
) -> None:
    """Take over one log of the pool, its configurator or a token, in the order of the logs.

    `tokens`: what each token contract keeps, and of which asset. `time` is the block's. ValueError where the
    log contradicts the market (a balance below 0): then the market is out of step and must be read anew.
    """
    if event.contract in tokens:
        role, asset = tokens[event.contract]
        _apply_token(market, event, role, asset, time)
        return
    numbers, addresses = event.numbers, event.addresses
    match event.name:
        case "ReserveDataUpdated":
            market.set_indexes(
                addresses["reserve"],
                time,
                (numbers["liquidityRate"], numbers["variableBorrowRate"]),
                (numbers["liquidityIndex"], numbers["variableBorrowIndex"]),
            )
        case "ReserveUsedAsCollateralEnabled" | "ReserveUsedAsCollateralDisabled":
            enabled = event.name.endswith("Enabled")
            market.set_position(addresses["user"], addresses["reserve"], collateral=enabled)
        case "UserEModeSet":
            market.set_user_category(addresses["user"], numbers["categoryId"])
        case "CollateralConfigurationChanged":
            reserve = market.reserve(addresses["asset"])
            reserve.liquidation_threshold = numbers["liquidationThreshold"]
            reserve.liquidation_bonus = numbers["liquidationBonus"]
            reserve.check()
        case "LiquidationProtocolFeeChanged":
            market.reserve(addresses["asset"]).protocol_fee = numbers["newFee"]
        case "EModeAssetCategoryChanged":
            market.reserve(addresses["asset"]).emode_category = numbers["newCategoryId"]
        case "ReservePaused":
            market.reserve(addresses["asset"]).paused = bool(numbers["paused"])
        case "ReserveActive":
            market.reserve(addresses["asset"]).active = bool(numbers["active"])
        case _:
            pass  # Deposit, Supply, Withdraw, Borrow, Repay, LiquidationCall: the tokens' logs say it


def _apply_token(market: AaveMarket, event: LendingEvent, role: TokenRole, asset: str, time: int) -> None:
    """A token's Mint, Burn or BalanceTransfer; its plain ERC-20 Transfer says nothing of scaled amounts."""
    if event.name not in {"Mint", "Burn", "BalanceTransfer"}:
        return
    if role is TokenRole.STABLE_DEBT:
        _apply_stable(market, event, asset, time)
        return
    numbers, addresses = event.numbers, event.addresses
    if event.name == "BalanceTransfer":  # V2 logs raw units, V3 scaled ones
        scaled = numbers["value"]
        if market.version is AaveVersion.V2:
            scaled = ray_div(scaled, numbers["index"])
        market.add_scaled(addresses["from"], asset, supplied=-scaled)
        market.add_scaled(addresses["to"], asset, supplied=scaled)
        return
    # V3 adds the interest since the last action to a Mint and takes it off a Burn, and logs a Burn smaller
    # than that interest as a Mint: the amount moved is `value -+ balanceIncrease`, signed
    sign = 1 if event.name == "Mint" else -1
    amount = numbers["value"] - sign * numbers.get("balanceIncrease", 0)
    scaled = ray_div(abs(amount), numbers["index"]) * (1 if amount >= 0 else -1) * sign
    if role is TokenRole.SUPPLIED:
        market.add_scaled(addresses["user"], asset, supplied=scaled)
    else:
        market.add_scaled(addresses["user"], asset, owed=scaled)


def _apply_stable(market: AaveMarket, event: LendingEvent, asset: str, time: int) -> None:
    """`currentBalance` is the debt with interest before the action; the principal after it is what stays."""
    user, numbers = event.addresses["user"], event.numbers
    if event.name == "Mint":
        if market.version is AaveVersion.V2:
            market.unknown[user] = f"stable debt in {asset}: its log fits two states, so it must be read"
            return
        principal = numbers["currentBalance"] + numbers["amount"] - numbers["balanceIncrease"]
        market.set_stable_debt(user, asset, StableDebt(principal, numbers["newRate"], time))
        return
    principal = numbers["currentBalance"] - numbers["amount"] - numbers["balanceIncrease"]
    if user in market.unknown:
        return  # it must be read anyway
    known = market.stable.get((market.positions.account(user), market.index[asset]))
    if known is None:
        raise ValueError(f"{user} repays stable debt in {asset} that the market does not know: read it anew")
    market.set_stable_debt(user, asset, StableDebt(principal, known.rate, time))


def apply_comet(market: CometMarket, event: LendingEvent) -> None:
    """Take over one log of a Comet: collateral balances and the collateral that the protocol has for sale.

    Principals and totals are read from the chain instead: see `touched`.
    """
    numbers, addresses = event.numbers, event.addresses
    match event.name:
        case "SupplyCollateral":
            market.add_collateral(addresses["dst"], addresses["asset"], numbers["amount"])
        case "WithdrawCollateral":
            market.add_collateral(addresses["src"], addresses["asset"], -numbers["amount"])
        case "TransferCollateral":
            market.add_collateral(addresses["from"], addresses["asset"], -numbers["amount"])
            market.add_collateral(addresses["to"], addresses["asset"], numbers["amount"])
        case "AbsorbCollateral":
            market.add_collateral(addresses["borrower"], addresses["asset"], -numbers["collateralAbsorbed"])
            market.add_for_sale(addresses["asset"], numbers["collateralAbsorbed"])
        case "BuyCollateral":
            market.add_for_sale(addresses["asset"], -numbers["collateralAmount"])
        case _:
            pass  # Supply, Withdraw, Transfer, AbsorbDebt change principals: `touched`


def touched(event: LendingEvent) -> frozenset[str]:
    """Accounts of a Comet whose principal an event changes: `userBasic` must be read for them."""
    roles = {
        "Supply": ("dst",),
        "Withdraw": ("src",),
        "Transfer": ("from", "to"),
        "AbsorbDebt": ("borrower",),
    }
    return frozenset(event.addresses[role] for role in roles.get(event.name, ())) - {_NOBODY}
