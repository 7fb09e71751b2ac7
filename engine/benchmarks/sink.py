"""Rows a second into `opportunities`: the engine's sink beside plain COPY and INSERT, in one run.

    PYTHONPATH=../tests python -m sink --rows 200000        from engine/benchmarks

Starts a PostgreSQL of its own, with the platform's schema and all its indexes. COPY is the yardstick: the
same rows as text that was made beforehand, so that nothing but the server is measured. INSERT is the driver's
executemany, in pipeline mode. The sink makes its text from opportunities, block by block.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from live.servers import Postgresql, running_postgresql
from mev_engine.detect.opportunity import STRATEGY, Opportunity, opportunity_id
from mev_engine.market.delta import BlockRef
from mev_engine.settings import DatabaseSettings
from mev_engine.sinks.copy_text import lines
from mev_engine.sinks.metrics import Metrics
from mev_engine.sinks.migrations import migrate
from mev_engine.sinks.postgresql import COPY, INSERT, PostgresqlSink, connect
from mev_engine.sinks.queue import TAKEN, Batch

ROWS_A_BLOCK = 100
ROUNDS = 3


def opportunity(block: BlockRef, rank: int) -> Opportunity:
    """Three hops, with addresses and amounts as long as real ones."""
    tokens = tuple(f"0x{rank * 7 + hop % 3:040x}" for hop in range(4))
    pools = tuple(f"0x{rank * 11 + hop:040x}" for hop in range(3))
    return Opportunity(
        id=opportunity_id(1, block.hash, tokens, pools),
        strategy=STRATEGY,
        block=block,
        tokens=tokens,
        symbols=("WETH", "USDC", "DAI", "WETH"),
        pools=pools,
        amounts=(10**18, 1800 * 10**6, 10**21, 10**18 + rank),
        gross_profit=rank,
        gas_units=285_000,
        gas_price=10**10,
        gas_cost=285 * 10**13,
        net_profit=10**15 - rank,
        rank=rank,
        conflicts_with=None,
    )


def blocks(rows: int) -> list[Batch]:
    made = []
    now = int(time.time())
    for number in range(rows // ROWS_A_BLOCK):
        block = BlockRef(number, f"0x{number:064x}", f"0x{number - 1:064x}", now + number % 3600, 7)
        found = tuple(opportunity(block, rank) for rank in range(1, ROWS_A_BLOCK + 1))
        made.append(Batch(block, datetime.now(UTC), found))
    return made


async def measure(server: Postgresql, rows: int) -> None:
    settings = DatabaseSettings.model_validate(server.settings())
    assert await migrate(settings) == 0, "the schema could not be made"  # noqa: S101
    batches = blocks(rows)
    sink = PostgresqlSink(settings, chain="ethereum", chain_id=1, metrics=Metrics("ethereum"))
    text = [
        lines(batch.rows, chain="ethereum", chain_id=1, detected_at=batch.detected_at) for batch in batches
    ]

    async def by_copy() -> None:
        async with (
            await connect(settings) as connection,
            connection.cursor() as cursor,
            cursor.copy(COPY) as copy,
        ):
            for part in text:
                await copy.write(part)

    async def by_insert() -> None:
        async with (
            await connect(settings) as connection,
            connection.transaction(),
            connection.cursor() as cursor,
        ):
            for batch in batches:
                await cursor.executemany(INSERT, [sink._row(row, batch.detected_at) for row in batch.rows])

    async def by_sink() -> None:
        for start in range(0, len(batches), TAKEN):
            await sink.write(batches[start : start + TAKEN])
        await sink.disconnect()

    ways: dict[str, Callable[[], Awaitable[None]]] = {"COPY": by_copy, "sink": by_sink, "INSERT": by_insert}
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(ROUNDS):
        for name, way in ways.items():
            server.query("TRUNCATE opportunities")
            start = time.perf_counter()
            await way()
            speeds[name].append(rows / (time.perf_counter() - start))
            stored = server.query("SELECT count(*) FROM opportunities")[0][0]
            assert stored == rows, (name, stored)  # noqa: S101
            print(f"round {round_ + 1}: {name:6} {speeds[name][-1]:10,.0f} rows/s", flush=True)
    yardstick = statistics.median(speeds["COPY"])
    print(f"\n{'way':8}{'rows/s (median)':>16}{'beside COPY':>14}")
    for name, found in speeds.items():
        print(f"{name:8}{statistics.median(found):>16,.0f}{statistics.median(found) / yardstick:>14.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--rows", type=int, default=200_000)
    rows = parser.parse_args().rows
    with running_postgresql() as server:
        asyncio.run(measure(server, rows))


if __name__ == "__main__":
    main()
