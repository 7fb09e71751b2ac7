"""How the tests act: commands on a host, SQL, and playbooks as an operator runs them."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import testinfra  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[3]
SCENARIO = Path(__file__).parents[1]
INVENTORY = Path(os.environ.get("ANSIBLE_INVENTORY", SCENARIO / "inventory"))
DATABASE = "mev_infrastructure"


@dataclass(frozen=True)
class Machine:
    """One host of the scenario."""

    host: Any

    def run(self, command: str) -> str:
        """Output of a command run by root; the test fails when the command does."""
        with self.host.sudo():
            done = self.host.run(command)
        assert done.rc == 0, f"{command}: exit {done.rc}\n{done.stdout}{done.stderr}"
        return str(done.stdout).strip()

    def sql(self, query: str) -> str:
        return self.run(f"runuser -u postgres -- psql -d {DATABASE} -AtXc {shlex.quote(query)}")

    def info(self) -> dict[str, Any]:
        """What pgBackRest says of the stanza."""
        known: list[dict[str, Any]] = json.loads(
            self.run("runuser -u postgres -- pgbackrest --output=json info")
        )
        return known[0]

    def started(self) -> str:
        """When PostgreSQL and Redis were started: nothing stopped where this stays."""
        units = "postgresql@17-main.service redis@state.service"
        return self.run(f"systemctl show --property=ActiveState,ExecMainStartTimestampMonotonic {units}")


def _machine(name: str) -> Machine:
    return Machine(
        testinfra.get_host(f"ansible://{name}", ansible_inventory=str(INVENTORY), force_ansible=True)
    )


@pytest.fixture(scope="session")
def database() -> Machine:
    return _machine("mev-data-1")


@pytest.fixture(scope="session")
def recovery() -> Machine:
    return _machine("mev-data-2")


@pytest.fixture(scope="session")
def store() -> Machine:
    return _machine("mev-data-store")


def play(playbook: str, variables: dict[str, Any] | None = None, *arguments: str) -> tuple[bool, str]:
    """Run a playbook with extra variables; whether it went well, and what it said on one line."""
    command = ["ansible-playbook", "-i", str(INVENTORY), playbook, *arguments]
    environment = {
        **os.environ,
        "ANSIBLE_NOCOLOR": "1",
        "COLUMNS": "400",
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
    }
    done = subprocess.run(
        [*command, "--extra-vars", json.dumps(variables or {})],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=580,
    )  # fmt: skip
    return done.returncode == 0, " ".join((done.stdout + done.stderr).split())


def operate(name: str, **variables: Any) -> str:
    """Run a playbook of operations that must go well."""
    good, said = play(f"playbooks/operations/{name}.yml", variables)
    assert good, said[-4000:]
    return said


def eventually(what: str, condition: Callable[[], bool], seconds: float = 120) -> None:
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"not within {seconds:.0f} s: {what}")
        time.sleep(1)


@pytest.fixture(scope="session")
def backed_up(database: Machine) -> Machine:
    """The database's host, once its first backup is done."""

    def done() -> bool:
        state = database.run("systemctl show --property=ActiveState --value mev-backup-database@full.service")
        assert state != "failed", database.run(
            "journalctl --no-pager -n 30 -u mev-backup-database@full.service"
        )
        return state == "inactive" and bool(database.info()["backup"])

    eventually("the first backup is made", done, 240)
    return database


@pytest.fixture(scope="session")
def redis_writer(store: Machine) -> str:
    """Password of the Redis user writer, and of the database's owner."""
    return store.run("sed -n 's/^PGPASSWORD=//p' /opt/store/environment")
