"""The kernel has what the role's variables say, after a restart too, and mistakes leave it as it was."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

DROP_IN = "/etc/sysctl.d/90-mev-platform.conf"
DEFAULTS = yaml.safe_load((Path(__file__).parents[3] / "roles/kernel_tuning/defaults/main.yml").read_text())
THP = "/sys/kernel/mm/transparent_hugepage"
GUIDE = {"vm.swappiness": "1", "vm.dirty_ratio": "80", "vm.dirty_background_ratio": "5"}
# A container shares these with its machine, and every systemd that boots on it raises them.
RAISED = ("fs.file-max", "fs.nr_open")

# name, permissions and value of each key that is there
READ = """
for key in {keys}; do
  file=/proc/sys/$(echo "$key" | tr . /)
  [ ! -f "$file" ] || echo "$key $(stat -c %A "$file") $(cat "$file")"
done
"""


class Kernel:
    """What one host is told to have, and what it has."""

    def __init__(self, host: Any) -> None:
        self.host = host
        given = {**DEFAULTS, **host.ansible.get_variables()}
        self.var = {name: given[name] for name in DEFAULTS}
        wanted = {**self.var["kernel_tuning_sysctl"], **self.var["kernel_tuning_sysctl_overrides"]}
        self.wanted = {key: str(value) for key, value in wanted.items() if value is not None}

    def run(self, command: str) -> str:
        with self.host.sudo():
            return str(self.host.check_output(command))

    def has(self) -> dict[str, tuple[str, str]]:
        """Permissions and value of each wanted key that this kernel has."""
        return self.table(self.run(READ.format(keys=" ".join(self.wanted))))

    def state(self) -> tuple[dict[str, tuple[str, str]], str]:
        """The same, and the files, by one command: each costs a second or more."""
        files = f"cat {DROP_IN} /etc/tmpfiles.d/90-mev-platform.conf {THP}/enabled {THP}/defrag"
        keys, _, text = self.run(READ.format(keys=" ".join(self.wanted)) + f"echo FILES; {files}").partition(
            "FILES"
        )
        return {key: row for key, row in self.table(keys).items() if key not in RAISED}, text

    @staticmethod
    def table(text: str) -> dict[str, tuple[str, str]]:
        rows = [line.split(None, 2) for line in text.splitlines()]
        return {key: (mode, " ".join(value.split())) for key, mode, value in rows}

    def tune(self, hugepages_mb: dict[str, Any] | None = None, **changed: Any) -> dict[str, Any]:
        """Run the module as the role does, with some keys changed."""
        arguments = {
            "sysctl": {**self.wanted, **{key.replace("__", "."): value for key, value in changed.items()}},
            "sysfs": {
                "kernel/mm/transparent_hugepage/enabled": self.var["kernel_tuning_transparent_hugepages"],
                "kernel/mm/transparent_hugepage/defrag": self.var[
                    "kernel_tuning_transparent_hugepages_defrag"
                ],
            },
            "hugepages_mb": self.var["kernel_tuning_hugepages_mb"] if hugepages_mb is None else hugepages_mb,
        }
        module = "mev.platform.kernel_settings"
        done: dict[str, Any] = self.host.ansible(module, json.dumps(arguments), check=False, become=True)
        return done

    def refused(self, **changed: Any) -> str:
        """Return the module's error; the test fails when there is none."""
        done = self.tune(**changed)
        assert "changes" not in done, done  # what only a good run returns; the runner leaves out `failed`
        return str(done["msg"])


@pytest.fixture(scope="module")
def kernel(host: Any) -> Kernel:
    return Kernel(host)


# Could fail: a value is lost at the restart, overridden by another file, or was never taken by the kernel.
def test_every_setting_is_in_force(kernel: Kernel) -> None:
    lines = kernel.run(f"cat {DROP_IN}").splitlines()
    # as at boot; without it a container booted later, on the same machine, would fail this one's test
    raised = " ".join(f"--prefix={key}" for key in RAISED)
    kernel.run(f"! systemd-detect-virt --quiet --container || /usr/lib/systemd/systemd-sysctl {raised}")
    has = kernel.has()
    assert {key: value for key, (_, value) in has.items() if key in GUIDE} == GUIDE
    differs = {key for key, (_, value) in has.items() if value != kernel.wanted[key]}
    # what is not this host's to set is in the file all the same, with a minus
    not_ours = {key for key in differs if key.startswith("net.") and "w" not in has[key][0]}
    assert differs == not_ours, {key: (kernel.wanted[key], has[key]) for key in differs - not_ours}
    missing = set(kernel.wanted) - set(has)
    for key, value in kernel.wanted.items():
        assert any(line in (f"{key} = {value}", f"-{key} = {value}") for line in lines), key
        if key in missing | not_ours:
            assert f"-{key} = {value}" in lines
    assert len(has) - len(not_ours) >= 15
    assert kernel.run("systemctl is-active systemd-sysctl") == "active"


