"""What lies under a directory, on trees that look like a server's sysfs."""

from __future__ import annotations

import json

import pytest
from ansible_collections.mev.platform.plugins.module_utils.machine.storage import (
    filesystems,
    mdstat,
    mount_of,
    storage,
)
from ansible_collections.mev.platform.tests.unit.plugins.module_utils.machine.conftest import Make, Tree

DATA = "/var/lib/postgresql"
SECTORS = {1.92: 3750748848, 3.84: 7501476528}  # as drives of these sizes in TB have them


def mounted(number: str, mount: str = "/srv", kind: str = "ext4", source: str = "/dev/x") -> Tree:
    """A root file system on a disk of its own, and the one in question."""
    return {
        "proc/self/mountinfo": "22 1 259:9 / / rw,relatime shared:1 - ext4 /dev/nvme9n1p1 rw\n"
        "23 22 0:21 / /proc rw,nosuid - proc proc rw\n"
        f"30 22 {number} / {mount} rw,noatime shared:9 - {kind} {source} rw"
    }


def block(name: str, number: str, place: str, sectors: int, **more: str) -> Tree:
    """A block device and the links by which the kernel finds it."""
    return {
        f"{place}/size": str(sectors),
        f"sys/dev/block/{number}": f"-> {place}",
        f"sys/class/block/{name}": f"-> {place}",
        **{f"{place}/{path.replace('__', '/')}": text for path, text in more.items()},
    }


def nvme(index: int, sectors: int = SECTORS[1.92], model: str = "SAMSUNG MZQL21T9HCJR-00A07") -> Tree:
    """An NVMe drive with two partitions, the second of which carries the data."""
    name, place = (
        f"nvme{index}n1",
        f"sys/devices/pci0000:40/0000:4{index}:00.0/nvme/nvme{index}/nvme{index}n1",
    )
    return {
        **block(name, f"259:{index * 4}", place, sectors, queue__rotational="0", device__model=model),
        **block(f"{name}p2", f"259:{index * 4 + 2}", f"{place}/{name}p2", sectors - 2097152, partition="2"),
    }


def array(level: str, members: list[str], sectors: int, degraded: int = 0, action: str = "idle") -> Tree:
    place = "sys/devices/virtual/block/md0"
    return {
        **block("md0", "9:0", place, sectors),
        f"{place}/md/level": level,
        f"{place}/md/raid_disks": str(len(members)),
        f"{place}/md/degraded": str(degraded),
        f"{place}/md/array_state": "clean",
        f"{place}/md/sync_action": action,
        **{f"{place}/slaves/{member}": f"-> sys/slave-of-md0/{member}" for member in members},
    }


def mapped(index: int, name: str, uuid: str, below: list[str], sectors: int) -> Tree:
    place = f"sys/devices/virtual/block/dm-{index}"
    return {
        **block(f"dm-{index}", f"253:{index}", place, sectors, dm__name=name, dm__uuid=uuid),
        **{f"{place}/slaves/{lower}": f"-> sys/slave-of-dm{index}/{lower}" for lower in below},
    }


PARTS = [f"nvme{index}n1p2" for index in range(4)]
LUKS = "CRYPT-LUKS2-0123456789abcdef0123456789abcdef-data"


# Could fail: LUKS over md over partitions is not followed to the drives, or the size is that of a drive.
def test_raid10_of_four_drives_under_encryption(machine: Make) -> None:
    source = machine(
        mounted("253:0", DATA),
        mapped(0, "data", LUKS, ["md0"], 7497301504),
        array("raid10", PARTS, 7497334272),
        *[nvme(index) for index in range(4)],
    )
    found = storage(source, f"{DATA}/17/main")
    assert (found["raid"], found["degraded"], found["encrypted"]) == ("raid10", False, True)
    assert found["size_gb"] == 3839
    assert [layer["name"] for layer in found["layers"]] == ["data", "md0"]
    assert [disk["name"] for disk in found["disks"]] == ["nvme0n1", "nvme1n1", "nvme2n1", "nvme3n1"]
    assert {disk["type"] for disk in found["disks"]} == {"NVMe"}
    assert found["disks"][0]["model"] == "SAMSUNG MZQL21T9HCJR-00A07"


