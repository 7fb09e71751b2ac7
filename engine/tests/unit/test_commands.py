"""`scan` and `replay` as a person runs them, on real pools where they are at hand."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from mev_engine.cli import main
from mev_engine.market import BlockDelta, BlockRef, ReserveUpdate, recording, snapshot
from reference import best_input, path_hops

from .markets import random_market


def scan(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["scan", *arguments, "--json"]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "floor"),
    [("v2_eth_2023-06_sushi_forks_C.csv.gz", 20), ("multi_eth_head_17675948.jsonl.gz", 0)],
)
def test_scan_of_a_real_snapshot_holds_in_integers(
    data_dir: Path, capsys: pytest.CaptureFixture[str], name: str, floor: int
) -> None:
    # fails if an amount differs from the pairs' arithmetic, or if a much better input is at hand
    path = data_dir / "pools" / name
    result = scan(capsys, str(path), "--before-gas", "60")
    pools = {pool.address: pool for pool in snapshot.read(path).pools}
    assert len(result["opportunities"]) >= floor
    every = result["opportunities"] + result["unprofitable"]
    assert len(every) >= 60
    for o in every[:80]:
        hops = path_hops(pools, o["tokens"], o["pools"])
        amount = int(o["amounts"][0])
        for (r, s, fee_num, fee_den), out in zip(hops, o["amounts"][1:], strict=True):
            amount = amount * fee_num * s // (r * fee_den + amount * fee_num)
            assert amount == int(out)
        gross = int(o["gross_profit"])
        assert gross == int(o["amounts"][-1]) - int(o["amounts"][0])
        assert gross >= best_input(hops)[1] * (1 - 1e-4) - 1


def test_scan_reports_bad_usage_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # fails if a person gets a traceback, or exit code 0
    assert main(["scan", str(tmp_path / "none.jsonl")]) == 2
    assert "none.jsonl: can't be read" in capsys.readouterr().err


def test_replay_finds_the_same_incrementally_and_in_full(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # fails if the recorded blocks are applied wrongly or a touched cycle is missed
    rng = random.Random(8)
    tokens, pools = random_market(rng, 7, 25)
    path = tmp_path / "r.jsonl.gz"
    native = tokens[0].address
    market = recording.RecordedMarket(1, (native,), native, 4, tuple(tokens), tuple(pools))
    with recording.RecordingWriter(path, market) as writer:
        for number in range(6):
            moved = rng.sample(pools, 3)
            updates = tuple(
                ReserveUpdate(p.address, int(p.state.reserve0 * rng.uniform(0.97, 1.03)), p.state.reserve1)
                for p in moved
            )
            writer.write(BlockDelta(BlockRef(number, f"0x{number:064x}", "0x", 0, 10**9), updates))
    assert main(["replay", str(path), "--json", "--compare"]) == 0
    output = capsys.readouterr()
    lines = [json.loads(line) for line in output.out.splitlines()]
    assert [line["number"] for line in lines] == list(range(6))
    assert sum(len(line["opportunities"]) for line in lines) > 10
    assert "0 differences" in output.err
