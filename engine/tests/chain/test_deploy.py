"""The local chain itself: deployment that can be interrupted, repeated, and recovered after a kill."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mev_devchain.chain import ChainError, recover_state, running_anvil
from mev_devchain.deploy import DEPLOYER, Contracts, connect, deploy, rpc_call
from mev_devchain.market import MarketError, MarketSpec, Pool, from_seed, from_snapshot
from web3 import Web3
from web3.exceptions import BlockNotFound

pytestmark = pytest.mark.chain


class _InterruptedError(Exception):
    pass


@pytest.fixture
def fresh_chain(node_modules: Path, tmp_path: Path) -> Iterator[Web3]:
    options = ("--no-mining", "--cache-path", str(tmp_path / "states"))
    with running_anvil(*options, log=tmp_path / "anvil.log", node_modules=node_modules) as anvil:
        yield connect(anvil.http)


def test_interrupted_deployment_is_finished_and_another_market_refused(
    fresh_chain: Web3, contracts: Contracts
) -> None:
    # fails if a repeated run sent a transaction twice (addresses and reserves would differ), lost one,
    # or carried on with another market's tokens
    market, other = from_seed(7), from_seed(8)

    def stop_at(limit: int) -> None:
        def progress(done: int, total: int) -> None:
            if done >= limit:
                raise _InterruptedError

        with pytest.raises(_InterruptedError):
            deploy(fresh_chain, market, contracts, progress)

    stop_at(5)  # core contracts only
    stop_at(100)  # in the middle of the pools
    with pytest.raises(ChainError, match=r"use the market file this chain was deployed from"):
        deploy(fresh_chain, other, contracts, lambda done, total: None)
    deployment = deploy(fresh_chain, market, contracts, lambda done, total: None)

    pools = {(p.factory, frozenset((p.a, p.b))): sorted((p.reserve_a, p.reserve_b)) for p in market.pools}
    symbols = {token.address: token.symbol for token in deployment.tokens}
    for pool in deployment.pools:
        pair = contracts.at(fresh_chain, "Pair", pool.address)
        reserves = pair.functions.getReserves().call()[:2]
        assert (
            sorted(reserves) == pools[pool.factory, frozenset((symbols[pool.token0], symbols[pool.token1]))]
        )

    before = fresh_chain.eth.block_number, fresh_chain.eth.get_transaction_count(DEPLOYER)
    assert deploy(fresh_chain, market, contracts, lambda done, total: None) == deployment
    assert (fresh_chain.eth.block_number, fresh_chain.eth.get_transaction_count(DEPLOYER)) == before


def test_a_killed_chain_comes_back_from_its_last_whole_state(node_modules: Path, tmp_path: Path) -> None:
    """Fails if a kill in the middle of a write left a file with which anvil never starts again, or if
    dropping old blocks cost the chain its height, its newest hashes or its accounts."""
    state = tmp_path / "state.json"
    options = ("--no-mining", "--state", str(state))
    with running_anvil(*options, log=tmp_path / "1.log", node_modules=node_modules) as anvil:
        web3 = connect(anvil.http)
        rpc_call(web3, "anvil_mine", hex(50))
        rpc_call(web3, "anvil_setBalance", DEPLOYER, hex(12345))
        hashes = [web3.eth.get_block(number)["hash"] for number in (0, 45, 50)]
    recover_state(state, keep_blocks=10)
    state.write_bytes(state.read_bytes()[:-100])  # as a kill in the middle of a write leaves it
    recover_state(state, keep_blocks=10)

    with running_anvil(*options, log=tmp_path / "2.log", node_modules=node_modules) as anvil:
        web3 = connect(anvil.http)
        assert [web3.eth.get_block(number)["hash"] for number in (0, 45, 50)] == hashes
        assert web3.eth.block_number == 50
        assert web3.eth.get_balance(DEPLOYER) == 12345
        with pytest.raises(BlockNotFound):
            web3.eth.get_block(30)


@pytest.mark.data
def test_real_market_has_the_promised_shape(data_dir: Path) -> None:
    # fails if the greedy choice or the filter lost tokens, decimals or pools
    market = from_snapshot(data_dir)
    assert len(market.pools) >= 40
    assert len(market.tokens) >= 12
    assert len({token.decimals for token in market.tokens}) >= 5
    assert MarketSpec.from_json(market.to_json()) == market


def test_bad_market_names_the_pool_and_the_mend() -> None:
    # fails if a wrong file got as far as a half-built chain
    market = from_seed(1)
    twice = (*market.pools, market.pools[0])
    with pytest.raises(MarketError, match=r"uniswap_v2 WETH/USDC.*listed twice"):
        MarketSpec(market.source, market.tokens, twice)
    too_rich = (Pool("uniswap_v2", "WETH", "USDC", 2**112, 1),)
    with pytest.raises(MarketError, match=r"reserve 5192296858534827628530496329220096 .* below 2\^104"):
        MarketSpec(market.source, market.tokens, too_rich)
