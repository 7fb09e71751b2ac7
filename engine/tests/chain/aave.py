"""Real Aave markets on a local chain: V3 (npm @aave/core-v3) and V2 (npm @aave/protocol-v2).

Everything is sent unsigned from impersonated accounts at a gas price of 0, many transactions a block.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from eth_abi.abi import encode as abi_encode
from eth_utils.abi import abi_to_signature, collapse_if_tuple
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from mev_devchain.deploy import rpc_call
from mev_engine.chain.lending_events import EVENTS, TokenRole, apply_aave, decode
from mev_engine.market.aave import AaveMarket, EModeCategory, Reserve, StableDebt
from mev_engine.market.aave_math import RAY, AaveVersion
from web3 import Web3
from web3.types import RPCEndpoint

START = 1_700_000_000
ANVIL_OPTIONS = (
    "--no-mining", "--auto-impersonate", "--disable-block-gas-limit", "--base-fee", "0",
    "--timestamp", str(START),
)  # fmt: skip
OWNER = to_checksum_address("0x" + "a1" * 20)
TREASURY = to_checksum_address("0x" + "77" * 20)
ZERO = to_checksum_address("0x" + "00" * 20)
GAS = 20_000_000


@dataclass(frozen=True, slots=True)
class Listing:
    """A reserve to set up: ltv, threshold, bonus and fee in bps, price in the oracle's units."""

    symbol: str
    decimals: int
    ltv: int
    threshold: int
    bonus: int
    fee: int
    price: int
    category: int = 0
    stable: bool = False


@dataclass(slots=True)
class Sender:
    """Contracts by artifact, and transactions by the block."""

    web3: Web3
    artifacts: dict[str, dict[str, Any]]
    pending: list[tuple[str, str]] = field(default_factory=list)  # transaction hash, label
    time: int = START  # of the last block; no block is mined by the clock, so that runs are alike
    encoders: dict[tuple[str, str], tuple[bytes, list[str]]] = field(default_factory=dict)

    def call_data(self, contract: str, function: str, *arguments: object) -> str:
        if (contract, function) not in self.encoders:
            abi = self.artifacts[contract]["abi"]
            functions = [entry for entry in abi if entry["type"] == "function"]
            [entry] = [e for e in functions if function in {e["name"], abi_to_signature(e)}]
            types = [collapse_if_tuple(parameter) for parameter in entry["inputs"]]
            self.encoders[contract, function] = keccak(text=abi_to_signature(entry))[:4], types
        selector, types = self.encoders[contract, function]
        return "0x" + (selector + abi_encode(types, arguments)).hex()

    def send(self, sender: str, to: str | None, data: str, label: str) -> str:
        """Queue a transaction; `mine` executes it."""
        transaction = {"from": sender, "data": data, "gas": hex(GAS), "gasPrice": "0x0"}
        if to is not None:
            transaction["to"] = to
        transaction_hash = str(rpc_call(self.web3, "eth_sendTransaction", transaction))
        self.pending.append((transaction_hash, label))
        return transaction_hash

    def mine(self, time: int | None = None) -> dict[str, bool]:
        """One block with all that is pending, at `time` or a second after the last; which succeeded."""
        self.time = time or self.time + 1
        rpc_call(self.web3, "evm_setNextBlockTimestamp", self.time)
        rpc_call(self.web3, "evm_mine")
        result = {}
        for transaction_hash, _label in self.pending:
            receipt = rpc_call(self.web3, "eth_getTransactionReceipt", transaction_hash)
            result[transaction_hash] = receipt["status"] == "0x1"
        self.pending.clear()
        return result

    def must(self) -> None:
        """Mine, and insist that all of it succeeded."""
        labels = dict(self.pending)
        failed = [labels[h] for h, ok in self.mine().items() if not ok]
        assert not failed, failed

    def create(self, name: str, *arguments: object, libraries: dict[str, str] | None = None) -> str:
        artifact = self.artifacts[name]
        code = str(artifact["bytecode"])
        for places in artifact["linkReferences"].values():
            for library, references in places.items():
                for reference in references:
                    start = 2 + 2 * reference["start"]
                    code = code[:start] + (libraries or {})[library][2:].lower() + code[start + 40 :]
        factory = self.web3.eth.contract(abi=artifact["abi"], bytecode=code)
        data = str(factory.constructor(*arguments).data_in_transaction)
        transaction_hash = self.send(OWNER, None, data, f"create {name}")
        self.must()
        receipt = rpc_call(self.web3, "eth_getTransactionReceipt", transaction_hash)
        return to_checksum_address(receipt["contractAddress"])

    def do(self, to: str, contract: str, function: str, *arguments: object) -> None:
        self.send(OWNER, to, self.call_data(contract, function, *arguments), function)

    def words(self, to: str, contract: str, function: str, *arguments: object) -> tuple[int, ...]:
        """The answer of a view that returns numbers; many times faster than `read`."""
        call = {"to": to, "data": self.call_data(contract, function, *arguments)}
        answer = str(rpc_call(self.web3, "eth_call", call, "latest"))[2:]
        return tuple(int(answer[i : i + 64], 16) for i in range(0, len(answer), 64))

    def read(self, to: str, contract: str, function: str, *arguments: object) -> Any:
        abi = self.artifacts[contract]["abi"]
        bound = self.web3.eth.contract(address=to_checksum_address(to), abi=abi)
        return bound.functions[function](*arguments).call()


