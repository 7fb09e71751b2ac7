"""Snapshots and recordings: malformed input is named by file, line, field and value."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
from mev_engine.market import BlockDelta, BlockRef, ReserveUpdate, TokenSpec, pair_spec, recording, snapshot

from .markets import BLOCK, address

GOOD: dict[str, Any] = {
    "chain_id": 1,
    "block": 5,
    "protocol": "uniswap_v2",
    "pool": address(1),
    "tokens": [address(2), address(3)],
    "symbols": ["A", "B"],
    "decimals": [18, 6],
    "fee_ppm": 2500,
    "type": "v2",
    "reserves": ["123456789012345678901234567890", "7"],
}


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_reads_pairs_and_counts_what_it_leaves_out(tmp_path: Path) -> None:
    # fails if precision is lost, the fee misread, or another family dropped in silence
    other = {"chain_id": 1, "block": 9, "protocol": "uniswap_v3", "type": "v3", "pool": address(9)}
    read = snapshot.read(write(tmp_path / "a.jsonl", [GOOD, other, other]))
    assert read.pools == (
        pair_spec(address(1), address(2), address(3), int(GOOD["reserves"][0]), 7, 9975, 10000, "uniswap_v2"),
    )
    assert read.tokens == (TokenSpec(address(2), "A", 18), TokenSpec(address(3), "B", 6))
    assert (read.block, read.skipped) == (9, {"uniswap_v3 (v3): no tick map": 2})


def test_reads_one_block_of_a_file_that_holds_several(tmp_path: Path) -> None:
    # fails if states of two blocks are mixed, or if a block that is not there gives an empty market
    path = write(tmp_path / "a.jsonl", [GOOD, GOOD | {"block": 6, "reserves": ["8", "9"]}])
    (pool,) = snapshot.read(path, block=6).pools
    assert (pool.state.reserve0, pool.state.reserve1) == (8, 9)
    with pytest.raises(snapshot.SnapshotError, match="no usable pool of block 7"):
        snapshot.read(path, block=7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reserves": ["-1", "7"]}, "reserve0 = '-1'"),
        ({"reserves": ["0", "7"]}, "reserve0 = '0'"),
        ({"reserves": ["1", str(2**112)]}, "reserve1 = '5192296858534827628530496329220096'"),
        ({"reserves": [1.5, "7"]}, "reserve0 = 1.5"),
        ({"reserves": ["1"]}, r"reserve = \['1'\]"),
        ({"pool": "0x12"}, "pool = '0x12'"),
        ({"tokens": [address(2), address(2)]}, "token1 = .* is token0 too"),
        ({"decimals": [18, 256]}, "decimals1 = 256"),
        ({"fee_ppm": 1_000_000}, "fee_ppm = 1000000"),
        ({"block": "x"}, "block = 'x'"),
    ],
    ids=str,
)
def test_a_malformed_pool_is_left_out_by_name(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    # fails if the bad value is taken, if the rest is not read, or if the reason leaves the reader searching
    path = write(tmp_path / "a.jsonl", [GOOD, GOOD | {"pool": address(4)} | change])
    read = snapshot.read(path)
    assert [pool.address for pool in read.pools] == [address(1)]
    assert [token.address for token in read.tokens] == [address(2), address(3)]
    ((name, reason),) = read.excluded.items()
    assert name == ("line 2" if "pool" in change else address(4))
    assert re.match(f"line 2: {message}", reason)


def test_a_pool_listed_twice_is_left_out_whole(tmp_path: Path) -> None:
    # fails if either line's state is believed, also where a third line or a malformed one follows
    other = GOOD | {"pool": address(4)}
    for again in ([other], [other, other], [other | {"reserves": ["0", "1"]}]):
        read = snapshot.read(write(tmp_path / "a.jsonl", [GOOD, other, *again]))
        assert [pool.address for pool in read.pools] == [address(1)]
        assert re.match("(line 3: )?listed twice", read.excluded[address(4)])


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    # fails if a truncated or foreign file ends as an empty market or a traceback
    changes: list[tuple[dict[str, Any], str]] = [
        ({"chain_id": None}, "chain_id = None"),
        ({"chain_id": 2}, "chain_id = 2, but 1 above"),
    ]
    for change, message in changes:
        with pytest.raises(snapshot.SnapshotError, match=rf"a\.jsonl:2: {message}"):
            snapshot.read(write(tmp_path / "a.jsonl", [GOOD, GOOD | {"pool": address(4)} | change]))
    with pytest.raises(
        snapshot.SnapshotError, match=r"a\.jsonl: holds no usable pool, but .* reserve0 = '0'"
    ):
        snapshot.read(write(tmp_path / "a.jsonl", [GOOD | {"reserves": ["0", "1"]}]))
    (tmp_path / "d.jsonl").write_text("{\n")
    with pytest.raises(snapshot.SnapshotError, match=r"d\.jsonl:1: not JSON"):
        snapshot.read(tmp_path / "d.jsonl")
    (tmp_path / "b.csv").write_text("pool,tick\n1,2\n")
    with pytest.raises(snapshot.SnapshotError, match=r"b\.csv:1: no column chain_id, protocol, token0"):
        snapshot.read(tmp_path / "b.csv")
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress(b"chain_id,protocol\n" * 1000)[:-20])
    with pytest.raises(snapshot.SnapshotError, match=r"c\.csv\.gz"):
        snapshot.read(tmp_path / "c.csv.gz")
    with pytest.raises(snapshot.SnapshotError, match=r"none\.csv: can't be read"):
        snapshot.read(tmp_path / "none.csv")


@pytest.mark.parametrize("name", ["r.jsonl", "r.jsonl.gz"])
def test_a_recording_gives_back_what_was_written(tmp_path: Path, name: str) -> None:
    # fails if an integer above 2^53, a new pool or the order of blocks is lost
    tokens = (TokenSpec(address(2), "A[b]\n", 18), TokenSpec(address(3), "B", 6))
    pool = pair_spec(address(1), address(2), address(3), 2**112 - 1, 2**53 + 1, 9975, 10000, "fork")
    market = recording.RecordedMarket(1, (address(2),), address(2), 3, tokens, (pool,))
    blocks = [
        BlockDelta(BLOCK, (ReserveUpdate(address(1), 2**100, 3),)),
        BlockDelta(
            BlockRef(101, "0x1", BLOCK.hash, 1, 2**60),
            new_tokens=(TokenSpec("0x9", "C", 0),),
            new_pools=(pool,),
        ),
    ]
    path = tmp_path / name
    with recording.RecordingWriter(path, market) as writer:
        for delta in blocks:
            writer.write(delta)
        flushed = recording.read(path) if name.endswith("l") else None  # before it is closed
        assert flushed is None or list(flushed[1]) == blocks
    start, deltas = recording.read(path)
    assert start == market
    assert list(deltas) == blocks
    with pytest.raises(FileExistsError):
        recording.RecordingWriter(path, market)


def test_a_damaged_recording_is_named(tmp_path: Path) -> None:
    # fails if replay goes on past damage, or blames the wrong line
    head = {"kind": "market", "version": 1, "chain_id": 1, "base_tokens": [], "wrapped_native": "0x"}
    head |= {"max_hops": 4, "tokens": [], "pools": []}
    ref = {"number": 1, "hash": "0x", "parent_hash": "0x", "timestamp": 1, "base_fee": 1}
    bad_rows = [
        ({"kind": "block", "block": ref, "updates": [["0x1", "1"]]}, r":2: updates has \['0x1', '1'\]"),
        ({"kind": "block", "block": ref, "updates": [["0x1", "1", "-2"]]}, ":2: reserve1 = '-2'"),
        ({"kind": "block", "block": ref | {"number": "x"}, "updates": []}, ":2: number = 'x'"),
        ({"kind": "block", "block": ref | {"extra": 1}, "updates": []}, ":2: BlockRef has no field extra"),
        ({"kind": "blok"}, ":2: kind = 'blok'"),
        ([1], r":2: must be an object"),
    ]
    for row, message in bad_rows:
        with pytest.raises(recording.RecordingError, match=message):
            list(recording.read(write(tmp_path / "r.jsonl", [head, row]))[1])
    with pytest.raises(recording.RecordingError, match=":1: kind = 'market', version = 2"):
        recording.read(write(tmp_path / "r.jsonl", [head | {"version": 2}]))
    cut = gzip.compress((json.dumps(head) + "\n" + "x" * 9999).encode())[:-12]
    (tmp_path / "r.jsonl.gz").write_bytes(cut)
    with pytest.raises(recording.RecordingError, match=r"cut short|not JSON"):
        list(recording.read(tmp_path / "r.jsonl.gz")[1])
