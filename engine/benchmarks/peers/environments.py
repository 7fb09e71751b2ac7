"""Environments of the peers: a virtual environment for each, from hash-pinned requirements.

A requirements file is made anew, for another version, by
`echo degenbot==0.6.0a17 | uv pip compile --universal --python-version 3.13 --generate-hashes
--no-emit-index-url --no-header --annotation-style line - -o degenbot-0.6.0a17.txt`
(for 0.5.0 with Python 3.12 and a second line, `sqlalchemy<2.1`: it doesn't import with a newer one).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[2] / ".cache" / "peers"


class PeerUnavailableError(RuntimeError):
    """The peer can't be run on this machine; the message names it and what is missing."""


@dataclass(frozen=True)
class Peer:
    """python: interpreter it needs, as "3.12". runner: module of this package that drives it."""

    python: str
    runner: str


PEERS = {
    "0.5.0": Peer(python="3.12", runner="peers.degenbot_05"),
    "0.6.0a17": Peer(python="3.13", runner="peers.degenbot_06"),
}


def peer(version: str) -> Peer:
    """The peer of that version; ValueError for another one."""
    if version not in PEERS:
        raise ValueError(f"version={version}: the peers are degenbot {' and '.join(PEERS)}")
    return PEERS[version]


def existing(version: str, folder: Path | None = None) -> Path | None:
    """Interpreter of the peer's environment if it is complete and up to date, else None."""
    environment = _environment(version, folder)
    stamp = environment / ".mev-stamp"
    if stamp.is_file() and stamp.read_text() == _key(version):
        return environment / "bin" / "python"
    return None


def ensure(version: str, folder: Path | None = None) -> Path:
    """Interpreter of the peer's environment, made first if need be (0.5.0: 600 MB, about two minutes).

    folder: where the environments are, one folder a version; by default .cache/peers of the checkout.
    PeerUnavailableError if its Python is not here or the installation fails.
    """
    ready = existing(version, folder)
    if ready is not None:
        return ready
    environment = _environment(version, folder)
    python = _find_python(version)
    if environment.exists():
        shutil.rmtree(environment)
    interpreter = environment / "bin" / "python"
    _run(version, str(python), "-m", "venv", str(environment))
    options = ("--quiet", "--disable-pip-version-check", "--require-hashes", "--only-binary=:all:")
    _run(version, str(interpreter), "-m", "pip", "install", *options, "-r", str(_requirements(version)))
    (environment / ".mev-stamp").write_text(_key(version))
    return interpreter


def _environment(version: str, folder: Path | None) -> Path:
    return (CACHE if folder is None else folder) / version


def _requirements(version: str) -> Path:
    return HERE / f"degenbot-{version}.txt"


def _key(version: str) -> str:
    """What shaped the environment: with another one it is made anew."""
    text = f"{peer(version).python}\n{_requirements(version).read_text()}"
    return hashlib.sha256(text.encode()).hexdigest()


def _find_python(version: str) -> Path:
    wanted = peer(version).python
    for candidate in _candidates(wanted):
        # a pyenv shim may lead nowhere
        found = subprocess.run([candidate, "-c", ""], capture_output=True, check=False)
        if found.returncode == 0:
            return candidate
    raise PeerUnavailableError(
        f"degenbot {version} needs Python {wanted}: there is no python{wanted} on PATH nor below "
        f"{_pyenv()}; install one, for instance with `pyenv install {wanted}`"
    )


def _candidates(wanted: str) -> Iterator[Path]:
    on_path = shutil.which(f"python{wanted}")
    if on_path:
        yield Path(on_path)
    yield from sorted(_pyenv().glob(f"versions/{wanted}.*/bin/python"), reverse=True)


def _pyenv() -> Path:
    return Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")


def _run(version: str, *command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PeerUnavailableError(
            f"degenbot {version}: `{' '.join(command)}` failed with {done.returncode}:\n{done.stderr.strip()}"
        )
