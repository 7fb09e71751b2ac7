# Copyright (c) 2026, the MEV platform's authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""What the nspawn modules share: records, locks, and how a guest's processes are found.

Everything of ours on a controller lies under one state directory::

    <state_dir>/lock                    held while a module changes something
    <state_dir>/kernel.json             the controller's sysctls before the first network came
    <state_dir>/networks/<bridge>.json  one record a bridge
    <state_dir>/hosts/<name>/           record.json, upper, work, root (the overlay's mount), console.log
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

PACKAGES = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "nft": "nftables",
    "ip": "iproute2",
    "mount": "mount",
}
"""Command that a module calls -> Debian package that has it."""


class HostError(Exception):
    """Something that the caller can mend; the message says how."""


def boot_id() -> str:
    """Identify this boot of the machine: whatever a record of another boot says is gone."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@contextlib.contextmanager
def lock(path: Path, *, waiting: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold an exclusive lock on `path`; the kernel frees it when the holder dies, however it dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting:
                waiting(f"waiting for another run that holds {path}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def read_record(path: Path) -> dict[str, Any] | None:
    """Return the record at `path`, or None where there is none. Records are renamed into place, so
    a broken one is damage that we did not do: it is an error, not an empty record."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    try:
        record: dict[str, Any] = json.loads(text)
    except json.JSONDecodeError as error:
        raise HostError(f"{path} is not JSON ({error}): remove the file and run again") from error
    return record


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write a record so that a reader sees the old one or the new one, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".new")
    with temporary.open("w") as handle:
        json.dump(record, handle, indent=1, sort_keys=True)
        handle.flush()
        os.fsync(handle.fileno())
    temporary.replace(path)


def check_owner(what: str, record: dict[str, Any] | None, owner: str) -> None:
    """Refuse to touch what another checkout made, unless that checkout is gone.

    Raises:
        HostError: the record names another owner whose directory is still there.
    """
    if record is None or record["owner"] == owner or not Path(record["owner"]).exists():
        return
    raise HostError(
        f"{what} belongs to the inventory {record['owner']}, not to {owner}. Destroy it from there "
        f"(make down, or ansible-playbook -i {record['owner']} playbooks/hosts/destroy.yml), or give this "
        "inventory's hosts another name, bridge and subnet."
    )


def run(command: Sequence[str], *, stdin: str | None = None) -> str:
    """Run a command and return what it printed.

    Raises:
        HostError: the command is missing or failed; the message holds what it said.
    """
    try:
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except FileNotFoundError as error:
        package = PACKAGES.get(command[0], command[0])
        raise HostError(
            f"the command {command[0]!r} is missing: apt-get install --no-install-recommends {package}"
        ) from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        raise HostError(f"{' '.join(command)} ended with {done.returncode}: {said}")
    return done.stdout


def mounts_under(path: Path) -> list[Path]:
    """List the mount points at or below `path`, deepest first."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = Path(line.split()[4].encode().decode("unicode_escape"))
        if point == path or path in point.parents:
            found.append(point)
    return sorted(found, key=lambda point: len(point.parts), reverse=True)


def _arguments(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:  # it ended meanwhile; a zombie without a mount table answers EINVAL
        return ""


def _is_supervisor(pid: int, root: Path) -> bool:
    """Say whether `pid` is the shell or the systemd-nspawn that runs the guest, in our pid namespace."""
    if f"--directory={root}" not in _arguments(pid):
        return False
    try:
        return Path(f"/proc/{pid}/ns/pid").readlink() == Path("/proc/self/ns/pid").readlink()
    except (FileNotFoundError, ProcessLookupError):
        return False


def _is_leader(pid: int, root: Path) -> bool:
    """Say whether `pid` is process 1 of a pid namespace whose root is the guest's overlay.

    That holds for a guest whose systemd-nspawn was killed, too: it lives on without it.
    """
    numbers = re.search(r"^NSpid:\s+\d+\s+1$", _read(f"/proc/{pid}/status"), re.MULTILINE)
    upper = f"upperdir={root.parent}/upper"
    return bool(numbers) and any(
        line.split()[4] == "/" and upper in line.split(" - ")[1].split()[-1].split(",")
        for line in _read(f"/proc/{pid}/mountinfo").splitlines()
    )


def _find(test: Callable[[int, Path], bool], root: Path) -> list[int]:
    return sorted(int(path.name) for path in Path("/proc").glob("[0-9]*") if test(int(path.name), root))


def guest_leader(root: Path) -> int | None:
    """Return the pid, seen from here, of the guest's own init; None where none runs."""
    return next(iter(_find(_is_leader, root)), None)


def guest_processes(root: Path) -> list[int]:
    """List the pids of a guest's supervisor, its systemd-nspawn and its init.

    They are known by what they are, not by a recorded number: a number may be another process's by now,
    and a record may be missing after a crash.
    """
    return _find(lambda pid, root: _is_supervisor(pid, root) or _is_leader(pid, root), root)


def _send(test: Callable[[int, Path], bool], root: Path, number: int) -> None:
    """Signal what `test` finds. A pidfd is taken and the test made again before the signal goes out, so
    that a recycled pid is never hit."""
    for pid in _find(test, root):
        with contextlib.suppress(ProcessLookupError):  # it ended by itself
            handle = os.pidfd_open(pid)
            try:
                if test(pid, root):
                    signal.pidfd_send_signal(handle, number)
            finally:
                os.close(handle)


def power_off(root: Path) -> None:
    """Order the guest's systemd to power off, as `systemctl poweroff` in it would."""
    _send(_is_leader, root, signal.SIGRTMIN + 4)  # no member of Signals


def kill(root: Path, seconds: float = 15) -> None:
    """End a guest at once.

    Its init goes first: all of the guest dies with it, and systemd-nspawn then cleans up and ends with its
    supervisor. What is left of these after a while is killed too.

    Raises:
        HostError: a process outlived SIGKILL, which is the kernel's trouble.
    """
    _send(_is_leader, root, signal.SIGKILL)
    if not wait_until(lambda: not guest_processes(root), seconds):
        _send(_is_supervisor, root, signal.SIGKILL)
        _send(_is_leader, root, signal.SIGKILL)
        if not wait_until(lambda: not guest_processes(root), seconds):
            raise HostError(f"its processes {guest_processes(root)} did not end when killed")


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Poll `condition` for at most `seconds`; return whether it came true."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