# Could fail: tmpfiles.d is written and not applied at boot, or the kernel has no such mode.
def test_transparent_huge_pages(kernel: Kernel) -> None:
    for file, name in (("enabled", "hugepages"), ("defrag", "hugepages_defrag")):
        assert f"[{kernel.var[f'kernel_tuning_transparent_{name}']}]" in kernel.run(f"cat {THP}/{file}")


# Could fail: limits.d is not read by PAM, or systemd was not reloaded or lost its settings at the restart.
def test_limits(kernel: Kernel) -> None:
    nofile, nproc = kernel.var["kernel_tuning_nofile"], kernel.var["kernel_tuning_nproc"]
    shown = kernel.run("systemctl show -P DefaultLimitNOFILE -P DefaultLimitNOFILESoft -P DefaultLimitNPROC")
    assert shown.split() == [str(nofile), str(kernel.var["kernel_tuning_service_nofile"]), str(nproc)]
    most = dict(re.findall(r"^(nofile|nproc) (\d+)$", kernel.run(MOST), re.MULTILINE))
    for name, wanted in (("nofile", nofile), ("nproc", nproc)):
        session = kernel.run(f"runuser -u nobody -- prlimit --{name} -o SOFT,HARD --noheadings --raw")
        assert session.split() == [most.get(name, str(wanted))] * 2


# In a container nobody may raise a limit: there a session gets at most what process 1 has.
MOST = """
capability=$(sed -n 's/^CapBnd:[[:space:]]*//p' /proc/1/status)
[ $((0x$capability >> 24 & 1)) = 1 ] || for limit in nofile nproc; do
  echo "$limit $(prlimit --pid 1 --$limit -o HARD --noheadings --raw)"
done
"""


@pytest.fixture
def unchanged(kernel: Kernel) -> Iterator[None]:
    before = kernel.state()
    yield
    assert kernel.state() == before


# Could fail: a slip is skipped like a key that the kernel lacks, or found after other values were written.
@pytest.mark.usefixtures("unchanged")
def test_a_wrong_key_stops_and_changes_nothing(kernel: Kernel) -> None:
    said = kernel.refused(vm__stat_interval=7, vm__dirty_ratoi=10)
    assert "vm.dirty_ratoi: this kernel has no such key" in said
    assert "did you mean vm.dirty_ratio?" in said


# Could fail: a value out of range is found out only by the kernel, or by no one.
@pytest.mark.usefixtures("unchanged")
def test_a_value_out_of_range_stops_and_changes_nothing(kernel: Kernel) -> None:
    said = kernel.refused(vm__stat_interval=7, vm__swappiness=500)
    assert "vm.swappiness is 500: 0 to 200 is allowed" in said
    assert "nothing was changed" in said


# Could fail: what was written before the kernel refused a value stays.
@pytest.mark.usefixtures("unchanged")
def test_what_the_kernel_refuses_is_undone(kernel: Kernel) -> None:
    said = kernel.refused(vm__stat_interval=7, vm__mmap_rnd_bits=5)
    assert "vm.mmap_rnd_bits: the kernel refuses 5 (Invalid argument)" in said
    assert "former values and files are in place again" in said


# Could fail: the run compares files alone, and a value changed by hand stays.
@pytest.mark.usefixtures("unchanged")
def test_a_value_changed_by_hand_is_put_back(kernel: Kernel) -> None:
    kernel.run("sysctl --write net.ipv4.tcp_mtu_probing=2")
    key = "net.ipv4.tcp_mtu_probing"
    assert kernel.tune()["changes"][key] == {"from": "2", "to": kernel.wanted[key]}
    assert kernel.tune()["changes"].keys() <= set(RAISED)


# Could fail: pages are not given, not given back, or given until nothing is left for the host.
@pytest.mark.usefixtures("unchanged")
def test_huge_pages(kernel: Kernel) -> None:
    assert "the host would starve" in kernel.refused(hugepages_mb={"postgresql": 99_999_999})
    if kernel.var["kernel_tuning_hugepages_mb"]:
        return
    try:
        assert kernel.tune(hugepages_mb={"postgresql": 5, "engine": 3})["values"]["vm.nr_hugepages"] == "4"
    finally:
        assert kernel.tune()["values"]["vm.nr_hugepages"] == "0"
