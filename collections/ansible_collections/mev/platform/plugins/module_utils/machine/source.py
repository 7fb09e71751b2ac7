# Copyright (c) the MEV platform's authors. Apache-2.0 (see LICENSE)
"""Where facts are read from: a root directory (a tree of fixtures in tests) and a way to run commands."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ABSENT = 127  # what a shell says of a command that is not installed
TIMED_OUT = 124  # what timeout(1) says
Run = Callable[[Sequence[str]], tuple[int, str]]
"""A command's exit status and what it printed on standard output."""


def no_commands(_: Sequence[str]) -> tuple[int, str]:
    """Run nothing: as if no command were installed."""
    return ABSENT, ""


def run_command(command: Sequence[str], timeout: float = 10) -> tuple[int, str]:
    """Run a command that only reads; a controller or a daemon that hangs must not hold the check up."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin:/bin"
    try:
        done = subprocess.run(
            list(command), check=False, capture_output=True, text=True, errors="replace", timeout=timeout,
            stdin=subprocess.DEVNULL, env={**os.environ, "PATH": path, "LC_ALL": "C"},
        )  # fmt: skip
    except (FileNotFoundError, PermissionError):
        return ABSENT, ""
    except subprocess.TimeoutExpired:
        return TIMED_OUT, ""
    return done.returncode, done.stdout


@dataclass(frozen=True)
class Source:
    """The machine that is looked at."""

    root: Path = Path("/")
    run: Run = no_commands

    def at(self, path: str) -> Path:
        """Where an absolute path lies below the root."""
        return self.root / path.lstrip("/")

    def read(self, path: str) -> str:
        """A file's text without white space around it; empty when it can't be read (an interface that is
        down refuses its speed with EINVAL)."""
        try:
            return self.at(path).read_text(errors="replace").strip()
        except OSError:
            return ""

    def number(self, path: str) -> int | None:
        """A file's number, or None."""
        try:
            return int(self.read(path))
        except ValueError:
            return None

    def names(self, path: str) -> list[str]:
        """What a directory holds, in order; nothing when there is none."""
        try:
            return sorted(entry.name for entry in self.at(path).iterdir())
        except OSError:
            return []

    def target(self, path: str) -> str:
        """The last name of where a link leads (sysfs names drivers and parents by links); empty when none."""
        link = self.at(path)
        return link.resolve().name if link.exists() else ""
