# Copyright (c) the MEV platform's authors. Apache-2.0 (see LICENSE)
"""PostgreSQL's settings from the machine: the one place where a size becomes a setting.

On the guide's machine (128 GB, 32 cores, NVMe, 1000 connections) the result is the guide's, line by line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

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


UNITS_KB = {"kB": 1, "MB": 1024, "GB": 1024**2, "TB": 1024**3}
BASE_KB = {
    "shared_buffers": 8,
    "wal_buffers": 8,
    "effective_cache_size": 8,
    "temp_buffers": 8,
    "max_wal_size": 1024,
}
"""What a number without a unit counts; kB for the others."""

MEMORY = ("effective_cache_size", "work_mem", "maintenance_work_mem", "autovacuum_work_mem", "temp_buffers")
"""Settings that no single process or plan can make use of beyond the machine's memory."""

GROUPS = ("engine", "database", "cache", "edge", "monitoring")
"""The platform's groups; an inventory may leave one out."""

MOST_OF_MEMORY = 0.8
"""Of the machine's memory, for what PostgreSQL takes for certain; sorting and the system share the rest."""

NEW_CLUSTER_MB = 100
"""A cluster without data, and its first WAL."""

RESERVED = re.compile(
    r"pg_.*|postgres|template[01]|all|none|public|user|replication|same(user|role|group)|current_.*"
)
"""What PostgreSQL or its pg_hba.conf takes for something else than a name."""


