"""Put the market on the chain: WETH9, two Uniswap V2 factories, routers, tokens, pairs, liquidity.

The whole deployment is one fixed list of transactions from one account. So every address is known
beforehand, and the account's nonce says how far an interrupted deployment has come.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eth_typing import ChecksumAddress, HexStr
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from requests.exceptions import RequestException
from web3 import Web3
from web3.contract import Contract
from web3.types import Nonce, RPCEndpoint, TxParams, Wei
from web3.utils.address import get_create2_address, get_create_address

from mev_devchain.chain import CHAIN_ID, ChainAwayError, ChainError
from mev_devchain.market import FACTORIES, MarketSpec

DEPLOYER = to_checksum_address("0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266")
"""anvil's account 0. Nothing else may send from it: its nonce is the deployment's bookmark."""

_ARTIFACTS = {
    "WETH9": "@uniswap/v2-periphery/build/WETH9.json",
    "Router": "@uniswap/v2-periphery/build/UniswapV2Router02.json",
    "Factory": "@uniswap/v2-core/build/UniswapV2Factory.json",
    "Pair": "@uniswap/v2-core/build/UniswapV2Pair.json",
    "Token": "@aave/core-v3/artifacts/contracts/mocks/tokens/MintableERC20.sol/MintableERC20.json",
}

BUNDLE_GAS = 25_000_000
"""Below anvil's block gas limit of 30 million."""

_BEFORE_TOKENS = 1 + 2 * len(FACTORIES)
"""WETH9, the factories and their routers."""

_STEPS_A_POOL = 4

_FRESH_CHAIN = "start a fresh chain (stop anvil, remove its state file) and deploy again"

Progress = Callable[[int, int], None]
"""Called with transactions done and transactions in all."""


@dataclass(frozen=True, slots=True)
class FactoryInfo:
    """A deployed factory and its router."""

    name: str
    address: str
    router: str


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """A deployed token."""

    address: str
    symbol: str
    decimals: int


@dataclass(frozen=True, slots=True)
class PoolInfo:
    """A deployed pair; `factory` is the factory's name, token0 < token1 by address. The reserves (raw
    token units) are those right after deployment: the prices that the trader comes back to."""

    address: str
    factory: str
    token0: str
    token1: str
    reserve0: int
    reserve1: int


