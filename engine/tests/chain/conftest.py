"""A chain with the deployed market and some traded blocks, shared by the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mev_devchain.chain import Anvil, running_anvil
from mev_devchain.deploy import Contracts, Deployment, connect, deploy, rpc_call
from mev_devchain.market import MarketSpec, from_seed, from_snapshot
from mev_devchain.trader import Trader
from mev_engine.chain.decode import SYNC, block_logs, block_ref
from mev_engine.detect.gas import GasModel
from mev_engine.detect.scanner import Scanner
from mev_engine.market.delta import BlockDelta, ReserveUpdate, TokenSpec, pair_spec
from mev_engine.market.market import Market
from needs import data_folder
from web3 import Web3

BLOCKS = 40
GAS = GasModel(per_cycle=60_000, per_hop=75_000, priority_fee=10**9)
BASES = ("WETH", "USDC", "USDT", "DAI", "WBTC")


@pytest.fixture(scope="session")
def node_modules(anvil_binary: Path) -> Path:
    """The locked npm packages."""
    return anvil_binary.parents[3]


@pytest.fixture(scope="session")
def contracts(node_modules: Path) -> Contracts:
    return Contracts(node_modules)


@pytest.fixture(scope="session")
def market_spec() -> MarketSpec:
    """Real tokens and reserves where the data is at hand, else the seeded market: both of one shape."""
    folder = data_folder()
    return from_snapshot(folder) if folder.is_dir() else from_seed(1)


@dataclass(frozen=True, slots=True)
class Recording:
    """A live chain (`web3`), still running, and what its last blocks changed.

    `deltas` are decoded from the blocks' logs, one for each traded block, in order.
    """

    anvil: Anvil
    web3: Web3
    deployment: Deployment
    deltas: tuple[BlockDelta, ...]

    def market(self, max_hops: int = 4) -> Market:
        """The engine's market as of deployment: the deltas apply to it."""
        return Market.build(
            [TokenSpec(t.address, t.symbol, t.decimals) for t in self.deployment.tokens],
            [
                pair_spec(p.address, p.token0, p.token1, p.reserve0, p.reserve1, protocol=p.factory)
                for p in self.deployment.pools
            ],
            base_tokens=[t.address for t in self.deployment.tokens if t.symbol in BASES],
            wrapped_native=self.deployment.weth,
            max_hops=max_hops,
        )


def scanner(market: Market) -> Scanner:
    """The engine's scan as the service runs it by default."""
    return Scanner(market, chain_id=31337, gas=GAS, min_profit=0)


@pytest.fixture(scope="session")
def recording(
    tmp_path_factory: pytest.TempPathFactory,
    node_modules: Path,
    contracts: Contracts,
    market_spec: MarketSpec,
) -> Iterator[Recording]:
    folder = tmp_path_factory.mktemp("chain")
    options = ("--no-mining", "--cache-path", str(folder / "states"))
    with running_anvil(*options, log=folder / "anvil.log", node_modules=node_modules) as anvil:
        web3 = connect(anvil.http)
        deployment = deploy(web3, market_spec, contracts, lambda done, total: None)
        trader = Trader(web3, deployment, contracts, seed=1)
        trader.prepare()
        rpc_call(web3, "evm_mine")
        deltas = []
        for _ in range(BLOCKS):
            trader.step(web3.eth.block_number)
            rpc_call(web3, "evm_mine")
            deltas.append(_latest_delta(web3, deployment))
        yield Recording(anvil, web3, deployment, tuple(deltas))


def _latest_delta(web3: Web3, deployment: Deployment) -> BlockDelta:
    """The newest block as the engine's own decoder reads its logs."""
    block = block_ref(rpc_call(web3, "eth_getBlockByNumber", "latest", False))
    logs: list[Any] = rpc_call(web3, "eth_getLogs", {"blockHash": block.hash, "topics": [SYNC]})
    decoded = block_logs(logs, block, {pool.address for pool in deployment.pools}, set())
    assert not decoded.suspects
    assert not decoded.unattributed
    return BlockDelta(block, tuple(ReserveUpdate(p, *r) for p, r in sorted(decoded.reserves.items())))
