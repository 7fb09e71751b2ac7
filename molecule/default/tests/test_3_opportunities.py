"""What the engine finds arrives, everywhere the same."""

from __future__ import annotations

import json

from conftest import ENGINE, Platform, eventually

STATUS = (
    "CREDENTIALS_DIRECTORY=/etc/mev/credentials /opt/mev-infrastructure/engine/current/venv/bin/mev-engine"
    " status --config /opt/mev-infrastructure/config/engine-ethereum.toml --json --limit 3"
)


def _at_rest(p: Platform, height: int) -> bool:
    now = p.metrics()
    return now.sum("mev_block_height") > height and now.sum("mev_sink_queue_rows") == 0


# Could fail: a sink loses, doubles or delays rows; counting starts elsewhere in one of the three places.
def test_database_stream_and_metrics_agree(following: Platform) -> None:
    p = following
    eventually("opportunities arrive", lambda: p.metric("mev_opportunities_total") >= 20)
    p.run(
        "systemctl stop mev-devchain-trader.service"
    )  # without trades no pool is touched: the counts come to rest
    try:
        resting = p.metrics().chain_height + 2
        eventually("the queues are empty", lambda: _at_rest(p, resting))
        since = p.run(f"systemctl show -P ExecMainStartTimestamp --timestamp=us+utc {ENGINE}")
        day, time = since.split()[1:3]
        rows = p.sql(f"SELECT id FROM opportunities WHERE detected_at >= '{day} {time}+00'")
        found = {row[0] for row in rows}
        assert p.metric("mev_opportunities_total") == len(rows) == len(found)
        streamed = [entry["id"] for entry in p.stream() if entry["kind"] == "opportunity"]
        assert len(streamed) == len(set(streamed))
        assert found <= set(streamed)
        assert set(streamed) <= {row[0] for row in p.sql("SELECT id FROM opportunities")}
    finally:
        p.run("systemctl start mev-devchain-trader.service")


# Could fail: rows without sense (negative profit, a path that does not come back to where it began).
def test_rows_make_sense(following: Platform) -> None:
    bad = """net_profit <= 0 OR gross_profit <= 0 OR amount_out - amount_in <> gross_profit
        OR path_tokens[1] <> path_tokens[cardinality(path_tokens)] OR cardinality(pools) NOT BETWEEN 2 AND 4
        OR cardinality(amounts) <> cardinality(pools) + 1 OR gas_cost <> gas_units * gas_price"""
    assert following.number("SELECT count(*) FROM opportunities") > 0
    assert following.sql(f"SELECT id, path_symbols FROM opportunities WHERE {bad} LIMIT 3") == []


# Could fail: the table at the end of `make up` lists a path twice, an orphaned row, or not the best one.
def test_status_lists_the_best_paths(following: Platform) -> None:
    best = json.loads(following.run(STATUS))["best"]
    since = min(int(row["block_number"]) for row in best)
    profits = [int(row["net_profit"]) for row in best]
    assert len(profits) == 3
    assert profits == sorted(profits, reverse=True)
    listed = ", ".join(f"'{row['id']}'" for row in best)
    rows = following.sql(
        f"SELECT count(*), count(DISTINCT (pools, path_tokens)) FROM opportunities WHERE id IN ({listed}) "
        "AND status = 'detected'"
    )
    assert rows == [["3", "3"]]
    better = f"status = 'detected' AND net_profit > {profits[0]} AND block_number <= {since}"
    assert following.number(f"SELECT count(*) FROM opportunities WHERE {better}") == 0


# Could fail: the cache was warmed for another user, path or processor, so a restart compiles on its way.
def test_a_restart_compiles_nothing(following: Platform) -> None:
    p = following
    before = p.unit(ENGINE, "MainPID")
    p.run(f"systemctl restart {ENGINE}")
    eventually("a block after the restart", lambda: p.metric("mev_blocks_total") >= 1)
    assert p.unit(ENGINE, "MainPID") != before
    assert p.metric("mev_jit_compilations") == 0


# Could fail: next month begins without a partition and rows pile up in the default one.
def test_partitions_are_ahead(platform: Platform) -> None:
    ahead = platform.run("date -u -d '+2 month' +y%Ym%m")
    names = platform.sql(
        "SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'opportunities'::regclass"
    )
    assert [f"opportunities_{ahead}"] in names
    assert platform.number("SELECT count(*) FROM ONLY opportunities_default") == 0
