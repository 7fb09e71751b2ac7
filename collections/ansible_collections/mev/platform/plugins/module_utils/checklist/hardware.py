# Copyright (c) the MEV platform's authors. Apache-2.0 (see LICENSE)
"""What the machine must be: processor, memory, disks, network, power."""

from __future__ import annotations

import re

from ansible_collections.mev.platform.plugins.module_utils.checklist.outcome import (
    FAILED,
    PASSED,
    UNKNOWN,
    UNWANTED,
    WARNED,
    Check,
    Facts,
    Outcome,
    Wanted,
    at_least,
    number,
)


def _cpu_model(machine: Facts, wanted: Wanted) -> Outcome:
    model, families = machine["cpu"]["model"], wanted["cpu_families"]
    if not families:
        return UNWANTED, model or "no name", "any", ""
    want = "one of the families " + ", ".join(families)
    if not model:
        return UNKNOWN, "the processor has no name here", want, ""
    good = any(re.search(rf"\b{re.escape(family)}\b", model, re.IGNORECASE) for family in families)
    return (
        (PASSED if good else FAILED),
        model,
        want,
        "a server's processor is wanted (preflight_cpu_families)",
    )


def _cpu_cores(machine: Facts, wanted: Wanted) -> Outcome:
    cores = machine["cpu"]["cores"] or None
    mend = "use a larger machine, or lower preflight_min_cores for hosts that need not carry the full load"
    return at_least(cores, wanted["min_cores"], "cores", mend)


def _memory(machine: Facts, wanted: Wanted) -> Outcome:
    least, better = wanted["min_memory_mb"], wanted["recommended_memory_mb"]
    mend = "add memory, or lower preflight_min_memory_mb for hosts that need not carry the full load"
    result, said, want, mend = at_least(machine["memory_mb"], least, "MB", mend)
    want += f" (preflight_min_memory_mb: {least})"
    if better > least:
        want += f", recommended {number(better)} MB"
        if result == PASSED and machine["memory_mb"] < better:
            return WARNED, said, want, "enough, and less than preflight_recommended_memory_mb"
    return result, said, want, mend


def _root_size(machine: Facts, wanted: Wanted) -> Outcome:
    least = wanted["min_disk_gb"]
    size = next((fs["size_gb"] for fs in machine["filesystems"] if fs["mount"] == "/"), None)
    mend = "enlarge it, or lower preflight_min_disk_gb for hosts that need not carry the full load"
    result, said, want, mend = at_least(size, least, "GB", mend)
    return result, said, f"{want} (preflight_min_disk_gb: {least})", mend


def _free_space(machine: Facts, wanted: Wanted) -> Outcome:
    least = wanted["min_free_percent"]
    said = ", ".join(f"{number(fs['free_percent'])} % of {fs['mount']}" for fs in machine["filesystems"])
    said = said or "no file system can be seen"
    if least <= 0:
        return UNWANTED, said, "nothing", ""
    short = [fs["mount"] for fs in machine["filesystems"] if fs["free_percent"] < least]
    result = FAILED if short else PASSED if machine["filesystems"] else UNKNOWN
    return result, said, f"{least} % free on each", f"make room on {', '.join(short)}"


def _disks(machine: Facts) -> str:
    storage = machine["storage"]
    kinds = [f"{disk['name']} {disk['type']}" + (f" ({disk['model']})" if disk["model"] else "")
             for disk in storage["disks"]]  # fmt: skip
    return f"{storage['mount']}: {', '.join(kinds)}" if kinds else str(storage["why"])


def _nvme(machine: Facts, wanted: Wanted) -> Outcome:
    kinds = {disk["type"] for disk in machine["storage"]["disks"]}
    if not wanted["nvme"]:
        return UNWANTED, _disks(machine), "any disk", ""
    if not kinds or kinds & {"virtual disk", "array of a RAID controller"}:
        return UNKNOWN, _disks(machine), "NVMe alone", ""
    mend = f"put {wanted['data_path']} on NVMe, or set preflight_nvme to false"
    return (PASSED if kinds == {"NVMe"} else FAILED), _disks(machine), "NVMe alone", mend


def _raid(machine: Facts, wanted: Wanted) -> Outcome:
    storage, level = machine["storage"], wanted["raid_level"]
    arrays = [layer for layer in storage["layers"] if layer["kind"].startswith("raid")]
    state = ", degraded" if storage["degraded"] else ""
    state += "".join(f", {layer['name']}: {layer['syncing']}" for layer in arrays if layer.get("syncing"))
    said = (
        f"{storage['raid']} ({', '.join(layer['name'] for layer in arrays)}){state}" if arrays else "no RAID"
    )
    if not storage["disks"]:
        said = str(storage["why"] or "no disks can be seen")
    if level == "any" and not storage["degraded"]:
        return UNWANTED, said, "any", ""
    want = "RAID of any level, whole" if level == "any" else f"{level}, whole"
    hidden = {disk["type"] for disk in storage["disks"]} & {"virtual disk", "array of a RAID controller"}
    unread = any(layer["kind"] == "lvm, of unknown type" for layer in storage["layers"])
    if not arrays and (hidden or unread or not storage["disks"]):
        return UNKNOWN, f"{_disks(machine)}: its level can't be seen from here", want, ""
    if storage["degraded"]:
        return FAILED, said, want, "replace the missing member before anything is deployed"
    mend = f"put {wanted['data_path']} on {level} (mdadm or LVM), or set preflight_raid_level"
    return (PASSED if storage["raid"] == level else FAILED), said, want, mend


