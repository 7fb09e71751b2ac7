"""Kernel settings are checked, set all or none, and put back; here on files in place of /proc/sys."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mev.platform.plugins.module_utils import sysctl, sysctl_files
from ansible_collections.mev.platform.plugins.module_utils.sysctl_keys import KEYS, Rule
from hypothesis import given
from hypothesis import strategies as st

BEFORE = {
    "vm/swappiness": "60",
    "vm/dirty_ratio": "20",
    "vm/dirty_bytes": "0",
    "vm/mmap_rnd_bits": "28",
    "net/core/netdev_max_backlog": "1000",
    "net/core/somaxconn": "4096",
    "net/ipv4/tcp_congestion_control": "cubic",
    "net/ipv4/conf/default/rp_filter": "0",
}


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /proc/sys that refuses some values, alters another and keeps one of vm.dirty_ratio and _bytes."""
    for name, value in BEFORE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{value}\n")

    def kernel(file: Path, value: str) -> None:
        name = file.relative_to(tmp_path).as_posix()
        if (name, value) in {("vm/mmap_rnd_bits", "5"), ("vm/dirty_bytes", "0")}:
            raise OSError(errno.EINVAL, "Invalid argument")
        if (name, value) == ("net/ipv4/tcp_congestion_control", "bbr"):
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        file.write_text("65535\n" if (name, value) == ("net/core/somaxconn", "99999") else f"{value}\n")
        for one, other in (("ratio", "bytes"), ("bytes", "ratio")):
            if name == f"vm/dirty_{one}":
                (tmp_path / f"vm/dirty_{other}").write_text("0\n")

    monkeypatch.setattr(sysctl, "write", kernel)
    return tmp_path


def now(proc: Path) -> dict[str, str]:
    return {name: (proc / name).read_text().strip() for name in BEFORE}


def prepared(proc: Path, given: dict[str, Any]) -> list[sysctl.Setting]:
    problems: list[str] = []
    settings, _ = sysctl.settings_of(sysctl.values_of(given, problems), proc, [], problems)
    assert problems == []
    return settings


# Could fail: a value that no kernel takes passes, so that it is found out only after others were written.
@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("vm.swappiness", 500, "vm.swappiness is 500: 0 to 200"),
        ("vm.swappiness", "1 2", "a whole number is wanted"),
        ("vm.swappiness", True, "vm.swappiness is True"),
        ("vm.swappiness", None, "vm.swappiness is None"),
        ("vm.swappiness", 1.5, "vm.swappiness is 1.5"),
        ("vm.swappiness", "1\nvm.dirty_ratio = 0", "one line of text"),
        ("vm.swappiness", "", "one line of text"),
        ("net.ipv4.tcp_rmem", "4096 65536", "3 whole numbers"),
        ("net.ipv4.tcp_rmem", "4096 65536 1024", "no number may be less than the one before"),
        ("net.ipv4.tcp_congestion_control", "brr", "one of bbr, bic"),
        ("swappiness", 1, "no name of a setting"),
        ("vm/../../etc/passwd", 1, "no name of a setting"),
        ("net.ipv4.conf.*.rp_filter", 1, "no name of a setting"),
        ("vm.drop_caches", 3, "writing it acts"),
        ("net.ipv4.route.flush", 1, "writing it acts"),
    ],
)
def test_bad_values_are_refused_at_the_door(key: str, value: Any, words: str) -> None:
    problems: list[str] = []
    sysctl.values_of({key: value}, problems)
    assert len(problems) == 1
    assert words in problems[0]


# Could fail: the file would hold a key twice, or two keys of which the kernel keeps one.
def test_values_that_contradict_each_other_are_refused() -> None:
    problems: list[str] = []
    sysctl.values_of(
        {"vm.swappiness": 1, "vm/swappiness": 2, "vm.dirty_ratio": 5, "vm.dirty_bytes": 9000}, problems
    )
    assert [problem.split(":")[0] for problem in problems] == [
        "vm/swappiness",
        "vm.dirty_ratio and vm.dirty_bytes",
    ]


