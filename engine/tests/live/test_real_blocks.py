"""Real mainnet blocks, mined by anvil, followed by the running engine through their logs alone."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import rlp  # type: ignore[import-untyped]
from eth_utils.conversions import to_hex
from eth_utils.crypto import keccak

from .harness import Chain, make_settings, reaches, running_chain, running_engine

pytestmark = [pytest.mark.chain, pytest.mark.data]

WETH = "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2"
PAIR_CODE_HASH = "5b83bdbcc56b2e630f2807bbadd2b0c21619108066b92a58de081261089e9ce5"  # Uniswap V2's pair


def read(path: Path) -> Any:
    return json.loads(gzip.decompress(path.read_bytes()))


def v2_pairs(genesis: dict[str, Any]) -> list[str]:
    """Accounts of the pre-state that run the Uniswap V2 pair's code."""
    return sorted(
        address.lower()
        for address, account in genesis["alloc"].items()
        if account.get("code") and keccak(hexstr=account["code"]).hex() == PAIR_CODE_HASH
    )


def slot(chain: Chain, address: str, number: int) -> int:
    return int(chain.rpc("eth_getStorageAt", address, hex(number), "latest"), 16)


def reserves_in_storage(chain: Chain, pair: str) -> tuple[int, int]:
    """Slot 8 of a pair: uint112 reserve0, uint112 reserve1, uint32 timestamp, from the low end."""
    packed = slot(chain, pair, 8)
    return packed % 2**112, packed >> 112 & (2**112 - 1)


def submit(chain: Chain, raw: str, sender: str) -> None:
    """A signed transaction as it is; of a blob transaction what the EVM sees of it, without blobs."""
    if not raw.startswith("0x03"):
        chain.rpc("eth_sendRawTransaction", raw)
        return
    fields = rlp.decode(bytes.fromhex(raw[4:]))
    _chain_id, nonce, priority_fee, max_fee, gas, to, value, data = fields[:8]
    chain.rpc("anvil_impersonateAccount", sender)
    transaction = {
        "from": sender, "to": to_hex(to), "data": to_hex(data), "nonce": to_hex(int.from_bytes(nonce)),
        "gas": to_hex(int.from_bytes(gas)), "value": to_hex(int.from_bytes(value)),
        "maxFeePerGas": to_hex(int.from_bytes(max_fee)),
        "maxPriorityFeePerGas": to_hex(int.from_bytes(priority_fee)),
    }  # fmt: skip
    chain.rpc("eth_sendTransaction", transaction)


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
    folder = data_dir / "blocks" / "executable"
    block = read(folder / str(number) / "block.json.gz")
    genesis = read(folder / str(number) / "genesis.json.gz")
    swaps = json.loads((folder / "dex_swaps.json").read_text())[str(number)]["swaps"]
    pairs = v2_pairs(genesis)
    genesis_file = tmp_path / "genesis.json"
    genesis_file.write_text(json.dumps(genesis))
    options = [
        "--chain-id", "1", "--init", str(genesis_file), "--number", str(number - 1),
        "--timestamp", str(int(genesis["timestamp"], 16)), "--order", "fifo", "--hardfork", block["hardfork"],
    ]  # fmt: skip
    with running_chain(tmp_path / "anvil.log", *options) as chain:
        settings = make_settings(
            tmp_path, chain.url,
            chain={"name": "ethereum", "chain_id": 1, "endpoints": [chain.url]},
            market={
                "base_tokens": [WETH], "wrapped_native": WETH,
                "pools_file": str(pools_file(tmp_path / "pools.json", pairs, swaps)),
            },
        )  # fmt: skip
        async with running_engine(settings) as engine:
            assert engine.market is not None
            before = {pair: engine.market.reserves(pair) for pair in pairs}
            assert before == {pair: reserves_in_storage(chain, pair) for pair in pairs}
            mine(chain, block)
            await reaches(engine, chain)
            after = {pair: engine.market.reserves(pair) for pair in pairs}
            assert after == {pair: reserves_in_storage(chain, pair) for pair in pairs}
            assert sum(after[pair] != before[pair] for pair in pairs) == touched
            assert engine.follower.recent.last.number == number
            assert_real(chain.rpc("eth_getBlockByNumber", hex(number), False), block)


def mine(chain: Chain, block: dict[str, Any]) -> None:
    meta = block["meta"]
    chain.rpc("anvil_setCoinbase", meta["block_beneficiary"])
    chain.rpc("anvil_setNextBlockBaseFeePerGas", meta["block_base_fee"])
    chain.rpc("evm_setNextBlockTimestamp", int(meta["block_timestamp"], 16))
    for transaction in block["txs"]:
        submit(chain, transaction["raw"], transaction["from"])
    chain.rpc("evm_mine")


def assert_real(header: dict[str, Any], block: dict[str, Any]) -> None:
    """What was mined is the real block: its gas, and its receipts where the types could be kept."""
    verification = block["verification"]
    assert int(header["gasUsed"], 16) == verification["gas_used_header"]
    if verification["blob_txs_sent_as_plain"]:  # a receipt says its transaction's type
        assert header["logsBloom"] == block["meta"]["logs_bloom"]
    else:
        assert header["receiptsRoot"] == verification["receipts_root_header"]
