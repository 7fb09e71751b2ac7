# Copyright (c) the MEV platform's authors. Apache-2.0 (see LICENSE)
"""Processor, memory, kernel, virtualisation, clock, graphics cards and names."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

from ansible_collections.mev.platform.plugins.module_utils.machine.source import ABSENT, Source

_VENDORS = {"0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel"}
_GRAPHICS, _ACCELERATOR = "0x03", "0x12"  # PCI base classes


def cpu(source: Source) -> dict[str, Any]:
    """Model, sockets, physical cores and threads from /proc/cpuinfo."""
    threads: list[dict[str, str]] = []
    for block in source.read("/proc/cpuinfo").split("\n\n"):
        fields = {
            name.strip(): value.strip()
            for name, colon, value in (line.partition(":") for line in block.splitlines())
            if colon
        }
        if "processor" in fields:
            threads.append(fields)
    known = all("core id" in thread for thread in threads)
    cores = {(thread.get("physical id", "0"), thread["core id"]) for thread in threads} if known else None
    return {
        "model": " ".join(threads[0].get("model name", "").split()) if threads else "",
        "sockets": len({thread.get("physical id", "0") for thread in threads}),
        # a virtual machine may hide its topology: then a thread counts as a core
        "cores": len(cores) if cores is not None else len(threads),
        "threads": len(threads),
    }


def memory_mb(source: Source) -> int | None:
    """All memory that the kernel has, in MiB, as Ansible's own fact counts it."""
    for line in source.read("/proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) // 1024
    return None


def kernel(source: Source) -> str:
    """Release of the running kernel."""
    return source.read("/proc/sys/kernel/osrelease")


def virtualisation(source: Source) -> str:
    """What systemd-detect-virt says (``none`` on bare metal); empty when nobody can tell."""
    status, said = source.run(["systemd-detect-virt"])
    if said.strip():  # it exits with 1 after printing "none"
        return said.strip()
    if status != ABSENT or not source.read("/proc/cpuinfo"):
        return ""
    flags = next((line for line in source.read("/proc/cpuinfo").splitlines() if line.startswith("flags")), "")
    return "a hypervisor" if "hypervisor" in flags.split() else ""


def clock(source: Source) -> dict[str, Any]:
    """Clock source of the kernel, and what chrony says of the time."""
    found: dict[str, Any] = {
        "source": source.read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "available": source.read(
            "/sys/devices/system/clocksource/clocksource0/available_clocksource"
        ).split(),
        "installed": True,
        "synchronised": False,
        "offset_ms": None,
        "server": "",
        "why": None,
    }
    status, said = source.run(["chronyc", "-c", "tracking"])
    fields = said.strip().split(",")
    if status == ABSENT:
        found["installed"], found["why"] = False, "chrony is not installed"
    elif status != 0 or len(fields) < 14:
        found["why"] = "chronyd does not answer"
    else:  # chronyc(1), tracking: 2 name, 5 offset of the system's time in seconds, 14 leap status
        found["server"] = fields[1]
        found["synchronised"] = fields[13] != "Not synchronised"
        found["offset_ms"] = round(abs(float(fields[4])) * 1000, 3)
    return found


def graphics(source: Source) -> list[str]:
    """Graphics cards and accelerators on PCI by their vendors' names; a server's console chip is none."""
    cards = []
    for address in source.names("/sys/bus/pci/devices"):
        device = f"/sys/bus/pci/devices/{address}"
        if source.read(f"{device}/class")[:4] in (_GRAPHICS, _ACCELERATOR):
            vendor = _VENDORS.get(source.read(f"{device}/vendor"))
            driver = source.target(f"{device}/driver") or "no driver"
            if vendor:
                cards.append(f"{vendor} {source.read(f'{device}/device')} at {address} ({driver})")
    return cards


def names(source: Source, wanted: Iterable[str]) -> dict[str, bool]:
    """Which names resolve, by the system's own rules (getent asks what every program asks)."""
    found = {}
    for name in wanted:
        try:
            ipaddress.ip_address(name)
        except ValueError:
            found[name] = source.run(["getent", "ahosts", name])[0] == 0
    return found
