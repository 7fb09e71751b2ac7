"""Rows reach servers that come and go, each row once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from mev_engine.detect.opportunity import STRATEGY, Opportunity, opportunity_id
from mev_engine.market.delta import BlockRef
from mev_engine.settings import DatabaseSettings, RedisSettings
from mev_engine.sinks import queue
from mev_engine.sinks.metrics import Metrics
from mev_engine.sinks.migrations import migrate
from mev_engine.sinks.postgresql import PostgresqlSink, connect
from mev_engine.sinks.queue import Batch, QueuedSink
from mev_engine.sinks.redis_stream import RedisSink

from .servers import Postgresql, Redis, running_postgresql, running_redis

NOW = datetime.now(UTC)
MAY_2024 = 1_714_950_599  # the timestamp of a real block, long before any partition made today


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Postgresql]:
    with running_postgresql() as server:
        assert asyncio.run(migrate(DatabaseSettings.model_validate(server.settings()))) == 0
        yield server


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


def found(number: int, rank: int = 1, *, timestamp: int = MAY_2024) -> Opportunity:
    """An opportunity whose integers need 112 bits, as raw token amounts may."""
    block = BlockRef(number, f"0x{number:064x}", f"0x{number - 1:064x}", timestamp + number, 7)
    tokens, pools = ("0xaa", "0xbb", "0xaa"), (f"0x{rank:02x}", "0xff")
    return Opportunity(
        id=opportunity_id(1, block.hash, tokens, pools), strategy=STRATEGY, block=block, tokens=tokens,
        symbols=("A", "B\u2764", "A"), pools=pools, amounts=(2**111, 2**112 - 1, 2**111 + 5), gross_profit=5,
        gas_units=210_000, gas_price=7, gas_cost=1_470_000, net_profit=2**70, rank=rank, conflicts_with=None,
    )  # fmt: skip


def batch(number: int, rows: int = 2) -> Batch:
    opportunities = tuple(found(number, rank) for rank in range(1, rows + 1))
    return Batch.of(found(number).block, rows=opportunities)


@asynccontextmanager
async def working(sink: QueuedSink) -> AsyncIterator[None]:
    worker = asyncio.create_task(sink.run())
    try:
        yield
    finally:
        worker.cancel()
        await asyncio.wait({worker})


def postgresql_sink(server: Postgresql, acknowledged: list[int]) -> PostgresqlSink:
    return PostgresqlSink(
        DatabaseSettings.model_validate(server.settings()), chain="ethereum", chain_id=1,
        metrics=Metrics("ethereum"), acknowledged=lambda block: acknowledged.append(block.number),
    )  # fmt: skip


async def test_postgresql_killed_while_rows_flow(postgresql: Postgresql) -> None:
    # fails if a row is lost, doubled, stored out of order with its acknowledgement, or rounded
    acknowledged: list[int] = []
    sink = postgresql_sink(postgresql, acknowledged)
    async with working(sink):
        for number in range(1000, 1100):
            if number in (1030, 1060):
                await asyncio.to_thread(postgresql.kill)
            if number in (1045, 1075):
                await asyncio.to_thread(postgresql.start)
            sink.put(batch(number))
            await asyncio.sleep(0.01)
        sink.put(batch(1040))  # replayed after a restart, say
        await sink.drain(20)
    assert sink.pending_rows == 0
    rows = postgresql.query(
        "SELECT count(*), count(DISTINCT id), count(DISTINCT block_number), min(amounts[2]), "
        "min(net_profit), min(status) FROM opportunities WHERE block_number BETWEEN 1000 AND 1099"
    )
    assert rows == [(200, 200, 100, 2**112 - 1, 2**70, "detected")]
    assert acknowledged[-1] == 1040


async def test_orphaned_rows_are_marked_and_come_back(postgresql: Postgresql) -> None:
    # fails if another block's rows are marked, or a block that returns stays orphaned
    sink = postgresql_sink(postgresql, [])

    def states() -> list[tuple[object, ...]]:
        return postgresql.query(
            "SELECT block_number, status FROM opportunities WHERE block_number IN (2000, 2001) ORDER BY 1"
        )

    async with working(sink):
        sink.put(batch(2000, 1))
        sink.put(batch(2001, 1))
        sink.put(Batch.of(found(1999).block, orphaned=((2001, found(2001).block.hash),)))
        await sink.drain(10)
        assert states() == [(2000, "detected"), (2001, "orphaned")]
        sink.put(batch(2001, 1))
        await sink.drain(10)
        assert states() == [(2000, "detected"), (2001, "detected")]


async def test_all_rows_of_a_replaced_chain_are_marked(
    postgresql: Postgresql, caplog: pytest.LogCaptureFixture
) -> None:
    # fails if a row older than the blocks that are remembered stays, another chain's row or one of the
    # new chain is marked, or the range is not named
    sink = postgresql_sink(postgresql, [])
    postgresql.query("DELETE FROM opportunities")
    async with working(sink):
        for number in (2100, 2900, 2901):
            sink.put(batch(number, 1))
        await sink.drain(10)
        postgresql.query("UPDATE opportunities SET chain_id = 2 WHERE block_number = 2901")
        gone = ((2900, found(2900).block.hash),)
        sink.put(Batch.of(found(2050).block, orphaned=gone, other_chain=True))
        sink.put(batch(2051, 1))
        await sink.drain(10)
    assert postgresql.query("SELECT block_number, status FROM opportunities ORDER BY 1") == [
        (2051, "detected"), (2100, "orphaned"), (2900, "orphaned"), (2901, "detected"),
    ]  # fmt: skip
    assert "rows_orphaned chain_id=1 rows=2 first=2100 last=2900" in caplog.text
    postgresql.query("DELETE FROM opportunities")


async def test_a_row_that_can_never_be_stored_does_not_block_the_others(
    postgresql: Postgresql, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # fails if PostgreSQL's refusal of one row (NUL in a text) stops everything after it
    monkeypatch.setattr(queue, "FIRST_PAUSE", 0.01)
    sink = postgresql_sink(postgresql, [])
    async with working(sink):
        bad = batch(3000, 1)
        sink.put(replace(bad, rows=(replace(bad.rows[0], symbols=("\0", "", "")),)))
        sink.put(batch(3001, 1))
        await sink.drain(10)
    assert postgresql.query("SELECT block_number FROM opportunities WHERE block_number >= 3000") == [(3001,)]
    assert "rows_refused sink=postgresql block=3000" in caplog.text


async def test_copy_and_insert_store_the_same(postgresql: Postgresql) -> None:
    # fails if COPY's text breaks at what a contract may call itself, rounds, or reads NULL where a name was
    names = ["", "NULL", "a\tb", "\\N", '"{,}"', "\r\n", "it's \u2764", " "]
    plain = [found(3500, rank + 1) for rank in range(len(names))]
    rows = tuple(
        replace(row, symbols=(name, "null", name), net_profit=profit, conflicts_with=None if profit else name)
        for row, name, profit in zip(plain, names, [-1, 0, 1, 2**90, 10**18, -(10**18), 3, 4], strict=True)
    )
    shown = "SELECT to_jsonb(o) FROM opportunities o WHERE block_number = 3500 ORDER BY rank"
    sink = postgresql_sink(postgresql, [])
    stored = []
    for store in (sink._copy, sink._insert):
        connection = sink._connection = sink._connection or await connect(sink._settings)
        assert await sink._store(connection, [Batch(rows[0].block, NOW, rows)], store) == len(rows)
        stored.append(postgresql.query(shown))
        postgresql.query("DELETE FROM opportunities WHERE block_number = 3500")
    await sink.disconnect()
    assert stored[0] == stored[1]
    assert [row["path_symbols"][0] for (row,) in stored[0]] == names  # type: ignore[index]


async def test_full_queue_drops_the_oldest_block(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, postgresql: Postgresql
) -> None:
    # fails if memory grows without bound, newer rows go first, or the dropped block is not named
    monkeypatch.setattr(queue, "MAX_ROWS", 10)
    sink = postgresql_sink(postgresql, [])
    for number in range(4000, 4010):
        sink.put(batch(number))
    assert sink.pending_rows == 10
    async with working(sink):
        await sink.drain(10)
    stored = postgresql.query(
        "SELECT DISTINCT block_number FROM opportunities WHERE block_number >= 4000 ORDER BY 1"
    )
    assert stored == [(number,) for number in range(4005, 4010)]
    assert "rows_dropped sink=postgresql block=4004" in caplog.text
    assert "block=4005" not in caplog.text


async def test_redis_killed_while_rows_flow(redis_server: Redis, tmp_path: Path) -> None:
    # fails if an entry is lost, or added again after a lost answer or a restart of the engine
    settings = RedisSettings.model_validate(redis_server.settings(tmp_path / "password"))

    def sink() -> RedisSink:
        return RedisSink(settings, chain="ethereum", chain_id=1, metrics=Metrics("ethereum"))

    first = sink()
    async with working(first):
        for number in range(100, 160):
            if number == 120:
                redis_server.kill()
            if number == 140:
                await asyncio.to_thread(redis_server.start)
            first.put(batch(number))
            await asyncio.sleep(0.01)
        await first.drain(20)
    second = sink()  # a restarted engine replays from its checkpoint
    async with working(second):
        for number in range(150, 162):
            second.put(batch(number))
        await second.drain(10)
    client = redis_server.client()
    entries: Any = client.xrange(settings.stream)
    ids = [fields["id"] for _, fields in entries]
    assert len(ids) == len(set(ids)) == 2 * 62
    assert entries[0][1]["amounts"] == f"{2**111},{2**112 - 1},{2**111 + 5}"


def test_migrate_again_changes_nothing(postgresql: Postgresql, capsys: pytest.CaptureFixture[str]) -> None:
    # fails if a second run is not recognised as such, which would make every deploy "changed"
    settings = DatabaseSettings.model_validate(postgresql.settings())
    postgresql.query("TRUNCATE opportunities_default")
    asyncio.run(migrate(settings))
    capsys.readouterr()
    assert asyncio.run(migrate(settings)) == 0
    assert capsys.readouterr().out == "changed=0\n"


async def test_partitions_take_over_waiting_rows(postgresql: Postgresql) -> None:
    # fails if making a month's partition loses or refuses rows that wait in the default partition
    sink = postgresql_sink(postgresql, [])
    march_2023 = int(datetime(2023, 3, 31, 23, 59, 58, tzinfo=UTC).timestamp()) - 5000
    rows = tuple(found(n, timestamp=march_2023) for n in (5000, 5001, 5002))  # the last one is in April
    async with working(sink):
        for row in rows:
            sink.put(Batch.of(row.block, rows=(row,)))
        await sink.drain(10)
    sql = "SELECT tableoid::regclass::text FROM opportunities WHERE block_number / 100 = 50 ORDER BY 1"
    assert postgresql.query(sql) == [("opportunities_default",)] * 3
    assert postgresql.query(
        "SELECT create_monthly_partitions('opportunities', '2023-02-15', '2023-04-01')"
    ) == [(3,)]
    assert postgresql.query(sql) == [("opportunities_y2023m03",)] * 2 + [("opportunities_y2023m04",)]


def test_partitions_exist_ahead(postgresql: Postgresql) -> None:
    # fails if next month's rows would land in the default partition
    now = datetime.now(UTC).replace(day=1)
    names = {str(row[0]) for row in postgresql.query("SELECT inhrelid::regclass::text FROM pg_inherits")}
    for months in (-1, 0, 1, 2, 3):
        month = now + timedelta(days=31 * months + (3 if months < 0 else 0)) if months else now
        assert f"opportunities_y{month:%Y}m{month:%m}" in names


def test_edited_migration_is_refused(postgresql: Postgresql, capsys: pytest.CaptureFixture[str]) -> None:
    # fails if a file that was changed after it had been applied goes unnoticed
    settings = DatabaseSettings.model_validate(postgresql.settings())
    postgresql.query("UPDATE schema_migrations SET checksum = 'x' || checksum WHERE name = '0002_partitions'")
    try:
        assert asyncio.run(migrate(settings)) == 1
        assert "0002_partitions.sql has checksum" in capsys.readouterr().out
    finally:
        postgresql.query(
            "UPDATE schema_migrations SET checksum = substr(checksum, 2) WHERE name = '0002_partitions'"
        )
