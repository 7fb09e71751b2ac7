"""What a host's checklist comes to."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.mev.platform.plugins.module_utils.checklist import SEVERITIES, attestations, judge
from ansible_collections.mev.platform.plugins.module_utils.machine.source import Source
from ansible_collections.mev.platform.plugins.modules.machine_facts import gather

ROOT = Path(__file__).parents[9]
WANTED: dict[str, Any] = {
    "supported": ["Debian-12", "Debian-13"], "platform": "Debian-13", "min_kernel": "5.15",
    "bare_metal": True, "cpu_families": ["EPYC", "Xeon"], "min_cores": 32, "min_memory_mb": 125000,
    "recommended_memory_mb": 250000, "min_disk_gb": 400, "min_free_percent": 20,
    "data_path": "/var/lib/postgresql", "nvme": True,
    "raid_level": "raid10", "min_array_gb": 3800, "encryption": True, "min_nic_mbps": 10000,
    "nic_drivers": ["ice"], "gpu": True, "power_supplies": 2, "ups": True, "clock_sources": ["tsc"],
    "max_clock_offset_ms": 10, "docker": True, "kubernetes": True,
    "mesh": "10.77.0.0/24", "address": "10.77.0.11",
    "endpoints": {"count": 2, "problems": [], "silent": []},
    "packages": [{"what": "Redis", "wanted": True, "provided": "8.0", "least": "7.2", "mend": "elsewhere"}],
}  # fmt: skip
NVME = [{"name": f"nvme{index}n1", "kind": "disk", "type": "NVMe", "model": "x"} for index in range(4)]
MACHINE: dict[str, Any] = {
    "cpu": {"model": "AMD EPYC 9354 32-Core Processor", "sockets": 1, "cores": 32, "threads": 64},
    "memory_mb": 257000,
    "kernel": "6.12.57+deb13-amd64",
    "virtualisation": "none",
    "network": {
        "interface": "bond0", "speed_mbps": 50000, "why": None,
        "cards": [{"name": "eno1", "driver": "ice", "speed_mbps": 25000}],
    },
    "graphics": ["NVIDIA 0x2684 at 0000:41:00.0 (nvidia)"],
    "filesystems": [{"mount": "/", "size_gb": 480, "free_percent": 91.0}],
    "storage": {
        "path": "/var/lib/postgresql", "mount": "/var/lib/postgresql", "filesystem": "ext4", "device": "dm-0",
        "size_gb": 3839, "disks": NVME, "raid": "raid10", "degraded": False, "encrypted": True, "why": None,
        "layers": [
            {"name": "data", "kind": "crypt"},
            {"name": "md0", "kind": "raid10", "members": 4, "degraded": False, "syncing": ""},
        ],
    },
    "power": {"present": ["PS1", "PS2"], "working": ["PS1", "PS2"], "why": None},
    "ups": {"name": "rack-a", "on_mains": True, "battery_good": True, "charge": "100", "why": None},
    "clock": {
        "source": "tsc", "available": ["tsc"], "installed": True, "synchronised": True, "offset_ms": 0.02,
        "server": "ptbtime1.ptb.de", "why": None,
    },
    "names": {"eth.example.org": True},
    "docker": {"version": "26.1.5", "buildx": "v0.13.1", "why": None},
    "kubernetes": {"version": "1.29.3", "ingress_classes": ["nginx"], "why": None},
}  # fmt: skip
NOTHING_NEEDED = {"access", "os", "endpoints", "mesh", "package_redis"}  # not measured on the host


def results(
    changes: dict[str, Any] | None = None,
    wanted: dict[str, Any] | None = None,
    environment: str = "production",
    severity: dict[str, str] | None = None,
) -> dict[str, dict[str, str]]:
    """Items by name, of the good machine with some facts changed (``power.working``: one below another)."""
    machine = copy.deepcopy(MACHINE)
    for path, value in (changes or {}).items():
        *above, last = path.split(".")
        place = machine
        for step in above:
            place = place[step]
        place[last] = value
    lines = judge({"machine": machine}, WANTED | (wanted or {}), environment, severity or {})
    return {line["item"]: line for line in lines}


# Could fail: one check refuses the very machine that the guide asks for.
def test_the_guides_machine_passes_everything() -> None:
    assert {item: line for item, line in results().items() if line["result"] != "passed"} == {}


@pytest.mark.parametrize(
    ("item", "changes", "found"),
    [
        ("kernel", {"kernel": "5.10.0-32-amd64"}, "5.10.0-32-amd64"),
        ("virtualisation", {"virtualisation": "kvm"}, "kvm"),
        ("cpu_model", {"cpu.model": "AMD Ryzen 9 7950X 16-Core Processor"}, "AMD Ryzen 9 7950X"),
        ("cpu_cores", {"cpu.cores": 16}, "16 cores"),
        ("memory", {"memory_mb": 64000}, "64,000 MB"),
        ("root_size", {"filesystems": [{"mount": "/", "size_gb": 99, "free_percent": 90.0}]}, "99 GB"),
        ("free_space", {"filesystems": [{"mount": "/", "size_gb": 999, "free_percent": 3.5}]}, "3.5 % of /"),
        ("nvme", {"storage.disks": [{"name": "sda", "type": "SSD", "model": ""}]}, "sda SSD"),
        ("raid", {"storage.raid": "raid1"}, "raid1 (md0)"),
        ("raid", {"storage.layers": [], "storage.raid": None}, "no RAID"),
        ("raid", {"storage.degraded": True}, "raid10 (md0), degraded"),
        ("array_size", {"storage.size_gb": 1920}, "1,920 GB"),
        ("encryption", {"storage.layers": [], "storage.encrypted": False}, "no dm-crypt"),
        ("nic_speed", {"network.speed_mbps": 1000}, "1,000 Mbit/s"),
        ("gpu", {"graphics": []}, "none"),
        ("power", {"power.working": ["PS1"]}, "1 working"),
        ("ups", {"ups.on_mains": False}, "ON BATTERY"),
        ("clock_source", {"clock.source": "hpet"}, "hpet"),
        ("time_sync", {"clock.offset_ms": 25.1}, "25.1 ms"),
        ("time_sync", {"clock.synchronised": False}, "not synchronised"),
        ("dns", {"names": {"eth.example.org": False}}, "eth.example.org"),
        ("docker", {"docker.version": "20.10.24"}, "20.10.24"),
        ("docker", {"docker.buildx": ""}, "buildx missing"),
        ("kubernetes", {"kubernetes.version": "1.27.9"}, "1.27.9"),
        ("kubernetes", {"kubernetes.ingress_classes": []}, "none"),
    ],
)
# Could fail: a fault of this kind passes, or the report does not say what was found and how to mend it.
def test_each_fault_fails_in_production(item: str, changes: dict[str, Any], found: str) -> None:
    line = results(changes)[item]
    assert line["result"] == "failed"
    assert found in line["found"]
    assert line["wanted"]
    assert line["mend"]
    assert results(changes, severity={item: "warn"})[item]["result"] == "warned"


@pytest.mark.parametrize(
    ("item", "wanted", "found"),
    [
        ("os", {"platform": "Fedora-43"}, "Fedora-43, which is not supported"),
        ("mesh", {"address": "10.78.0.11"}, "10.78.0.11"),
        ("mesh", {"mesh": "10.77.0.1/24"}, "host bits"),
        ("mesh", {"address": ""}, "''"),
        (
            "endpoints",
            {"endpoints": {"count": 1, "problems": ["ethereum: no"], "silent": []}},
            "ethereum: no",
        ),
        (
            "package_redis",
            {"packages": [{**WANTED["packages"][0], "provided": "7.0"}]},
            "Redis of Debian-13 is 7.0",
        ),
        ("package_redis", {"packages": [{**WANTED["packages"][0], "provided": ""}]}, "not packaged"),
        ("memory", {"min_memory_mb": 99999999}, "257,000 MB"),
    ],
)
# Could fail: what makes a deploy impossible only warns in some environment.
@pytest.mark.parametrize("environment", ["production", "staging", "local"])
def test_what_fails_everywhere(item: str, wanted: dict[str, Any], found: str, environment: str) -> None:
    line = results(wanted=wanted, environment=environment)[item]
    assert (line["result"], found in line["found"]) == ("failed", True), line


# Could fail: what can't be read passes. The facts are those of an empty tree without any command.
@pytest.mark.parametrize("environment", ["production", "local"])
def test_nothing_passes_unseen(tmp_path: Path, environment: str) -> None:
    ask = {
        "data_path": "/data",
        "free_paths": ["/"],
        "resolve": ["a.example"],
        "docker": True,
        "kubernetes": True,
    }
    machine = gather(Source(tmp_path), ask)
    for line in judge({"machine": machine}, WANTED, environment, {}):
        if line["item"] not in NOTHING_NEEDED:
            assert line["result"] != "passed", line
            assert line["found"], line


# Could fail: a wish that the inventory does not have is judged all the same, or vanishes from the report.
def test_what_is_not_wanted_is_listed_with_what_was_found() -> None:
    wishes = {
        "bare_metal": False, "cpu_families": [], "min_cores": 0, "nvme": False, "raid_level": "any",
        "min_array_gb": 0, "encryption": False, "min_nic_mbps": 0, "nic_drivers": [], "gpu": False,
        "power_supplies": 0,
        "ups": False,
        "clock_sources": [], "min_free_percent": 0, "docker": False, "kubernetes": False, "mesh": "",
        "endpoints": {"count": 0, "problems": [], "silent": []},
    }  # fmt: skip
    lines = results({"names": {}}, wishes)
    unwanted = {item for item, line in lines.items() if line["result"] == "not wanted"}
    assert unwanted == set(lines) - {
        "access", "os", "kernel", "memory", "root_size", "time_sync", "package_redis"
    }  # fmt: skip
    assert all(lines[item]["found"] for item in unwanted)
    # a degraded array is a fault whatever level is wanted
    assert results({"storage.degraded": True}, wishes)["raid"]["result"] == "failed"


# Could fail: an array behind a controller, or under a hypervisor, is reported as missing.
@pytest.mark.parametrize("kind", ["array of a RAID controller", "virtual disk"])
def test_hidden_arrays_are_not_measurable(kind: str) -> None:
    disks = [{"name": "sda", "type": kind, "model": "DELL PERC H755N"}]
    lines = results({"storage.layers": [], "storage.raid": None, "storage.disks": disks})
    assert {lines[item]["result"] for item in ("raid", "nvme")} == {"not measurable here"}
    assert kind in lines["raid"]["found"]


# Could fail: enough memory is refused, or 128 GB pass where 256 are recommended without a word.
def test_recommended_memory_warns() -> None:
    line = results({"memory_mb": 128500})["memory"]
    assert line["result"] == "warned"
    assert "recommended 250,000 MB" in line["wanted"]


# Could fail: chrony, which the role base brings, is demanded before base could run.
def test_time_before_base_has_run() -> None:
    line = results({"clock.installed": False, "clock.synchronised": False})["time_sync"]
    assert line["result"] == "not measurable here"


# Could fail: an engine's endpoint that this run starts counts as answered.
def test_endpoints_that_are_started_later() -> None:
    wanted = {"endpoints": {"count": 1, "problems": [], "silent": ["ethereum: refused"]}}
    assert results(wanted=wanted)["endpoints"]["result"] == "not measurable here"


# Could fail: a host that can't be asked has no line, and so no failure.
def test_a_host_that_does_not_answer_fails() -> None:
    (line,) = judge({"problem": "Connection refused"}, WANTED, "local", {})
    assert (line["item"], line["result"], line["found"]) == ("access", "failed", "Connection refused")


# Could fail: staging is as lenient as local with software, or as strict as production with hardware.
def test_severity_by_environment() -> None:
    faults = {"kernel": "5.10.0", "cpu.cores": 2}
    for environment, kernel, cores in (
        ("production", "failed", "failed"), ("staging", "failed", "warned"), ("local", "warned", "warned"),
    ):  # fmt: skip
        lines = results(faults, environment=environment)
        assert (lines["kernel"]["result"], lines["cpu_cores"]["result"]) == (kernel, cores)


# Could fail: an item is added whose severity can't be set, or the role's documentation names another.
def test_role_offers_and_documents_the_severity_of_each_item() -> None:
    spec = yaml.safe_load((ROOT / "roles/preflight/meta/argument_specs.yml").read_text())
    offered = spec["argument_specs"]["main"]["options"]["preflight_severity"]["options"]
    told = {item: option["description"].rpartition("else ")[2] for item, option in offered.items()}
    meant = {**SEVERITIES, **attestations.SEVERITIES}
    del meant["access"], meant["os"]  # without them nothing can be done
    assert told == {item: f"{', '.join(words.split())}." for item, words in meant.items()}


# Could fail: the role hands other thresholds to the checklist than those that it reads.
def test_role_gives_every_threshold() -> None:
    variables = yaml.safe_load((ROOT / "roles/preflight/vars/main.yml").read_text())
    assert set(variables["_preflight_wanted"]) == set(WANTED)
