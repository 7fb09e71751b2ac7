"""Wires the rooms together: chain -> market -> detect -> sinks, and tells systemd how it goes.

One thread, one event loop. Applying and scanning a block takes a few milliseconds at most, far less
than the answer to one request to a node, and must see one state throughout: so it runs in the loop
itself. Handing it to a thread would cost a hop and a lock, and win nothing.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mev_engine import __version__, jit
from mev_engine.chain.checkpoint import Checkpoint
from mev_engine.chain.endpoints import Endpoints
from mev_engine.chain.errors import MissingMarketError, WrongChainError
from mev_engine.chain.events import BlockId, Event, Loaded, NewBlock, Reorganised, Resynchronised
from mev_engine.chain.follower import Follower
from mev_engine.chain.pools import Pools
from mev_engine.detect import GasModel, Scanner, selfcheck
from mev_engine.detect.opportunity import STRATEGY
from mev_engine.market import Market
from mev_engine.market.delta import BlockDelta, BlockRef
from mev_engine.market.recording import RecordedMarket, RecordingWriter
from mev_engine.settings import Settings, SettingsError
from mev_engine.sinks.metrics import Metrics
from mev_engine.sinks.postgresql import PostgresqlSink
from mev_engine.sinks.queue import Batch
from mev_engine.sinks.redis_stream import RedisSink
from mev_engine.systemd import JournalFormatter, notify, watchdog_seconds
from mev_engine.types import IndexArray

log = logging.getLogger("mev_engine")

REPORT_EVERY = 30.0  # seconds between lines that sum up
FLUSH_SECONDS = 10.0  # for the sinks, when stopping
CHECKPOINT_EVERY = 1.0  # seconds; a lost second is only processed again
KEPT_IDS = 256  # blocks in the checkpoint


class Engine:
    """Holds the parts; `handle` is what happens at each event of the chain."""

    def __init__(self, settings: Settings, metrics: Metrics, record: Path | None) -> None:
        self.settings = settings
        self.metrics = metrics
        chain = settings.chain
        self._checkpoint = Checkpoint(settings.state.path(), chain.chain_id)
        resume = self._checkpoint.read()
        self.pools = Pools(settings.market, beat=self.loading)
        self.follower = Follower(
            chain,
            self.pools,
            Endpoints(
                chain.endpoints, chain_id=chain.chain_id, longest_pause=chain.health_interval, beat=self.beat
            ),
            resume=resume,
            emit=self.handle,
            state_of=self.state_of,
            beat=self.beat,
        )
        self.postgresql = PostgresqlSink(
            settings.database, chain=chain.name, chain_id=chain.chain_id, metrics=metrics,
            acknowledged=self._acknowledged,
        )  # fmt: skip
        self.redis = RedisSink(settings.redis, chain=chain.name, chain_id=chain.chain_id, metrics=metrics)
        if record is not None and any(f.family != "uniswap_v2" for f in settings.market.factories):
            raise SettingsError(
                f"--record {record}: a recording holds pairs only, and market.factories names V3 pools: "
                "leave --record or those factories out"
            )
        self._record_path = record
        self._recording: RecordingWriter | None = None
        self.market: Market | None = None
        self.scanner: Scanner | None = None
        self._ids: deque[BlockId] = deque(resume.blocks, maxlen=KEPT_IDS)
        self._acknowledged_id: BlockId | None = None
        self.ready = asyncio.Event()
        self._progress = time.monotonic()
        self._since_report = [0, 0, 0.0]  # blocks, opportunities, longest scan in seconds

    def beat(self) -> None:
        """There was progress: the watchdog may be told so."""
        self._progress = time.monotonic()

    def loading(self) -> None:
        """A part of the state arrived. A large market may take longer than TimeoutStartSec=; an
        endpoint that cannot be reached must not, so that a deploy with a wrong one fails."""
        self.beat()
        if not self.ready.is_set():
            notify("EXTEND_TIMEOUT_USEC=60000000")

    def state_of(self, pool: str) -> Any:
        if self.market is None:
            raise RuntimeError("the market is asked for before it was loaded")
        return self.market.state(pool)

    def handle(self, event: Event) -> None:
        """Take one event into the market, scan what it touched, queue what was found."""
        match event:
            case Loaded():
                self._load(event)
            case NewBlock(delta):
                self._ids.append(BlockId(delta.block.number, delta.block.hash))
                self._scan(delta)
            case Reorganised(orphaned, delta):
                self.metrics.reorgs.inc()
                log.warning(
                    "reorganised depth=%d from=%d to_ancestor=%d hash=%s pools_undone=%d", len(orphaned),
                    orphaned[-1].number, delta.block.number, delta.block.hash, len(delta.updates),
                )  # fmt: skip
                self._orphan(orphaned, delta.block)
                self._apply(delta)
            case Resynchronised(reason, delta, orphaned, skipped, other_chain):
                self.metrics.resyncs.inc()
                log.error(
                    "resynchronised block=%d hash=%s pools=%d reason=%r",
                    delta.block.number, delta.block.hash, len(delta.updates) + len(delta.new_pools), reason,
                )  # fmt: skip
                self._name_skipped(skipped)
                self._orphan(orphaned, delta.block, other_chain=other_chain)
                self._ids.clear()
                self._ids.append(BlockId(delta.block.number, delta.block.hash))
                self._scan(delta)

    def _load(self, event: Loaded) -> None:
        market_settings, detect = self.settings.market, self.settings.detect
        started = time.monotonic()
        try:
            self.market = Market.build(
                event.tokens,
                event.pools,
                base_tokens=tuple(market_settings.base_tokens),
                wrapped_native=market_settings.wrapped_native,
                max_hops=market_settings.max_hops,
            )
        except ValueError as error:
            raise MissingMarketError(
                f"[market] of the settings does not fit the chain's pools: {error}"
            ) from error
        gc.collect()
        gc.freeze()  # the market stays: walking its objects again and again is a pause of 10 ms in a block
        self.scanner = Scanner(
            self.market,
            chain_id=self.settings.chain.chain_id,
            gas=GasModel(detect.gas_per_cycle, detect.gas_per_hop, detect.priority_fee_wei),
            min_profit=detect.min_profit_wei,
        )
        if self._record_path is not None:
            self._start_recording(self._record_path, event)
        self._name_skipped(event.skipped)
        self._orphan(event.orphaned, event.at, other_chain=event.other_chain)
        self._gauge()
        self.metrics.handled(event.at.number)
        kept = [b for b in self._ids if b.number < event.at.number and b not in event.orphaned]
        self._ids.clear()
        if event.skipped is None:
            self._ids.extend(kept)
        self._ids.append(BlockId(event.at.number, event.at.hash))
        log.info(
            "loaded block=%d hash=%s tokens=%d pools=%d cycles=%d seconds=%.1f",
            event.at.number, event.at.hash, len(event.tokens), len(event.pools), self.market.n_cycles,
            time.monotonic() - started,
        )  # fmt: skip
        notify("READY=1", f"STATUS=following {self.settings.chain.name} from block {event.at.number}")
        self.ready.set()

    def _start_recording(self, path: Path, event: Loaded) -> None:
        market = self.settings.market
        try:
            self._recording = RecordingWriter(
                path,
                RecordedMarket(
                    self.settings.chain.chain_id,
                    tuple(market.base_tokens),
                    market.wrapped_native,
                    market.max_hops,
                    event.tokens,
                    event.pools,
                ),
            )
        except OSError as error:
            raise SettingsError(f"--record {path}: cannot be written: {error.strerror}") from error

    def _record(self, delta: BlockDelta) -> None:
        if self._recording is None:
            return
        try:
            self._recording.write(delta)
        except OSError as error:  # a full disk must not end detection
            log.error("recording_stopped block=%d reason=%r", delta.block.number, str(error))
            self._recording = None

    def _name_skipped(self, skipped: tuple[int, int] | None) -> None:
        if skipped is not None:
            first, last = skipped
            self.metrics.missed.inc(last - first + 1)
            log.error("blocks_skipped first=%d last=%d count=%d", first, last, last - first + 1)

    def _orphan(self, orphaned: tuple[BlockId, ...], at: BlockRef, *, other_chain: bool = False) -> None:
        """Have the rows of these blocks marked (all older rows too, of another chain), and forget them."""
        if not orphaned:
            return
        for block in orphaned[:10]:
            log.warning("block_orphaned block=%d hash=%s", block.number, block.hash)
        if len(orphaned) > 10:
            log.warning("blocks_orphaned first=%d last=%d", orphaned[0].number, orphaned[-1].number)
        if other_chain:
            log.error("chain_replaced block=%d hash=%s marked='all rows before it'", at.number, at.hash)
        gone = set(orphaned)
        kept = [block for block in self._ids if block not in gone]
        self._ids.clear()
        self._ids.extend(kept)
        blocks = tuple((block.number, block.hash) for block in orphaned)
        self._put(Batch.of(at, orphaned=blocks, other_chain=other_chain))

    def _put(self, batch: Batch) -> None:
        self.postgresql.put(batch)
        self.redis.put(batch)

    def _apply(self, delta: BlockDelta) -> IndexArray:
        if self.market is None:
            raise RuntimeError("a block arrived before the state was loaded")
        touched = self.market.apply(delta)
        if delta.new_pools:
            self._gauge()
            for pool in delta.new_pools:
                log.info(
                    "pool_added block=%d pool=%s dex=%s", delta.block.number, pool.address, pool.protocol
                )
        self._record(delta)
        return touched

    def _scan(self, delta: BlockDelta) -> None:
        started = time.perf_counter()
        touched = self._apply(delta)
        if self.scanner is None:
            raise RuntimeError("a block arrived before the state was loaded")
        result = self.scanner.scan(delta.block, touched)
        seconds = time.perf_counter() - started
        if result.deferred:
            log.warning("cycles_deferred block=%d count=%d", delta.block.number, result.deferred)
        self._put(Batch.of(delta.block, rows=tuple(result.opportunities)))
        self.metrics.blocks.inc()
        self.metrics.handled(delta.block.number)
        self.metrics.scan_seconds.observe(seconds)
        self.metrics.opportunities(STRATEGY, len(result.opportunities))
        report = self._since_report
        report[0], report[1], report[2] = (
            report[0] + 1,
            report[1] + len(result.opportunities),
            max(report[2], seconds),
        )
        log.debug(
            "block number=%d touched=%d screened=%d passed=%d opportunities=%d ms=%.2f",
            delta.block.number, len(touched), result.cycles_screened, result.cycles_passed,
            len(result.opportunities), seconds * 1e3,
        )  # fmt: skip

    def _gauge(self) -> None:
        if self.market is not None:
            self.metrics.pools.set(self.market.n_pools)
            self.metrics.cycles.set(self.market.n_cycles)

    def _acknowledged(self, block: BlockRef) -> None:
        self._acknowledged_id = BlockId(block.number, block.hash)

    def _acknowledged_ids(self) -> list[BlockId]:
        """Blocks up to the last one that the database has acknowledged, if it is still on the chain."""
        ids, last = list(self._ids), self._acknowledged_id
        return ids[: ids.index(last) + 1] if last is not None and last in ids else []

    async def save_checkpoint(self) -> None:
        if ids := self._acknowledged_ids():
            # fsync may take its time
            await asyncio.to_thread(self._checkpoint.write, ids, self.follower.genesis)

    async def keep_checkpoint(self) -> None:
        written: BlockId | None = None
        while True:
            await asyncio.sleep(CHECKPOINT_EVERY)
            if self._acknowledged_id == written:
                continue
            last = self._acknowledged_id
            try:
                await self.save_checkpoint()
                written = last
            except OSError as error:  # a full disk: detection goes on, the next second tries again
                log.error("checkpoint_failed reason=%r", str(error))

    async def report(self) -> None:
        """A line and a STATUS= now and then, instead of a line a block."""
        while True:
            await asyncio.sleep(REPORT_EVERY)
            if not self.follower.recent:
                continue
            blocks, found, longest = self._since_report
            self._since_report = [0, 0, 0.0]
            height = self.follower.recent.last.number
            compiled = len(jit.compiled())
            self.metrics.jit_compilations.set(compiled)
            log.info(
                "following height=%d blocks=%d opportunities=%d slowest_ms=%.2f queued_postgresql=%d "
                "queued_redis=%d compiled=%d endpoint=%s",
                height, blocks, found, longest * 1e3, self.postgresql.pending_rows, self.redis.pending_rows,
                compiled, self.follower.link_name,
            )  # fmt: skip
            notify(f"STATUS=block {height}, {found} opportunities in the last {REPORT_EVERY:.0f} s")

    async def watchdog(self, period: float) -> None:
        """Ping systemd while there is progress. A follower that hangs makes no progress although the
        loop lives, so the pings stop, and systemd restarts the engine."""
        # a request may take its full timeout, and a dead endpoint's circuit may be open for this long
        patience = 2 * self.settings.chain.health_interval + 60
        while True:
            idle = time.monotonic() - self._progress
            if idle < patience:
                notify("WATCHDOG=1")
            else:
                log.error("no_progress seconds=%.0f", idle)
            await asyncio.sleep(period / 3)

    async def run(self) -> None:
        """Until SIGTERM or SIGINT; then flush and write the checkpoint."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        try:
            await self.until(stop)
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    async def until(self, stop: asyncio.Event) -> None:
        sinks = [asyncio.create_task(sink.run(), name=sink.name) for sink in (self.postgresql, self.redis)]
        follow = asyncio.create_task(self.follower.follow(), name="follower")
        helpers = [asyncio.create_task(self.keep_checkpoint()), asyncio.create_task(self.report())]
        if (period := watchdog_seconds()) is not None:
            helpers.append(asyncio.create_task(self.watchdog(period)))
        stopping = asyncio.create_task(stop.wait())
        everything = [stopping, follow, *sinks, *helpers]
        try:
            # none of the tasks ends by itself: whichever does has failed, and its error is ours
            done, _ = await asyncio.wait(everything, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            log.info("stopping flush_seconds=%.0f", FLUSH_SECONDS)
            notify("STOPPING=1")
        finally:
            await _cancel([follow])
            await asyncio.gather(self.postgresql.drain(FLUSH_SECONDS), self.redis.drain(FLUSH_SECONDS))
            await _cancel([*sinks, *helpers, stopping])
            await self.save_checkpoint()
            if self._recording is not None:
                self._recording.close()


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """End the tasks; their errors, if they had any, were raised by `until`."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        # once more a little later: Python 3.11's wait_for, which web3 uses, can swallow a cancellation. Not
        # after a whole second: health checks every second could meet, and swallow, every single one
        _, pending = await asyncio.wait(pending, timeout=0.3)


def main(settings: Settings, *, record: Path | None = None) -> int:
    """The service: exit code 0 after SIGTERM, 1 where it cannot go on. SettingsError is the caller's."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JournalFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    started = time.monotonic()
    log.info("starting version=%s chain=%s id=%d", __version__, settings.chain.name, settings.chain.chain_id)
    notify("STATUS=loading kernels", "EXTEND_TIMEOUT_USEC=120000000")
    selfcheck.warm()
    compiled = jit.compiled()
    log.log(
        logging.WARNING if compiled else logging.INFO,
        "kernels_ready seconds=%.1f compiled=%d %s",
        time.monotonic() - started, len(compiled), " ".join(compiled),
    )  # fmt: skip
    metrics = Metrics(settings.chain.name)
    metrics.jit_compilations.set(len(compiled))
    metrics.serve(settings.metrics)

    async def live() -> None:
        await Engine(settings, metrics, record).run()

    try:
        asyncio.run(live())
    except (WrongChainError, MissingMarketError) as error:
        log.critical("cannot_go_on reason=%r", str(error))
        return 1
    log.info("stopped")
    return 0
