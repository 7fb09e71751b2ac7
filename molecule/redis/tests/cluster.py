"""The cluster as its clients and its operator see it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
import testinfra  # type: ignore[import-untyped]
from ansible_collections.mev.platform.plugins.module_utils import nspawn
from mev_engine.settings import RedisSettings
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.retry import Retry

ROOT = Path(__file__).parents[3]
HOSTS = Path("/var/lib/mev-platform/hosts")
CONVERGE = "molecule/redis/converge.yml"
STREAM = "mev:opportunities"
STATE, CACHE, SECOND = 6379, 6380, 6381


@dataclass(frozen=True)
class Node:
    """A line of CLUSTER NODES: what a member is, and whose replica."""

    id: str
    host: str
    port: int
    flags: frozenset[str]
    master: str

    @property
    def leads(self) -> bool:
        return "master" in self.flags


@dataclass(frozen=True)
class Cluster:
    inventory: str
    hosts: dict[str, str]
    """Name to address."""
    passwords: dict[str, str]
    ca: str

    def run(self, name: str, command: str) -> str:
        """Output of a command run by root on a host; the test fails when the command does."""
        host = testinfra.get_host(f"ansible://{name}?ansible_inventory={self.inventory}&force_ansible=True")
        with host.sudo():
            done = host.run(command)
        assert done.rc == 0, f"{name}: {command}: exit {done.rc}\n{done.stdout}{done.stderr}"
        return str(done.stdout).strip()

    def playbook(self, path: str, *arguments: str) -> tuple[bool, str]:
        """Whether it ended well, and what it said."""
        command = ["ansible-playbook", "-i", self.inventory, str(ROOT / path), *arguments]
        environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "COLUMNS": "400"}
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=580
        )
        return done.returncode == 0, " ".join((done.stdout + done.stderr).split())

    def converge(self, *arguments: str) -> str:
        good, said = self.playbook(CONVERGE, "--tags=redis", *arguments)
        assert good, said[-3000:]
        return said

    def ways(self, user: str, password: str | None = None) -> dict[str, Any]:
        """How a client connects: by TLS, as this user."""
        return {
            "ssl": True, "ssl_ca_certs": self.ca, "username": user, "decode_responses": True, "protocol": 2,
            "password": self.passwords[user] if password is None else password,
            "socket_timeout": 5, "socket_connect_timeout": 5, "retry": Retry(NoBackoff(), 0),
        }  # fmt: skip

    def client(self, user: str, name: str, port: int = STATE, password: str | None = None) -> redis.Redis:
        return redis.Redis(host=self.hosts[name], port=port, **self.ways(user, password))

    def everywhere(self, user: str) -> RedisCluster:
        """A client that goes where a key is."""
        nodes = [ClusterNode(address, STATE) for address in self.hosts.values()]  # type: ignore[no-untyped-call]
        return RedisCluster(startup_nodes=nodes, **self.ways(user))

    def settings(self, directory: Path) -> RedisSettings:
        """The engine's own."""
        password = directory / "redis_password"
        password.write_text(self.passwords["engine"])
        members = [f"{address}:{STATE}" for address in self.hosts.values()]
        return RedisSettings(cluster=members, tls=True, ca_file=self.ca, password_file=str(password))

    def nodes(self, asked: str) -> list[Node]:
        names = {address: name for name, address in self.hosts.items()}
        found = []
        for at, node in self.client("admin", asked).cluster("NODES").items():
            address, port = at.rsplit(":", 1)
            flags = frozenset(node["flags"].split(","))
            found.append(Node(node["node_id"], names[address], int(port), flags, node["master_id"]))
        return found

    def owner(self, asked: str, key: str = STREAM) -> str:
        """The host that leads the key's slot."""
        names = {address: name for name, address in self.hosts.items()}
        client = self.client("admin", asked)
        slot = client.cluster("KEYSLOT", key)
        ranges: Any = client.execute_command("CLUSTER SLOTS")  # type: ignore[no-untyped-call]
        return next(names[leader[0]] for first, last, leader, *_ in ranges if first <= slot <= last)

    def kill(self, name: str) -> None:
        """kill -9 of a whole host: its init, and all of it with that."""
        nspawn.kill(HOSTS / name / "root")


def eventually(what: str, condition: Callable[[], bool], seconds: float = 120) -> None:
    """Wait for a condition; what raises meanwhile counts as not yet."""
    last: Exception | None = None
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if condition():
                return
        except (AssertionError, redis.RedisError) as error:
            last = error
        time.sleep(0.5)
    raise AssertionError(f"not within {seconds:.0f} s: {what}; last: {last}")


def found(inventory: str) -> Cluster:
    """What the inventory says, its templates worked out."""
    listed = subprocess.run(
        ["ansible-inventory", "-i", inventory, "--list"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    names = json.loads(listed.stdout)["cache"]["hosts"]
    host = testinfra.get_host(f"ansible://{names[0]}?ansible_inventory={inventory}&force_ansible=True")
    text = "{{ {'users': redis_users, 'ca': local_secrets_dir ~ '/ca.crt', 'addresses': groups['cache'] | map('extract', hostvars, 'mev_address') | list} }}"  # noqa: E501
    said = host.ansible("ansible.builtin.debug", f'msg="{text}"')["msg"]
    passwords = {user["name"]: user["password"] for user in said["users"]}
    return Cluster(inventory, dict(zip(names, said["addresses"], strict=True)), passwords, said["ca"])