@dataclass(frozen=True, slots=True)
class Deployment:
    """What is where. Addresses are lower-case 0x hex."""

    chain_id: int
    weth: str
    factories: tuple[FactoryInfo, ...]
    tokens: tuple[TokenInfo, ...]
    pools: tuple[PoolInfo, ...]

    def to_json(self) -> str:
        """The DEPLOYMENT file of docs/contracts.md; reserves go as strings, being far above 2^53."""
        document = asdict(self)
        for pool in document["pools"]:
            pool["reserve0"], pool["reserve1"] = str(pool["reserve0"]), str(pool["reserve1"])
        return json.dumps(document, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Deployment:
        """Raises ChainError on anything but what `to_json` writes."""
        try:
            document = json.loads(text)
            return cls(
                chain_id=int(document["chain_id"]),
                weth=document["weth"],
                factories=tuple(FactoryInfo(**factory) for factory in document["factories"]),
                tokens=tuple(TokenInfo(**token) for token in document["tokens"]),
                pools=tuple(
                    PoolInfo(**{**p, "reserve0": int(p["reserve0"]), "reserve1": int(p["reserve1"])})
                    for p in document["pools"]
                ),
            )
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ChainError(f"not a deployment ({error!r}); `mev-devchain deploy` writes one") from error


@dataclass(frozen=True, slots=True)
class _Step:
    """One transaction of the plan; `to` None creates a contract."""

    label: str
    to: ChecksumAddress | None
    data: str
    value: int = 0
    gas: int = 5_000_000


@dataclass(frozen=True, slots=True)
class Plan:
    """All transactions in order, and where everything will be."""

    steps: tuple[_Step, ...]
    deployment: Deployment


class Contracts:
    """The compiled contracts of the npm packages; for encoding calls no chain is needed."""

    def __init__(self, node_modules: Path) -> None:
        self._web3 = Web3()
        self._artifacts: dict[str, dict[str, Any]] = {}
        for name, path in _ARTIFACTS.items():
            file = node_modules / path
            if not file.is_file():
                raise ChainError(
                    f"{file} does not exist; run `npm ci --ignore-scripts` in {node_modules.parent}"
                )
            self._artifacts[name] = json.loads(file.read_text(encoding="utf-8"))

    def abi(self, name: str) -> list[dict[str, Any]]:
        """The ABI of one of WETH9, Router, Factory, Pair, Token."""
        abi: list[dict[str, Any]] = self._artifacts[name]["abi"]
        return abi

    def bytecode(self, name: str) -> str:
        """The creation code as 0x hex."""
        code: str = self._artifacts[name]["bytecode"]
        return code if code.startswith("0x") else "0x" + code

    def create(self, name: str, *arguments: object) -> str:
        """Creation code followed by the encoded constructor arguments, 0x hex."""
        factory = self._web3.eth.contract(abi=self.abi(name), bytecode=self.bytecode(name))
        return str(factory.constructor(*arguments).data_in_transaction)

    def call(self, name: str, function: str, *arguments: object) -> str:
        """Encoded call data, 0x hex. Overloaded functions are given as `mint(uint256)`."""
        return str(self._web3.eth.contract(abi=self.abi(name)).encode_abi(function, list(arguments)))

    def at(self, web3: Web3, name: str, address: str) -> Contract:
        """The contract on a chain, for reading."""
        return web3.eth.contract(address=to_checksum_address(address), abi=self.abi(name))


def make_plan(market: MarketSpec, contracts: Contracts) -> Plan:
    """The transactions that deploy `market`, in the order that docs/contracts.md fixes."""
    steps: list[_Step] = []

    def create(label: str, data: str) -> ChecksumAddress:
        address = to_checksum_address(get_create_address(DEPLOYER, Nonce(len(steps))))
        steps.append(_Step(label, None, data))
        return address

    weth = create("WETH9", contracts.create("WETH9"))
    factory_at = {name: create(name, contracts.create("Factory", DEPLOYER)) for name in FACTORIES}
    router_at = {
        name: create(f"router of {name}", contracts.create("Router", factory_at[name], weth))
        for name in FACTORIES
    }
    token_at = {"WETH": weth}
    for token in market.tokens[1:]:
        data = contracts.create("Token", token.symbol, token.symbol, token.decimals)
        token_at[token.symbol] = create(token.symbol, data)

    steps += _supply_steps(market, contracts, token_at)

    pair_code = contracts.bytecode("Pair")
    pools = []
    for pool in market.pools:
        a, b = token_at[pool.a], token_at[pool.b]
        sides = sorted([(a, pool.reserve_a), (b, pool.reserve_b)], key=lambda side: int(side[0], 16))
        (token0, reserve0), (token1, reserve1) = sides
        salt = "0x" + keccak(bytes.fromhex(token0[2:] + token1[2:])).hex()
        pair = get_create2_address(factory_at[pool.factory], HexStr(salt), HexStr(pair_code))
        label = f"{pool.factory} {pool.a}/{pool.b}"
        steps += [
            _Step(
                f"create {label}",
                factory_at[pool.factory],
                contracts.call("Factory", "createPair", a, b),
                gas=3_500_000,
            ),
            _Step(f"fund {label}", a, contracts.call("Token", "transfer", pair, pool.reserve_a), gas=200_000),
            _Step(f"fund {label}", b, contracts.call("Token", "transfer", pair, pool.reserve_b), gas=200_000),
            _Step(f"mint {label}", pair, contracts.call("Pair", "mint", DEPLOYER), gas=400_000),
        ]
        pools.append(PoolInfo(pair.lower(), pool.factory, token0.lower(), token1.lower(), reserve0, reserve1))

    deployment = Deployment(
        chain_id=CHAIN_ID,
        weth=weth.lower(),
        factories=tuple(FactoryInfo(n, factory_at[n].lower(), router_at[n].lower()) for n in FACTORIES),
        tokens=tuple(TokenInfo(token_at[t.symbol].lower(), t.symbol, t.decimals) for t in market.tokens),
        pools=tuple(pools),
    )
    return Plan(tuple(steps), deployment)


def _supply_steps(
    market: MarketSpec, contracts: Contracts, token_at: dict[str, ChecksumAddress]
) -> list[_Step]:
    """Wrap or mint, once a token, exactly what its pools will hold."""
    supply: dict[str, int] = defaultdict(int)
    for pool in market.pools:
        supply[pool.a] += pool.reserve_a
        supply[pool.b] += pool.reserve_b
    return [
        _Step("wrap ETH", at, contracts.call("WETH9", "deposit"), value=supply[symbol], gas=200_000)
        if symbol == "WETH"
        else _Step(
            f"mint {symbol}", at, contracts.call("Token", "mint(uint256)", supply[symbol]), gas=200_000
        )
        for symbol, at in token_at.items()
    ]


def connect(rpc: str, *, wait: float = 0.0) -> Web3:
    """A client of a local anvil, waiting up to `wait` seconds for it to answer.

    Raises ChainAwayError if it does not, and ChainError for any other chain: this package makes money as it
    likes, and only on a local chain is that worthless.
    """
    web3 = Web3(Web3.HTTPProvider(rpc, request_kwargs={"timeout": 30}))
    deadline = time.monotonic() + wait
    while True:
        try:
            version, chain_id = web3.client_version, web3.eth.chain_id
            break
        except RequestException as error:
            if time.monotonic() >= deadline:
                raise ChainAwayError(
                    f"no answer from {rpc} ({type(error).__name__}); is anvil running?"
                ) from error
            time.sleep(0.1)
    if chain_id != CHAIN_ID or not version.startswith("anvil/"):
        raise ChainError(f"{rpc} is {version}, chain id {chain_id}; only anvil with {CHAIN_ID} is accepted")
    return web3


def rpc_call(web3: Web3, method: str, *parameters: object) -> Any:
    """A JSON-RPC call that web3 has no method for (anvil's own). Raises ChainError on an error answer."""
    response = web3.provider.make_request(RPCEndpoint(method), list(parameters))
    if "error" in response:
        raise ChainError(f"{method}: {response['error']}")
    return response.get("result")


def deploy(web3: Web3, market: MarketSpec, contracts: Contracts, progress: Progress) -> Deployment:
    """Send what is missing of the plan, then check all of it. On a deployed chain only the check runs.

    Raises ChainError if the chain holds something else, or a transaction failed.
    """
    plan = make_plan(market, contracts)
    total = len(plan.steps)
    before = _mine_until_sent(web3, web3.eth.get_transaction_count(DEPLOYER, "pending"))
    if before > total:
        raise ChainError(
            f"{DEPLOYER} has sent {before} transactions, the deployment has {total}: "
            f"this chain holds another market; {_FRESH_CHAIN}"
        )
    untraded = before < total  # the trader starts only on a finished market
    _check(web3, plan, contracts, before, exact=untraded)  # is what is there ours, before adding to it?
    if untraded:
        _send(web3, plan, before, progress)
        _check(web3, plan, contracts, total, exact=True)
    return plan.deployment


def _send(web3: Web3, plan: Plan, first: int, progress: Progress) -> None:
    """Hand over a block's worth at a time, mine it, and look at every receipt."""
    need = sum(step.value for step in plan.steps[first:]) + 10**21
    if web3.eth.get_balance(DEPLOYER) < need:
        rpc_call(web3, "anvil_setBalance", DEPLOYER, hex(need))
    for start, end in _bundles(plan.steps, first):
        hashes = []
        for nonce, step in enumerate(plan.steps[start:end], start):
            transaction: TxParams = {
                "from": DEPLOYER,
                "nonce": Nonce(nonce),
                "value": Wei(step.value),
                "gas": step.gas,
                "maxFeePerGas": Wei(10**12),
                "maxPriorityFeePerGas": Wei(10**9),
                "data": HexStr(step.data),
            }
            if step.to is not None:
                transaction["to"] = step.to
            hashes.append((step, web3.eth.send_transaction(transaction)))
        _mine_until_sent(web3, end)
        for step, transaction_hash in hashes:
            if web3.eth.get_transaction_receipt(transaction_hash)["status"] != 1:
                raise ChainError(
                    f"transaction {transaction_hash.to_0x_hex()} ({step.label}) failed; {_FRESH_CHAIN}"
                )
        progress(end, len(plan.steps))


def _bundles(steps: Sequence[_Step], first: int) -> Iterator[tuple[int, int]]:
    """Half-open ranges of steps whose gas limits fit one block together.

    A fuller mempool would lose transactions: where one does not fit, anvil 1.7 tries the next, finds
    its nonce too high, and drops it for good.
    """
    start, gas = first, 0
    for i in range(first, len(steps)):
        if gas + steps[i].gas > BUNDLE_GAS:
            yield start, i
            start, gas = i, 0
        gas += steps[i].gas
    if start < len(steps):
        yield start, len(steps)


def _mine_until_sent(web3: Web3, nonce: int) -> int:
    """Mine until the deployer's transactions below `nonce` are in blocks; return `nonce`."""
    for _ in range(200):
        if web3.eth.get_transaction_count(DEPLOYER, "latest") >= nonce:
            return nonce
        rpc_call(web3, "evm_mine")
    raise ChainError(f"after 200 blocks transactions of {DEPLOYER} below nonce {nonce} are still pending")


def _check(web3: Web3, plan: Plan, contracts: Contracts, sent: int, *, exact: bool) -> None:
    """What the first `sent` transactions made is what the plan says; with `exact` every reserve too,
    to the wei (later the trader moves them)."""
    deployment = plan.deployment
    other = f"use the market file this chain was deployed from, or {_FRESH_CHAIN}"
    created = [nonce for nonce, step in enumerate(plan.steps[:sent]) if step.to is None]
    for nonce in created:
        address = get_create_address(DEPLOYER, Nonce(nonce))
        if not web3.eth.get_code(address):
            raise ChainError(
                f"no contract at {address}, where {plan.steps[nonce].label} belongs; {_FRESH_CHAIN}"
            )
    n_tokens = min(sent, 1) + max(sent - _BEFORE_TOKENS, 0)  # WETH is the first contract of all
    for token in deployment.tokens[:n_tokens]:
        contract = contracts.at(web3, "Token", token.address)
        found = (contract.functions.symbol().call(), contract.functions.decimals().call())
        if found != (token.symbol, token.decimals):
            raise ChainError(
                f"token {token.address} is {found}, not {(token.symbol, token.decimals)}: {other}"
            )

    first_pool = len(plan.steps) - _STEPS_A_POOL * len(deployment.pools)
    pools = deployment.pools[: max(sent - first_pool, 0) // _STEPS_A_POOL]
    factories = {f.name: contracts.at(web3, "Factory", f.address) for f in deployment.factories}
    for pool in pools:
        expected = (pool.reserve0, pool.reserve1)
        tokens = (to_checksum_address(pool.token0), to_checksum_address(pool.token1))
        at = factories[pool.factory].functions.getPair(*tokens).call()
        if at.lower() != pool.address:
            raise ChainError(f"{pool.factory} has its pair of {tokens} at {at}, not {pool.address}: {other}")
        reserves = tuple(contracts.at(web3, "Pair", at).functions.getReserves().call()[:2])
        if min(reserves) == 0 or (exact and reserves != expected):
            raise ChainError(f"pair {at} holds {reserves}, not {expected}: {other}")
