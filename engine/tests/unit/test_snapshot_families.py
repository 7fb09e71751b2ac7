"""Snapshots of every family: real rows where they are at hand, and each kind of bad row named."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from mev_engine.amm import registry
from mev_engine.amm.balancer_stable import StablePool
from mev_engine.amm.balancer_weighted import WeightedPool
from mev_engine.amm.curve_stable import CurveStablePool, exact_in
from mev_engine.amm.solidly import SolidlyVariant
from mev_engine.amm.solidly_pair import StablePair, VolatilePair
from mev_engine.amm.uniswap_v3 import V3Pool
from mev_engine.amm.uniswap_v4 import V4Pool
from mev_engine.market import codec, snapshot

from .markets import address

ONE = 10**18
HEAD = {"chain_id": 1, "protocol": "p", "tokens": [address(2), address(3)], "decimals": [18, 6]}
RANGE = HEAD | {
    "fee_ppm": 500,
    "sqrt_price_x96": str(2**96),
    "tick": 0,
    "liquidity": "7000",
    "tick_spacing": 10,
    "ticks": [[-10, "7000", "7000"], [10, "-7000", "7000"]],
}
ROWS: dict[str, dict[str, Any]] = {
    "v2": HEAD | {"type": "v2", "reserves": ["5", "6"]},
    "v3": RANGE,
    "v4": RANGE | {"hooks": "0x" + "0" * 40, "protocol_fee": 100, "pool_id": f"0x{4:064x}"},
    "solidly": HEAD | {"stable": True, "reserves": ["5", "6"], "fee_ppm": 500},
    "camelot": HEAD
    | {
        "type": "solidly",
        "stable": False,
        "variant": "camelot",
        "reserves": [5, 6],
        "fees_ppm": [3000, 2000],
    },
    "weighted": HEAD
    | {"type": "balancer_weighted", "fee_ppm": 3000, "balances": ["5", "6"], "weights": [0.8, 0.2]},
    "stable": HEAD | {"type": "balancer_stable", "fee_ppm": 3000, "balances": ["5", "6"], "amp": "200"},
    "curve": {
        "chain_id": 1,
        "coins": [{"symbol": "A", "decimals": 18}, {"symbol": "B", "decimals": 6}],
        "coin_addresses": [address(2), address(3)],
        "balances": ["5", "6"],
        "fee_1e10": 4000000,
        "initial_A": 100,
        "future_A": 300,
        "initial_A_time": 0,
        "future_A_time": 100,
        "timestamp": 50,
    },
}


def read(path: Path, rows: list[dict[str, Any]], **options: Any) -> snapshot.Snapshot:
    numbered = [{"pool": address(100 + k)} | row for k, row in enumerate(rows)]
    path.write_text("".join(json.dumps(row) + "\n" for row in numbered))
    return snapshot.read(path, **options)


def test_a_row_of_each_family_gives_its_state(tmp_path: Path) -> None:
    # fails if a field is read into the wrong place or unit
    found = read(tmp_path / "a.jsonl", list(ROWS.values()))
    assert (dict(found.excluded), dict(found.skipped)) == ({}, {})
    states = dict(zip(ROWS, (pool.state for pool in found.pools), strict=True))
    position: dict[str, Any] = {"sqrt_price_x96": 2**96, "tick": 0, "liquidity": 7000, "tick_spacing": 10}
    position |= {"ticks": {-10: 7000, 10: -7000}, "gross": {-10: 7000, 10: 7000}}
    assert states["v3"] == V3Pool(**position, fee_pips=500)
    assert states["v4"] == V4Pool(**position, lp_fee=500, protocol_fee=100)
    velodrome, camelot = SolidlyVariant.VELODROME_V2, SolidlyVariant.CAMELOT
    assert states["solidly"] == StablePair(5, 6, ONE, 10**6, 5, 5, 10_000, True, velodrome)
    assert states["camelot"] == VolatilePair(5, 6, ONE, 10**6, 300, 200, 100_000, False, camelot)
    vault: dict[str, Any] = {"vault": 2, "balances": (5, 6), "scaling": (1, 10**12), "rates": (ONE, ONE)}
    vault |= {"swap_fee": 3 * 10**15, "tokens": (address(2), address(3))}
    assert states["weighted"] == WeightedPool(**vault, weights=(8 * 10**17, 2 * 10**17))
    assert states["stable"] == StablePool(**vault, amp=200_000)
    assert states["curve"] == CurveStablePool((5, 6), (ONE, 10**30), amp=200, fee=4 * 10**6)
    assert found.pools[2].address == f"0x{4:064x}"
    # whatever the family, the form that `codec` writes is read as well
    rows = [
        HEAD | {"family": registry.family_of(state).name, "state": codec.encode(state)}
        for state in states.values()
    ]
    assert [pool.state for pool in read(tmp_path / "b.jsonl", rows).pools] == list(states.values())


BAD = [
    ("v2", {"reserves": ["-5", "6"]}, "reserve0 = '-5'"),
    ("v3", {"sqrt_price_x96": "4295128738"}, "sqrt_price_x96=4295128738 is not in"),
    ("v3", {"ticks": [[-10, "7000"], [10, "-6999"]]}, "ticks: liquidityNet sums to 1, not to 0"),
    ("v3", {"ticks": [[-10, "7000"], [-10, "-7000"]]}, "ticks has -10 twice"),
    ("v3", {"liquidity": "6999"}, "liquidity=6999, but ticks give 7000"),
    ("v4", {"protocol_fee": 1001}, "protocol_fee, token0 in=1001"),
    ("solidly", {"decimals": [18, None]}, "decimals1 is missing: the curve of a stable pair"),
    ("solidly", {"fee_ppm": 550}, "fee_ppm = 550: velodrome_v2 counts in 100 ppm"),
    ("solidly", {"stable": "maybe"}, "stable = 'maybe'"),
    ("camelot", {"variant": "fork"}, "variant = 'fork': must be one of velodrome_v2, camelot"),
    ("weighted", {"decimals": None}, r"decimals = None: must be a list of 2|decimals0 is missing"),
    ("weighted", {"weights": [0.8, 0.3]}, "weights sum to"),
    ("weighted", {"balances": ["5", "0"]}, "balance1 = '0'"),
    ("stable", {"amp": "x"}, "amp = 'x'"),
    ("stable", {"amp": "1e999999999"}, "amp = '1e999999999'"),
    ("curve", {"coins": [{"decimals": 18}, {"symbol": "B"}]}, "decimals1 is missing: a Curve pool's rates"),
    ("curve", {"balances": ["5", -6]}, "balance1 = -6"),
    ("v2", {"family": "uniswap_v2", "type": "state", "state": {"reserve0": 1}}, "V2Pair lacks reserve1"),
]


@pytest.mark.parametrize(("kind", "change", "message"), BAD, ids=[f"{k}: {c}"[:60] for k, c, _ in BAD])
def test_a_bad_row_is_left_out_by_name(
    tmp_path: Path, kind: str, change: dict[str, Any], message: str
) -> None:
    # fails if the bad value is believed, if the rest isn't read, or if the reason does not name it
    found = read(tmp_path / "a.jsonl", [ROWS["v2"], ROWS[kind] | change, ROWS["curve"]])
    assert [pool.address for pool in found.pools] == [address(100), address(102)]
    ((name, reason),) = found.excluded.items()
    assert name in (address(101), f"0x{4:064x}")
    assert re.match(f"line 2: ({message})", reason), reason


def test_what_is_not_handled_is_counted_with_the_reason(tmp_path: Path) -> None:
    # fails if a pool goes missing in silence, or a pool with hooks is taken for one without
    rows = [
        ROWS["v2"],
        ROWS["v3"] | {"ticks": None},
        ROWS["v3"] | {"complete": False},
        ROWS["v4"] | {"hooks": address(7)},
        ROWS["v4"] | {"fee_ppm": 0x800000},
        HEAD | {"type": "bancor_cp"},
        ROWS["curve"] | {"offpeg_fee_multiplier": 2},
    ]
    found = read(tmp_path / "a.jsonl", rows)
    assert len(found.pools) == 1
    assert dict(found.skipped) == {
        "p (v3): no tick map": 1,
        "p (v3): the tick map is not complete": 1,
        "p (v4): pools with hooks": 1,
        "p (v4): pools with a dynamic fee": 1,
        "p (bancor_cp): this family is not handled": 1,
        "unnamed (curve): Curve pools with a dynamic fee": 1,
    }


def test_token_flags_and_times(tmp_path: Path) -> None:
    # fails if a flag is lost or misspelt in silence, or if states of several times are mixed
    flags = tmp_path / "flags.json"
    flags.write_text(json.dumps({address(3).upper().replace("X", "x"): "rebasing"}))
    found = read(tmp_path / "a.jsonl", [ROWS["v2"]], token_flags=flags)
    assert [token.flag for token in found.tokens] == ["", "rebasing"]
    flags.write_text(json.dumps({address(3): "taxed"}))
    with pytest.raises(snapshot.SnapshotError, match=r"flags\.json: .* = 'taxed': must be one of fee_on"):
        read(tmp_path / "a.jsonl", [ROWS["v2"]], token_flags=flags)
    rows = [ROWS["curve"] | {"pool": address(1), "timestamp": t, "future_A_time": 0} for t in (50, 60, 70)]
    for k, row in enumerate(rows):
        row["balances"] = [k + 1, 9]
    (pool,) = read(tmp_path / "a.jsonl", rows, time=65).pools
    assert pool.state.balances == (2, 9)
    with pytest.raises(snapshot.SnapshotError, match=r"listed twice, on lines 1 and 2.*--time"):
        read(tmp_path / "a.jsonl", rows)


@pytest.mark.data
def test_real_files_of_every_kind(data_dir: Path) -> None:
    # fails if a kind of file that is at hand can't be read, or if pools of it vanish uncounted
    pools, ticks = data_dir / "pools", data_dir / "ticks"
    cases: list[tuple[Path, dict[str, Any], dict[str, int], int]] = [
        (ticks / "v3_full_tick_maps.jsonl.gz", {}, {"V3Pool": 15}, 17),
        (
            pools / "v3_eth_2023-05_uniswap.csv.gz",
            {"tick_files": [ticks / "v3_eth_2023-05_uniswap_ticks.jsonl.gz"]},
            {"V3Pool": 1200},
            5100,
        ),
        (pools / "multi_eth_head_18806161.jsonl.gz", {}, {"V2Pair": 151, "WeightedPool": 58}, 303),
        (
            pools / "curve_eth_2023-09_10_three_snapshots.jsonl.gz",
            {"time": 1695600000},
            {"CurveStablePool": 23},
            27,
        ),
        (
            pools / "balancer_b_sdk_states.json.gz",
            {"part": "composableStable_17473810.json", "chain_id": 1},
            {"StablePool": 1},
            1,
        ),
        (
            pools / "balancer_b_sdk_states.json.gz",
            {"part": "weighted_17473810.json", "chain_id": 1},
            {"WeightedPool": 2},
            2,
        ),
    ]
    for path, options, kinds, total in cases:
        found = snapshot.read(path, **options)
        assert Counter(type(pool.state).__name__ for pool in found.pools) == kinds, path
        assert len(found.pools) + sum(found.skipped.values()) + len(found.excluded) == total, path
    with pytest.raises(snapshot.SnapshotError, match=r"gyro2\.json|Gyro2"):
        snapshot.read(pools / "balancer_b_sdk_states.json.gz", part="gyro2.json", chain_id=1)


@pytest.mark.data
def test_real_curve_rows_trade_near_par(data_dir: Path) -> None:
    # fails if A, a balance or a rate is in the wrong unit: 3pool's coins were within half a percent
    path = data_dir / "pools" / "curve_eth_2023-09_10_three_snapshots.jsonl.gz"
    found = snapshot.read(path, time=1695600000)
    (tripool,) = [pool for pool in found.pools if pool.address.startswith("0xbebc44")]
    assert 0.995 < exact_in(tripool.state, 0, 1, 10**21) / 10**9 < 1.005
    assert (tripool.state.amp, tripool.state.a_precision) == (2000, 1)
    with gzip.open(path, "rt") as lines:
        first = json.loads(lines.readline())
    link = found.pools[0].state
    held = [int(coin["pool_balance"]) for coin in first["coins"]]
    assert link.balances == tuple(h - int(a) for h, a in zip(held, first["admin_balances"], strict=True))
