"""Somebody who trades: seeded swaps through the real routers, so that prices move each block.

Every pool's price is a random walk that is pulled back to the prices the market was deployed with.
The pools wander apart, which opens cyclic arbitrage, and never far, so that the market stays sane
for weeks. The trader provides flow only: it takes no arbitrage itself.
"""

from __future__ import annotations

import logging
import math
import random
import time
from dataclasses import dataclass

from eth_typing import ChecksumAddress, HexStr
from eth_utils.address import to_checksum_address
from hexbytes import HexBytes
from requests.exceptions import RequestException
from web3 import Web3
from web3.exceptions import Web3RPCError
from web3.types import Nonce, TxParams, Wei

from mev_devchain.chain import ChainAwayError, ChainError
from mev_devchain.deploy import Contracts, Deployment, PoolInfo, connect, rpc_call

log = logging.getLogger(__name__)

TRADER = to_checksum_address("0x70997970c51812dc3a010c7d01b50e0d17dc79c8")
"""anvil's account 1."""

MEDIAN_SIZE = 0.004
"""Median swap as a fraction of the pool's reserve; it moves the price by about twice as much."""

SIZE_SPREAD = 0.8
"""Standard deviation of the logarithm of the size: now and then a swap is several times the median."""

MAX_SIZE = 0.03

PULL = 0.006
"""Gap to the anchor price (logarithm) at which a swap back is e times as likely as one further away."""

BASE_FEE = 15 * 10**9
"""Wei. Without it an idle chain's base fee decays to nothing and every opportunity pays its gas."""

_STOCK = 5
"""How many of the largest possible swaps of a token are minted at once."""

_FOREVER = 2**63
_UNLIMITED = 2**256 - 1


@dataclass(frozen=True, slots=True)
class Swap:
    """One swap to send: `amount_in` raw units of `token_in` into `pool`."""

    pool: PoolInfo
    token_in: str
    token_out: str
    amount_in: int
    min_out: int


def anchor_prices(deployment: Deployment) -> dict[str, float]:
    """For each token its price in wei of WETH a raw unit, by its deepest pool with WETH at deployment.

    One price a token makes the anchors consistent: at the anchors no cycle is profitable. Raises
    ChainError for a token without a WETH pool.
    """
    depth: dict[str, int] = {}
    prices = {deployment.weth: 1.0}
    for pool in deployment.pools:
        sides = {pool.token0: pool.reserve0, pool.token1: pool.reserve1}
        weth = sides.pop(deployment.weth, 0)
        for token, reserve in sides.items():
            if weth > depth.get(token, 0):
                depth[token], prices[token] = weth, weth / reserve
    for info in deployment.tokens:
        if info.address not in prices:
            raise ChainError(f"token {info.symbol} has no pool with WETH, so it has no price to come back to")
    return prices


