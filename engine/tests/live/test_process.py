"""The command as systemd runs it: ready, killed, started again, stopped; with all servers there."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .harness import PAIRS, WETH, Chain, free_port, write_pools_file
from .servers import Postgresql, Redis, running_postgresql, running_redis

pytestmark = pytest.mark.chain

COMMAND = [sys.executable, "-m", "mev_engine.cli"]


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[Postgresql, Redis]]:
    (tmp_path / "redis").mkdir()
    with running_postgresql() as postgresql, running_redis(tmp_path / "redis") as redis:
        yield postgresql, redis


def write_config(directory: Path, chain: Chain, postgresql: Postgresql, redis: Redis) -> Path:
    (directory / "redis_password").write_text("secret\n")
    config = directory / "engine.toml"
    config.write_text(f"""
[chain]
name = "ethereum"
chain_id = 31337
endpoints = ["{chain.url}"]
health_interval = 1
[market]
base_tokens = ["{WETH}"]
wrapped_native = "{WETH}"
pools_file = "{write_pools_file(directory / "pools.json")}"
[database]
host = "{postgresql.directory}"
[redis]
port = {redis.port}
[metrics]
port = {free_port()}
[state]
directory = "{directory / "state"}"
""")
    return config


class Service:
    """`mev-engine run` with a notify socket, as a Type=notify unit has one."""

    def __init__(self, config: Path, directory: Path) -> None:
        self._config = config
        self._directory = directory
        self.log = directory / "engine.log"

    def environment(self) -> dict[str, str]:
        return os.environ | {
            "NOTIFY_SOCKET": str(self._directory / "notify"),
            "WATCHDOG_USEC": "300000",
            "CREDENTIALS_DIRECTORY": str(self._directory),
        }

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        (self._directory / "notify").unlink(missing_ok=True)
        self._said: list[str] = []
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(str(self._directory / "notify"))
            reader = threading.Thread(target=self._read, args=(notify,), daemon=True)
            reader.start()
            with self.log.open("ab") as log:
                process = subprocess.Popen(
                    [*COMMAND, "run", "--config", str(self._config)], env=self.environment(), stderr=log
                )
            try:
                self.wait_for("READY=1")
                yield process
            finally:
                if process.poll() is None:
                    process.kill()
                process.wait()
                notify.shutdown(socket.SHUT_RDWR)
                reader.join(5)

    def _read(self, notify: socket.socket) -> None:
        while message := notify.recv(65536):
            self._said += message.decode().split("\n")

    def wait_for(self, assignment: str) -> None:
        deadline = time.monotonic() + 60
        while assignment not in self._said:
            text = f"no {assignment}; the engine said:\n{self.log.read_text()[-3000:]}"
            assert time.monotonic() < deadline, text
            time.sleep(0.02)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments, "--config", str(self._config)],
            env=self.environment(), capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip


def mine_opportunities(chain: Chain, count: int) -> list[int]:
    """Blocks in each of which the first two pairs, of the same tokens, differ by more than the fees."""
    return [
        chain.mine({PAIRS[0]: (10**21 + chain.height(), 10**21), PAIRS[1]: (10**21, 11 * 10**20)})
        for _ in range(count)
    ]


def wait_for_rows(postgresql: Postgresql, blocks: list[int], service: Service) -> None:
    deadline = time.monotonic() + 30
    while postgresql.query("SELECT DISTINCT block_number FROM opportunities ORDER BY 1") != [
        (b,) for b in blocks
    ]:
        assert time.monotonic() < deadline, service.log.read_text()[-3000:]
        time.sleep(0.05)


def test_killed_and_started_again(chain: Chain, servers: tuple[Postgresql, Redis], tmp_path: Path) -> None:
    # fails if a kill loses a block's rows (mined before, during or after), doubles one, or if the
    # restarted engine does not pick up its checkpoint; if SIGTERM is not a clean end
    postgresql, redis = servers
    service = Service(write_config(tmp_path, chain, postgresql, redis), tmp_path)
    migrated = service.command("migrate")
    assert migrated.returncode == 0, migrated.stdout + migrated.stderr
    checked = service.command("check")
    assert checked.returncode == 0, checked.stdout + checked.stderr

    with service.running() as process:
        service.wait_for("WATCHDOG=1")
        blocks = mine_opportunities(chain, 4)
        wait_for_rows(postgresql, blocks, service)
        time.sleep(1.5)  # one write of the checkpoint: what comes before it must not depend on it
        blocks += mine_opportunities(chain, 3)
        process.send_signal(signal.SIGKILL)
        process.wait()
        blocks += mine_opportunities(chain, 3)
    with service.running() as process:
        blocks += mine_opportunities(chain, 2)
        wait_for_rows(postgresql, blocks, service)
        status = service.command("status")
        process.terminate()
        assert process.wait(30) == 0, service.log.read_text()[-3000:]

    rows = postgresql.query("SELECT id FROM opportunities")
    assert len(rows) == len(set(rows))
    entries = redis.client().xrange("mev:opportunities")
    assert isinstance(entries, list)
    assert sorted(fields["id"] for _, fields in entries) == sorted(str(row[0]) for row in rows)  # type: ignore[index]
    assert "blocks_skipped" not in service.log.read_text()
    assert status.returncode == 0, status.stdout


def test_check_names_what_is_wrong(chain: Chain, servers: tuple[Postgresql, Redis], tmp_path: Path) -> None:
    # fails if a missing schema, a wrong password or a dead endpoint passes, or hides the others
    postgresql, redis = servers
    config = write_config(tmp_path, chain, postgresql, redis)
    (tmp_path / "redis_password").write_text("wrong\n")
    chain.kill()
    checked = Service(config, tmp_path).command("check")
    assert checked.returncode == 1
    lines = {line[6:].split()[0]: line for line in checked.stdout.splitlines()}
    assert lines["endpoint"].startswith("FAIL")
    assert chain.url in lines["endpoint"]
    assert "migrations missing: 0001_tables" in lines["database"]
    assert "FAIL" in lines["redis"]
    assert "invalid username-password" in lines["redis"]
