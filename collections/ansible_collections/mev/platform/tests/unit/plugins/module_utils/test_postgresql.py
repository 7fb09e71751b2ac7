"""A machine's size becomes PostgreSQL's settings."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mev.platform.plugins.module_utils.postgresql import (
    megabytes,
    problems,
    refusals,
    settings,
    sold_as,
)
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


MACHINE: dict[str, Any] = {
    "memory_mb": 16_000, "memory_by": "", "huge_page_mb": 2, "huge_pages": 0, "place": "/var/lib/postgresql",
    "size_mb": 400_000, "free_mb": 300_000, "wal_mb": 500, "port": 5432, "others": [], "clusters": ["17"],
}  # fmt: skip
SETTINGS: dict[str, Any] = {
    "shared_buffers": "4000MB", "max_connections": 200, "max_wal_size": "8000MB", "huge_pages": "try"
}  # fmt: skip
WANTED: dict[str, Any] = {
    "host": "db-1", "version": 17, "port": 5432, "restart": True, "disk_gb": 0, "settings": SETTINGS,
    "overrides": {}, "huge_pages_mb": None, "database": "mev_infrastructure", "user": "mev_user",
    "roles": [{"name": "mev_engine", "clients": ["engine"]}], "groups": ["all", "mev", "store"],
    "device": "", "volume": "/dev/mapper/mev-postgresql", "key": False,
}  # fmt: skip
DEVICE: dict[str, Any] = {"block": True, "holds": "", "dm_crypt": True, "mounted": "", "data": False}
ENCRYPTED = {"device": "/dev/nvme1n1", "key": True}
TRIAL: dict[str, Any] = {"good": True, "said": [], "huge_pages": 2100, "unknown": [], "altered": {}}


def override(**given: object) -> dict[str, Any]:
    return {"settings": {**SETTINGS, **given}, "overrides": given}


def test_a_sensible_server_is_let_in() -> None:
    # fails when a check is so strict that it refuses what runs well
    assert problems(MACHINE, WANTED) == []
    assert refusals(TRIAL, WANTED, 2) == []
    # shared memory in huge pages leaves the rest to what is not
    assert problems(MACHINE | {"memory_mb": 5000, "huge_pages": 2100}, WANTED) == []


@pytest.mark.parametrize(
    ("machine", "wanted", "words"),
    [
        (
            {},
            override(shared_buffers="64GB"),
            ["postgresql_settings.shared_buffers is 64GB", "db-1 has 16000 MB"],
        ),
        ({}, override(shared_buffers=2_000_000), ["shared_buffers is 2000000", "takes 16541 MB"]),
        (
            {},
            override(max_connections=7000),
            ["postgresql_settings.max_connections is 7000", "below 12800 MB"],
        ),
        ({}, override(work_mem="20GB"), ["postgresql_settings.work_mem is 20GB, and db-1 has 16000 MB"]),
        ({}, override(effective_cache_size="1TB"), ["postgresql_settings.effective_cache_size is 1TB"]),
        (
            {"memory_mb": 2048, "memory_by": "MemoryMax of system.slice"},
            {},
            ["shared_buffers would be 4000MB", "db-1 has 2048 MB (MemoryMax of system.slice)"],
        ),
        ({"huge_pages": 4000}, override(huge_pages="off", shared_buffers="7GB"), ["huge pages take 8000 MB"]),
        ({}, override(huge_pages="on"), ["postgresql_settings.huge_pages is on", "{postgresql: 4168}"]),
        ({"clusters": ["15", "17"]}, {}, ["postgresql_version is 17", "15/main", "pg_upgradecluster"]),
        ({"others": ["redis-server (pid 7)"]}, {}, ["postgresql_port is 5432, and redis-server (pid 7)"]),
        ({"port": 5433}, {"restart": False}, ["listens on 5433", "postgresql_restart is false"]),
        ({}, {"disk_gb": 4000}, ["postgresql_disk_gb is 4000", "has 400 GB in all"]),
        (
            {"free_mb": 900},
            {},
            ["has 900 MB left of 400000 MB", "needs 7500 MB", "max_wal_size would be 8000MB"],
        ),
        ({"free_mb": 8050, "wal_mb": 0, "clusters": []}, {}, ["needs 8100 MB"]),
        ({}, {"database": "template1"}, ["postgresql_database is template1"]),
        ({}, {"user": "pg_me"}, ["postgresql_user is pg_me"]),
        (
            {},
            {"user": "mev_engine"},
            ["postgresql_user and postgresql_roles: mev_engine is there more than once"],
        ),
        ({}, {"roles": [{"name": "all"}]}, ["postgresql_roles[0].name is all"]),
        ({}, {"roles": [{"name": "a"}, {"name": "a"}]}, ["postgresql_roles: a is there more than once"]),
        ({}, {"roles": [{"name": "a", "clients": ["edges"]}]}, ["postgresql_roles[0].clients names edges"]),
    ],
)
def test_what_does_not_fit_the_machine_is_told(
    machine: dict[str, Any], wanted: dict[str, Any], words: list[str]
) -> None:
    # fails when a wrong value gets as far as the server, or its message does not name it
    found = problems(MACHINE | machine, WANTED | wanted)
    assert len(found) == 1, found
    for word in words:
        assert word in found[0]


def test_a_device_is_encrypted_once_and_then_left_alone() -> None:
    # fails when the second run takes the mounted volume for somebody else's data
    assert problems(MACHINE | {"device": DEVICE}, WANTED | ENCRYPTED) == []
    there = DEVICE | {"holds": "crypto_LUKS", "mounted": "/dev/mapper/mev-postgresql", "data": True}
    assert problems(MACHINE | {"device": there}, WANTED | ENCRYPTED) == []


@pytest.mark.parametrize(
    ("found", "given", "words"),
    [
        ({"holds": "xfs"}, {}, "it holds xfs: nothing is overwritten"),
        ({"block": False}, {}, "that is no block device"),
        ({"dm_crypt": False}, {}, "the kernel has no dm-crypt"),
        ({"data": True, "mounted": "/dev/sda1"}, {}, "there is data elsewhere"),
        ({}, {"key": False}, "postgresql_data_key is empty"),
    ],
)
def test_a_device_that_can_not_be_used_is_refused(
    found: dict[str, Any], given: dict[str, Any], words: str
) -> None:
    # fails when a device with data on it is formatted, or a host ends up half-way without dm-crypt
    said = problems(MACHINE | {"device": DEVICE | found}, WANTED | ENCRYPTED | given)
    assert len(said) == 1, said
    assert said[0].startswith("postgresql_data_device is /dev/nvme1n1, and on db-1")
    assert words in said[0]


@pytest.mark.parametrize(
    ("trial", "wanted", "words"),
    [
        (
            {"good": False, "said": ['invalid value for parameter "work_mem": "lots"']},
            override(work_mem="lots"),
            ["postgresql_settings.work_mem is lots: PostgreSQL says: invalid value"],
        ),
        ({"good": False}, {}, ["postgresql_settings: PostgreSQL says: nothing"]),
        (
            {"unknown": ["timescaledb.x"]},
            override(**{"timescaledb.x": 1}),
            ["postgresql_settings.timescaledb.x: "],
        ),
        (
            {"altered": {"work_mem": "'1GB'"}},
            {},
            ["work_mem was set to '1GB'", "ALTER SYSTEM RESET work_mem"],
        ),
        ({}, {"huge_pages_mb": 4100}, ["kernel_tuning_hugepages_mb.postgresql is 4100", "make it 4200"]),
    ],
)
def test_what_postgresql_refuses_is_told_by_variable(
    trial: dict[str, Any], wanted: dict[str, Any], words: list[str]
) -> None:
    # fails when the server's words can't be told from ours, or huge pages are set aside for nobody
    found = refusals(TRIAL | trial, WANTED | wanted, 2)
    assert len(found) == 1, found
    for word in words:
        assert word in found[0]


@pytest.mark.parametrize(
    ("name", "value", "mb"),
    [
        ("shared_buffers", "16384", 128),
        ("work_mem", 4096, 4),
        ("work_mem", "1.5GB", 1536),
        ("max_wal_size", 1, 1),
        ("work_mem", "512kB", 0.5),
        ("wal_buffers", -1, None),
        ("work_mem", "4 gb", None),
    ],
)
def test_memory_is_read_as_postgresql_does(name: str, value: object, mb: float | None) -> None:
    # fails when a number without a unit is taken for another one: shared_buffers count in blocks of 8 kB
    assert megabytes(name, value) == mb
