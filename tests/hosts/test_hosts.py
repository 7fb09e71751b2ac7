"""Throwaway hosts come, stay, and go without a trace, whatever is killed on the way.

Each test ends in the fixture `inventory`, which destroys and compares mounts, interfaces, addresses, routes,
nftables, sysctls and processes with what they were.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.mev.platform.plugins.module_utils.nspawn import guest_processes, mounts_under

from .conftest import Inventory


def test_a_host_lives_and_leaves_nothing(inventory: Inventory) -> None:
    # fails if a second create changes anything, a reboot does not come back, the host's files are lost in
    # it, or a sysctl that the host wrote into the controller's kernel stays
    inventory.play("create")
    assert "running" in inventory.ssh("systemctl is-system-running --wait")
    inventory.ssh(
        "echo kept >/root/file; sysctl --write vm.swappiness=7 vm.dirty_bytes=50000000 fs.aio-max-nr=99999"
    )
    assert Path("/proc/sys/vm/swappiness").read_text() == "7\n"
    assert inventory.changed(inventory.play("create")) == 0
    first = inventory.leader()
    assert first is not None
    # the reboot takes the connection with it: that raw command can only fail, so it is sent later
    inventory.ssh("systemd-run --on-active=1 systemctl reboot")
    end = time.monotonic() + 60
    while inventory.leader() in (None, first):
        assert time.monotonic() < end, "it did not come back"
        time.sleep(0.1)
    inventory.play("create")
    assert "kept" in inventory.ssh("cat /root/file")


MOMENTS: dict[str, Callable[[Inventory], bool]] = {
    "kernel written down": lambda i: (i.state / "kernel.json").exists(),
    "bridge made": lambda _: Path("/sys/class/net/mev-test").exists(),
    "host recorded": lambda i: (i.root.parent / "record.json").exists(),
    "overlay mounted": lambda i: bool(mounts_under(i.root)),
    "guest starting": lambda i: bool(guest_processes(i.root)),
    "guest started": lambda i: i.leader() is not None,
}


@pytest.mark.parametrize(("moment", "again"), list(zip(MOMENTS, ["destroy", "create"] * 3, strict=True)))
def test_create_killed_at_any_moment_is_finished_or_undone(
    inventory: Inventory, moment: str, again: str
) -> None:
    # fails if what was begun is not found again: a mount without a record, a bridge without rules, a guest
    # that is half up and taken for whole. `destroy` is the fixture's own next step.
    inventory.kill_while("create", lambda: MOMENTS[moment](inventory))
    if again == "create":
        inventory.play("create")
        assert "running" in inventory.ssh("systemctl is-system-running --wait")


def test_destroy_killed_half_way_is_finished(inventory: Inventory) -> None:
    # fails if destroy forgets the host before it has removed all of it
    inventory.play("create")
    inventory.kill_while("destroy", lambda: inventory.leader() is None)


def test_a_guest_that_lost_its_supervisor_is_still_found(inventory: Inventory) -> None:
    # fails if the guest is known by systemd-nspawn alone: its init outlives it, and so does its lock
    inventory.play("create")
    root = inventory.root.stat()
    lock = Path(f"/run/systemd/nspawn/locks/inode-{root.st_dev}:{root.st_ino}")
    assert lock.exists()
    leader = inventory.leader()
    for pid in guest_processes(inventory.root):
        if pid != leader:
            os.kill(pid, signal.SIGKILL)
    assert guest_processes(inventory.root) == [leader]
    inventory.play("destroy")
    assert not lock.exists()


def test_a_half_built_tree_is_never_used(inventory: Inventory, tmp_path: Path) -> None:
    # fails if a tree is taken for whole because its directory is there
    inventory.cache = tmp_path / "trees"
    hosts = inventory.path / "hosts.json"
    hosts.write_text(hosts.read_text().replace("/var/cache/mev-platform/trees", str(inventory.cache)))

    def unpacking() -> bool:
        return any(inventory.cache.glob("building-*/tree/usr/bin/dpkg"))

    inventory.kill_while("create", unpacking)
    inventory.play("create")
    assert [path.name.split("-")[0] for path in sorted(inventory.cache.iterdir())] == ["lock", "trixie"]


def test_another_checkouts_host_is_left_alone(inventory: Inventory, tmp_path: Path) -> None:
    # fails if a second inventory with the same names takes over, or destroys, what is not its own
    inventory.play("create")
    other = Inventory(tmp_path / "other", inventory.state, inventory.cache)
    leader = inventory.leader()
    for playbook in ("create", "destroy"):
        output, _ = other.start(playbook).communicate(timeout=120)
        assert other.running[-1].returncode != 0
        assert f"belongs to the inventory {inventory.path}" in " ".join(output.split())
    assert inventory.leader() == leader
