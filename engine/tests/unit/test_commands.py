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

from .markets import address, random_market


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


def pool_rows(n_tokens: int, n_pools: int) -> list[dict[str, Any]]:
    """Random pairs as rows of a snapshot."""
    tokens, pools = random_market(random.Random(8), n_tokens, n_pools)
    by_address = {token.address: token for token in tokens}
    return [
        {
            "chain_id": 31337,
            "type": "v2",
            "pool": pool.address,
            "tokens": list(pool.tokens),
            "symbols": [by_address[t].symbol for t in pool.tokens],
            "decimals": [by_address[t].decimals for t in pool.tokens],
            "fee_ppm": 3000,
            "reserves": [str(pool.state.reserve0), str(pool.state.reserve1)],
        }
        for pool in pools
    ]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_bad_pools_are_named_and_the_rest_is_scanned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # fails if one bad pool stops the scan, changes what else is found, or isn't named to a person
    rows = pool_rows(7, 25)
    taxed = rows[-1]["tokens"][1]
    bad = [
        rows[0] | {"pool": address(1), "reserves": ["-4", "1"]},
        rows[1] | {"pool": address(2), "type": "v3"},
    ]
    options = ("--base", "T0", "--wrapped-native", "T0")
    clean = scan(capsys, write(tmp_path / "a.jsonl", rows), *options)
    assert clean["opportunities"]
    flags = tmp_path / "flags.json"
    flags.write_text(json.dumps({taxed: "fee_on_transfer"}))
    snapshot_ = write(tmp_path / "b.jsonl", [*rows[:5], *bad, *rows[5:]])
    found = scan(capsys, snapshot_, *options)
    assert [o["id"] for o in found["opportunities"]] == [o["id"] for o in clean["opportunities"]]
    assert found["excluded"] == {address(1): found["excluded"][address(1)]}
    assert found["skipped"] == {"unnamed (v3): no tick map": 1}
    flagged = scan(capsys, snapshot_, *options, "--token-flags", str(flags))
    assert not any(taxed in o["tokens"] for o in flagged["opportunities"])
    assert "is fee_on_transfer" in flagged["excluded"][rows[-1]["pool"]]
    assert main(["scan", snapshot_, *options, "--token-flags", str(flags)]) == 0
    shown = capsys.readouterr().out
    assert f"left out: {address(1)}: line 6: reserve0 = '-4'" in shown
    assert f"left out: {rows[-1]['pool']}" in shown


def test_a_saved_market_is_scanned_as_its_snapshot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # fails if saving loses a pool or a cycle, if the file is known by its name, or if options are ignored
    rows = pool_rows(6, 20)
    text, saved = write(tmp_path / "a.jsonl", rows), str(tmp_path / "market.csv")
    first = scan(capsys, text, "--base", "T0", "--wrapped-native", "T0", "--max-hops", "5", "--save", saved)
    again = scan(capsys, saved)
    for name in first:
        if name not in ("snapshot", "seconds"):
            assert again[name] == first[name], name
    assert first["opportunities"]
    assert main(["scan", saved, "--max-hops", "3"]) == 2
    assert "saved market, which --max-hops can't change" in capsys.readouterr().err
    Path(saved).write_bytes(Path(saved).read_bytes()[:-9])
    assert main(["scan", saved]) == 2
    assert "market.csv can't be loaded: it is cut off" in capsys.readouterr().err


def test_a_quote_is_the_pools_own_arithmetic(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # fails if sides or units are mixed up, or if a revert or bad usage looks like an answer
    row = pool_rows(3, 4)[0] | {"decimals": [18, 6], "symbols": ["A", "B"]}
    row |= {"reserves": [str(10**21), str(3 * 10**12)]}
    path = write(tmp_path / "a.jsonl", [row, row | {"pool": address(77), "reserves": ["0", "1"]}])
    pool = ("quote", path, "--pool", row["pool"])

    def ask(*arguments: str) -> dict[str, Any]:
        assert main([*pool, *arguments, "--json"]) == 0
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer

    paid = ask("--in", "A", "--out", "B", "--amount", "2.5")
    amount = 25 * 10**17
    assert int(paid["amount_in"]) == amount
    assert int(paid["amount_out"]) == amount * 997 * 3 * 10**12 // (10**21 * 1000 + amount * 997)
    assert paid["marginal_price"] == pytest.approx(0.997 * 3e-9)
    # constant product: the whole swap's price is r / (r + g*x) of the marginal one
    assert paid["price_impact"] == pytest.approx(1 - 1e21 / (1e21 + 0.997 * amount), rel=1e-6)
    asked = ask("--in", "A", "--out", "B", "--amount", str(paid["amount_out"]), "--raw", "--exact-out")
    assert int(asked["amount_in"]) <= amount
    back = ask("--in", "B", "--out", "A", "--amount", "3000")
    assert back["marginal_price"] == pytest.approx(0.997 / 3e-9)
    assert main([*pool, "--in", "A", "--out", "B", "--amount", "2.5"]) == 0
    assert "price impact" in capsys.readouterr().out

    for arguments, code, message in [
        (
            ("--in", "A", "--out", "B", "--amount", "3000000", "--exact-out"),
            1,
            "would revert: division by zero",
        ),
        (("--in", "B", "--out", "A", "--amount", "0.0000001"), 2, "up to 6 decimals, as B"),
        (("--in", "A", "--out", "B", "--amount", "1e999999"), 2, "amount = 1E+999999: must be above zero"),
        (("--in", "A", "--out", "C", "--amount", "1"), 2, "no token 'C' in pool"),
        (("--in", "A", "--out", "A", "--amount", "1"), 2, "both the input and the output"),
    ]:
        assert main([*pool, *arguments]) == code
        assert message in capsys.readouterr().err
    for name, message in [(address(77), "is left out: line 2: reserve0 = '0'"), ("0x9", "no pool '0x9'")]:
        assert main(["quote", path, "--pool", name, "--in", "A", "--out", "B", "--amount", "1"]) == 2
        assert message in capsys.readouterr().err


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
