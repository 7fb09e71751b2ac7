"""The role cpu_performance: as this machine lets it be, and in full on the files of one that has it all."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mev.platform.tests.unit.plugins.module_utils.layouts import (
    LAYOUTS,
    card,
    interrupts,
    power,
    put,
    write,
)

ROOT = Path(__file__).parents[3]
UNIT = "mev-cpu-performance.service"
SETTINGS = "/etc/mev/cpu-performance.json"
SCRIPT = "/usr/local/lib/mev/cpu-performance"
TREE = "/opt/test-machine"
CPU, IRQ = f"{TREE}/sys/devices/system/cpu", f"{TREE}/proc/irq"
MACHINE = {
    "cpu_performance_reserve": True,
    "cpu_performance_interface": "eth0",
    "cpu_performance_sysfs": f"{TREE}/sys",
    "cpu_performance_procfs": f"{TREE}/proc",
    "cpu_performance_kernel_parameters": ["nohz_full", "isolcpus"],
}
# What others have on GRUB's line, an update-grub that reads its files as the real one does, and an interrupt
# that can be read and not moved.
PREPARE = f"""
set -eu
mkdir -p /etc/default/grub.d /boot/grub
echo 'GRUB_CMDLINE_LINUX_DEFAULT="quiet"' >/etc/default/grub
echo 'GRUB_CMDLINE_LINUX_DEFAULT="$GRUB_CMDLINE_LINUX_DEFAULT amd_iommu=on"' >/etc/default/grub.d/50-other.cfg
cat >/usr/sbin/update-grub <<'END'
#!/bin/sh
for file in /etc/default/grub /etc/default/grub.d/*.cfg; do . "$file"; done
echo "linux /vmlinuz $GRUB_CMDLINE_LINUX_DEFAULT" >/boot/grub/grub.cfg
END
chmod 755 /usr/sbin/update-grub
update-grub
cd {IRQ}/33
mount --bind smp_affinity_list smp_affinity_list
mount -o remount,bind,ro smp_affinity_list
"""
CLEAN = f"""
umount {IRQ}/33/smp_affinity_list
rm -rf {TREE} /boot/grub /usr/sbin/update-grub /etc/default/grub /etc/default/grub.d
"""


def run(host: Any, command: str) -> str:
    """Output of a command run by root; the test fails when the command does."""
    with host.sudo():
        done = host.run(command)
    assert done.rc == 0, f"{command}: exit {done.rc}\n{done.stdout}{done.stderr}"
    return str(done.stdout).strip()


def values(host: Any, *files: str) -> list[str]:
    """What files say, whose last line may have no end."""
    return run(host, f"for file in {' '.join(files)}; do cat $file; echo; done").split()


def apply(host: Any, config: pytest.Config, folder: Path, **variables: Any) -> str:
    """Run the role on this host; return its exit code and what it said."""
    play = [{"hosts": "mev", "gather_facts": False, "become": True, "roles": ["cpu_performance"]}]
    (folder / "play.yml").write_text(json.dumps(play))
    (folder / "variables.json").write_text(json.dumps(variables))
    inventory = config.getoption("--ansible-inventory") or os.environ["ANSIBLE_INVENTORY"]
    done = subprocess.run(
        ["ansible-playbook", "-i", inventory, "--limit", host.backend.host, "-e",
         f"@{folder}/variables.json", folder / "play.yml"],
        cwd=ROOT, env=os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return f"{done.returncode}\n{done.stdout}{done.stderr}"


# Could fail: the unit died, is not enabled, or a line of its sandbox was dropped (each weighs at least 0.1).
def test_unit(host: Any) -> None:
    show = f"systemctl show {UNIT} --property=ActiveState,UnitFileState"
    shown = run(host, f"{show}; systemd-analyze security {UNIT}")
    assert "ActiveState=active" in shown
    assert "UnitFileState=enabled" in shown
    exposure = next(line for line in shown.splitlines() if "Overall exposure" in line)
    assert float(exposure.split(": ")[1].split()[0]) <= 1.7


# Could fail: what this machine does not have is passed over in silence, or a value was changed by hand since.
def test_what_is_missing_here_is_named(host: Any) -> None:
    found = json.loads(run(host, f"{SCRIPT} check {SETTINGS}"))
    assert found["wrong"] == {}
    has = host.file("/sys/devices/system/cpu/cpu0/cpufreq").exists
    assert any("no cpufreq" in note for note in found["notes"]) != has


# Could fail: Ansible does not find the fact that the engine reads, or cores are set aside without an engine.
def test_fact(host: Any) -> None:
    facts = host.ansible("ansible.builtin.setup", "gather_subset=!all,!min,local")["ansible_facts"]
    fact = facts["ansible_local"]["mev_cpu"]
    assert fact["explanation"]
    assert fact["ccx"]
    if not fact["reserved"]:
        online = run(host, "cat /sys/devices/system/cpu/online")
        assert fact["engine_cpus"] == fact["housekeeping_cpus"] == online
        assert fact["idle_cpus"] == fact["numa_policy"] == ""
        assert not host.file("/etc/systemd/system.conf.d/mev-cpu-performance.conf").exists


@pytest.fixture(scope="module")
def output(host: Any, request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[str]:
    """What the role said, applied with the files of an EPYC 7452 in place of sysfs. Undone afterwards."""
    folder = tmp_path_factory.mktemp("machine")
    sysfs, procfs = folder / "tree/sys", folder / "tree/proc"
    write(LAYOUTS["EPYC 7452, NPS1, SMT on"], sysfs)
    power(sysfs, "amd-pstate-epp", "active")
    card(sysfs, "eth0", 0)
    affinities = {30: ("eth0-rx-0", "5"), 31: ("eth0-rx-1", "0-63"), 32: ("timer", "0"), 33: ("nvme0q3", "6")}
    interrupts(procfs, sysfs, affinities, "ffffffff,ffffffff")
    put(procfs / "cmdline", "quiet amd_iommu=on")
    with tarfile.open(folder / "tree.tar", "w") as tar:
        tar.add(folder / "tree", TREE.strip("/"))
    options = f"src={folder}/tree.tar dest=/ owner=root group=root"
    done = host.ansible("ansible.builtin.unarchive", options, check=False, become=True)
    assert done.get("changed"), done
    run(host, PREPARE)
    yield apply(host, request.config, folder, **MACHINE)
    again = apply(host, request.config, folder)
    assert again.startswith("0\n"), again
    run(host, CLEAN)


# Could fail: some core is left out, the interrupts stay, or services may still run on the engine's cores.
def test_all_of_it_on_a_machine_that_has_it(host: Any, output: str) -> None:
    assert output.startswith("0\n"), output
    wanted = {
        f"{CPU}/cpu*/cpufreq/scaling_governor": ["performance"] * 64,
        f"{CPU}/cpu*/cpufreq/energy_performance_preference": ["performance"] * 64,
        f"{CPU}/cpu*/cpuidle/state1/disable": ["0"] * 64,
        f"{CPU}/cpu*/cpuidle/state2/disable": ["1"] * 64,
        f"{CPU}/cpufreq/boost {IRQ}/32/smp_affinity_list": ["1", "0"],
        f"{IRQ}/default_smp_affinity": ["ffffff0f,ffffff0f"],
    }
    assert values(host, *wanted) == [value for each in wanted.values() for value in each]
    assert values(host, f"{IRQ}/30/smp_affinity_list")[0] not in ("4", "5", "6", "7")
    files = "/etc/systemd/system.conf.d/mev-cpu-performance.conf /etc/mev/irqbalance.env"
    settings = run(host, f"cat {files}; cat /etc/ansible/facts.d/mev_cpu.fact")
    for text in (
        "CPUAffinity=0-3,8-35,40-63",
        "IRQBALANCE_BANNED_CPULIST=4-7,36-39",
        '"engine_cpus": "4-7"',
        '"idle_cpus": "36-39"',
        '"numba_threads": 4',
    ):
        assert text in settings


