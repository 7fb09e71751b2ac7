"""Each test has an inventory with a bridge, a subnet and a state directory that nothing else uses."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from ansible_collections.mev.platform.plugins.module_utils import kernel
from ansible_collections.mev.platform.plugins.module_utils.nspawn import guest_leader, run

ROOT = Path(__file__).parents[2]
PLAYBOOKS = ROOT / "playbooks/hosts"
OTHERS = re.compile(r"\bmev[-_](?!test\b|mev_test\b)|\b10\.87\.(?!3\.)")
"""Hosts of other inventories, which may come and go while these tests run."""


@dataclass
class Inventory:
    """One throwaway host in an inventory below `path`."""

    path: Path
    state: Path
    cache: Path
    name: str = "mev-test"
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.path / "group_vars").mkdir(parents=True)
        shutil.copy(ROOT / "inventories/local/group_vars/throwaway.yml", self.path / "group_vars")
        host = {
            "ansible_host": "10.87.3.11",
            "nspawn_bridge": "mev-test",
            "nspawn_network": "10.87.3.1/24",
            "nspawn_state_dir": str(self.state),
            "nspawn_cache_dir": str(self.cache),
        }
        (self.path / "hosts.json").write_text(json.dumps({"throwaway": {"hosts": {self.name: host}}}))

    @property
    def root(self) -> Path:
        """Where the host's files are seen on the controller."""
        return self.state / "hosts" / self.name / "root"

    def start(self, playbook: str, **environment: str) -> subprocess.Popen[str]:
        """Start create or destroy and return at once."""
        process = subprocess.Popen(
            ["ansible-playbook", "-i", str(self.path), str(PLAYBOOKS / f"{playbook}.yml")],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, **environment}, start_new_session=True,
        )  # fmt: skip
        self.running.append(process)
        return process

    def play(self, playbook: str) -> str:
        """Run create or destroy to a good end and return what it printed."""
        output, _ = self.start(playbook).communicate(timeout=400)
        assert self.running[-1].returncode == 0, output
        return output

    def changed(self, output: str) -> int:
        """Read from a play's recap how much it changed for the host; localhost has a line of its own."""
        found = re.search(rf"^{self.name} +: .*\bchanged=(\d+)", output, re.MULTILINE)
        assert found, output
        return int(found[1])

    def ssh(self, script: str) -> str:
        """Run a shell script on the host as root, as a user would."""
        command = [
            "ansible",
            "-i",
            str(self.path),
            self.name,
            "-b",
            "-m",
            "ansible.builtin.raw",
            "-a",
            script,
        ]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.split("\n", 1)[1]

    def leader(self) -> int | None:
        """Return the pid of the host's init."""
        return guest_leader(self.root)

    def kill_while(self, playbook: str, moment: Callable[[], bool]) -> None:
        """Start a playbook and kill -9 all of it, modules too, as soon as `moment` holds.

        Ansible's workers leave its process group, so they are known by a mark in their environment; the
        guest's supervisor has an environment of its own and lives on, as it would.
        """
        mark = f"MEV_TEST_MARK={uuid.uuid4()}"
        process = self.start(playbook, **dict([mark.split("=")]))
        end = time.monotonic() + 200
        while not moment():
            assert process.poll() is None, f"{playbook} ended before the moment came"
            assert time.monotonic() < end, "the moment never came"
            time.sleep(0.002)
        for _ in range(3):  # what was forked while we looked
            for entry in Path("/proc").glob("[0-9]*"):
                try:
                    if mark.encode() in (entry / "environ").read_bytes():
                        os.kill(int(entry.name), signal.SIGKILL)
                except (
                    FileNotFoundError,
                    ProcessLookupError,
                    PermissionError,
                ):  # it ended, or is the system's
                    continue
        process.communicate(timeout=10)
        assert process.returncode == -signal.SIGKILL, f"{playbook} had already ended"


def machine() -> dict[str, object]:
    """Everything on this machine that throwaway hosts may leave behind."""

    def ours(text: str) -> bool:
        return not OTHERS.search(text)

    mounts = [line.split(" ", 4)[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    tables = json.loads(run(["nft", "--json", "list", "tables"]))["nftables"]
    names = [f"{t['table']['family']} {t['table']['name']}" for t in tables if "table" in t]
    return {
        "mounts": sorted(filter(ours, mounts)),
        "links": sorted(filter(ours, (path.name for path in Path("/sys/class/net").iterdir()))),
        "addresses": sorted(filter(ours, run(["ip", "-oneline", "address"]).splitlines())),
        "routes": sorted(filter(ours, run(["ip", "route", "show", "table", "all"]).splitlines())),
        "rules": {name: run(["nft", "list", "table", *name.split()]) for name in names if ours(name)},
        "sysctls": {name: value for name, value in kernel.snapshot().items() if ours(name)},
        "nspawn": sorted(filter(ours, map(str, Path("/run/systemd/nspawn/propagate").glob("*")))),
        "processes": [
            entry.name
            for entry in Path("/proc").glob("[0-9]*")
            if entry.name != str(os.getpid()) and b"--machine=mev-test\0" in _cmdline(entry)
        ],
    }


def _cmdline(entry: Path) -> bytes:
    try:
        return (entry / "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
        return b""


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The usual cache of trees: building one takes most of a minute."""
    if os.getuid() != 0:
        pytest.fail("these tests change this machine's network and mounts: run them as root")
    return Path("/var/cache/mev-platform/trees")


@pytest.fixture
def inventory(tmp_path: Path, cache: Path) -> Iterator[Inventory]:
    """An inventory, and proof that after `destroy` the machine is as it was."""
    before = machine()
    made = Inventory(tmp_path / "inventory", tmp_path / "state", cache)
    yield made
    made.play("destroy")
    assert machine() == before
    assert [path.name for path in made.state.rglob("*") if path.is_file()] == ["lock"]
    assert made.changed(made.play("destroy")) == 0, "a second destroy found something to do"
