"""The database schema: numbered SQL files, applied in order, each once; then partitions and upkeep."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, LiteralString, NamedTuple

import psycopg

from mev_engine.settings import DatabaseSettings
from mev_engine.sinks.migrations.indexes import ensure_indexes
from mev_engine.sinks.postgresql import connect

LOCK = int.from_bytes(hashlib.sha256(b"mev-engine migrations").digest()[:8], signed=True)
MONTHS_BEHIND, MONTHS_AHEAD = 1, 3

Connection = psycopg.AsyncConnection[Any]


class Migration(NamedTuple):
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def available() -> list[Migration]:
    """The package's SQL files, in order."""
    found = (entry for entry in files(__name__).iterdir() if entry.name.endswith(".sql"))
    return sorted(Migration(entry.name.removesuffix(".sql"), entry.read_text()) for entry in found)


async def _applied(connection: Connection) -> dict[str, str]:
    cursor = await connection.execute("SELECT to_regclass('schema_migrations') IS NOT NULL")
    row = await cursor.fetchone()
    if row is None or not row[0]:
        return {}
    cursor = await connection.execute("SELECT name, checksum FROM schema_migrations")
    return dict(await cursor.fetchall())


async def pending(connection: Connection) -> list[str]:
    """Names of the migrations that the database lacks."""
    applied = await _applied(connection)
    return [migration.name for migration in available() if migration.name not in applied]


async def migrate(settings: DatabaseSettings) -> int:
    """Bring the database up to date; prints what it does. Returns the command's exit code."""
    try:
        async with await connect(settings) as connection:
            # one migrator at a time; released when the connection ends, however it ends
            await connection.execute("SET statement_timeout = 0")
            await connection.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
            # whoever waits for an exclusive lock makes all others wait behind it: give up early instead
            await connection.execute("SET lock_timeout = '10s'")
            changed = await _apply(connection)
            changed += await _maintain(connection, settings.keep_months)
    except (psycopg.Error, EditedError) as error:
        where = f"{settings.user}@{settings.host}:{settings.port}/{settings.name}"
        print(f"migrate: {where}: {type(error).__name__}: {' '.join(str(error).split())}")
        return 1
    print(f"changed={changed}")
    return 0


class EditedError(Exception):
    """A migration was edited after it had been applied: nobody can say what this database has."""


async def _apply(connection: Connection) -> int:
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations ("
        "name text PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
    )
    applied = await _applied(connection)
    changed = 0
    for migration in available():
        checksum = applied.get(migration.name)
        if checksum is None:
            async with connection.transaction():
                # our own files: as trusted as the code beside them
                await connection.execute(migration.sql.encode())
                await connection.execute(
                    "INSERT INTO schema_migrations (name, checksum) VALUES (%s, %s)",
                    (migration.name, migration.checksum),
                )
            print(f"applied {migration.name}")
            changed += 1
        elif checksum != migration.checksum:
            raise EditedError(
                f"{migration.name}.sql has checksum {migration.checksum[:12]}, but was applied with "
                f"{checksum[:12]}: restore the file, and put the change into a new one"
            )
    return changed


async def _maintain(connection: Connection, keep_months: int) -> int:
    """Indexes; partitions behind and ahead, and for what waits in the default one; retention; statistics."""
    indexes = await ensure_indexes(connection)
    if indexes:
        print(f"indexes made: {', '.join(indexes)}")
    now = datetime.now(UTC)
    partitions = await _number(
        connection,
        "SELECT create_monthly_partitions('opportunities', "
        "(%(now)s::timestamptz - make_interval(months => %(behind)s))::date, "
        "(%(now)s::timestamptz + make_interval(months => %(ahead)s))::date)",
        {"now": now, "behind": MONTHS_BEHIND, "ahead": MONTHS_AHEAD},
    )
    partitions += await _number(
        connection,
        "SELECT coalesce(sum(create_monthly_partitions('opportunities', month, month)), 0) "
        "FROM (SELECT months_in_default('opportunities') AS month OFFSET 0) AS months",
    )
    if partitions:
        print(f"partitions made: {partitions}")
    old = keep_months and await _number(
        connection,
        "SELECT detach_monthly_partitions('opportunities', "
        "(%(now)s::timestamptz - make_interval(months => %(keep)s))::date)",
        {"now": now, "keep": keep_months},
    )
    if old:
        print(f"partitions detached, their rows kept: {old}")
    hypertable = await _number(connection, "SELECT ensure_market_data_hypertable()::integer")
    if hypertable:
        print("market_data is a hypertable now")
    dropped = await _number(connection, "SELECT apply_market_data_retention()")
    if dropped:
        print(f"retention of market_data: {dropped} policies, chunks or rows")
    await connection.execute("SELECT grant_platform_roles(), refresh_opportunities_hourly()")
    await connection.execute("ANALYZE opportunities, market_data, executions")
    return len(indexes) + partitions + old + hypertable + dropped


async def _number(connection: Connection, query: LiteralString, values: Any = None) -> int:
    row = await (await connection.execute(query, values)).fetchone()
    if row is None:
        raise psycopg.DataError(f"no row from: {query}")
    return int(row[0])
