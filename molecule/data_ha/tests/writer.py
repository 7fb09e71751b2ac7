"""The engine's own sink, writing without pause, and what it was told is stored. Scenario redis has it too."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from mev_engine.detect.opportunity import STRATEGY, Opportunity, opportunity_id
from mev_engine.market.delta import BlockRef
from mev_engine.settings import DatabaseSettings, RedisSettings
from mev_engine.sinks.metrics import Metrics
from mev_engine.sinks.postgresql import PostgresqlSink
from mev_engine.sinks.queue import Batch, QueuedSink
from mev_engine.sinks.redis_stream import RedisSink

ROWS = 5
EVERY = 0.1


def opportunities(chain_id: int, block: BlockRef) -> tuple[Opportunity, ...]:
    def one(rank: int) -> Opportunity:
        tokens, pools = ("0xa", "0xb", "0xa"), (f"0x{rank:02x}", "0xff")
        return Opportunity(
            id=opportunity_id(chain_id, block.hash, tokens, pools), strategy=STRATEGY, block=block,
            tokens=tokens, symbols=("A", "B", "A"), pools=pools, amounts=(10**18, 2 * 10**18, 10**18 + rank),
            gross_profit=rank, gas_units=200_000, gas_price=10**9, gas_cost=1, net_profit=rank, rank=rank,
            conflicts_with=None,
        )  # fmt: skip

    return tuple(one(rank) for rank in range(1, ROWS + 1))


@dataclass
class Writer:
    """A block of five opportunities ten times a second, as an engine would queue them."""

    settings: DatabaseSettings | RedisSettings
    chain_id: int
    put: int = 0
    acknowledged: list[tuple[float, int]] = field(default_factory=list)
    """When, and up to which block."""
    _end: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Writer:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        assert self._thread is not None
        self._thread.join()

    async def _run(self) -> None:
        def acknowledged(block: BlockRef) -> None:
            self.acknowledged.append((time.monotonic(), block.number))

        sink: QueuedSink
        others: dict[str, Any] = {"metrics": Metrics("drill"), "acknowledged": acknowledged}
        if isinstance(self.settings, DatabaseSettings):
            sink = PostgresqlSink(self.settings, chain="drill", chain_id=self.chain_id, **others)
        else:
            sink = RedisSink(self.settings, chain="drill", chain_id=self.chain_id, **others)
        task = asyncio.create_task(sink.run())
        start = int(time.time())
        while not self._end.is_set():
            self.put += 1
            name = f"0x{self.chain_id:x}{self.put:08x}"
            block = BlockRef(self.put, name, parent_hash="0x", timestamp=start + self.put, base_fee=1)
            sink.put(Batch.of(block, opportunities(self.chain_id, block)))
            await asyncio.sleep(EVERY)
        await sink.drain(120)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    @property
    def last(self) -> int:
        """The newest block that is stored, as the sink was told."""
        return self.acknowledged[-1][1] if self.acknowledged else 0

    def longest_silence(self) -> float:
        times = [at for at, _ in self.acknowledged]
        return max((later - sooner for sooner, later in pairwise(times)), default=0.0)

    def wait_for_more(self, seconds: float = 60) -> None:
        """Until 20 more blocks are stored."""
        wanted, end = self.last + 20, time.monotonic() + seconds
        while self.last < wanted:
            assert time.monotonic() < end, f"{self.put} blocks were put, {self.last} are there"
            time.sleep(0.1)
