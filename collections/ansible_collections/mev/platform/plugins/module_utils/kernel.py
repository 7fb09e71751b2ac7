# Copyright (c) 2026, the MEV platform's authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Write the kernel's settings down and put them back.

A guest that may write sysctls writes the controller's own kernel where a setting has no namespace:
``vm.*``, ``fs.*`` and much of ``kernel.*``. Forwarding changes ``net.ipv4.conf`` of each interface too.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path

ROOT = Path("/proc/sys")
SHARED = ("vm", "fs", "kernel", "dev", "user", "net/ipv4/conf", "net/ipv4/ip_forward")
"""Trees that a guest or a network of ours may change."""

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
    for tree in SHARED:
        top = root / tree
        for path in [top] if top.is_file() else sorted(top.rglob("*")):
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
