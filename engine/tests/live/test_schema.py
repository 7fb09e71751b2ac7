"""What `mev-engine migrate` makes of a database, and keeps as it should be."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest
from mev_engine.settings import DatabaseSettings
from mev_engine.sinks.migrations import migrate
from mev_engine.sinks.migrations.indexes import INDEXES

from .servers import Postgresql, running_postgresql

ROWS = int(os.environ.get("MEV_PLAN_ROWS", "100000"))
# rows of the last five weeks, thicker towards now, of three strategies; a few are orphaned
FILL = """
    INSERT INTO opportunities
    SELECT md5(n::text), 'ethereum', 1,
           (ARRAY['cyclic_arbitrage', 'backrun', 'liquidation'])[1 + abs(n) %% 3],
           CASE WHEN n %% 50 = 0 THEN 'orphaned' ELSE 'detected' END, n / 10, md5((n / 10)::text),
           now() - interval '35 days' * power(n::float8 / %(rows)s, 2), now(), '{a,b,a}', '{A,B,A}', '{p,q}',
           '{1,2,3}', 1, 3, 2, 210000, 7, 1470000, n, ((n * 7919.0) %% 1000003) / 1000000, 1, NULL
      FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Postgresql]:
    with running_postgresql() as running:
        running.query("CREATE ROLE mev_engine LOGIN")
        running.query("CREATE ROLE mev_api LOGIN")
        assert asyncio.run(migrate(DatabaseSettings.model_validate(running.settings()))) == 0
        start = time.perf_counter()
        with connected(running) as connection:
            for first in range(1, ROWS + 1, 500_000):
                last = min(first + 499_999, ROWS)
                connection.execute(FILL, {"rows": ROWS, "first": first, "last": last})
                if ROWS > 500_000:
                    print(f"{last:,} of {ROWS:,} rows, {time.perf_counter() - start:.0f} s", flush=True)
        running.query("ANALYZE opportunities")
        yield running


@contextlib.contextmanager
def connected(server: Postgresql, user: str = "mev_user") -> Iterator[psycopg.Connection]:
    with psycopg.connect(
        host=str(server.directory), user=user, dbname=server.name, autocommit=True
    ) as connection:
        yield connection


def migrated(server: Postgresql) -> str:
    settings = DatabaseSettings.model_validate(server.settings())
    assert asyncio.run(migrate(settings)) == 0
    return "done"


VALID = "SELECT bool_and(indisvalid) FROM pg_index WHERE indexrelid::regclass::text LIKE '%profit_idx'"


def test_an_index_is_made_while_writers_write(server: Postgresql, capsys: pytest.CaptureFixture[str]) -> None:
    # fails if making it holds writers up behind a long transaction, or an interrupted run is not finished
    server.query("DROP INDEX opportunities_profit_idx")
    leaf = str(
        server.query("SELECT inhrelid::regclass::text FROM pg_inherits ORDER BY random() LIMIT 1")[0][0]
    )
    # as a killed run leaves it: the parent's made, one partition's not yet attached
    server.query(
        "CREATE INDEX opportunities_profit_idx ON ONLY opportunities (profit_estimate DESC, created_at DESC) "
        "WHERE status = 'detected'"
    )
    with connected(server) as slow, connected(server) as writer:
        writer.execute("SET lock_timeout = '2s'")  # a writer that waits longer is an error
        slow.execute("BEGIN")
        slow.execute(FILL, {"rows": ROWS, "first": -10, "last": -9})
        thread = threading.Thread(target=migrated, args=(server,))
        thread.start()
        for n in range(20, 60, 2):
            writer.execute(FILL, {"rows": ROWS, "first": -n, "last": -n + 1})
            time.sleep(0.1)
        assert thread.is_alive(), "the index was made without waiting for the slow transaction"
        slow.execute("COMMIT")
        thread.join(60 + ROWS / 50_000)
        assert not thread.is_alive()
    assert "indexes made: opportunities_profit_idx" in capsys.readouterr().out
    assert server.query(VALID) == [(True,)]
    assert leaf in str(server.query("SELECT array_agg(inhrelid::regclass::text) FROM pg_inherits"))
    assert migrated(server)
    assert "changed=0" in capsys.readouterr().out


