"""The cluster as its operator sees it: hosts by name, members by role, the engine's way to its primary."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import testinfra  # type: ignore[import-untyped]
from ansible_collections.mev.platform.plugins.module_utils import nspawn
from mev_engine.settings import DatabaseSettings

ROOT = Path(__file__).parents[3]
HOSTS = Path("/var/lib/mev-platform/hosts")
PRIMARY, REPLICA, DIRECT = 5432, 5433, 5434
"""HAProxy's ports on the host in front."""
DATABASE = "mev_infrastructure"


@dataclass(frozen=True)
class Cluster:
    inventory: str
    databases: list[str]
    front: str
    variables: dict[str, Any]

    def run(self, name: str, command: str) -> str:
        """Output of a command run by root on a host; the test fails when the command does."""
        host = testinfra.get_host(f"ansible://{name}?ansible_inventory={self.inventory}&force_ansible=True")
        with host.sudo():
            done = host.run(command)
        assert done.rc == 0, f"{name}: {command}: exit {done.rc}\n{done.stdout}{done.stderr}"
        return str(done.stdout).strip()

    def playbook(self, name: str, *arguments: str) -> str:
        command = ["ansible-playbook", "-i", self.inventory, str(ROOT / "playbooks" / name), *arguments]
        environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def members(self, asked: str) -> dict[str, dict[str, Any]]:
        """Name to role, state and lag, as one member tells it."""
        said = self.run(asked, "patronictl -c /etc/patroni/config.yml list -f json")
        return {member["Member"]: member for member in json.loads(said)}

    def leader(self, asked: str) -> str:
        return next(name for name, member in self.members(asked).items() if member["Role"] == "Leader")

    def whole(self, asked: str, seconds: int = 300) -> None:
        self.run(asked, f"/usr/local/lib/mev/patroni-roll wait {seconds}")

    def sql(self, name: str, query: str) -> list[list[str]]:
        out = self.run(name, f"runuser -u postgres -- psql -d {DATABASE} -AtX -F '|' -c {shlex.quote(query)}")
        return [line.split("|") for line in out.splitlines()]

    def kill(self, name: str) -> None:
        """kill -9 of a whole host: its init, and all of it with that."""
        nspawn.kill(HOSTS / name / "root")

    @contextmanager
    def tunnel(self, port: int) -> Iterator[int]:
        """A port here that is one of HAProxy's on the host in front."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            here = probe.getsockname()[1]
        v = self.variables
        command = [
            "ssh", "-N", "-i", v["key"], *shlex.split(v["arguments"]), "-L", f"{here}:127.0.0.1:{port}",
            f"{v['user']}@{v['address']}",
        ]  # fmt: skip
        with subprocess.Popen(command) as process:
            try:
                for _ in range(100):
                    with socket.socket() as probe:
                        if probe.connect_ex(("127.0.0.1", here)) == 0:
                            break
                    time.sleep(0.1)
                yield here
            finally:
                process.terminate()

    @contextmanager
    def settings(self, port: int, directory: Path, user: str = "mev_engine") -> Iterator[DatabaseSettings]:
        """The engine's settings for one of HAProxy's ports."""
        password = directory / user
        password.write_text(self.variables[user])
        with self.tunnel(port) as here:
            yield DatabaseSettings(port=here, user=user, password_file=str(password), sslmode="require")
