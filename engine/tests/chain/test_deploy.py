"""The local chain itself: deployment that can be interrupted, repeated, and recovered after a kill."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mev_devchain.chain import ChainError, recover_state, running_anvil
from mev_devchain.deploy import DEPLOYER, Contracts, connect, deploy
from mev_devchain.market import MarketError, MarketSpec, Pool, from_seed, from_snapshot
from web3 import Web3

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


def test_half_written_state_is_replaced_by_the_last_whole_one(tmp_path: Path) -> None:
    # fails if a kill while anvil writes left a file with which it never starts again
    state = tmp_path / "state.json"
    state.write_text('{"block": 1}')
    recover_state(state)
    state.write_text('{"block": 2, "acc')
    recover_state(state)
    assert state.read_text() == '{"block": 1}'
    assert (tmp_path / "state.json.broken").read_text() == '{"block": 2, "acc'


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