TOP = """
    SELECT id, profit_estimate FROM opportunities
     WHERE status = 'detected' AND strategy_type = 'backrun'
     ORDER BY profit_estimate DESC, created_at DESC LIMIT 20
"""
LAST_HOUR = """
    SELECT strategy_type, count(*), max(profit_estimate) FROM opportunities
     WHERE status = 'detected' AND created_at > now() - interval '1 hour' GROUP BY 1
"""


@pytest.mark.parametrize(
    ("query", "index"), [(TOP, "strategy_type_profit|strategy_profit"), (LAST_HOUR, "pkey")]
)
def test_the_guides_queries_use_the_indexes(server: Postgresql, query: str, index: str) -> None:
    # fails if an index no longer fits its query, so that every look at the dashboard reads the whole table
    seconds = []
    with connected(server) as connection:
        for scans in ("on", "off"):
            for kind in ("indexscan", "indexonlyscan", "bitmapscan"):
                connection.execute(f"SET enable_{kind} = {scans}".encode())
            cursor = connection.execute(b"EXPLAIN (ANALYZE, COSTS OFF) " + query.encode())
            lines = [str(line) for (line,) in cursor.fetchall()]
            seconds.append(float(lines[-1].split()[-2]) / 1000)
            if scans == "on":
                plan = "\n".join(lines)
                assert any(word in plan for word in index.split("|")), plan
                # months ahead are empty, and reading those whole is right
                assert all(rows == "0" for rows in re.findall(r"Seq Scan on .* rows=(\d+)", plan)), plan
    print(f"\n{ROWS:,} rows: {1000 * seconds[0]:.2f} ms with the index, {1000 * seconds[1]:.0f} ms without")


def test_hours_add_up(server: Postgresql) -> None:
    # fails if an hour is counted twice or left out where table and live rows meet, or orphaned rows count
    migrated(server)
    both = server.query("SELECT sum(found), max(best) FROM opportunities_by_hour")
    assert both == server.query(
        "SELECT count(*), max(profit_estimate) FROM opportunities WHERE status = 'detected'"
    )
    assert server.query("SELECT count(*) > 100 FROM opportunities_hourly") == [(True,)]


def test_each_role_may_do_its_work_and_no_more(server: Postgresql) -> None:
    # fails if the engine can delete or rewrite what it found, or the API can write
    refused = psycopg.errors.InsufficientPrivilege
    with connected(server, "mev_engine") as engine:
        engine.execute(FILL, {"rows": ROWS, "first": -100, "last": -99})
        engine.execute("UPDATE opportunities SET status = 'orphaned' WHERE block_number = -10")
        for statement in (
            "DELETE FROM opportunities",
            "UPDATE opportunities SET net_profit = 0",
            "TRUNCATE executions",
            "DROP TABLE market_data",
            "UPDATE schema_migrations SET checksum = ''",
        ):
            with pytest.raises(refused):
                engine.execute(statement.encode())
    with connected(server, "mev_api") as api:
        assert api.execute("SELECT count(*) FROM opportunities_by_hour").fetchone()
        for statement in ("INSERT INTO executions DEFAULT VALUES", "UPDATE opportunities SET status = ''"):
            with pytest.raises(refused):
                api.execute(statement.encode())


def test_old_months_are_detached_and_kept(server: Postgresql, capsys: pytest.CaptureFixture[str]) -> None:
    # fails if rows vanish with their month, or a month too young goes
    server.query("SELECT create_monthly_partitions('opportunities', '2021-01-01', '2021-01-01')")
    server.query(
        'INSERT INTO opportunities SELECT (jsonb_populate_record(o, \'{"created_at": "2021-01-05"}\')).* '
        "FROM (SELECT o FROM opportunities o LIMIT 1) AS one(o)"
    )
    before = server.query("SELECT count(*) FROM opportunities")[0][0]
    migrated(server)
    assert "partitions detached, their rows kept: 1" in capsys.readouterr().out
    assert server.query("SELECT count(*) FROM opportunities_y2021m01") == [(1,)]
    assert server.query("SELECT count(*) FROM opportunities") == [(int(str(before)) - 1,)]


def test_every_index_of_the_list_is_the_schemas_own(server: Postgresql) -> None:
    # fails if the list says something else than the first migration made
    for index in INDEXES:
        definition = server.query(f"SELECT pg_get_indexdef('{index.name}'::regclass)")
        columns = index.on.partition(")")[0] + ")"
        assert columns in str(definition).replace('"', ""), definition
