"""The module as a whole, on a tree of ordinary files in place of /."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mev.platform.plugins.module_utils.sysctl import Refused
from ansible_collections.mev.platform.plugins.modules import kernel_settings

THP = "kernel/mm/transparent_hugepage/enabled"


class Host:
    """A root directory with a few settings, and the module run on it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.own = root / "etc/sysctl.d/90-mev-platform.conf"
        self.tmpfiles = root / "etc/tmpfiles.d/90-mev-platform.conf"
        for name, value in {
            "proc/sys/vm/swappiness": "60",
            "proc/sys/net/core/netdev_max_backlog": "1000",
            f"sys/{THP}": "always",
            "proc/meminfo": "MemTotal: 100 kB",
        }.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(f"{value}\n")

    def run(self, check_mode: bool = False, **given: Any) -> dict[str, Any]:
        params = {
            "sysctl": {"vm.swappiness": 1, "kernel.sched_migration_cost_ns": 5000000},
            "sysfs": {THP: "madvise", "kernel/mm/none": "x"},
            "hugepages_mb": None,
            "hugepages_share": 0.5,
            "may_lack": [],
            "sysctl_file": str(self.own),
            "sysfs_file": str(self.tmpfiles),
            "limits_file": "/x",
        }
        module = SimpleNamespace(params={**params, **given}, check_mode=check_mode)
        return kernel_settings.run(cast("AnsibleModule", module), self.root)

    def files(self) -> dict[str, str]:
        return {str(path): path.read_text() for path in self.root.rglob("*") if path.is_file()}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


# Could fail: check mode writes, or tells something else than the run that follows; the second run changes
# something; a value changed by hand stays; what the kernel lacks is not named.
def test_check_apply_repeat_and_drift(host: Host) -> None:
    before = host.files()
    told = host.run(check_mode=True)
    assert host.files() == before
    done = host.run()
    assert {key: told[key] for key in ("changed", "changes", "diff", "lacking")} == {
        key: done[key] for key in ("changed", "changes", "diff", "lacking")
    }
    assert done["changes"]["vm.swappiness"] == {"from": "60", "to": "1"}
    assert set(done["lacking"]) == {"kernel.sched_migration_cost_ns", "/sys/kernel/mm/none"}
    assert "\n-kernel.sched_migration_cost_ns = 5000000\nvm.swappiness = 1\n" in host.own.read_text()
    assert f"w /sys/{THP} - - - - madvise\n" in host.tmpfiles.read_text()
    assert host.run()["changed"] is host.run(check_mode=True)["changed"] is False

    (host.root / "proc/sys/vm/swappiness").write_text("30\n")
    drifted = host.run()
    assert drifted["changes"] == {"vm.swappiness": {"from": "30", "to": "1"}}
    assert (host.root / "proc/sys/vm/swappiness").read_text() == "1"


# Could fail: a failure at the last step leaves one file new, or the values, or temporary files behind.
def test_former_files_come_back(host: Host) -> None:
    host.run()
    host.tmpfiles.unlink()
    before = host.files()
    host.tmpfiles.mkdir()
    with pytest.raises(Refused, match="former values and files are in place again"):
        host.run(sysctl={"vm.swappiness": 7})
    assert host.files() == before


# Could fail: only the first mistake is told, or something is written before all is checked.
def test_all_mistakes_are_told_and_nothing_is_written(host: Host) -> None:
    (host.root / "etc/sysctl.d").mkdir(parents=True)
    (host.root / "etc/sysctl.d/99-local.conf").write_text("vm.swappiness = 60\n")
    (host.root / "etc/security").mkdir(parents=True)
    (host.root / "etc/security/limits.conf").write_text("* hard nofile 2000000\n")
    before = host.files()
    wanted = {"vm.swappiness": 1, "vm.dirty_ratio": 101, "fs.nr_opn": 1, "fs.nr_open": 1048576}
    with pytest.raises(Refused) as refused:
        host.run(sysctl=wanted, hugepages_mb={"postgresql": 1})
    for words in (
        "5 wrong in the kernel's settings; nothing was changed",
        "vm.dirty_ratio is 101: 0 to 100",
        "did you mean fs.nr_open?",
        "99-local.conf is read later and says 60",
        "the kernel would refuse",
        "huge pages",
    ):
        assert words in str(refused.value)
    assert host.files() == before


# Could fail: a key that left the variables is forgotten without a word, though it is in force until a reboot.
def test_keys_that_are_no_longer_set_are_named(host: Host) -> None:
    host.run()
    assert host.run(sysctl={"vm.swappiness": 1})["released"] == ["kernel.sched_migration_cost_ns"]


# Could fail: a module's key has its minus only while the module is away, and its coming changes the file.
def test_a_modules_settings_look_the_same_before_and_after_it_comes(host: Host) -> None:
    wanted = {"net.netfilter.nf_conntrack_max": 1048576}
    assert (
        "net.netfilter is not loaded" in host.run(sysctl=wanted)["lacking"]["net.netfilter.nf_conntrack_max"]
    )
    (host.root / "proc/sys/net/netfilter").mkdir(parents=True)
    (host.root / "proc/sys/net/netfilter/nf_conntrack_max").write_text("1048576\n")
    assert host.run(sysctl=wanted)["changed"] is False