def choose_swap(
    rng: random.Random, pool: PoolInfo, reserves: tuple[int, int], prices: dict[str, float]
) -> Swap:
    """Size and direction of the next swap; `reserves` in raw units of token0 and token1."""
    gap = math.log((reserves[1] * prices[pool.token1]) / (reserves[0] * prices[pool.token0]))
    # gap > 0: token0 is dear here, so selling it (token0 in) goes back to the anchor
    sell_token0 = rng.random() < 1.0 / (1.0 + math.exp(-min(max(gap / PULL, -30.0), 30.0)))
    size = min(rng.lognormvariate(math.log(MEDIAN_SIZE), SIZE_SPREAD), MAX_SIZE)
    if sell_token0:
        token_in, token_out, reserve_in, reserve_out = pool.token0, pool.token1, *reserves
    else:
        token_in, token_out, reserve_in, reserve_out = pool.token1, pool.token0, *reversed(reserves)
    amount_in = max(int(reserve_in * size), 1)
    expected = amount_in * 997 * reserve_out // (reserve_in * 1000 + amount_in * 997)
    return Swap(pool, token_in, token_out, amount_in, expected * 99 // 100)


class Trader:
    """The flow of one market. `step` sends the swaps of one block; `run` does so at every new head."""

    def __init__(self, web3: Web3, deployment: Deployment, contracts: Contracts, seed: int) -> None:
        self.web3 = web3
        self.deployment = deployment
        self.contracts = contracts
        self.seed = seed
        self.prices = anchor_prices(deployment)
        self.routers = {f.name: to_checksum_address(f.router) for f in deployment.factories}
        self._sent: list[HexBytes] = []

    def prepare(self) -> None:
        """Gas money, and unlimited allowances for both routers. Once done it changes nothing.

        Raises ChainError if the market is not on this chain.
        """
        last = self.deployment.pools[-1].address
        if not self.web3.eth.get_code(to_checksum_address(last)):
            raise ChainError(
                f"no pair at {last}: this chain lacks the market; run `mev-devchain deploy` first"
            )
        self._sent = []  # a chain that went back may have lost them
        self._keep_ether()
        for token in self.deployment.tokens:
            contract = self.contracts.at(self.web3, "Token", token.address)
            for router in self.routers.values():
                if contract.functions.allowance(TRADER, router).call() < _UNLIMITED // 2:
                    data = self.contracts.call("Token", "approve", router, _UNLIMITED)
                    self._send(to_checksum_address(token.address), data)

    def step(self, block: int) -> int:
        """Send the swaps that answer block number `block`; return how many.

        The choice depends on seed, block number and reserves only: a restarted trader goes on as the
        old one would have.
        """
        self._report_failures()
        rng = random.Random(f"{self.seed}:{block}")  # noqa: S311 - a market to play with, not a secret
        rpc_call(
            self.web3, "anvil_setNextBlockBaseFeePerGas", hex(int(BASE_FEE * rng.lognormvariate(0, 0.3)))
        )
        pools = rng.sample(self.deployment.pools, rng.randint(3, 7))
        stock: dict[str, int] = {}
        for pool in pools:
            pair = self.contracts.at(self.web3, "Pair", pool.address)
            reserve0, reserve1, _ = pair.functions.getReserves().call()
            swap = choose_swap(rng, pool, (reserve0, reserve1), self.prices)
            self._stock_up(stock, swap)
            data = self.contracts.call(
                "Router",
                "swapExactTokensForTokens",
                swap.amount_in,
                swap.min_out,
                [to_checksum_address(swap.token_in), to_checksum_address(swap.token_out)],
                TRADER,
                _FOREVER,
            )
            self._sent.append(self._send(self.routers[pool.factory], data))
        return len(pools)

    def _stock_up(self, stock: dict[str, int], swap: Swap) -> None:
        """Have enough of the token to sell; `stock` is what this block's earlier swaps left of it."""
        token = to_checksum_address(swap.token_in)
        if swap.token_in not in stock:
            contract = self.contracts.at(self.web3, "Token", token)
            stock[swap.token_in] = contract.functions.balanceOf(TRADER).call()
        if stock[swap.token_in] < swap.amount_in:
            amount = int(swap.amount_in * _STOCK)
            if swap.token_in == self.deployment.weth:
                self._keep_ether(amount)
                self._send(token, self.contracts.call("WETH9", "deposit"), value=amount)
            else:
                self._send(token, self.contracts.call("Token", "mint(uint256)", amount))
            stock[swap.token_in] += amount
        stock[swap.token_in] -= swap.amount_in

    def _keep_ether(self, needed: int = 0) -> None:
        """At least `needed` wei and gas for a long while."""
        if self.web3.eth.get_balance(TRADER) < needed + 10**21:
            rpc_call(self.web3, "anvil_setBalance", TRADER, hex(needed + 10**22))

    def _send(self, to: ChecksumAddress, data: str, value: int = 0) -> HexBytes:
        transaction: TxParams = {
            "from": TRADER,
            "to": to,
            "data": HexStr(data),
            "value": Wei(value),
            "nonce": Nonce(self.web3.eth.get_transaction_count(TRADER, "pending")),
            "gas": 250_000,
            "maxFeePerGas": Wei(20 * BASE_FEE),
            "maxPriorityFeePerGas": Wei(10**9),
        }
        return self.web3.eth.send_transaction(transaction)

    def _report_failures(self) -> None:
        """Say which swaps were reverted: a slippage limit, or something to look at."""
        pending = []
        for transaction_hash in self._sent:
            receipt = rpc_call(self.web3, "eth_getTransactionReceipt", transaction_hash.to_0x_hex())
            if receipt is None:  # it came too late for the last block
                pending.append(transaction_hash)
            elif receipt["status"] != "0x1":
                block = int(receipt["blockNumber"], 16)
                log.warning("swap %s was reverted in block %d", transaction_hash.to_0x_hex(), block)
        self._sent = pending


def run(rpc: str, deployment: Deployment, contracts: Contracts, seed: int, *, poll: float = 0.05) -> None:
    """Trade at every new head, for ever. A chain that is away is waited for; one that lost the market
    raises ChainError, so that the service's start deploys it again."""
    away = False
    while True:
        try:
            trader = Trader(connect(rpc), deployment, contracts, seed)
            trader.prepare()
            log.info("trading on %s: %d pools, seed %d", rpc, len(deployment.pools), seed)
            away = False
            _follow(trader, poll)
        except (RequestException, ChainAwayError) as error:
            if not away:  # once, not every second of a long absence
                log.warning("%s is away (%s); waiting for it", rpc, error)
            away = True
            time.sleep(1.0)


def _follow(trader: Trader, poll: float) -> None:
    """Trade until the connection breaks (RequestException)."""
    last, swaps, reported = -1, 0, time.monotonic()
    while True:
        head = trader.web3.eth.block_number
        if head == last:
            time.sleep(poll)
            continue
        if head < last:  # anvil came back from an older state, and may have lost the allowances too
            log.warning("the chain went back from block %d to %d", last, head)
            trader.prepare()
        last = head
        try:
            swaps += trader.step(head)
        except Web3RPCError as error:  # a nonce taken by a transaction that a restart brought back
            log.warning("block %d: %s", head, error)
        if time.monotonic() - reported >= 60.0:
            log.info("block %d: %d swaps in the last minute", head, swaps)
            swaps, reported = 0, time.monotonic()
