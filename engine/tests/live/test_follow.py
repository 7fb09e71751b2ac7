"""The running engine against a real node that does what real nodes do."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest
from mev_engine.engine import Engine

from .conftest import START
from .harness import (
    PAIRS,
    Chain,
    assert_same_state,
    make_settings,
    reaches,
    running_chain,
    running_engine,
    until,
)

pytestmark = pytest.mark.chain


async def test_blocks_are_followed(chain: Chain, tmp_path: Path) -> None:
    # fails if a Sync is lost, the first of two in a block wins, or a block is skipped
    async with running_engine(make_settings(tmp_path, chain.url)) as engine:
        for step in range(1, 6):
            chain.send(PAIRS[0], f"0x{7:064x}{7:064x}")
            chain.mine({PAIRS[0]: (10**21 + step, 10**21), PAIRS[2]: (10**21, 10**21 - step)})
        await reaches(engine, chain)
        assert_same_state(engine, chain)
        assert engine.metrics.registry.get_sample_value("mev_blocks_total", {"chain": "ethereum"}) == 5


@pytest.mark.parametrize("depth", [1, 3])
async def test_reorganisation(
    chain: Chain, tmp_path: Path, depth: int, caplog: pytest.LogCaptureFixture
) -> None:
    # fails if a pool that only an orphaned block changed keeps that block's reserves,
    # or if the orphaned blocks are not named
    async with running_engine(make_settings(tmp_path, chain.url)) as engine:
        chain.mine({PAIRS[1]: (5, 5)})
        await reaches(engine, chain)
        for step in range(depth):
            chain.mine({PAIRS[step]: (11 + step, 12)})
        await reaches(engine, chain)
        gone = {chain.block_hash(chain.height() - step) for step in range(depth)}
        chain.rpc("anvil_rollback", depth)
        for _ in range(depth):
            chain.mine({PAIRS[3]: (13, 14)})
        await reaches(engine, chain)
        assert_same_state(engine, chain)
    orphaned = {block_hash for batch in engine.postgresql._queue for _, block_hash in batch.orphaned}
    assert orphaned == gone
    assert "reorganised depth=" + str(depth) in caplog.text


async def test_gap_while_disconnected(chain: Chain, tmp_path: Path) -> None:
    # fails if blocks mined while the connection was away are not fetched and scanned one by one
    async with running_engine(make_settings(tmp_path, chain.url)) as engine:
        first = engine.follower.recent.last.number
        chain.rpc("anvil_mine", "0x1")
        await reaches(engine, chain)
        content = chain.rpc("anvil_dumpState")
        chain.kill()
        chain.start()
        chain.rpc("anvil_loadState", content)
        for step in range(4):
            chain.mine({PAIRS[step]: (21, 22)})
        await reaches(engine, chain)
        assert_same_state(engine, chain)
        assert engine.follower.recent.last.number >= first + 4


async def test_node_comes_back_with_fewer_blocks(chain: Chain, tmp_path: Path) -> None:
    # fails if the engine waits for the old height, or keeps the reserves of blocks that are gone
    async with running_engine(make_settings(tmp_path, chain.url)) as engine:
        for step in range(4):
            chain.mine({PAIRS[step]: (31, 32)})
        await reaches(engine, chain)
        chain.kill()
        chain.start()
        chain.place_pairs()
        chain.mine(START)
        await reaches(engine, chain)
        assert_same_state(engine, chain)


async def test_restart_goes_on_at_the_checkpoint(chain: Chain, tmp_path: Path) -> None:
    # fails if a block between stop and start is not scanned although the node has its state
    settings = make_settings(tmp_path, chain.url)
    async with running_engine(settings) as engine:
        chain.mine({PAIRS[0]: (41, 42)})
        await reaches(engine, chain)
        engine._acknowledged(engine.follower.recent.last)  # as the database would
    for step in range(3):
        chain.mine({PAIRS[step]: (43, 44)})
    async with running_engine(settings) as engine:
        await reaches(engine, chain)
        assert_same_state(engine, chain)
        sample = engine.metrics.registry.get_sample_value
        assert sample("mev_blocks_total", {"chain": "ethereum"}) == 3
        assert sample("mev_blocks_missed_total", {"chain": "ethereum"}) == 0


async def test_reorganisation_while_stopped(chain: Chain, tmp_path: Path) -> None:
    # fails if blocks that were replaced between stop and start stay 'detected', or the new ones
    # are not scanned
    settings = make_settings(tmp_path, chain.url)
    async with running_engine(settings) as engine:
        chain.mine()
        chain.mine({PAIRS[0]: (45, 46)})
        await reaches(engine, chain)
        engine._acknowledged(engine.follower.recent.last)
        gone = engine.follower.recent.last.hash
    chain.rpc("anvil_rollback", 1)
    chain.mine({PAIRS[1]: (47, 48)})
    chain.mine({PAIRS[2]: (47, 48)})
    async with running_engine(settings) as engine:
        await reaches(engine, chain)
        assert_same_state(engine, chain)
        assert {h for batch in engine.postgresql._queue for _, h in batch.orphaned} == {gone}
        assert engine.metrics.registry.get_sample_value("mev_blocks_total", {"chain": "ethereum"}) == 2


@pytest.mark.parametrize("running", [True, False])
async def test_another_chain_of_the_same_id(chain: Chain, tmp_path: Path, running: bool) -> None:
    # fails if a chain that was reset, while the engine runs or is stopped, is taken for a reorganisation,
    # whose older rows stay 'detected', or if a mere reorganisation is taken for another chain
    settings = make_settings(tmp_path, chain.url)

    def reset() -> None:
        chain.kill()
        chain.start("--timestamp", "1700000000")
        chain.place_pairs()
        chain.mine(START)

    def replaced(engine: Engine) -> list[bool]:
        return [batch.other_chain for batch in engine.postgresql._queue if batch.orphaned]

    async with running_engine(settings) as engine:
        chain.mine({PAIRS[0]: (48, 49)})
        await reaches(engine, chain)
        chain.rpc("anvil_rollback", 1)
        chain.mine({PAIRS[0]: (49, 48)})
        await reaches(engine, chain)
        assert replaced(engine) == [False]
        engine._acknowledged(engine.follower.recent.last)
        if running:
            reset()
            await reaches(engine, chain)
            assert replaced(engine) == [False, True]
    if not running:
        reset()
        async with running_engine(settings) as engine:
            await reaches(engine, chain)
            assert replaced(engine) == [True]


async def test_too_long_a_gap_is_named(
    chain: Chain, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # fails if skipped blocks are passed over in silence or miscounted
    caplog.set_level(logging.INFO)
    settings = make_settings(
        tmp_path, chain.url,
        chain={"name": "ethereum", "chain_id": 31337, "endpoints": [chain.url], "max_catchup_blocks": 2},
    )  # fmt: skip
    async with running_engine(settings) as engine:
        chain.mine()
        await reaches(engine, chain)
        last = engine.follower.recent.last.number
        engine._acknowledged(engine.follower.recent.last)
    for _ in range(5):
        chain.mine({PAIRS[0]: (51, 52)})
    async with running_engine(settings) as engine:
        await reaches(engine, chain)
        assert_same_state(engine, chain)
    assert f"blocks_skipped first={last + 1} last={last + 5} count=5" in caplog.text


async def test_malformed_log(chain: Chain, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # fails if a Sync with half its data crashes the engine, is guessed at, or is not named
    async with running_engine(make_settings(tmp_path, chain.url)) as engine:
        chain.send(PAIRS[0], f"0x{1:064x}")
        number = chain.mine({PAIRS[1]: (61, 62)})
        await reaches(engine, chain)
        assert_same_state(engine, chain)
    assert f"data has 32 bytes, not 64; block={number}" in caplog.text
    assert f"address={PAIRS[0]}" in caplog.text


async def test_absurd_reserves_take_the_pool_out(
    chain: Chain, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # fails if a reserve beyond uint112 reaches the market, or if the pool never comes back
    async with running_engine(make_settings(tmp_path, chain.url)) as engine:
        chain.mine({PAIRS[0]: (2**112, 5)})
        await reaches(engine, chain)
        assert engine.market is not None
        assert engine.market.reserves(PAIRS[0]) == (0, 0)
        chain.mine({PAIRS[0]: (71, 72)})
        await reaches(engine, chain)
        assert_same_state(engine, chain)
    assert "a reserve does not fit uint112" in caplog.text
    assert f"pool_quarantined pool={PAIRS[0]}" in caplog.text


async def test_silent_change_is_found_by_the_audit(
    chain: Chain, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # fails if state that no log announced is never noticed, or is repaired without a word
    async with running_engine(make_settings(tmp_path, chain.url)) as engine:
        chain.rpc("anvil_setStorageAt", PAIRS[0], "0x0", f"0x{81:064x}")
        chain.mine()
        await until(lambda: "resynchronised" in caplog.text, "the audit resynchronises")
        assert_same_state(engine, chain)
    assert f"state_differs pool={PAIRS[0]}" in caplog.text


async def test_wrong_chain_is_refused(chain: Chain, tmp_path: Path) -> None:
    # fails if an endpoint of another chain is used, or its key is shown
    from mev_engine.chain.errors import WrongChainError

    settings = make_settings(
        tmp_path, chain={"name": "ethereum", "chain_id": 1, "endpoints": [f"{chain.url}/?key=SECRET"]}
    )
    with pytest.raises(WrongChainError) as caught:
        async with running_engine(settings):
            pass
    assert "no endpoint serves chain id 1: ws://127.0.0.1:" in str(caught.value)
    assert "SECRET" not in str(caught.value)


async def test_failover_and_return(anvil: None, chain: Chain, tmp_path: Path) -> None:
    # fails if the second endpoint is not used, or the first not gone back to
    with running_chain(tmp_path / "second.log") as second:
        second.rpc("anvil_loadState", chain.rpc("anvil_dumpState"))
        settings = make_settings(tmp_path, chain.url, second.url)
        async with running_engine(settings) as engine:
            assert engine.follower.link_name == chain.url
            chain.kill()
            await until(lambda: engine.follower.link_name == second.url, "the second endpoint is used")
            second.mine({PAIRS[0]: (91, 92)})
            await until(
                lambda: engine.market is not None and engine.market.reserves(PAIRS[0]) == (91, 92), "block"
            )
            chain.start()
            chain.rpc("anvil_loadState", second.rpc("anvil_dumpState"))
            await until(lambda: engine.follower.link_name == chain.url, "the first endpoint is used again")


async def test_node_whose_head_has_stopped(
    anvil: None, chain: Chain, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # fails if a node that answers but stands still is followed on, or is gone back to while it does
    caplog.set_level(logging.INFO)
    with running_chain(tmp_path / "second.log") as second:
        second.rpc("anvil_loadState", chain.rpc("anvil_dumpState"))
        settings = make_settings(tmp_path, chain.url, second.url, chain=quick(chain.url, second.url))
        async with running_engine(settings) as engine:
            assert engine.follower.link_name == chain.url
            await until(lambda: engine.follower.link_name == second.url, "the second endpoint is used")
            for step in range(30):  # three health checks
                second.mine({PAIRS[0]: (95 + step, 96)})
                await reaches(engine, second)
                await asyncio.sleep(0.1)
            assert caplog.text.count(f"connected endpoint={chain.url}") == 1
            assert_same_state(engine, second)
            state = second.rpc("anvil_dumpState")
            chain.kill()
            chain.start()
            chain.rpc("anvil_loadState", state)
            await until(lambda: engine.follower.link_name == chain.url, "the first endpoint is used again")


async def test_only_node_whose_head_has_stopped(
    chain: Chain, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # fails if a chain that stands still goes unmentioned, or costs the only connection
    async with running_engine(make_settings(tmp_path, chain=quick(chain.url))) as engine:
        await until(lambda: caplog.text.count("chain_silent") >= 2, "silence is named, again and again")
        age = engine.metrics.registry.get_sample_value("mev_last_block_age_seconds", {"chain": "ethereum"})
        assert age is not None
        assert age >= 2
        chain.mine({PAIRS[0]: (97, 98)})
        await reaches(engine, chain)
        age = engine.metrics.registry.get_sample_value("mev_last_block_age_seconds", {"chain": "ethereum"})
        assert age is not None
        assert age < 2
    assert "link_lost" not in caplog.text


def quick(*endpoints: str) -> dict[str, object]:
    """Settings of a chain whose health and silence are looked at every second."""
    return {"endpoints": list(endpoints), "health_interval": 1, "max_silence": 1}
