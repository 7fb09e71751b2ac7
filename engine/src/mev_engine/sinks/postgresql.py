"""Opportunities into PostgreSQL, one transaction a write: by COPY, or one by one where some are there."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import psycopg

from mev_engine.detect.opportunity import Opportunity
from mev_engine.settings import DatabaseSettings
from mev_engine.sinks.copy_text import COLUMNS, lines
from mev_engine.sinks.queue import Batch, QueuedSink, RefusedError

log = logging.getLogger(__name__)

WEI = Decimal(10) ** 18

Cursor = psycopg.AsyncCursor[Any]
Put = Callable[[Cursor, list[Batch]], Awaitable[int]]
# The key is the block's time and an id made of chain, block and path, so a repeated write finds its
# own rows. A block that comes back after a reorganisation is 'detected' again.
INSERT = f"""
    INSERT INTO opportunities ({", ".join(COLUMNS)}) VALUES ({", ".join(["%s"] * len(COLUMNS))})
    ON CONFLICT (created_at, id) DO UPDATE SET status = 'detected'
        WHERE opportunities.status = 'orphaned'
"""  # noqa: S608  (column names are the constants above)
COPY = f"COPY opportunities ({', '.join(COLUMNS)}) FROM STDIN"
ORPHAN = """
    UPDATE opportunities SET status = 'orphaned'
    WHERE chain_id = %s AND block_number = ANY(%s) AND block_hash = ANY(%s) AND status = 'detected'
"""
# Rows of the chain that is there now come later, in order. (After a kill in the second before the
# checkpoint follows, this is done again, and takes that second's rows with it.)
ORPHAN_ALL = """
    WITH gone AS (
        UPDATE opportunities SET status = 'orphaned'
        WHERE chain_id = %s AND status = 'detected' RETURNING block_number
    ) SELECT count(*), min(block_number), max(block_number) FROM gone
"""


async def connect(settings: DatabaseSettings, *, autocommit: bool = True) -> psycopg.AsyncConnection[Any]:
    """A connection whose loss is noticed within half a minute, even by a silent network."""
    return await psycopg.AsyncConnection.connect(
        host=settings.host,
        port=settings.port,
        dbname=settings.name,
        user=settings.user,
        password=settings.password(),
        sslmode=settings.sslmode,
        application_name="mev-engine",
        connect_timeout=10,
        keepalives_idle=10,
        keepalives_interval=5,
        keepalives_count=3,
        options="-c statement_timeout=30s -c timezone=UTC",
        autocommit=autocommit,
    )


class PostgresqlSink(QueuedSink):
    name = "postgresql"

    def __init__(self, settings: DatabaseSettings, *, chain: str, chain_id: int, **queue: Any) -> None:
        super().__init__(**queue)
        self._settings = settings
        self._chain = chain
        self._chain_id = chain_id
        self._connection: psycopg.AsyncConnection[Any] | None = None

    async def disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def write(self, batches: list[Batch]) -> int:
        if self._connection is None or self._connection.closed:
            self._connection = await connect(self._settings)
        if not any(batch.rows or batch.orphaned for batch in batches):
            # nothing to store, but the block is acknowledged only by a database that is there
            await self._connection.execute("SELECT 1")
            return 0
        try:
            try:
                return await self._store(self._connection, batches, self._copy)
            except psycopg.errors.UniqueViolation:
                # some are there: a write whose answer was lost, blocks since the checkpoint, or a block that
                # comes back after a reorganisation
                return await self._store(self._connection, batches, self._insert)
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            raise RefusedError(f"{type(error).__name__}: {error}") from error

    async def _store(self, connection: psycopg.AsyncConnection[Any], batches: list[Batch], put: Put) -> int:
        """All batches, or none; in order, since a block may be orphaned, and come back."""
        stored = 0
        arriving: list[Batch] = []
        async with connection.transaction(), connection.cursor() as cursor:
            for batch in batches:
                if batch.rows:
                    arriving.append(batch)
                if batch.other_chain or batch.orphaned:
                    stored += await put(cursor, arriving)
                    arriving = []
                if batch.other_chain:
                    await self._orphan_all(cursor)
                elif batch.orphaned:
                    numbers, hashes = (list(part) for part in zip(*batch.orphaned, strict=True))
                    await cursor.execute(ORPHAN, (self._chain_id, numbers, hashes))
            return stored + await put(cursor, arriving)

    async def _copy(self, cursor: Cursor, batches: list[Batch]) -> int:
        if not batches:
            return 0
        async with cursor.copy(COPY) as copy:
            for batch in batches:
                text = lines(
                    batch.rows, chain=self._chain, chain_id=self._chain_id, detected_at=batch.detected_at
                )
                await copy.write(text)
        return cursor.rowcount

    async def _insert(self, cursor: Cursor, batches: list[Batch]) -> int:
        stored = 0
        for batch in batches:
            await cursor.executemany(INSERT, [self._row(row, batch.detected_at) for row in batch.rows])
            stored += max(cursor.rowcount, 0)
        return stored

    async def _orphan_all(self, cursor: Cursor) -> None:
        await cursor.execute("SET LOCAL statement_timeout = '10min'")  # it may be years of rows
        await cursor.execute(ORPHAN_ALL, (self._chain_id,))
        rows, first, last = await cursor.fetchone() or (0, None, None)
        log.error("rows_orphaned chain_id=%d rows=%d first=%s last=%s", self._chain_id, rows, first, last)

    def _row(self, o: Opportunity, detected_at: datetime) -> tuple[Any, ...]:
        """Values in the order of COLUMNS; integers beyond 64 bits travel as Decimal."""
        return (
            o.id, self._chain, self._chain_id, o.strategy, o.block.number, o.block.hash,
            datetime.fromtimestamp(o.block.timestamp, UTC), detected_at,
            list(o.tokens), list(o.symbols), list(o.pools), [Decimal(a) for a in o.amounts],
            Decimal(o.amount_in), Decimal(o.amount_out), Decimal(o.gross_profit),
            o.gas_units, Decimal(o.gas_price), Decimal(o.gas_cost), Decimal(o.net_profit),
            Decimal(o.net_profit) / WEI, o.rank, o.conflicts_with,
        )  # fmt: skip
