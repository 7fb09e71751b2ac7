"""Real mainnet blocks, mined by anvil, followed by the running engine through their logs alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from eth_utils.crypto import keccak
from real_blocks import RealBlock, reserves_in_storage

from .harness import make_settings, reaches, running_engine

pytestmark = [pytest.mark.chain, pytest.mark.data]

WETH = "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2"
PAIR_CODE_HASH = "5b83bdbcc56b2e630f2807bbadd2b0c21619108066b92a58de081261089e9ce5"  # Uniswap V2's pair


def v2_pairs(genesis: dict[str, Any]) -> list[str]:
    """Accounts of the pre-state that run the Uniswap V2 pair's code."""
    return sorted(
        address.lower()
        for address, account in genesis["alloc"].items()
        if account.get("code") and keccak(hexstr=account["code"]).hex() == PAIR_CODE_HASH
    )


def pools_file(path: Path, pairs: list[str], swaps: list[dict[str, Any]]) -> Path:
    sides = {swap["pool"]: (swap["token0"], swap["token1"]) for swap in swaps if swap["proto"] == "v2"}
    tokens = {token for pair in sides.values() for token in pair} | {WETH}
    content = {
        "tokens": [{"address": token, "symbol": token[:6], "decimals": 18} for token in sorted(tokens)],
        "pools": [{"address": p, "token0": sides[p][0], "token1": sides[p][1]} for p in pairs],
    }
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(("number", "touched"), [(19807080, 3), (20612842, 0)])
async def test_state_equals_storage(
    anvil: None, data_dir: Path, tmp_path: Path, number: int, touched: int
) -> None:
    # fails if one Sync of the block is missed, misread, or taken in the wrong order
    # (19807080 swaps in three pairs, four times in one); 20612842 has V3 swaps only: nothing may change
    real = RealBlock.load(data_dir, number)
    pairs = v2_pairs(real.genesis)
    with real.chain_before(tmp_path) as chain:
        settings = make_settings(
            tmp_path, chain.url,
            chain={"name": "ethereum", "chain_id": 1, "endpoints": [chain.url]},
            market={
                "base_tokens": [WETH], "wrapped_native": WETH,
                "pools_file": str(pools_file(tmp_path / "pools.json", pairs, real.swaps)),
            },
        )  # fmt: skip
        async with running_engine(settings) as engine:
            assert engine.market is not None
            before = {pair: engine.market.reserves(pair) for pair in pairs}
            assert before == {pair: reserves_in_storage(chain, pair) for pair in pairs}
            real.mine(chain)
            await reaches(engine, chain)
            after = {pair: engine.market.reserves(pair) for pair in pairs}
            assert after == {pair: reserves_in_storage(chain, pair) for pair in pairs}
            assert sum(after[pair] != before[pair] for pair in pairs) == touched
            assert engine.follower.recent.last.number == number
            real.assert_real(chain.rpc("eth_getBlockByNumber", hex(number), False))
