"""Indexes of big tables, made and mended without making writers wait for longer than `BRIEFLY`.

An index of a partitioned table can't be made CONCURRENTLY. So the parent's is made ON ONLY it, which takes no
time and leaves it invalid; each partition's is made CONCURRENTLY and attached; with the last one the parent's
becomes valid. (Source: PostgreSQL's documentation, "Table Partitioning", Partition Maintenance.) Those of a
hypertable are made one chunk a transaction. Each step looks at what is there first, so an interrupted run is
finished by the next, and an index that somebody dropped, or that a crash left invalid, is mended.
"""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

Connection = psycopg.AsyncConnection[Any]

BRIEFLY = "200ms"
"""How long a statement may wait for a lock that makes writers wait behind it, before it lets them pass."""
ATTEMPTS, PAUSE = 300, 0.2  # a minute or two, then the next run goes on


class Index(NamedTuple):
    """`on`: what follows the table's name in CREATE INDEX."""

    name: str
    table: str
    on: str


INDEXES = (
    # the guide's three
    Index(
        "opportunities_profit_idx",
        "opportunities",
        "(profit_estimate DESC, created_at DESC) WHERE status = 'detected'",
    ),
    Index(
        "opportunities_strategy_profit_idx",
        "opportunities",
        "(strategy_type, profit_estimate DESC, created_at DESC) WHERE status = 'detected'",
    ),
    Index("market_data_time_token_idx", "market_data", "(time DESC, token_address, dex_address)"),
    # marking a block's rows as orphaned, and "what was found in this block"
    Index("opportunities_block_idx", "opportunities", "(chain_id, block_number DESC)"),
)

VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)"
PARTITIONS = """
    SELECT child.relname, EXISTS (
        SELECT FROM pg_index i JOIN pg_inherits a ON a.inhrelid = i.indexrelid
         WHERE i.indrelid = child.oid AND a.inhparent = to_regclass(%s))
      FROM pg_inherits h JOIN pg_class child ON child.oid = h.inhrelid
     WHERE h.inhparent = to_regclass(%s) ORDER BY 1
"""
KIND = """
    SELECT relkind = 'p', EXISTS (
        SELECT FROM pg_class t JOIN pg_namespace n ON n.oid = t.relnamespace
         WHERE n.nspname = '_timescaledb_catalog' AND t.relname = 'hypertable')
      FROM pg_class WHERE oid = to_regclass(%s)
"""
HYPERTABLE = "SELECT EXISTS (SELECT FROM timescaledb_information.hypertables WHERE hypertable_name = %s)"


async def ensure_indexes(connection: Connection) -> list[str]:
    """Make what is missing or invalid; returns the names. The connection must be in autocommit mode."""
    made = []
    (former,) = await _one(connection, "SHOW lock_timeout") or ("0",)
    # waiting for old transactions to end blocks nobody here, so it may take its time
    await connection.execute("SET lock_timeout = 0")
    for index in INDEXES:
        if (valid := await _one(connection, VALID, index.name)) is not None and valid[0]:
            continue
        kind = await _one(connection, KIND, index.table)
        if kind is None:
            raise psycopg.DataError(f"there is no table {index.table} for the index {index.name}")
        partitioned, timescale = kind
        hypertable = timescale and (await _one(connection, HYPERTABLE, index.table) or (False,))[0]
        if partitioned:
            await _on_partitions(connection, index)
        else:
            await _on_table(connection, index.name, index.table, index.on, by_chunk=hypertable)
        made.append(index.name)
    await connection.execute("SELECT set_config('lock_timeout', %s, false)", (former,))
    return made


async def _one(connection: Connection, query: str, *values: str) -> tuple[Any, ...] | None:
    return await (await connection.execute(query.encode(), values)).fetchone()


async def _on_partitions(connection: Connection, index: Index) -> None:
    await _briefly(
        connection,
        sql.SQL("CREATE INDEX IF NOT EXISTS {} ON ONLY {} {}").format(
            sql.Identifier(index.name), sql.Identifier(index.table), _trusted(index.on)
        ),
    )
    cursor = await connection.execute(PARTITIONS, (index.name, index.table))
    for partition, attached in await cursor.fetchall():
        if attached:
            continue
        name = f"{partition}{index.name.removeprefix(index.table)}"
        valid = await _one(connection, VALID, name)
        if valid is None or not valid[0]:
            await _on_table(connection, name, partition, index.on)
        await _briefly(
            connection,
            sql.SQL("ALTER INDEX {} ATTACH PARTITION {}").format(
                sql.Identifier(index.name), sql.Identifier(name)
            ),
        )


async def _briefly(connection: Connection, statement: sql.Composed) -> None:
    """Run what needs a lock against writers; if it is held for long, let others pass and try again."""
    await connection.execute(f"SET lock_timeout = '{BRIEFLY}'".encode())
    for attempt in range(ATTEMPTS):
        try:
            await connection.execute(statement)
            break
        except psycopg.errors.LockNotAvailable:
            if attempt == ATTEMPTS - 1:
                raise
            await asyncio.sleep(PAUSE)
    await connection.execute("SET lock_timeout = 0")


async def _on_table(
    connection: Connection, name: str, table: str, on: str, *, by_chunk: bool = False
) -> None:
    how = sql.SQL("") if by_chunk else sql.SQL("CONCURRENTLY")
    # what an interrupted run left, which is never used and slows every write
    await connection.execute(sql.SQL("DROP INDEX {} IF EXISTS {}").format(how, sql.Identifier(name)))
    on_sql = _trusted(on)
    if by_chunk:
        columns, where, condition = on.partition(" WHERE ")
        on_sql = _trusted(f"{columns} WITH (timescaledb.transaction_per_chunk){where}{condition}")
    await connection.execute(
        sql.SQL("CREATE INDEX {} {} ON {} {}").format(
            how, sql.Identifier(name), sql.Identifier(table), on_sql
        )
    )


def _trusted(text: str) -> sql.SQL:
    """A part of a statement that is a constant above."""
    return sql.SQL(text)