# Could fail: a mirror is taken for RAID 10 because it has redundancy too.
def test_raid1_is_raid1_and_not_encrypted(machine: Make) -> None:
    source = machine(mounted("9:0"), array("raid1", PARTS[:2], 3748000000), nvme(0), nvme(1))
    found = storage(source, "/srv/data")
    assert (found["raid"], found["encrypted"]) == ("raid1", False)


# Could fail: an array that lost a drive still says raid10 and nothing else.
def test_degraded_array(machine: Make) -> None:
    source = machine(
        mounted("9:0"), array("raid10", PARTS[:3], 7497334272, degraded=1, action="recover"),
        *[nvme(index) for index in range(3)],
    )  # fmt: skip
    found = storage(source, "/srv")
    assert (found["raid"], found["degraded"]) == ("raid10", True)
    assert found["layers"][0]["syncing"] == "recover"


# Could fail: stripes over mirrors, made by hand as two levels, are reported as the unsafe RAID 0.
def test_stripes_over_mirrors_are_raid10(machine: Make) -> None:
    mirrors = {
        path.replace("md0", f"md{number}").replace("9:0", f"9:{number}"): text.replace("md0", f"md{number}")
        for number, pair in ((1, PARTS[:2]), (2, PARTS[2:]))
        for path, text in array("raid1", pair, 3748000000).items()
    }
    drives = [nvme(index) for index in range(4)]
    source = machine(mounted("9:0"), array("raid0", ["md1", "md2"], 7496000000), mirrors, *drives)
    assert storage(source, "/srv")["raid"] == "raid10"


MDSTAT = """Personalities : [raid1] [raid10]
md0 : active raid10 nvme3n1p2[3] nvme2n1p2[2](F) nvme1n1p2[1] nvme0n1p2[0]
      3748667136 blocks super 1.2 512K chunks 2 near-copies [4/3] [UU_U]
      bitmap: 12/28 pages [48KB], 65536KB chunk

md1 : active (auto-read-only) raid1 nvme1n1p1[1] nvme0n1p1[0]
      1046528 blocks super 1.2 [2/2] [UU]

md127 : inactive nvme5n1[0](S)
      1000 blocks super 1.2

unused devices: <none>"""


# Could fail: the words between "active" and the level shift the fields, or a failed member counts as working.
def test_mdstat() -> None:
    arrays = mdstat(MDSTAT)
    assert arrays["md0"] == {
        "active": True, "level": "raid10", "members": 4, "missing": 1, "failed": ["nvme2n1p2"],
    }  # fmt: skip
    assert (arrays["md1"]["level"], arrays["md1"]["missing"]) == ("raid1", 0)
    assert arrays["md127"]["active"] is False


# Could fail: without md's directory in sysfs (in a container) the array's state is taken for good.
def test_mdstat_fills_in_what_sysfs_lacks(machine: Make) -> None:
    tree = {path: text for path, text in array("raid10", PARTS, 1).items() if "/md/" not in path}
    source = machine(mounted("9:0"), tree, {"proc/mdstat": MDSTAT}, *[nvme(index) for index in range(4)])
    found = storage(source, "/srv")
    assert (found["raid"], found["degraded"], found["layers"][0]["members"]) == ("raid10", True, 4)


def lvs(**columns: str) -> str:
    hidden = [
        {
            "lv_name": f"[data_rimage_{i}]",
            "lv_dm_path": f"/dev/mapper/vg0-data_rimage_{i}",
            "segtype": "linear",
        }
        for i in range(4)
    ]
    volume = {
        "vg_name": "vg0", "lv_name": "data", "lv_dm_path": "/dev/mapper/vg0-data", "segtype": "raid10",
        "lv_health_status": "", "raid_sync_action": "idle",
    }  # fmt: skip
    return json.dumps({"report": [{"lv": [{**volume, **columns}, *hidden]}]})


