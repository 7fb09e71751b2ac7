"""A machine's size becomes PostgreSQL's settings."""

from __future__ import annotations

import pytest
from ansible_collections.mev.platform.plugins.module_utils.postgresql import settings, sold_as
from hypothesis import given
from hypothesis import strategies as st

# MemTotal in MB as kernels show it, logical processors, disk, its GB, connections, share
MACHINES = {
    "test host": (2000, 1, "ssd", 20, 100, 1.0),
    "laptop": (15_800, 8, "nvme", 500, 100, 0.25),
    "small VM": (3900, 2, "ssd", 80, 100, 1.0),
    "VM": (7900, 4, "ssd", 160, 200, 1.0),
    "old server": (32_000, 8, "hdd", 2000, 200, 1.0),
    "staging": (32_000, 16, "nvme", 400, 200, 0.5),
    "one socket": (64_200, 16, "nvme", 1000, 500, 1.0),
    "the guide's": (128_700, 32, "nvme", 4000, 1000, 1.0),
    "the guide's best": (257_600, 64, "nvme", 4000, 1000, 1.0),
    "two sockets": (515_600, 192, "nvme", 8000, 1000, 1.0),
}


def size(name: str) -> dict[str, str | int | float]:
    memory, cpus, disk, gigabytes, connections, share = MACHINES[name]
    return settings(
        memory_mb=memory, cpus=cpus, disk=disk, disk_gb=gigabytes, max_connections=connections, share=share
    )


def mb(value: str | int | float) -> int:
    return int(str(value).removesuffix("MB"))


def test_the_guides_machine_gets_the_guides_values() -> None:
    # fails when a formula no longer agrees with the guide on the machine for which it was written
    found = size("the guide's")
    assert {name: found[name] for name in found if name not in ("max_parallel_workers", OURS)} == {
        "max_connections": 1000,
        "shared_buffers": f"{32 * 1024}MB",
        "effective_cache_size": f"{96 * 1024}MB",
        "work_mem": "256MB",
        "maintenance_work_mem": f"{2 * 1024}MB",
        "wal_buffers": "64MB",
        "checkpoint_completion_target": 0.9,
        "max_wal_size": f"{16 * 1024}MB",
        "min_wal_size": f"{4 * 1024}MB",
        "random_page_cost": 1.1,
        "effective_io_concurrency": 200,
        "max_worker_processes": 16,
        "max_parallel_workers_per_gather": 8,
    }


OURS = "timescaledb.max_background_workers"


def test_ten_machines() -> None:
    # fails when a size in between gets nonsense: more workers than may run, buffers beyond the memory
    columns = ["shared_buffers", "effective_cache_size", "work_mem", "maintenance_work_mem", "max_wal_size"]
    columns += ["max_worker_processes", "max_parallel_workers_per_gather"]
    print(f"\n{'machine':17}" + "".join(f"{name[:21]:>22}" for name in columns))
    for name, (memory, *_, share) in MACHINES.items():
        found = size(name)
        print(f"{name:17}" + "".join(f"{found[column]:>22}" for column in columns))
        assert mb(found["shared_buffers"]) <= 0.3 * memory * share
        assert mb(found["shared_buffers"]) < mb(found["effective_cache_size"])
        assert mb(found["min_wal_size"]) < mb(found["max_wal_size"])
        background = int(found["max_parallel_workers"]) + int(found[OURS])
        assert background < int(found["max_worker_processes"])
        assert int(found["max_parallel_workers_per_gather"]) <= int(found["max_parallel_workers"])


@given(
    memory=st.integers(2000, 4_000_000),
    cpus=st.integers(1, 512),
    connections=st.integers(20, 500),
    more=st.integers(0, 100_000),
)
def test_more_memory_never_gives_less(memory: int, cpus: int, connections: int, more: int) -> None:
    # fails when rounding to the size that was sold jumps back
    def buffers(megabytes: int) -> int:
        found = settings(
            memory_mb=megabytes, cpus=cpus, disk="nvme", disk_gb=1000, max_connections=connections
        )
        return mb(found["shared_buffers"])

    assert buffers(memory) <= buffers(memory + more)
    assert memory <= sold_as(memory) <= memory / 0.95


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"disk": "tape"}, "postgresql_disk is tape"),
        ({"share": 0.1}, "postgresql_memory_share 0.1 of 4000 MB is"),
        ({"max_connections": 5000}, "postgresql_max_connections is 5000"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(given: dict[str, object], named: str) -> None:
    # fails when a server is sized that could not start, or that would starve the machine
    machine = {"memory_mb": 4000, "cpus": 4, "disk": "ssd", "disk_gb": 100, "max_connections": 100, **given}
    with pytest.raises(ValueError, match=named):
        settings(**machine)  # type: ignore[arg-type]
