"""The report says of each host what other tools say; what can't be had is refused with what was found."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
UNKNOWN, UNWANTED = "not measurable here", "not wanted"


def preflight(config: pytest.Config, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the playbook against the very inventory of this run."""
    command = [
        "ansible-playbook", "playbooks/operations/preflight.yml",
        "--inventory", str(Path(config.getoption("--ansible-inventory")).resolve()),
        "--extra-vars", json.dumps({"preflight_report_dir": str(folder)}), *arguments,
    ]  # fmt: skip
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "COLUMNS": "400"}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300
    )


@pytest.fixture(scope="session")
def report(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The newest report, made in check mode: it must be whole there too."""
    folder = tmp_path_factory.mktemp("preflight")
    done = preflight(pytestconfig, folder, "--check")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert set(re.findall(r"changed=(\d+)", done.stdout)) == {"0"}, done.stdout[-3000:]
    made: dict[str, Any] = json.loads((folder / "latest.json").read_text())
    page = (folder / "latest.html").read_text()
    assert all(host["name"] in page for host in made["hosts"])
    assert len(list(folder.iterdir())) == 4  # under its time, and as the latest; nothing half-made
    return made


@pytest.fixture(scope="session")
def items(report: dict[str, Any]) -> dict[str, dict[str, dict[str, str]]]:
    """Host to item to line."""
    return {host["name"]: {line["item"]: line for line in host["items"]} for host in report["hosts"]}


READINGS = r"""
echo "os=$(. /etc/os-release; echo "$ID-$VERSION_ID")"
echo "kernel=$(uname -r)"
echo "virtualisation=$(systemd-detect-virt)"
echo "model=$(lscpu | sed -n 's/^Model name: *//p')"
echo "cores=$(lscpu --parse=Core,Socket | grep -v '^#' | sort -u | wc -l)"
echo "memory=$(free -m | awk '/^Mem:/ {print $2}')"
echo "root_size=$(df --block-size=1000000000 --output=size / | tail -n 1 | tr -d ' ')"
echo "free=$(df --output=avail,size / | awk 'END {printf "%.1f", 100 * $1 / $2}')"
echo "device=$(findmnt --noheadings --output SOURCE --target /)"
echo "interface=$(ip route show default | awk '{print $5; exit}')"
echo "kind=$(ip -details link show "$(ip route show default | awk '{print $5; exit}')" | grep -owm 1 veth)"
echo "clock_source=$(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
for tool in ipmitool upsc chronyc; do echo "$tool=$(command -v $tool)"; done
echo "leap=$(chronyc tracking 2>/dev/null | sed -n 's/^Leap status *: *//p')"
"""


@pytest.fixture(scope="module")
def readings(host: Any) -> dict[str, str]:
    """What other tools say of this host."""
    with host.sudo():
        done = host.run(READINGS)
    return dict(line.split("=", 1) for line in str(done.stdout).splitlines() if "=" in line)


# Could fail: an item is missing, shows another host's figure, or is not judged by what it shows.
def test_each_item_is_what_other_tools_say(
    host: Any, readings: dict[str, str], items: dict[str, dict[str, dict[str, str]]]
) -> None:
    mine = items[host.backend.get_hostname()]
    said = {item: (line["result"], line["found"]) for item, line in mine.items()}
    threads = int(readings["cores"])
    assert said["access"][0] == "passed"
    assert said["os"] == ("passed", readings["os"].capitalize())
    assert said["kernel"] == ("passed", readings["kernel"])
    assert said["virtualisation"] == ("warned", readings["virtualisation"])
    assert said["cpu_model"][1] == readings["model"]
    assert said["cpu_cores"] == ("warned" if threads < 32 else "passed", f"{threads} cores")
    assert said["memory"] == ("passed", f"{int(readings['memory']):,} MB")
    assert said["root_size"] == ("passed", f"{int(readings['root_size']):,} GB")
    free = re.search(r"([\d.]+) % of /", said["free_space"][1])
    assert free
    assert float(free[1]) == pytest.approx(float(readings["free"]), abs=2)
    assert said["free_space"][0] == ("passed" if float(free[1]) >= 20 else "warned")
    assert said["clock_source"] == ("passed" if readings["clock_source"] == "tsc" else "warned",
                                    readings["clock_source"])  # fmt: skip


# Could fail: what a container hides passes or fails, without the reason why it can't be seen.
def test_what_a_container_hides_is_not_measurable(
    host: Any, readings: dict[str, str], items: dict[str, dict[str, dict[str, str]]]
) -> None:
    mine = items[host.backend.get_hostname()]
    assert not readings["device"].startswith("/dev/")
    for item in ("nvme", "raid", "array_size"):
        assert mine[item]["result"] == UNKNOWN, mine[item]
        assert "no block device" in mine[item]["found"]
    assert readings["kind"] == "veth"
    assert mine["nic_speed"]["result"] == UNKNOWN
    assert readings["interface"] in mine["nic_speed"]["found"]
    for item, tool in (("power", "ipmitool"), ("ups", "upsc")):
        assert readings[tool] == ""
        assert mine[item]["result"] == UNKNOWN
        assert "not installed" in mine[item]["found"]


# Could fail: the clock is judged without chrony's word, or against it.
def test_time_is_what_chrony_says(
    host: Any, readings: dict[str, str], items: dict[str, dict[str, dict[str, str]]]
) -> None:
    line = items[host.backend.get_hostname()]["time_sync"]
    if not readings["chronyc"]:
        assert line["result"] == UNKNOWN
    elif readings["leap"] in ("", "Not synchronised"):
        assert line["result"] == "warned"
    else:
        assert line["result"] in ("passed", "warned")
        assert re.match(r"[\d.]+ ms off ", line["found"])


# Could fail: an item that nobody asked for vanishes, or local is refused for want of attestations.
def test_what_is_not_wanted_and_what_nobody_attests(
    host: Any, items: dict[str, dict[str, dict[str, str]]]
) -> None:
    mine = items[host.backend.get_hostname()]
    for item in ("gpu", "docker", "kubernetes", "endpoints", "dns", "package_postgresql", "package_redis"):
        assert mine[item]["result"] == UNWANTED, mine[item]
    environment = items["the environment"].values()
    assert [line["result"] for line in environment] == ["warned"] * 5


# Could fail: the run stops at the first host or item, hides the value found, or warns where it should
# refuse.
def test_an_impossible_threshold_fails_with_what_was_found(
    pytestconfig: pytest.Config, tmp_path: Path, items: dict[str, dict[str, dict[str, str]]]
) -> None:
    wish = {
        "preflight_min_memory_mb": 99999999,
        "preflight_min_cores": 4096,
        "preflight_severity": {"cpu_cores": "fail"},
    }
    done = preflight(pytestconfig, tmp_path, "--extra-vars", json.dumps(wish))
    said = " ".join(done.stdout.split())
    assert done.returncode != 0
    for name, mine in items.items():
        if "memory" in mine:
            assert f"{name}: Memory: {mine['memory']['found']}; wanted: at least 99,999,999 MB" in said
            assert f"{name}: Processor cores: {mine['cpu_cores']['found']}; wanted: at least 4,096" in said
    counts = json.loads((tmp_path / "latest.json").read_text())["counts"]
    assert counts["failed"] == 2 * (len(items) - 1)
