"""The kernel's settings are written down and put back, here on a tree of ordinary files."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.mev.platform.plugins.module_utils import kernel


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A small /proc/sys: two settings, one action, one that only root may read."""
    for name, value in {
        "vm/swappiness": "60",
        "vm/drop_caches": "0",
        "fs/inotify/max_user_watches": "8192",
        "net/ipv4/ip_forward": "0",
        "kernel/random/boot_id": "x",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value + "\n")
        path.chmod(0o644)
    return tmp_path


def test_only_what_changed_is_put_back_and_no_action_is_triggered(proc: Path) -> None:
    # fails if an action (drop_caches) or a counter is taken for a setting, or an unchanged value is written
    before = kernel.snapshot(proc)
    assert before == {
        "vm/swappiness": "60",
        "fs/inotify/max_user_watches": "8192",
        "net/ipv4/ip_forward": "0",
    }
    (proc / "vm/swappiness").write_text("1\n")
    (proc / "vm/drop_caches").write_text("3\n")
    untouched = (proc / "fs/inotify/max_user_watches").stat().st_mtime_ns
    assert kernel.restore(before, proc) == (["vm.swappiness=60"], [])
    assert (proc / "vm/swappiness").read_text() == "60"
    assert (proc / "vm/drop_caches").read_text() == "3\n"
    assert (proc / "fs/inotify/max_user_watches").stat().st_mtime_ns == untouched


def test_what_the_kernel_refuses_is_reported(proc: Path) -> None:
    # fails if a refused write is taken for done: on a directory every write fails, as EINVAL would
    before = kernel.snapshot(proc)
    path = proc / "vm/swappiness"
    path.write_text("1")
    path.chmod(0o444)
    real = Path.write_text

    def refuse(self: Path, data: str) -> int:
        if self == path:
            raise OSError(22, "Invalid argument")
        return real(self, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "write_text", refuse)
        assert kernel.restore(before, proc) == ([], ["vm.swappiness=60"])


def test_what_others_need_by_now_is_left(proc: Path, tmp_path: Path) -> None:
    # fails if a setting that the operator configured meanwhile is undone, or forwarding is cut off: Docker's
    # containers would lose their network. The last file that names a setting counts, as at boot.
    for name, value in {"net/ipv4/conf/eth0/forwarding": "0", "net/ipv4/conf/eth0/rp_filter": "2"}.items():
        (proc / name).parent.mkdir(parents=True, exist_ok=True)
        (proc / name).write_text(value)
    before = kernel.snapshot(proc)
    assert "net/ipv4/conf/eth0/rp_filter" not in before, "forwarding does not change it: it is not ours"
    (proc / "vm/swappiness").write_text("7")
    (proc / "net/ipv4/ip_forward").write_text("1")
    (proc / "net/ipv4/conf/eth0/forwarding").write_text("1")
    system = tmp_path / "system"
    for name, text in {
        "etc/sysctl.d/50-a.conf": "vm.swappiness = 1\n",
        "usr/lib/sysctl.d/60-b.conf": "# vm.dirty_ratio=1\n-vm/swappiness=7\nnet/ipv4/conf/eth0.1/x=1\n",
        "usr/lib/sysctl.d/50-a.conf": "fs.inotify.max_user_watches=1\n",
    }.items():
        (system / name).parent.mkdir(parents=True, exist_ok=True)
        (system / name).write_text(text)
    meant = kernel.configured(system)
    assert meant == {"vm/swappiness": "7", "net/ipv4/conf/eth0.1/x": "1"}

    def put_back(*, forwarded: bool, meant: dict[str, str]) -> set[str]:
        picked = kernel.ours(before, meant=meant, forwarded=forwarded, root=proc)
        return {name for name in picked if picked[name] != (proc / name).read_text()}

    network = {"net/ipv4/ip_forward", "net/ipv4/conf/eth0/forwarding"}
    unchanged = {"fs/inotify/max_user_watches"}  # differ by their line's end alone, in these files
    assert put_back(forwarded=False, meant={}) - unchanged == {"vm/swappiness", *network}
    assert put_back(forwarded=False, meant=meant) - unchanged == network
    assert put_back(forwarded=True, meant={}) - unchanged == {"vm/swappiness"}
    configured = {"net/ipv4/ip_forward": "1"}
    assert put_back(forwarded=False, meant=configured) - unchanged == {"vm/swappiness"}
