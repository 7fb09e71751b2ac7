"""Runs a peer on a file of cycles, in an environment of its own.

    python -m peers.run 0.6.0a17 cycles.jsonl answers.jsonl            times solving each cycle
    python -m peers.run 0.5.0 quotes.jsonl answers.jsonl --mode quote  times quotes of one pool

Both from engine/benchmarks. `python -m peers.generate` writes cycles and quotes; the formats are in
peers/__init__.py. The first run of a peer makes its environment below .cache/peers, from PyPI.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal, get_args

from peers import environments

Mode = Literal["solve", "quote"]
TIMEOUT = 1800.0


class PeerFailedError(RuntimeError):
    """The peer's process failed or took too long; what it said is on stderr."""


def run(
    version: str,
    cycles_path: Path,
    out_path: Path,
    repeat: int = 5,
    mode: Mode = "solve",
    *,
    folder: Path | None = None,
    timeout: float = TIMEOUT,
) -> None:
    """Writes the peer's answer to each line of `cycles_path` to `out_path`.

    repeat: rounds of which the best counts. folder: see `environments.ensure`. timeout: seconds for all.
    PeerUnavailableError if the peer can't be had here, PeerFailedError if it fails.
    """
    if not cycles_path.is_file():
        raise FileNotFoundError(f"cycles: {cycles_path} is no file; `python -m peers.generate` makes some")
    interpreter = environments.ensure(version, folder)
    command = [str(interpreter), "-m", environments.peer(version).runner]
    command += [str(cycles_path.resolve()), str(out_path.resolve()), "--repeat", str(repeat)]
    if mode == "quote":
        command.append("--quote")
    start = time.monotonic()
    # 0.5.0 writes its settings and a database into HOME as soon as it is imported. With the newest SQLAlchemy
    # that it allows it locks itself out of a database that it makes, not out of an empty one that is there.
    with tempfile.TemporaryDirectory(prefix="peer-") as home:
        database = Path(home) / ".config" / "degenbot" / "degenbot.db"
        database.parent.mkdir(parents=True)
        database.touch()
        environment = {
            "HOME": home,
            "PATH": os.environ.get("PATH", os.defpath),
            "PYTHONPATH": str(environments.HERE.parent),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        try:
            done = subprocess.run(
                command, env=environment, stdout=subprocess.DEVNULL, timeout=timeout, check=False, cwd=home
            )
        except subprocess.TimeoutExpired as error:
            raise PeerFailedError(f"degenbot {version} took over {timeout:g} s for {cycles_path}") from error
    if done.returncode:
        raise PeerFailedError(f"degenbot {version} failed with {done.returncode} on {cycles_path}; see above")
    with out_path.open() as answers:
        count = sum(1 for _ in answers)
    print(f"degenbot {version}: {count} answers in {time.monotonic() - start:.0f} s", file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m peers.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("version", choices=list(environments.PEERS), help="which degenbot")
    parser.add_argument("cycles", type=Path, help="cycles (or quotes), JSON lines")
    parser.add_argument("out", type=Path, help="where its answers go, JSON lines")
    parser.add_argument("--repeat", type=int, default=5, help="rounds, the best counts (default: 5)")
    parser.add_argument("--mode", choices=get_args(Mode), default="solve", help="default: solve")
    parser.add_argument("--folder", type=Path, help="where environments are (default: .cache/peers)")
    parser.add_argument("--timeout", type=float, default=TIMEOUT, help=f"seconds (default: {TIMEOUT:g})")
    args = parser.parse_args()
    try:
        run(
            args.version,
            args.cycles,
            args.out,
            args.repeat,
            args.mode,
            folder=args.folder,
            timeout=args.timeout,
        )
    except (environments.PeerUnavailableError, PeerFailedError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
