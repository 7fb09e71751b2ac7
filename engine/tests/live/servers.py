"""PostgreSQL and Redis that a test can kill and start again, on unix sockets or a free port."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import redis
from needs import lacks

from .harness import free_port


def _as_user(user: str) -> list[str]:
    """PostgreSQL refuses to run as root."""
    return ["runuser", "-u", user, "--"] if os.geteuid() == 0 else []


class Postgresql:
    """A cluster of its own in a directory of its own; trust is safe, as only we reach the socket."""

    port = 5432
    user = "mev_user"
    name = "mev_infrastructure"

    def __init__(self, binaries: Path, directory: Path) -> None:
        self._binaries = binaries
        self.directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name

    def create(self) -> None:
        if os.geteuid() == 0:
            shutil.chown(self.directory, self._owner)
        arguments = [
            "-D",
            str(self.directory / "data"),
            "-U",
            self.user,
            "--auth=trust",
            "--no-sync",
            "-E",
            "UTF8",
        ]
        subprocess.run(
            [*_as_user(self._owner), str(self._binaries / "initdb"), *arguments],
            check=True,
            capture_output=True,
        )
        self.start()
        with psycopg.connect(
            host=str(self.directory), user=self.user, dbname="postgres", autocommit=True
        ) as connection:
            connection.execute(f"CREATE DATABASE {self.name}".encode())

    def start(self) -> None:
        options = [
            "-c",
            "listen_addresses=",
            "-c",
            f"unix_socket_directories={self.directory}",
            "-c",
            "fsync=off",
        ]
        self._process = subprocess.Popen(
            [
                *_as_user(self._owner),
                str(self._binaries / "postgres"),
                "-D",
                str(self.directory / "data"),
                *options,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(host=str(self.directory), user=self.user, dbname="postgres").close()
                return
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, "PostgreSQL did not start"
                time.sleep(0.05)

    def kill(self) -> None:
        """As `kill -9`: of the postmaster, whose children follow."""
        if self._process is None:
            return
        pid = int((self.directory / "data" / "postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, signal.SIGKILL)
        self._process.wait()
        self._process = None
        (self.directory / "data" / "postmaster.pid").unlink()

    def settings(self) -> dict[str, object]:
        return {"host": str(self.directory), "port": self.port, "name": self.name, "user": self.user}

    def query(self, sql: str) -> list[tuple[object, ...]]:
        with psycopg.connect(
            host=str(self.directory), user=self.user, dbname=self.name, autocommit=True
        ) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []


@contextmanager
def running_postgresql() -> Iterator[Postgresql]:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        lacks("SERVERS", "no PostgreSQL server here: apt-get install postgresql")
    # not below pytest's own directory: a socket's path may have 107 bytes, and root's is closed to others
    with tempfile.TemporaryDirectory(prefix="mev-pg-") as directory:
        server = Postgresql(found[-1].parent, Path(directory))
        Path(directory).chmod(0o755)
        server.create()
        try:
            yield server
        finally:
            server.kill()


class Redis:
    """A Redis that keeps what it acknowledged (appendfsync always), with a user `engine`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        configuration = self.directory / "redis.conf"
        configuration.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self.directory}\nappendonly yes\nappendfsync always\n"
            "save ''\nuser engine on >secret ~mev:* +@connection +xadd +xrevrange +acl|dryrun\n"
        )
        self._process = subprocess.Popen(["redis-server", str(configuration)], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            try:
                self.client().ping()
                return
            except redis.ConnectionError:
                assert time.monotonic() < deadline, "Redis did not start"
                time.sleep(0.02)

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, decode_responses=True)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def settings(self, password_file: Path) -> dict[str, object]:
        password_file.write_text("secret\n")
        return {"port": self.port, "password_file": str(password_file)}


@contextmanager
def running_redis(directory: Path) -> Iterator[Redis]:
    if shutil.which("redis-server") is None:
        lacks("SERVERS", "no Redis server here: apt-get install redis-server")
    server = Redis(directory)
    server.start()
    try:
        yield server
    finally:
        server.kill()
