"""Prometheus metrics of one engine, by the names of docs/contracts.md."""

from __future__ import annotations

import time

from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    start_http_server,
)

from mev_engine.settings import MetricsSettings, SettingsError

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for every counter, of no use here

SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)


class Metrics:
    """A registry of its own, so that two engines in one process (tests) do not collide."""

    def __init__(self, chain: str) -> None:
        self._chain = chain
        self.registry = CollectorRegistry()
        for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
            self.registry.register(collector)
        of_chain, of_sink = ["chain"], ["sink"]
        r = self.registry
        self._opportunities = Counter(
            "mev_opportunities", "Opportunities found", ["strategy", "chain"], registry=r
        )
        self.blocks = Counter("mev_blocks", "Blocks scanned", of_chain, registry=r).labels(chain)
        self.height = Gauge("mev_block_height", "Last block scanned", of_chain, registry=r).labels(chain)
        self._handled_at = time.monotonic()
        age = Gauge("mev_last_block_age_seconds", "Since the last block was handled", of_chain, registry=r)
        age.labels(chain).set_function(lambda: time.monotonic() - self._handled_at)
        self.missed = Counter("mev_blocks_missed", "Blocks never looked at", of_chain, registry=r).labels(
            chain
        )
        self.reorgs = Counter("mev_reorgs", "Reorganisations", of_chain, registry=r).labels(chain)
        self.resyncs = Counter(
            "mev_resyncs", "Times that all state was read anew", of_chain, registry=r
        ).labels(chain)
        self.scan_seconds = Histogram(
            "mev_scan_seconds", "Applying and scanning one block", of_chain, buckets=SECONDS, registry=r
        ).labels(chain)
        self.pools = Gauge("mev_pools", "Pools followed", of_chain, registry=r).labels(chain)
        self.cycles = Gauge("mev_cycles", "Cycles indexed", of_chain, registry=r).labels(chain)
        self.jit_compilations = Gauge(
            "mev_jit_compilations", "Kernels compiled since start; 0 with a warm cache", of_chain, registry=r
        ).labels(chain)
        self._queue = Gauge("mev_sink_queue_rows", "Rows waiting for a sink", of_sink, registry=r)
        self._rows = Counter("mev_sink_rows", "Rows stored by a sink", of_sink, registry=r)
        self._errors = Counter("mev_sink_errors", "Failed writes to a sink", of_sink, registry=r)
        self._dropped = Counter("mev_sink_dropped_rows", "Rows given up for a sink", of_sink, registry=r)
        for sink in ("postgresql", "redis"):  # a series that exists at 0 can be alerted on
            for metric in (self._queue, self._rows, self._errors, self._dropped):
                metric.labels(sink)

    def serve(self, settings: MetricsSettings) -> None:
        """Answer GET /metrics from a thread of its own. SettingsError where the port is taken."""
        try:
            start_http_server(settings.port, settings.host, self.registry)
        except OSError as error:
            raise SettingsError(
                f"metrics.host, metrics.port = {settings.host}:{settings.port}: "
                f"cannot listen there: {error.strerror or error}; choose a free port of this host"
            ) from error

    def handled(self, number: int) -> None:
        """The block of this number is in the market; its age counts from now."""
        self.height.set(number)
        self._handled_at = time.monotonic()

    def opportunities(self, strategy: str, count: int) -> None:
        self._opportunities.labels(strategy, self._chain).inc(count)

    def queue_rows(self, sink: str, rows: int) -> None:
        self._queue.labels(sink).set(rows)

    def sink_rows(self, sink: str, rows: int) -> None:
        self._rows.labels(sink).inc(rows)

    def sink_error(self, sink: str) -> None:
        self._errors.labels(sink).inc()

    def sink_dropped(self, sink: str, rows: int) -> None:
        self._dropped.labels(sink).inc(rows)