# Could fail: a slip is taken for a key that the kernel lacks (and silently does nothing), or the reverse.
@pytest.mark.parametrize(
    ("key", "lacks", "words"),
    [
        ("kernel.sched_migration_cost_ns", True, "this kernel has no such key"),
        ("net.netfilter.nf_conntrack_max", True, "net.netfilter is not loaded"),
        ("net.netfilter.nf_conntrack_new_one", True, "net.netfilter is not loaded"),
        ("net.netfilter.nf_conntrak_max", False, "did you mean net.netfilter.nf_conntrack_max?"),
        ("net.ipv4.conf.eth7.rp_filter", True, "no interface eth7"),
        ("net.ipv4.conf.eth7.rp_filtr", False, "net.ipv4.conf.default.rp_filter"),
        ("vm.swapiness", False, "did you mean vm.swappiness?"),
        ("vm.mmap_rnd_bit", False, "did you mean vm.mmap_rnd_bits?"),
        ("zzz.qqq", False, "none is known by that name"),
        ("zzz.may", True, "may_lack names it"),
        ("net.core", False, "a folder of settings"),
    ],
)
def test_a_lacking_key_is_told_from_a_misspelt_one(proc: Path, key: str, lacks: bool, words: str) -> None:
    problems: list[str] = []
    settings, lacking = sysctl.settings_of({sysctl_files.path_of(key): "1"}, proc, ["zzz.may"], problems)
    assert settings == []
    told = [*lacking.values()] if lacks else problems
    assert len(lacking) + len(problems) == len(told) == 1
    assert words in told[0]


# Could fail: in a container's network a key of the machine's own would be an error, and the role stop there.
def test_what_belongs_to_the_machines_network_is_lacking_in_a_container(proc: Path) -> None:
    (proc / "net/core/netdev_max_backlog").unlink()
    (proc / "net/core/somaxconn").chmod(0o444)
    problems: list[str] = []
    wanted = {"net/core/busy_poll": "50", "net/core/somaxconn": "8192"}
    settings, lacking = sysctl.settings_of(wanted, proc, [], problems)
    assert (settings, problems, set(lacking)) == ([], [], set(wanted))
    (proc / "net/core/netdev_max_backlog").touch()
    _, lacking = sysctl.settings_of({"net/core/somaxconn": "8192"}, proc, [], problems)
    assert lacking == {}
    assert "lets it be read only" in problems[0]


# Could fail: what was written before the failure stays, or a sibling that the kernel cleared is forgotten.
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"vm.mmap_rnd_bits": 5}, "vm.mmap_rnd_bits: the kernel refuses 5 (Invalid argument); it has 28"),
        ({"net.core.somaxconn": 99999}, "net.core.somaxconn: 99999 was wanted, and 65535 is read back"),
    ],
)
@pytest.mark.parametrize("dirty", ["vm.dirty_bytes", "vm.dirty_ratio"])
def test_all_or_none(proc: Path, given: dict[str, Any], words: str, dirty: str) -> None:
    if dirty == "vm.dirty_ratio":
        (proc / "vm/dirty_bytes").write_text("70000")
        (proc / "vm/dirty_ratio").write_text("0")
    before = now(proc)
    committed: list[set[str]] = []
    settings = prepared(
        proc, {"vm.swappiness": 1, dirty: 50000 if dirty == "vm.dirty_bytes" else 50, **given}
    )
    with pytest.raises(sysctl.Refused) as refused:
        sysctl.apply(settings, proc, committed.append)
    assert words in str(refused.value)
    assert "former values and files are in place again" in str(refused.value)
    assert committed == []
    assert now(proc) == before


# Could fail: the drop-in can't be written (a full disk) and the values stay, to be gone at the next boot.
def test_values_are_put_back_when_the_files_fail(proc: Path) -> None:
    def full(_: set[str]) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(sysctl.Refused, match="No space left"):
        sysctl.apply(prepared(proc, {"vm.swappiness": 1}), proc, full)
    assert now(proc) == BEFORE


# Could fail: a kernel built without bbr would stop the role, or its lack go unmentioned.
def test_a_congestion_control_that_the_kernel_was_built_without_is_told(proc: Path) -> None:
    settings = prepared(proc, {"net.ipv4.tcp_congestion_control": "bbr", "vm.swappiness": 1})
    assert sysctl.apply(settings, proc, lambda _: None) == {"net.ipv4.tcp_congestion_control"}
    assert now(proc) == {**BEFORE, "vm/swappiness": "1"}


