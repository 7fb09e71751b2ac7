"""How the tests look at a host: SQL, Redis, metrics, and waiting for something to become true."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

ENGINE = "mev-engine@ethereum.service"
STREAM = "mev:opportunities"


@dataclass(frozen=True)
class Metrics:
    """One look at /metrics, a moment after a look at the chain."""

    chain_height: int
    text: str

    def sum(self, name: str) -> float:
        """Sum of a metric over its labels."""
        values = re.findall(rf"^{re.escape(name)}(?:{{[^}}]*}})? ([0-9.e+-]+)$", self.text, re.MULTILINE)
        assert values, f"no metric {name}"
        return sum(map(float, values))

    @property
    def behind(self) -> float:
        """Blocks between the chain and the engine."""
        return self.chain_height - self.sum("mev_block_height")


@dataclass(frozen=True)
class Platform:
    """One host with everything on it, seen as its operator sees it."""

    host: Any
    secrets: dict[str, Any]

    def run(self, command: str) -> str:
        """Output of a command run by root; the test fails when the command does."""
        with self.host.sudo():
            done = self.host.run(command)
        assert done.rc == 0, f"{command}: exit {done.rc}\n{done.stdout}{done.stderr}"
        return str(done.stdout).strip()

    def sql(self, query: str) -> list[list[str]]:
        database = "mev_infrastructure"
        out = self.run(f"runuser -u postgres -- psql -d {database} -AtX -F '|' -c {shlex.quote(query)}")
        return [line.split("|") for line in out.splitlines()]

    def number(self, query: str) -> int:
        return int(self.sql(query)[0][0])

    def redis(self, *command: str, user: str = "admin", port: int = 6379) -> str:
        password = next(u["password"] for u in self.secrets["redis_users"] if u["name"] == user)
        words = " ".join(shlex.quote(word) for word in command)
        return self.run(
            f"REDISCLI_AUTH={password} redis-cli --no-auth-warning --user {user} -p {port} {words}"
        )

    def stream(self) -> list[dict[str, str]]:
        """All entries of the stream, oldest first."""
        lines = self.redis("XRANGE", STREAM, "-", "+").splitlines()
        entries: list[dict[str, str]] = []
        # redis-cli prints id, then names and values in turn; only ids have this shape
        for line in lines:
            if re.fullmatch(r"\d{13}-\d+", line):
                entries.append({})
                name = ""
            elif not name:
                name = line
            else:
                entries[-1][name] = line
                name = ""
        return entries

    def metrics(self) -> Metrics:
        """The engine's metrics and the chain's height, by one command: each costs a second or more."""
        question = '{"jsonrpc":"2.0","id":1,"method":"eth_blockNumber","params":[]}'
        chain = f"curl -fsS -H 'Content-Type: application/json' -d '{question}' http://127.0.0.1:8545"
        text = self.run(f"{chain} && echo && curl -fsS http://127.0.0.1:9090/metrics")
        answer, _, text = text.partition("\n")
        return Metrics(int(json.loads(answer)["result"], 16), text)

    def metric(self, name: str) -> float:
        return self.metrics().sum(name)

    def unit(self, unit: str, name: str) -> str:
        return self.run(f"systemctl show --property={name} --value {unit}")

    def journal(self, since: str) -> str:
        return self.run(f"journalctl --no-pager --output=cat -u {ENGINE} --since={shlex.quote(since)}")

    def now(self) -> str:
        return self.run("date '+%Y-%m-%d %H:%M:%S'")


def eventually(what: str, condition: Callable[[], bool], seconds: float = 120) -> None:
    """Wait for a condition; what raises meanwhile counts as not yet."""
    last: AssertionError | None = None
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if condition():
                return
        except AssertionError as error:  # a command that fails while its service is away
            last = error
        time.sleep(1)
    pytest.fail(f"not within {seconds:.0f} s: {what}" + (f"; last: {last}" if last else ""))


@pytest.fixture(scope="module")
def platform(host: Any) -> Platform:
    """The host, and the values of the secrets that Ansible gave it (its own templates worked out)."""
    names = ("postgresql_password", "engine_redis_password", "redis_users")
    wanted = "{{ {" + ", ".join(f"'{name}': {name}" for name in names) + "} }}"
    return Platform(host, host.ansible("ansible.builtin.debug", f'msg="{wanted}"')["msg"])


@pytest.fixture
def following(platform: Platform) -> Platform:
    """The same, once the engine has caught up with the chain."""
    eventually("the engine has caught up with the chain", lambda: platform.metrics().behind <= 2)
    return platform
