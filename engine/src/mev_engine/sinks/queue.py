"""A sink that may be away: rows wait in memory, in order, until it is back.

Detection never waits for a sink: `put` returns at once. The queue is bounded; when it is full the
rows of the oldest block are dropped and that block is named, since new findings are worth more than
old ones and memory is not endless.
"""

from __future__ import annotations

import asyncio
import logging
import random
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from mev_engine.detect.opportunity import Opportunity
from mev_engine.market.delta import BlockRef
from mev_engine.sinks.metrics import Metrics

log = logging.getLogger(__name__)

MAX_ROWS = 200_000  # about 400 MB; days of a chain with one opportunity a block
MAX_BLOCKS = 100_000
TAKEN = 500  # blocks written in one go
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0  # seconds between attempts while the sink is away
POISON_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Batch:
    """What one block brings: rows, or the (number, hash) of blocks whose rows are to be marked.
    `other_chain`: every row written before this batch is of a chain that is no more."""

    block: BlockRef
    detected_at: datetime
    rows: tuple[Opportunity, ...] = ()
    orphaned: tuple[tuple[int, str], ...] = ()
    other_chain: bool = False

    @classmethod
    def of(
        cls,
        block: BlockRef,
        rows: tuple[Opportunity, ...] = (),
        orphaned: tuple[tuple[int, str], ...] = (),
        *,
        other_chain: bool = False,
    ) -> Batch:
        return cls(block, datetime.now(UTC), rows, orphaned, other_chain)


class RefusedError(Exception):
    """The sink is there and says that this data can never be stored."""


class QueuedSink(ABC):
    """A worker that empties the queue into `write`, again and again until it succeeds."""

    name: str

    def __init__(self, metrics: Metrics, acknowledged: Callable[[BlockRef], None] | None = None) -> None:
        self._metrics = metrics
        self._acknowledged = acknowledged
        self._queue: deque[Batch] = deque()
        self._rows = 0
        self._in_flight = 0  # batches at the left end that are being written: not to be dropped
        self._wake = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    @abstractmethod
    async def write(self, batches: list[Batch]) -> int:
        """Store the batches, all or none, and return how many rows are new.

        May be called again with the same batches: must not store anything twice. Raises
        RefusedError where a retry cannot help, and any other exception where it may.
        """

    @abstractmethod
    async def disconnect(self) -> None:
        """Let go of the connection; the next write opens a new one."""

    @property
    def pending_rows(self) -> int:
        return self._rows

    def put(self, batch: Batch) -> None:
        """Queue a batch; never waits, never raises."""
        self._queue.append(batch)
        self._rows += len(batch.rows)
        while (self._rows > MAX_ROWS or len(self._queue) > MAX_BLOCKS) and len(
            self._queue
        ) > self._in_flight + 1:
            self._drop_oldest()
        self._metrics.queue_rows(self.name, self._rows)
        self._empty.clear()
        self._wake.set()

    def _drop_oldest(self) -> None:
        oldest = self._queue[self._in_flight]
        del self._queue[self._in_flight]
        self._rows -= len(oldest.rows)
        self._metrics.sink_dropped(self.name, len(oldest.rows))
        if oldest.rows or oldest.orphaned:
            log.error(
                "rows_dropped sink=%s block=%d hash=%s rows=%d reason='queue is full'",
                self.name, oldest.block.number, oldest.block.hash, len(oldest.rows),
            )  # fmt: skip

    async def run(self) -> None:
        """Until cancelled."""
        attempt = 0
        try:
            while True:
                await self._wake.wait()
                batches = list(self._queue)[:TAKEN]
                if not batches:
                    self._wake.clear()
                    self._empty.set()
                    continue
                # after a failure one block at a time shows which one the sink refuses
                batches = batches[:1] if attempt else batches
                self._in_flight = len(batches)
                try:
                    rows = await self.write(batches)
                except RefusedError as error:
                    attempt += 1
                    await self._refused(batches, attempt, error)
                    attempt = 0 if len(batches) == 1 and attempt > POISON_ATTEMPTS else attempt
                except Exception as error:  # whatever a server or network does: wait, try again
                    attempt += 1
                    await self._wait(attempt, error)
                else:
                    if attempt:
                        log.info("sink_back sink=%s queued_rows=%d", self.name, self._rows)
                    attempt = 0
                    self._done(batches, rows)
                finally:
                    self._in_flight = 0
        finally:
            await self.disconnect()

    def _done(self, batches: list[Batch], rows: int) -> None:
        for batch in batches:
            self._queue.popleft()
            self._rows -= len(batch.rows)
        self._metrics.sink_rows(self.name, rows)
        self._metrics.queue_rows(self.name, self._rows)
        if self._acknowledged is not None:
            self._acknowledged(batches[-1].block)

    async def _wait(self, attempt: int, error: Exception) -> None:
        self._metrics.sink_error(self.name)
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(attempt - 1, 16)) * random.uniform(0.5, 1.0)  # noqa: S311
        log.warning(
            "sink_down sink=%s attempt=%d queued_rows=%d retry_in=%.1f reason=%r",
            self.name, attempt, self._rows, pause, " ".join(f"{type(error).__name__}: {error}".split()),
        )  # fmt: skip
        await self.disconnect()
        await asyncio.sleep(pause)

    async def _refused(self, batches: list[Batch], attempt: int, error: RefusedError) -> None:
        if len(batches) > 1 or attempt <= POISON_ATTEMPTS:
            await self._wait(attempt, error)
            return
        batch = batches[0]
        log.error(
            "rows_refused sink=%s block=%d hash=%s rows=%d reason=%r",
            self.name, batch.block.number, batch.block.hash, len(batch.rows), str(error),
        )  # fmt: skip
        self._metrics.sink_dropped(self.name, len(batch.rows))
        self._done(batches, 0)

    async def drain(self, seconds: float) -> None:
        """Wait until everything is written, but not longer than that; says what is left."""
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            left = [batch.block.number for batch in self._queue]
            log.error("unwritten sink=%s rows=%d blocks=%s..%s", self.name, self._rows, left[0], left[-1])