def megabytes(name: str, value: object) -> float | None:
    """MB of a memory setting as PostgreSQL reads it; None where it would refuse it, or -1 leaves it to it."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(kB|MB|GB|TB)?\s*", str(value))
    if not found:
        return None
    return float(found[1]) * (UNITS_KB[found[2]] if found[2] else BASE_KB.get(name, 1)) / 1024


def shared_memory(settings: Mapping[str, Any]) -> int:
    """MB of shared memory, a little too much; PostgreSQL says exactly once it is installed."""
    buffers = megabytes("shared_buffers", settings["shared_buffers"]) or 0
    wal = megabytes("wal_buffers", settings.get("wal_buffers", -1)) or 16
    return int(buffers * 1.03 + wal + 32)


def problems(machine: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """What keeps the wanted server from running well on the machine: what, its value, and what to do.

    `machine` is what roles/postgresql/files/postgresql-machine found; `wanted` has host, version, port,
    restart, disk_gb, settings (all), overrides (postgresql_settings), huge_pages_mb (what the host layer sets
    aside for it, or None), database, user, roles (name, clients), groups (of the inventory), device, volume,
    key (whether there is one).
    """
    found = [
        *_names(wanted),
        *_memory(machine, wanted),
        *_huge_pages(machine, wanted),
        *_place(machine, wanted),
    ]
    return [*found, *_device(machine["device"], wanted)] if wanted["device"] else found


def _device(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    what = f"postgresql_data_device is {wanted['device']}, and on {wanted['host']}"
    if not wanted["key"]:
        yield f"{what} postgresql_data_key is empty: give it a key from the vault (openssl rand -hex 32)"
    if found["mounted"] == wanted["volume"]:
        return
    if found["data"]:
        yield f"{what} there is data elsewhere: it is not moved by itself; docs/postgresql.md says how"
    if not found["block"]:
        yield f"{what} that is no block device; name one of /dev/disk/by-id"
    elif found["holds"] not in ("", "crypto_LUKS"):
        yield f"{what} it holds {found['holds']}: nothing is overwritten; wipefs --all it, if that may go"
    if not found["dm_crypt"]:
        yield f"{what} the kernel has no dm-crypt; use a kernel with it, or encrypt below the machine"


def _names(wanted: Mapping[str, Any]) -> Iterator[str]:
    roles = [role["name"] for role in wanted["roles"]]
    for variable, name in (
        ("postgresql_database", wanted["database"]),
        ("postgresql_user", wanted["user"]),
        *((f"postgresql_roles[{index}].name", name) for index, name in enumerate(roles)),
    ):
        if RESERVED.fullmatch(name):
            yield f"{variable} is {name}, which is PostgreSQL's own word; take another name"
    for name in sorted({name for name in roles if [*roles, wanted["user"]].count(name) > 1}):
        where = "postgresql_user and postgresql_roles" if name == wanted["user"] else "postgresql_roles"
        yield f"{where}: {name} is there more than once, and a role has one password; name it once"
    for index, role in enumerate(wanted["roles"]):
        for group in sorted({*role.get("clients", [])} - {*wanted["groups"], *GROUPS}):
            yield f"postgresql_roles[{index}].clients names {group}, which is no group of the inventory"


def _source(name: str, wanted: Mapping[str, Any]) -> str:
    """A setting as its author knows it."""
    if name in wanted["overrides"]:
        return f"postgresql_settings.{name} is {wanted['overrides'][name]}"
    return f"{name} would be {wanted['settings'][name]}"


def _memory(machine: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    settings, total = wanted["settings"], machine["memory_mb"]
    has = f"{wanted['host']} has {total} MB" + (f" ({machine['memory_by']})" if machine["memory_by"] else "")
    for name in MEMORY:
        if (megabytes(name, settings.get(name, 0)) or 0) > total:
            yield f"{_source(name, wanted)}, and {has}; give it less, or leave it to the role"
    shared = shared_memory(settings)
    aside = machine["huge_pages"] * machine["huge_page_mb"]
    ordinary = total - aside
    paged = settings.get("huge_pages", "try") != "off" and aside >= shared
    connections = int(settings["max_connections"]) if str(settings["max_connections"]).isdigit() else 0
    certain = int((0 if paged else shared) + connections * LEAST_PER_CONNECTION_MB)
    if certain > ordinary * MOST_OF_MEMORY:
        beside = f", of which huge pages take {aside} MB" if aside else ""
        yield (
            f"{_source('shared_buffers', wanted)} and {_source('max_connections', wanted)}: PostgreSQL takes "
            f"{certain} MB before it does anything, and {has}{beside}; the two must stay below "
            f"{int(ordinary * MOST_OF_MEMORY)} MB (a connection counts {LEAST_PER_CONNECTION_MB} MB)"
        )


def _huge_pages(machine: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    shared = shared_memory(wanted["settings"])
    there = machine["huge_pages"] * machine["huge_page_mb"]
    if wanted["settings"].get("huge_pages") == "on" and there < shared:
        yield (
            f"postgresql_settings.huge_pages is on, and {wanted['host']} has set aside {there} MB of huge "
            f"pages: PostgreSQL needs about {shared} MB and would not start; apply the host layer with "
            f"kernel_tuning_hugepages_mb: {{postgresql: {shared}}}, or leave huge_pages at try"
        )


def _place(machine: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    host, place = wanted["host"], machine["place"]
    if others := [version for version in machine["clusters"] if version != str(wanted["version"])]:
        yield (
            f"postgresql_version is {wanted['version']}, and {host} has the cluster {others[0]}/main: this "
            "role upgrades no data; use pg_upgradecluster (docs/postgresql.md), or set it back"
        )
    if machine["others"]:
        yield (
            f"postgresql_port is {wanted['port']}, and {', '.join(machine['others'])} listens there on {host}"
            "; take another port, or stop that"
        )
    if machine["port"] not in (0, wanted["port"]) and not wanted["restart"]:
        yield (
            f"postgresql_port is {wanted['port']}, and the server on {host} listens on {machine['port']}: "
            "another port takes a restart, and postgresql_restart is false; allow it in a quiet hour"
        )
    if wanted["disk_gb"] * 1000 > machine["size_mb"] * 1.05:
        yield (
            f"postgresql_disk_gb is {wanted['disk_gb']}, and {place} on {host} has "
            f"{machine['size_mb'] // 1000} GB in all; 0 asks the host"
        )
    wal = megabytes("max_wal_size", wanted["settings"]["max_wal_size"]) or 0
    needed = max(int(wal) - machine["wal_mb"], 0) + (0 if machine["wal_mb"] else NEW_CLUSTER_MB)
    if machine["free_mb"] < needed:
        yield (
            f"{place} on {host} has {machine['free_mb']} MB left of {machine['size_mb']} MB, and PostgreSQL "
            f"needs {needed} MB ({_source('max_wal_size', wanted)}); make room there, or mount a larger disk"
        )


def refusals(trial: Mapping[str, Any], wanted: Mapping[str, Any], huge_page_mb: int) -> list[str]:
    """What PostgreSQL itself says of the settings (roles/postgresql/files/postgresql-try), by variable."""
    overrides = wanted["overrides"]
    found = []
    if not trial["good"]:
        said = " ".join(trial["said"]) or "nothing"
        named = [
            f"postgresql_settings.{name} is {value}"
            for name, value in overrides.items()
            if f'"{name}"' in said
        ]
        found.append(
            f"{', '.join(named) or 'postgresql_settings'}: PostgreSQL says: {said}; correct it or take it out"
        )
    found += [
        f"postgresql_settings.{name}: the TimescaleDB of this server has no such setting; take it out"
        for name in trial["unknown"]
        if name in overrides  # telemetry_level, which the role sets, is not in every build
    ]
    found += [
        f"{name} was set to {value} by ALTER SYSTEM on {wanted['host']}, which wins over the role; put "
        f"it into postgresql_settings, and on the host: ALTER SYSTEM RESET {name}"
        for name, value in trial["altered"].items()
    ]
    aside, needed = wanted["huge_pages_mb"], trial["huge_pages"] * huge_page_mb
    if aside is not None and wanted["settings"].get("huge_pages", "try") != "off" and needed > int(aside):
        found.append(
            f"kernel_tuning_hugepages_mb.postgresql is {aside}, and PostgreSQL takes {needed} MB of huge "
            f"pages or none: that memory would be nobody's; make it {needed}, or take it out"
        )
    return found