# Could fail: tabs or hexadecimal count as another value, and every run changes something.
@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=4), st.data())
def test_the_same_value_in_another_spelling(numbers: list[int], data: st.DataObject) -> None:
    space = st.sampled_from([" ", "\t", "  "])

    def spelt(word: Callable[[int], str]) -> str:
        return "".join(word(number) + data.draw(space) for number in numbers)

    assert sysctl.same(spelt(str), spelt(hex))
    assert not sysctl.same(spelt(str), spelt(lambda number: str(number + 1)))
    assert not sysctl.same(spelt(str), spelt(str) + "1")


def test_rounding_is_allowed_where_the_kernel_is_known_to_round() -> None:
    assert sysctl.same("5000", "8192", Rule(rounds=True))
    assert not sysctl.same("5000", "8192")
    assert not sysctl.same("5000", "4096", Rule(rounds=True))


# Could fail: a file that is read later has the last word at boot, and nobody says so.
def test_files_that_would_override_ours_are_found(tmp_path: Path) -> None:
    own = tmp_path / "etc/sysctl.d/90-mev-platform.conf"
    for name, text in {
        "etc/sysctl.d/10-before.conf": "vm.swappiness = 60",
        "etc/sysctl.d/90-mev-platform.conf": "vm.swappiness = 1",
        "etc/sysctl.d/99-masked.conf": "",
        "usr/lib/sysctl.d/99-masked.conf": "vm.swappiness = 50",
        "usr/lib/sysctl.d/99-vendor.conf": "# vm.swappiness=3\n-vm/swappiness=40\nvm.other = 1",
        "run/sysctl.d/95-glob.conf": "net.ipv4.conf.*.rp_filter = 2",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    wanted = {"vm/swappiness": "1", "net/ipv4/conf/all/rp_filter": "1"}
    found = [(path, value, file.name) for path, value, file in sysctl_files.overriding(tmp_path, own, wanted)]
    assert found == [
        ("net/ipv4/conf/all/rp_filter", "2", "95-glob.conf"),
        ("vm/swappiness", "40", "99-vendor.conf"),
    ]


# Could fail: fs.nr_open is lowered below a limit that pam_limits sets; some PAMs then end every session.
def test_limits_that_sessions_would_be_refused_are_found(tmp_path: Path) -> None:
    folder = tmp_path / "etc/security/limits.d"
    folder.mkdir(parents=True)
    (folder / "90-mev-platform.conf").write_text("* hard nofile 9999999\n")
    (folder / "50-old.conf").write_text(
        "# * hard nofile 9999999\n* - nofile 4194304 # many\n* - nproc 9999999\n"
    )
    found = list(sysctl_files.open_files_above(tmp_path, 1048576, "90-mev-platform.conf"))
    assert found == [f"{folder}/50-old.conf: * - nofile 4194304"]


MEMORY = "MemTotal: 100000000 kB\nMemAvailable: 40000000 kB\nHugePages_Total: {}\nHugepagesize: 2048 kB\n"


# Could fail: pages are rounded down (PostgreSQL would not fit), or pages that are held already count as new.
def test_huge_pages_are_sized_and_do_not_starve_the_host() -> None:
    assert sysctl.huge_pages({}, 0.5, "") == 0
    assert sysctl.huge_pages({"postgresql": 3, "engine": 0}, 0.5, MEMORY.format(0)) == 2
    with pytest.raises(sysctl.Refused, match=r"60000 MB would be taken, and 0.5 of the 97656 MB of MemTotal"):
        sysctl.huge_pages({"postgresql": 60000}, 0.5, MEMORY.format(0))
    with pytest.raises(sysctl.Refused, match=r"postgresql 30000 MB\): 30000 MB more .* of MemAvailable"):
        sysctl.huge_pages({"postgresql": 30000}, 0.5, MEMORY.format(0))
    assert sysctl.huge_pages({"postgresql": 30000}, 0.5, MEMORY.format(10000)) == 15000
    for wrong in (-1, "many", True, 1.5):
        with pytest.raises(sysctl.Refused, match="whole numbers of MB"):
            sysctl.huge_pages({"engine": wrong}, 0.5, MEMORY.format(0))


# Could fail: a table with a slip refuses what the running kernel itself holds.
@pytest.mark.skipif(not Path("/proc/sys/vm").is_dir(), reason="no Linux")
def test_the_ranges_allow_what_this_kernel_has() -> None:
    problems: list[str] = []
    for key, rule in KEYS.items():
        file = Path("/proc/sys", sysctl_files.path_of(key))
        if file.is_file() and (value := sysctl.read(file)) != "0" and not rule.rounds:
            sysctl.values_of({key: value}, problems)
    assert problems == []
