# Copyright (c) the MEV platform's authors. Apache-2.0 (see LICENSE)
"""Power supplies by IPMI, and an uninterruptible supply by NUT or the kernel."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.mev.platform.plugins.module_utils.machine.source import ABSENT, TIMED_OUT, Source

_BAD = re.compile(r"fail|lost|out-of-range|predictive|config error|absent|inactive", re.IGNORECASE)
_CLASS = "/sys/class/power_supply"


def supplies(source: Source) -> dict[str, Any]:
    """Power supplies that are there, those that work, and why nothing is known."""
    status, said = source.run(["ipmitool", "sdr", "type", "Power Supply"])
    found = {}
    # PS1 Status | 68h | ok | 10.1 | Presence detected
    for fields in ([field.strip() for field in line.split("|")] for line in said.splitlines() if status == 0):
        if len(fields) == 5 and "presence detected" in fields[4].lower():
            found[fields[0]] = not _BAD.search(fields[4]) and fields[2] == "ok"
    if not found:
        mains = [name for name in source.names(_CLASS) if source.read(f"{_CLASS}/{name}/type") == "Mains"]
        found = {name: source.read(f"{_CLASS}/{name}/online") == "1" for name in mains}
    why = None
    if not found:
        why = {
            ABSENT: "ipmitool is not installed",
            TIMED_OUT: "ipmitool did not answer in time",
            0: "IPMI lists no power supply",
        }.get(status, "ipmitool reaches no management controller")
    return {"present": sorted(found), "working": sorted(name for name in found if found[name]), "why": why}


def ups(source: Source) -> dict[str, Any]:
    """The first uninterruptible supply that answers: its name, whether mains feed it, its charge."""
    status, said = source.run(["upsc", "-l"])
    for name in said.split() if status == 0 else []:
        answered, text = source.run(["upsc", name])
        values = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
        if answered == 0 and "ups.status" in values:
            words = values["ups.status"].split()
            return {
                "name": name,
                "on_mains": "OL" in words and "OB" not in words,
                "battery_good": not {"LB", "RB"} & set(words),
                "charge": values.get("battery.charge", ""),
                "why": None,
            }
    for name in source.names(_CLASS):
        if source.read(f"{_CLASS}/{name}/type") == "UPS":
            state = source.read(f"{_CLASS}/{name}/status")
            return {
                "name": name,
                "on_mains": state in ("Charging", "Full", "Not charging"),
                "battery_good": True,
                "charge": source.read(f"{_CLASS}/{name}/capacity"),
                "why": None,
            }
    why = "NUT is not installed" if status == ABSENT else "NUT knows no supply that answers"
    return {"name": "", "on_mains": None, "battery_good": None, "charge": "", "why": why}
