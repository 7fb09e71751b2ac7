"""An anvil process of one's own: started on a free port, stopped and reaped on the way out."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

CHAIN_ID = 31337

_LISTENING = re.compile(r"Listening on (\S+):(\d+)")


class ChainError(RuntimeError):
    """The local chain can't do what is asked; the message names the cause and the mend."""


class ChainAwayError(ChainError):
    """The local chain does not answer: it may come back."""


def default_node_modules() -> Path:
    """Where `npm ci` puts the locked packages in a checkout."""
    return Path(__file__).resolve().parents[2] / "node_modules"


def find_anvil(node_modules: Path | None = None) -> Path:
    """The locked anvil binary. Raises ChainError where it is missing or not made for this machine."""
    node_modules = node_modules or default_node_modules()
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise ChainError(
            f"the locked anvil is for Linux on x86_64, this is {platform.system()} on {platform.machine()}"
        )
    binary = node_modules / "@foundry-rs" / "anvil-linux-amd64" / "bin" / "anvil"
    if not binary.is_file():
        raise ChainError(f"{binary} does not exist; run `npm ci --ignore-scripts` in {node_modules.parent}")
    return binary


@dataclass(frozen=True, slots=True)
class Anvil:
    """A running anvil. One port serves both HTTP and WebSocket."""

    host: str
    port: int
    process: subprocess.Popen[str]

    @property
    def http(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def ws(self) -> str:
        return f"ws://{self.host}:{self.port}"


@contextmanager
def running_anvil(
    *options: str, log: Path, node_modules: Path | None = None, timeout: float = 20.0
) -> Iterator[Anvil]:
    """Run `anvil --port 0 OPTIONS`, yield it when it listens, stop it at the end.

    Its output goes to `log`. Without `--block-time` or `--no-mining` among the options anvil mines a
    block for every transaction. Raises ChainError, with the log's end, if it does not come up within
    `timeout` seconds.
    """
    command = anvil_command(*options, "--port", "0", node_modules=node_modules)
    with log.open("w", encoding="utf-8") as output:
        process = _spawn(command, output)
        try:
            yield Anvil(*_wait_for_port(process, log, timeout), process)
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def anvil_command(*options: str, node_modules: Path | None = None) -> list[str]:
    """The command line: chain id and nothing else is decided here."""
    return [str(find_anvil(node_modules)), "--chain-id", str(CHAIN_ID), *options]


def _spawn(command: Sequence[str], output: IO[str]) -> subprocess.Popen[str]:
    # nice: a test chain must not take the processor from the engine under test
    nice = [nice_path, "-n", "5"] if (nice_path := shutil.which("nice")) else []
    return subprocess.Popen(
        [*nice, *command],
        stdout=output,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
    )


def _wait_for_port(process: subprocess.Popen[str], log: Path, timeout: float) -> tuple[str, int]:
    """anvil prints the port that it was given."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        text = log.read_text(encoding="utf-8", errors="replace")
        if match := _LISTENING.search(text):
            return match[1], int(match[2])
        if process.poll() is not None:
            raise ChainError(f"anvil ended with exit code {process.returncode}:\n{text[-2000:]}")
        time.sleep(0.02)
    raise ChainError(f"anvil did not listen within {timeout:g} s; its log {log} ends:\n{text[-2000:]}")


def recover_state(path: Path, *, keep_blocks: int = 1000) -> str:
    """Make sure that anvil can load the state file `path`, now and for a long time; say what was done.

    anvil writes its state in place, so a kill in that moment leaves half a file, with which it would
    never start again. A whole file is kept as `PATH.good`; half a file is replaced by that copy (the
    chain then goes back a little, as in a reorg) or, where there is none, put aside as `PATH.broken`.
    It also keeps every block for ever, 2 kB each: all but the first and the last `keep_blocks` go.
    """
    good, broken = path.with_name(path.name + ".good"), path.with_name(path.name + ".broken")
    if not path.exists():
        return f"{path} does not exist: a fresh chain"
    try:
        state = json.loads(path.read_bytes())
    except ValueError as error:
        path.replace(broken)
        if not good.exists():
            return f"{path} was not whole ({error}): put aside as {broken}, a fresh chain"
        _write_whole(path, good.read_bytes())
        return f"{path} was not whole ({error}): put aside as {broken}, replaced by {good}"
    blocks = state.get("blocks", [])
    oldest = int(state.get("best_block_number") or 0) - keep_blocks
    kept = [block for block in blocks if not 0 < int(block["header"]["number"], 16) <= oldest]
    if len(kept) < len(blocks):
        state["blocks"] = kept
        _write_whole(path, json.dumps(state).encode())
    _write_whole(good, path.read_bytes())
    return f"{path} is whole: {len(kept)} of {len(blocks)} blocks kept"


def _write_whole(path: Path, content: bytes) -> None:
    """All of it or nothing, whenever this process is killed."""
    temporary = path.with_name(path.name + ".new")
    temporary.write_bytes(content)
    temporary.replace(path)