@cache
def _artifact(path: Path) -> dict[str, Any]:
    artifact: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return artifact


def load(package: Path, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Artifacts of an npm package by contract name."""
    found = {}
    for name in names:
        [path] = (package / "artifacts" / "contracts").rglob(f"{name}.sol/{name}.json")
        found[name] = _artifact(path)
    return found


@dataclass(slots=True)
class Deployed:
    """A market on the chain beside the engine's, which follows it by its logs."""

    sender: Sender
    pool: str
    pool_name: str
    supply: str  # the pool's function
    dollar: int  # in the oracle's units
    oracle: str
    assets: dict[str, str]  # symbol: address, lower-case
    listings: dict[str, Listing]  # by address
    tokens: dict[str, tuple[TokenRole, str]]
    market: AaveMarket
    next_block: int = 0

    def follow(self) -> int:
        """Apply all new logs; returns how many there were."""
        web3 = self.sender.web3
        latest = web3.eth.block_number
        query = {"fromBlock": hex(self.next_block), "toBlock": hex(latest), "topics": [list(EVENTS)]}
        logs = rpc_call(web3, "eth_getLogs", query)
        times: dict[str, int] = {}
        for log in logs:
            number = log["blockNumber"]
            if number not in times:
                times[number] = int(rpc_call(web3, "eth_getBlockByNumber", number, False)["timestamp"], 16)
            if (event := decode(log)) is not None:
                apply_aave(self.market, event, self.tokens, times[number])
        self.next_block = latest + 1
        self._read_unknown()
        return len(logs)

    def _read_unknown(self) -> None:
        """Stable debts that the logs left open, from the chain."""
        for user in list(self.market.unknown):
            for token, (role, asset) in self.tokens.items():
                if role is TokenRole.STABLE_DEBT:
                    functions = ("principalBalanceOf", "getUserStableRate", "getUserLastUpdated")
                    who = to_checksum_address(user)
                    state = [self.sender.words(token, "StableDebtToken", f, who)[0] for f in functions]
                    self.market.set_stable_debt(user, asset, StableDebt(*state))
            del self.market.unknown[user]

    def now(self) -> int:
        return self.sender.time

    def set_price(self, asset: str, price: int) -> None:
        self.sender.do(self.oracle, "PriceOracle", "setAssetPrice", to_checksum_address(asset), price)
        self.market.set_price(asset, price)

    def user_data(self, user: str) -> tuple[int, ...]:
        """getUserAccountData: collateral, debt, available, threshold, ltv, health factor."""
        return self.sender.words(self.pool, self.pool_name, "getUserAccountData", to_checksum_address(user))

    def refusal(self, sender: str, data: str) -> str:
        """The revert message of a call to the pool, as of the latest block."""
        call = {"from": sender, "to": self.pool, "data": data, "gas": hex(GAS), "gasPrice": "0x0"}
        response = self.sender.web3.provider.make_request(RPCEndpoint("eth_call"), [call, "latest"])
        assert "error" in response, response
        message = str(response["error"].get("message"))
        found = re.search(r"execution reverted: (.*)", message)
        return found[1] if found else message


def deploy_v3(
    web3: Web3,
    package: Path,
    listings: Sequence[Listing],
    categories: Mapping[int, tuple[int, int, int]],
    category_price: Mapping[int, int],
) -> Deployed:
    """An Aave V3 market with the given reserves.

    `categories`: number to (ltv, threshold, bonus); `category_price`: price of a category's own source.
    """
    libraries = ["BorrowLogic", "BridgeLogic", "EModeLogic", "LiquidationLogic", "PoolLogic", "SupplyLogic"]
    names = [
        *libraries, "FlashLoanLogic", "ConfiguratorLogic", "PoolAddressesProvider", "ACLManager", "Pool",
        "PoolConfigurator", "AToken", "StableDebtToken", "VariableDebtToken", "PriceOracle", "MintableERC20",
        "DefaultReserveInterestRateStrategy",
    ]  # fmt: skip
    sender = Sender(web3, load(package, names))
    at = {name: sender.create(name) for name in [*libraries, "ConfiguratorLogic"]}
    at["FlashLoanLogic"] = sender.create("FlashLoanLogic", libraries=at)
    provider = sender.create("PoolAddressesProvider", "test", OWNER)
    oracle = sender.create("PriceOracle")
    sender.do(provider, "PoolAddressesProvider", "setPriceOracle", oracle)
    sender.do(provider, "PoolAddressesProvider", "setACLAdmin", OWNER)
    sender.must()
    acl = sender.create("ACLManager", provider)
    sender.do(provider, "PoolAddressesProvider", "setACLManager", acl)
    sender.do(acl, "ACLManager", "addPoolAdmin", OWNER)
    sender.do(acl, "ACLManager", "addAssetListingAdmin", OWNER)
    sender.must()
    pool_code = sender.create("Pool", provider, libraries=at)
    sender.do(provider, "PoolAddressesProvider", "setPoolImpl", pool_code)
    configurator_code = sender.create("PoolConfigurator", libraries=at)
    sender.do(provider, "PoolAddressesProvider", "setPoolConfiguratorImpl", configurator_code)
    sender.must()
    pool = sender.read(provider, "PoolAddressesProvider", "getPool")
    configurator = sender.read(provider, "PoolAddressesProvider", "getPoolConfigurator")
    code = {name: sender.create(name, pool) for name in ("AToken", "StableDebtToken", "VariableDebtToken")}
    rates = (8 * RAY // 10, 0, RAY // 20, 7 * RAY // 10, RAY // 50, RAY, RAY // 50, RAY // 20, RAY // 5)
    strategy = sender.create("DefaultReserveInterestRateStrategy", provider, *rates)

    market = AaveMarket(AaveVersion.V3, [])
    deployed = Deployed(sender, pool, "Pool", "supply", 10**8, oracle, {}, {}, {}, market)
    _list_assets(deployed, listings)
    for address, listing in deployed.listings.items():
        asset = to_checksum_address(address)
        entry = (
            code["AToken"], code["StableDebtToken"], code["VariableDebtToken"], listing.decimals, strategy,
            asset, TREASURY, ZERO, "a", "a", "v", "v", "s", "s", b"",
        )  # fmt: skip
        sender.do(configurator, "PoolConfigurator", "initReserves", [entry])
    for number, (ltv, threshold, bonus) in categories.items():
        source = to_checksum_address(f"0x{number:040x}") if number in category_price else ZERO
        sender.do(
            configurator, "PoolConfigurator", "setEModeCategory", number, ltv, threshold, bonus, source, ""
        )
        market.set_category(number, EModeCategory(threshold, bonus, category_price.get(number, 0)))
        if number in category_price:
            sender.do(oracle, "PriceOracle", "setAssetPrice", source, category_price[number])
    for address, listing in deployed.listings.items():
        asset = to_checksum_address(address)
        for function, argument in (
            ("setReserveBorrowing", True),
            ("setReserveFactor", 1000),
            ("setReserveStableRateBorrowing", listing.stable),
            ("setLiquidationProtocolFee", listing.fee),
            ("setAssetEModeCategory", listing.category),
        ):
            if argument:
                sender.do(configurator, "PoolConfigurator", function, asset, argument)
        limits = (listing.ltv, listing.threshold, listing.bonus)
        sender.do(configurator, "PoolConfigurator", "configureReserveAsCollateral", asset, *limits)
    sender.must()
    _find_tokens(deployed, 8)
    return deployed


def deploy_v2(web3: Web3, package: Path, listings: Sequence[Listing]) -> Deployed:
    """An Aave V2 market with the given reserves; fees and categories do not exist in V2."""
    names = [
        "GenericLogic", "ReserveLogic", "ValidationLogic", "LendingPoolAddressesProvider", "LendingPool",
        "LendingPoolConfigurator", "LendingPoolCollateralManager", "AToken", "StableDebtToken",
        "VariableDebtToken", "PriceOracle", "LendingRateOracle", "MintableERC20",
        "DefaultReserveInterestRateStrategy",
    ]  # fmt: skip
    sender = Sender(web3, load(package, names))
    at = {name: sender.create(name) for name in ("GenericLogic", "ReserveLogic")}
    at["ValidationLogic"] = sender.create("ValidationLogic", libraries=at)
    provider = sender.create("LendingPoolAddressesProvider", "test")
    oracle, rate_oracle = sender.create("PriceOracle"), sender.create("LendingRateOracle")
    manager = sender.create("LendingPoolCollateralManager")
    for function, address in (
        ("setPoolAdmin", OWNER),
        ("setEmergencyAdmin", OWNER),
        ("setPriceOracle", oracle),
        ("setLendingRateOracle", rate_oracle),
        ("setLendingPoolCollateralManager", manager),
        ("setLendingPoolImpl", sender.create("LendingPool", libraries=at)),
        ("setLendingPoolConfiguratorImpl", sender.create("LendingPoolConfigurator")),
    ):
        sender.do(provider, "LendingPoolAddressesProvider", function, address)
    sender.must()
    pool = sender.read(provider, "LendingPoolAddressesProvider", "getLendingPool")
    configurator = sender.read(provider, "LendingPoolAddressesProvider", "getLendingPoolConfigurator")
    rates = (8 * RAY // 10, 0, RAY // 20, 7 * RAY // 10, RAY // 50, RAY)
    strategy = sender.create("DefaultReserveInterestRateStrategy", provider, *rates)

    market = AaveMarket(AaveVersion.V2, [])
    dollar = 10**18 // 1800  # the oracle's unit is the wei of ether
    deployed = Deployed(sender, pool, "LendingPool", "deposit", dollar, oracle, {}, {}, {}, market)
    _list_assets(deployed, listings)
    for address, listing in deployed.listings.items():
        asset = to_checksum_address(address)
        code = [
            sender.create("AToken", pool, asset, TREASURY, "a", "a", ZERO),
            sender.create("StableDebtToken", pool, asset, "s", "s", ZERO),
            sender.create("VariableDebtToken", pool, asset, "v", "v", ZERO),
        ]
        limits = (listing.ltv, listing.threshold, listing.bonus)
        for function, arguments in (
            ("initReserve", (*code, listing.decimals, strategy)),
            ("enableBorrowingOnReserve", (asset, listing.stable)),
            ("setReserveFactor", (asset, 1000)),
            ("configureReserveAsCollateral", (asset, *limits)),
        ):
            sender.do(configurator, "LendingPoolConfigurator", function, *arguments)
        sender.do(rate_oracle, "LendingRateOracle", "setMarketBorrowRate", asset, RAY // 50)
    sender.must()
    _find_tokens(deployed, 7)
    return deployed


def _list_assets(deployed: Deployed, listings: Sequence[Listing]) -> None:
    """Create the tokens and their prices; the reserves' configuration will come from the logs."""
    for listing in listings:
        sender = deployed.sender
        token = sender.create("MintableERC20", listing.symbol, listing.symbol, listing.decimals)
        deployed.assets[listing.symbol] = token.lower()
        deployed.listings[token.lower()] = listing
        deployed.market.add_reserve(Reserve(token.lower(), listing.decimals, 0, 0))
        deployed.set_price(token.lower(), listing.price)


def _find_tokens(deployed: Deployed, first: int) -> None:
    """Token contracts, from position `first` of getReserveData: aToken, stable debt, variable debt."""
    roles = (TokenRole.SUPPLIED, TokenRole.STABLE_DEBT, TokenRole.VARIABLE_DEBT)
    for address in deployed.listings:
        data = deployed.sender.read(
            deployed.pool, deployed.pool_name, "getReserveData", to_checksum_address(address)
        )
        for role, token in zip(roles, data[first : first + 3], strict=True):
            deployed.tokens[str(token).lower()] = (role, address)