def _array_size(machine: Facts, wanted: Wanted) -> Outcome:
    storage = machine["storage"]
    mend = f"enlarge what carries {wanted['data_path']}, or lower preflight_min_array_gb"
    why = str(storage["why"] or "it can't be read")
    return at_least(storage["size_gb"], wanted["min_array_gb"], "GB", mend, why)


def _encryption(machine: Facts, wanted: Wanted) -> Outcome:
    storage = machine["storage"]
    crypt = [layer["name"] for layer in storage["layers"] if layer["kind"] == "crypt"]
    said = f"dm-crypt ({', '.join(crypt)})" if crypt else f"no dm-crypt under {wanted['data_path']}"
    said = str(storage["why"]) if storage["encrypted"] is None else said
    if not wanted["encryption"]:
        return UNWANTED, said, "encrypted or not", ""
    if storage["encrypted"] is None:
        return UNKNOWN, said, f"dm-crypt under {wanted['data_path']}", ""
    mend = "make the file system on LUKS; drives that encrypt themselves can't be seen from here"
    return (PASSED if crypt else FAILED), said, f"dm-crypt under {wanted['data_path']}", mend


def _nic_speed(machine: Facts, wanted: Wanted) -> Outcome:
    network = machine["network"]
    result, said, want, mend = at_least(
        network["speed_mbps"], wanted["min_nic_mbps"], "Mbit/s",
        "use a faster card or port, or lower preflight_min_nic_mbps", str(network["why"]),
    )  # fmt: skip
    return result, f"{network['interface']}: {said}" if network["cards"] else said, want, mend


def _nic_driver(machine: Facts, wanted: Wanted) -> Outcome:
    cards, drivers = machine["network"]["cards"], wanted["nic_drivers"]
    said = ", ".join(f"{card['name']} {card['driver'] or 'unknown'}" for card in cards)
    said = said or str(machine["network"]["why"])
    if not drivers:
        return UNWANTED, said, "any", ""
    result = UNKNOWN if not cards else PASSED if all(c["driver"] in drivers for c in cards) else FAILED
    return result, said, f"one of {', '.join(drivers)}", "see preflight_nic_drivers"


def _gpu(machine: Facts, wanted: Wanted) -> Outcome:
    said = ", ".join(machine["graphics"]) or "none"
    if not wanted["gpu"]:
        return UNWANTED, said, "with or without", ""
    mend = "add a card, or set preflight_gpu to false"
    return (PASSED if machine["graphics"] else FAILED), said, "a graphics card or accelerator", mend


def _power(machine: Facts, wanted: Wanted) -> Outcome:
    power, least = machine["power"], wanted["power_supplies"]
    known = len(power["working"]) if power["present"] else None
    dead = sorted(set(power["present"]) - set(power["working"]))
    mend = f"see to {', '.join(dead)}" if dead else "add a power supply, or lower preflight_power_supplies"
    return at_least(known, least, "working power supplies", mend, str(power["why"]))


def _ups(machine: Facts, wanted: Wanted) -> Outcome:
    ups = machine["ups"]
    said = str(ups["why"])
    if ups["name"]:
        charge = f", charge {ups['charge']} %" if ups["charge"] else ""
        said = f"{ups['name']}: {'on mains' if ups['on_mains'] else 'ON BATTERY'}{charge}"
        said += "" if ups["battery_good"] else ", battery low or to be replaced"
    if not wanted["ups"]:
        return UNWANTED, said, "with or without", ""
    result = UNKNOWN if not ups["name"] else PASSED if ups["on_mains"] and ups["battery_good"] else FAILED
    return (
        result,
        said,
        "on mains, battery good",
        "see to the mains and the battery before anything is deployed",
    )


CHECKS = (
    Check("cpu_model", "Processor", "fail warn warn", _cpu_model),
    Check("cpu_cores", "Processor cores", "fail warn warn", _cpu_cores),
    # the two that an inventory has always set for its hosts: below them it refuses to deploy anywhere
    Check("memory", "Memory", "fail fail fail", _memory),
    Check("root_size", "Size of /", "fail fail fail", _root_size),
    Check("free_space", "Free space", "fail fail warn", _free_space),
    Check("nvme", "NVMe", "fail warn warn", _nvme),
    Check("raid", "RAID", "fail warn warn", _raid),
    Check("array_size", "Size of the data's device", "fail warn warn", _array_size),
    Check("encryption", "Encryption at rest", "fail warn warn", _encryption),
    Check("nic_speed", "Network speed", "fail warn warn", _nic_speed),
    Check("nic_driver", "Network driver", "warn warn warn", _nic_driver),
    Check("gpu", "Graphics card", "fail warn warn", _gpu),
    Check("power", "Power supplies", "fail warn warn", _power),
    Check("ups", "UPS", "fail warn warn", _ups),
)
