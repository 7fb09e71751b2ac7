# Copyright (c) the MEV platform's authors. Apache-2.0 (see LICENSE)
"""What lies under a directory: file system, encryption, RAID, disks."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterable
from typing import Any

from ansible_collections.mev.platform.plugins.module_utils.machine.source import Source

# RAID controllers show their arrays as one SCSI disk; vendor and model tell
_CONTROLLER = re.compile(r"perc|megaraid|avago|\blsi\b|mr9\d|smartarray|logical volume|adaptec|raid", re.I)
_VIRTUAL = re.compile(r"(vd|xvd|rbd|nbd|loop|zram)")
_MD_LINE = re.compile(r"(md\S*) : (active|inactive)(?: \([^)]*\))?(?: (raid\d+|linear|multipath))? (.*)")


def mount_of(source: Source, path: str) -> dict[str, str]:
    """The mount that holds a path, which need not exist: mount point, device number, type, source."""
    best = {"mount": "", "number": "", "filesystem": "", "source": ""}
    for line in source.read("/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or len(kind) < 2:
            continue
        mount = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[4])
        inside = path == mount or path.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best["mount"]):  # a later mount hides an earlier one
            best = {"mount": mount, "number": fields[2], "filesystem": kind[0], "source": kind[1]}
    return best


def filesystems(
    source: Source, paths: Iterable[str], statvfs: Callable[[str], os.statvfs_result] = os.statvfs
) -> list[dict[str, Any]]:
    """Size and free share (for programs that are not root's) of each file system that holds a path."""
    found = {}
    for path in paths:
        mount = mount_of(source, path)["mount"]
        if mount and mount not in found:
            stat = statvfs(str(source.at(mount)))
            found[mount] = {
                "mount": mount,
                "size_gb": math.ceil(stat.f_blocks * stat.f_frsize / 1e9),  # rounded up, as df does
                "free_percent": round(100 * stat.f_bavail / max(stat.f_blocks, 1), 1),
            }
    return list(found.values())


def storage(source: Source, path: str) -> dict[str, Any]:
    """Layers from the file system that holds ``path`` down to its disks.

    ``raid`` is the level that the data lies on (None: no software RAID), ``encrypted`` whether one layer is
    dm-crypt, ``size_gb`` the usable size of the file system's device, ``why`` what keeps all that unknown.
    """
    mount = mount_of(source, path)
    top = source.target(f"/sys/dev/block/{mount['number']}")
    if not top and mount["source"].startswith("/dev/"):  # btrfs numbers its mounts by itself
        top = mount["source"].rpartition("/")[2]
        top = top if source.at(f"/sys/class/block/{top}").exists() else ""
    found: dict[str, Any] = {
        "path": path, "mount": mount["mount"], "filesystem": mount["filesystem"],
        "device": top, "size_gb": None, "layers": [], "disks": [],
        "raid": None, "degraded": False, "encrypted": None, "why": None,
    }  # fmt: skip
    if not top:
        found["why"] = (
            f"{mount['mount']} is {mount['filesystem'] or 'unknown'}, which lies on no block device here"
        )
        return found
    sectors = source.number(f"/sys/class/block/{top}/size")
    found["size_gb"] = None if sectors is None else round(sectors * 512 / 1e9)
    arrays, volumes = mdstat(source.read("/proc/mdstat")), logical_volumes(source)
    layers: dict[str, dict[str, Any]] = {}
    _descend(source, top, layers, arrays, volumes)
    found["layers"] = [layer for layer in layers.values() if layer["kind"] != "disk"]
    found["disks"] = [layer for layer in layers.values() if layer["kind"] == "disk"]
    found["encrypted"] = any(layer["kind"] == "crypt" for layer in found["layers"])
    raids = [layer for layer in found["layers"] if str(layer["kind"]).startswith("raid")]
    if raids:
        kinds = [layer["kind"] for layer in raids]
        nested = kinds[0] == "raid0" and set(kinds[1:]) == {"raid1"}  # stripes over mirrors
        found["raid"] = "raid10" if nested else kinds[0]
        found["degraded"] = any(layer["degraded"] for layer in raids)
    return found


def _descend(
    source: Source,
    name: str,
    layers: dict[str, dict[str, Any]],
    arrays: dict[str, dict[str, Any]],
    volumes: dict[str, dict[str, Any]],
) -> None:
    """Add a block device and all below it, each once, from the top down."""
    if name in layers:
        return
    place = f"/sys/class/block/{name}"
    if source.at(f"{place}/partition").exists():
        _descend(source, source.at(place).resolve().parent.name, layers, arrays, volumes)
        return
    below = source.names(f"{place}/slaves")
    if source.at(f"{place}/md").is_dir() or name in arrays:
        layers[name] = {"name": name, **_array(source, name, arrays)}
    elif source.at(f"{place}/dm").is_dir():
        layers[name] = {"name": source.read(f"{place}/dm/name") or name, **_mapped(source, name, volumes)}
    elif not below:
        layers[name] = {"name": name, "kind": "disk", **_disk(source, name)}
    for lower in below:
        _descend(source, lower, layers, arrays, volumes)


def _array(source: Source, name: str, arrays: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """An md array: sysfs says what is so now, /proc/mdstat fills in what sysfs does not have."""
    listed = arrays.get(name, {})
    place = f"/sys/class/block/{name}/md"
    missing = source.number(f"{place}/degraded")
    missing = listed.get("missing", 0) if missing is None else missing
    state = source.read(f"{place}/array_state")
    return {
        "kind": source.read(f"{place}/level") or listed.get("level", ""),
        "members": source.number(f"{place}/raid_disks") or listed.get("members", 0),
        "degraded": bool(missing) or state in ("inactive", "broken") or listed.get("active") is False,
        "syncing": source.read(f"{place}/sync_action").replace("idle", ""),
    }


def _mapped(source: Source, name: str, volumes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A device-mapper device: its uuid says who made it; of LVM's, lvs knows the level."""
    uuid = source.read(f"/sys/class/block/{name}/dm/uuid")
    if uuid.startswith("CRYPT-"):
        return {"kind": "crypt", "cipher": uuid.split("-")[1]}
    if uuid.startswith("LVM-"):
        volume = volumes.get(source.read(f"/sys/class/block/{name}/dm/name"))
        return volume or {"kind": "lvm, of unknown type"}
    return {"kind": "mapped"}


def _disk(source: Source, name: str) -> dict[str, Any]:
    place = f"/sys/class/block/{name}"
    model = " ".join(
        f"{source.read(f'{place}/device/vendor')} {source.read(f'{place}/device/model')}".split()
    )
    if name.startswith("nvme"):
        kind = "NVMe"
    elif _VIRTUAL.match(name):
        kind = "virtual disk"
    elif _CONTROLLER.search(model):
        kind = "array of a RAID controller"
    else:
        kind = "rotating disk" if source.read(f"{place}/queue/rotational") == "1" else "SSD"
    return {"type": kind, "model": model}


def mdstat(text: str) -> dict[str, dict[str, Any]]:
    """Arrays of /proc/mdstat: level, members that it should have, those that are missing, failed ones."""
    arrays: dict[str, dict[str, Any]] = {}
    name = ""
    for line in text.splitlines():
        if match := _MD_LINE.match(line):
            name = match[1]
            devices = match[4].split()
            arrays[name] = {
                "active": match[2] == "active",
                "level": match[3] or "",
                "members": len(devices),
                "missing": 0,
                "failed": sorted(device.split("[")[0] for device in devices if "(F)" in device),
            }
        elif name and (count := re.search(r"\[(\d+)/(\d+)\]", line)):
            arrays[name]["members"] = int(count[1])
            arrays[name]["missing"] = int(count[1]) - int(count[2])
        elif not line.strip():
            name = ""
    return arrays


def logical_volumes(source: Source) -> dict[str, dict[str, Any]]:
    """LVM's volumes by their device-mapper name, as lvs reports them (root alone may ask)."""
    columns = "vg_name,lv_name,lv_dm_path,segtype,lv_health_status,raid_sync_action"
    status, said = source.run(["lvs", "--reportformat", "json", "--all", "--options", columns])
    try:
        rows = json.loads(said)["report"][0]["lv"] if status == 0 else []
    except (ValueError, KeyError, IndexError):
        rows = []
    return {
        row["lv_dm_path"].rpartition("/")[2]: {
            "kind": row["segtype"] if row["segtype"].startswith("raid") else f"lvm {row['segtype']}",
            "degraded": bool(row.get("lv_health_status")),
            "syncing": row.get("raid_sync_action", "").replace("idle", ""),
        }
        for row in rows
    }