# Could fail: nobody can tell from the output which cores, why, which interrupt stayed, and what is pending.
def test_output_explains(output: str) -> None:
    for text in (
        "The engine gets 4 cores, CPUs 4-7, of CCX 1",
        "no: has CPU 0",
        "amd-pstate-epp (amd_pstate active)",
        "interrupt 33 (nvme0q3) can't be moved",
        "A REBOOT IS PENDING",
        "To add to the kernel's command line: nohz_full=4-7,36-39",
    ):
        assert text in output, output


# Could fail: the line of others is overwritten, or GRUB did not read its files again.
@pytest.mark.usefixtures("output")
def test_kernel_parameters_are_merged(host: Any) -> None:
    line = run(host, "cat /boot/grub/grub.cfg")
    assert line == "linux /vmlinuz quiet amd_iommu=on nohz_full=4-7,36-39 isolcpus=managed_irq,4-7,36-39"


# Could fail: stopping the unit leaves the machine as the role made it.
@pytest.mark.usefixtures("output")
def test_stopping_puts_back_what_was_there(host: Any) -> None:
    place = f"{CPU}/cpu9"
    run(host, f"systemctl stop {UNIT}")
    found = values(
        host,
        f"{place}/cpufreq/scaling_governor",
        f"{place}/cpufreq/energy_performance_preference",
        f"{place}/cpuidle/state2/disable",
        f"{IRQ}/30/smp_affinity_list",
    )
    run(host, f"systemctl start {UNIT}")
    assert found == ["powersave", "balance_performance", "0", "5"]
    assert values(host, f"{place}/cpufreq/scaling_governor") == ["performance"]
