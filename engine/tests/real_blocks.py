"""Real mainnet blocks with their pre-state: read from the data, mined by anvil."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rlp  # type: ignore[import-untyped]
from eth_utils.conversions import to_hex
from live.harness import Chain, running_chain

NUMBERS = (19807080, 20612842)


def read(path: Path) -> Any:
    return json.loads(gzip.decompress(path.read_bytes()))


@dataclass(frozen=True)
class RealBlock:
    """`genesis`: the state before, as anvil takes it. `swaps`: what the data says of the block's swaps."""

    number: int
    block: dict[str, Any]
    genesis: dict[str, Any]
    swaps: list[dict[str, Any]]

    @classmethod
    def load(cls, data_dir: Path, number: int) -> RealBlock:
        folder = data_dir / "blocks" / "executable"
        return cls(
            number,
            read(folder / str(number) / "block.json.gz"),
            read(folder / str(number) / "genesis.json.gz"),
            json.loads((folder / "dex_swaps.json").read_text())[str(number)]["swaps"],
        )

    @contextmanager
    def chain_before(self, folder: Path) -> Iterator[Chain]:
        """anvil at the state before the block; its files go to `folder`."""
        genesis = folder / "genesis.json"
        genesis.write_text(json.dumps(self.genesis))
        options = [
            "--chain-id", "1", "--init", str(genesis), "--number", str(self.number - 1),
            "--timestamp", str(int(self.genesis["timestamp"], 16)), "--order", "fifo",
            "--hardfork", self.block["hardfork"],
        ]  # fmt: skip
        with running_chain(folder / "anvil.log", *options) as chain:
            yield chain

    def mine(self, chain: Chain) -> None:
        meta = self.block["meta"]
        chain.rpc("anvil_setCoinbase", meta["block_beneficiary"])
        chain.rpc("anvil_setNextBlockBaseFeePerGas", meta["block_base_fee"])
        chain.rpc("evm_setNextBlockTimestamp", int(meta["block_timestamp"], 16))
        for transaction in self.block["txs"]:
            submit(chain, transaction["raw"], transaction["from"])
        chain.rpc("evm_mine")

    def assert_real(self, header: dict[str, Any]) -> None:
        """What was mined is the real block: its gas, and its receipts where the types could be kept."""
        verification = self.block["verification"]
        assert int(header["gasUsed"], 16) == verification["gas_used_header"]
        if verification["blob_txs_sent_as_plain"]:  # a receipt says its transaction's type
            assert header["logsBloom"] == self.block["meta"]["logs_bloom"]
        else:
            assert header["receiptsRoot"] == verification["receipts_root_header"]


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


def slot(chain: Chain, address: str, number: int) -> int:
    return int(chain.rpc("eth_getStorageAt", address, hex(number), "latest"), 16)


def reserves_in_storage(chain: Chain, pair: str) -> tuple[int, int]:
    """Slot 8 of a Uniswap V2 pair: uint112 reserve0, uint112 reserve1, uint32 timestamp, from the low end."""
    packed = slot(chain, pair, 8)
    return packed % 2**112, packed >> 112 & (2**112 - 1)