# Could fail: LVM's own RAID is overlooked, or a volume with a missing drive passes because its type is right.
@pytest.mark.parametrize(("health", "degraded"), [("", False), ("partial", True), ("refresh needed", True)])
def test_lvm_raid10(machine: Make, health: str, degraded: bool) -> None:
    images = [f"dm-{index}" for index in range(1, 5)]
    source = machine(
        mounted("253:0"),
        mapped(0, "vg0-data", "LVM-abc", images, 7497334272),
        *[mapped(i + 1, f"vg0-data_rimage_{i}", f"LVM-def{i}", [PARTS[i]], 3748667136) for i in range(4)],
        *[nvme(index) for index in range(4)],
        commands={"lvs": (0, lvs(lv_health_status=health))},
    )
    found = storage(source, "/srv")
    assert (found["raid"], found["degraded"]) == ("raid10", degraded)
    assert len(found["disks"]) == 4


# Could fail: without lvs (not root) a volume of unknown type is reported as no RAID.
def test_lvm_without_lvs_is_unknown(machine: Make) -> None:
    source = machine(mounted("253:0"), mapped(0, "vg0-data", "LVM-abc", [PARTS[0]], 9), nvme(0))
    assert storage(source, "/srv")["layers"][0]["kind"] == "lvm, of unknown type"


@pytest.mark.parametrize(
    ("name", "files", "kind"),
    [
        (
            "sda",
            {"device__vendor": "DELL", "device__model": "PERC H755N Front"},
            "array of a RAID controller",
        ),
        ("sda", {"device__vendor": "HPE", "device__model": "LOGICAL VOLUME"}, "array of a RAID controller"),
        (
            "sda",
            {"device__vendor": "ATA", "device__model": "INTEL SSDSC2KB96", "queue__rotational": "0"},
            "SSD",
        ),
        ("sdb", {"device__model": "ST8000NM000A", "queue__rotational": "1"}, "rotating disk"),
        ("vda", {"queue__rotational": "1"}, "virtual disk"),
    ],
)
# Could fail: a controller's array or a hypervisor's disk passes for a drive whose RAID could be judged.
def test_kinds_of_disks(machine: Make, name: str, files: dict[str, str], kind: str) -> None:
    source = machine(mounted("8:0"), block(name, "8:0", f"sys/devices/pci0/{name}", 1000, **files))
    assert storage(source, "/srv")["disks"][0]["type"] == kind


# Could fail: a container's overlay, or ZFS, is reported as "no RAID, not encrypted" instead of unknown.
@pytest.mark.parametrize("kind", ["overlay", "zfs", "tmpfs"])
def test_no_block_device(machine: Make, kind: str) -> None:
    found = storage(machine(mounted("0:155", "/srv", kind, "tank/data")), "/srv/data")
    assert (found["raid"], found["encrypted"], found["size_gb"]) == (None, None, None)
    assert kind in found["why"]


# Could fail: a sibling whose name begins alike is taken for the mount point, or an escaped space stays.
def test_mount_of(machine: Make) -> None:
    source = machine({
        "proc/self/mountinfo": "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 8:2 / /srv rw - xfs /dev/sda2 rw\n"
        "3 1 8:3 / /my\\040disk rw master:1 propagate_from:2 - xfs /dev/sda3 rw\n"
        "4 2 8:4 / /srv rw - ext4 /dev/sda4 rw"
    })  # fmt: skip
    assert mount_of(source, "/srv2")["mount"] == "/"
    assert mount_of(source, "/my disk/x")["filesystem"] == "xfs"
    assert mount_of(source, "/srv/x")["number"] == "8:4"  # the later mount hides the earlier


# Could fail: two directories on one file system count twice.
def test_each_file_system_once(machine: Make) -> None:
    source = machine({"proc/self/mountinfo": "1 0 8:1 / / rw - ext4 /dev/sda1 rw"})
    found = filesystems(source, ["/", "/var/log", "/opt"])
    assert [fs["mount"] for fs in found] == ["/"]
    assert 0 <= found[0]["free_percent"] <= 100
