# Copyright (c) the MEV platform's authors. Apache-2.0 (see LICENSE)
"""PostgreSQL's settings from the machine: the one place where a size becomes a setting.

On the guide's machine (128 GB, 32 cores, NVMe, 1000 connections) the result is the guide's, line by line.
"""

from __future__ import annotations

MB_PER_GB = 1024
LEAST_MEMORY_MB = 512
"""Below this the smallest sensible values no longer fit beside the rest of the system."""

LEAST_PER_CONNECTION_MB = 2
"""What a connection's process takes before it has sorted anything: catalogue caches, plans."""

PAGE_COST = {"nvme": 1.1, "ssd": 1.1, "hdd": 4.0}
"""random_page_cost: a random page against a sequential one. 4 is PostgreSQL's own, for disks that seek."""

IO_CONCURRENCY = {"nvme": 200, "ssd": 200, "hdd": 2}
"""effective_io_concurrency: requests in flight; the guide's for flash, PostgreSQL's for others."""


def sold_as(memory_mb: int) -> int:
    """MB that a machine is sold with, from what its kernel counts (MemTotal lacks what firmware and kernel
    keep, 1 to 4 %): the next whole number of GB, of 8 GB above 32 GB, if that is no more than 5 % away."""
    step = 8 * MB_PER_GB if memory_mb > 32 * MB_PER_GB else MB_PER_GB
    nominal = -(-memory_mb // step) * step
    return nominal if nominal * 0.95 <= memory_mb else memory_mb


def settings(
    *, memory_mb: int, cpus: int, disk: str, disk_gb: int, max_connections: int, share: float = 1.0
) -> dict[str, str | int | float]:
    """Settings for a server that may reckon with `share` of a machine with `memory_mb` (MemTotal), `cpus`
    logical processors and `disk_gb` of `disk` (nvme, ssd or hdd) under its data directory.

    ValueError, with the variable to change, where no sensible server fits.
    """
    if disk not in PAGE_COST:
        raise ValueError(f"postgresql_disk is {disk}: one of {', '.join(PAGE_COST)} is wanted")
    memory = int(sold_as(memory_mb) * share)
    if memory < LEAST_MEMORY_MB:
        raise ValueError(
            f"postgresql_memory_share {share:g} of {memory_mb} MB is {memory} MB, and at least "
            f"{LEAST_MEMORY_MB} MB are needed; raise the share, or the machine's memory"
        )
    shared_buffers = memory // 4
    # If one connection in eight sorts at a time, all of them together take a quarter of the memory.
    work_mem = min(max(memory * 2 // max_connections, 4), 256)
    if max_connections * LEAST_PER_CONNECTION_MB > memory // 2:
        raise ValueError(
            f"postgresql_max_connections is {max_connections}: at {LEAST_PER_CONNECTION_MB} MB each "
            f"they take more than half of the {memory} MB that PostgreSQL may reckon with; allow at most "
            f"{memory // 2 // LEAST_PER_CONNECTION_MB}, or raise postgresql_memory_share"
        )
    # A checkpoint's worth of WAL: the guide's 16 GB on its 4 TB; elsewhere no more than 2 % of the disk.
    max_wal = min(max(disk_gb * MB_PER_GB // 50, 256), 16 * MB_PER_GB)
    workers = max(cpus // 2, 8)
    return {
        "max_connections": max_connections,
        "shared_buffers": f"{shared_buffers}MB",
        "effective_cache_size": f"{memory * 3 // 4}MB",
        "work_mem": f"{work_mem}MB",
        "maintenance_work_mem": f"{min(max(memory // 64, 64), 2048)}MB",
        "wal_buffers": f"{min(max(shared_buffers // 32, 1), 64)}MB",
        "checkpoint_completion_target": 0.9,
        "max_wal_size": f"{max_wal}MB",
        "min_wal_size": f"{max(max_wal // 4, 80)}MB",
        "random_page_cost": PAGE_COST[disk],
        "effective_io_concurrency": IO_CONCURRENCY[disk],
        # TimescaleDB's scheduler and jobs, and parallel queries, share these; half the processors stay for
        # the clients' own processes.
        "max_worker_processes": workers,
        "max_parallel_workers": max(workers // 2, 2),
        "max_parallel_workers_per_gather": min(max(cpus // 4, 1), 8),
        # the launcher, one scheduler a database, and jobs: retention, aggregates, partitions
        "timescaledb.max_background_workers": max(workers // 4, 3),
    }
