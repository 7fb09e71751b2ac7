# Copyright (c) 2026, the MEV platform's authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Write the kernel's settings down and put them back.

A guest has name spaces for its network, its IPC objects and its host name, and none for the rest: what it
writes below ``vm``, ``fs``, ``kernel``, ``dev`` and ``user`` is written into the controller's own kernel, and
nothing tells afterwards who wrote it. What the controller's own sysctl configuration asks for is therefore
left as it is. Of the network's settings, those that switching ``ip_forward`` on changes are ours, no others.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path

from ansible_collections.mev.platform.plugins.module_utils.sysctl_files import assignments, sysctl_files

ROOT = Path("/proc/sys")
SHARED = ("vm", "fs", "kernel", "dev", "user")
"""Trees that a guest shares with the controller."""

FORWARDING = ("net/ipv4/ip_forward", "net/ipv4/conf/*/forwarding", "net/ipv4/conf/all/accept_redirects")
"""What switching ip_forward changes in the kernel."""

LEFT_ALONE = re.compile(
    r"vm/(compact_memory|drop_caches|stat_refresh)$"  # writing them acts, it sets nothing
    r"|kernel/(ns_last_pid|hung_task_warnings|random/.*|tainted|keys/.*)$"  # counters, or acts
    r"|kernel/(hostname|domainname)$"  # of the UTS name space
    r"|kernel/(msg|sem|shm|mq|auto_msgmni).*$"  # of the IPC name space
    r"|kernel/perf_event_max_sample_rate$"  # the kernel lowers it by itself
    r"|fs/(binfmt_misc|mqueue)/.*$"
)


def snapshot(root: Path = ROOT) -> dict[str, str]:
    """Return `{path below root: value}` of all settings that could be put back."""
    values = {}
    for path in sorted(
        path for pattern in (*(f"{tree}/**/*" for tree in SHARED), *FORWARDING) for path in root.glob(pattern)
    ):
        name = path.relative_to(root).as_posix()
        if LEFT_ALONE.match(name) or not path.is_file():
            continue
        mode = path.stat().st_mode
        if not (mode & stat.S_IRUSR and mode & stat.S_IWUSR):
            continue
        try:
            values[name] = path.read_text().strip()
        except OSError:  # some can't be read in some kernels, and what was not read is not written
            continue
    return values


def configured(root: Path = Path("/")) -> dict[str, str]:
    """Return `{path below /proc/sys: value}` that the controller's sysctl configuration names outright."""
    found: dict[str, str] = {}
    for path in [*sysctl_files(root), root / "etc/sysctl.conf"]:
        found.update(assignments(path.read_text()) if path.is_file() else ())
    return found


def ours(
    values: dict[str, str], *, meant: dict[str, str], forwarded: bool, root: Path = ROOT
) -> dict[str, str]:
    """Pick from `values` what is for us to put back.

    Args:
        values: what `snapshot` returned.
        meant: what `configured` returns by now: where that is the present value, it stays.
        forwarded: others need forwarding by now.
    """
    forward = FORWARDING[0]
    forwarded = forwarded or values.get(forward) != "0" or meant.get(forward) == "1"
    return {
        name: value
        for name, value in values.items()
        if not (forwarded and name.startswith("net/"))
        and not (
            name in meant
            and (root / name).exists()
            and (root / name).read_text().split() == meant[name].split()
        )
    }


def restore(values: dict[str, str], root: Path = ROOT) -> tuple[list[str], list[str]]:
    """Write back each setting that differs.

    Two rounds, because some settings clear their sibling (``vm.dirty_ratio`` and ``vm.dirty_bytes``).

    Returns:
        What was put back and what the kernel refused, as ``name=value``.
    """
    changed: dict[str, str] = {}
    for _ in range(2):
        for name, value in values.items():
            path = root / name
            if path.exists() and path.read_text().strip() != value:
                changed[name] = value
                try:
                    path.write_text(value)
                except OSError:  # reported below, where what still differs is looked at
                    continue
    shown = {name: f"{name.replace('/', '.')}={value}" for name, value in changed.items()}
    refused = [name for name in changed if (root / name).read_text().strip() != values[name]]
    return [text for name, text in shown.items() if name not in refused], [shown[name] for name in refused]
