"""Write the sysfs tree of a real machine (layouts.yml) into a folder."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.mev.platform.plugins.module_utils.topology import format_list

LAYOUTS: dict[str, dict[str, Any]] = {
    layout["name"]: layout for layout in yaml.safe_load(Path(__file__).with_name("layouts.yml").read_text())
}


def put(path: Path, text: object) -> None:
    """Write one file as the kernel would show it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def write(layout: dict[str, Any], root: Path) -> Path:
    """Make the tree; return its root."""
    sockets, cores = layout["sockets"], layout["cores"]
    total, l3_cores = sockets * cores, layout["l3_cores"] or cores
    groups: dict[str, dict[Any, list[int]]] = defaultdict(lambda: defaultdict(list))
    at: dict[int, tuple[int, int]] = {}
    for cpu in range(total * (2 if layout["smt"] else 1)):
        number = cpu % total
        interleaved = layout.get("numbering") == "interleaved"
        socket, core = (number % sockets, number // sockets) if interleaved else divmod(number, cores)
        at[cpu] = socket, core
        groups["siblings"][socket, core].append(cpu)
        groups["l3"][socket, core // l3_cores].append(cpu)
        groups["node"][socket * layout["nodes"] + core * layout["nodes"] // cores].append(cpu)

    system = root / "devices/system"
    for name in ("online", "present", "possible"):
        put(system / f"cpu/{name}", format_list(at))
    for cpu, (socket, core) in at.items():
        place = system / f"cpu/cpu{cpu}"
        siblings = groups["siblings"][socket, core]
        die, of_die = divmod(core, l3_cores)
        put(place / "topology/core_id", die * layout.get("core_id_stride", l3_cores) + of_die)
        put(place / "topology/physical_package_id", socket)
        put(place / "topology/thread_siblings_list", format_list(siblings))
        l3 = groups["l3"][socket, core // l3_cores]
        caches = ((0, 1, "Data", 32, siblings), (3, 3, "Unified", int(layout["l3_mib"] * 1024), l3))
        for index, level, kind, size, shared in caches:
            cache = place / f"cache/index{index}"
            if cpu != shared[0]:  # the same words as for the first that shares it: a link makes fewer files
                cache.parent.mkdir(exist_ok=True)
                cache.symlink_to(f"../../cpu{shared[0]}/cache/index{index}")
                continue
            put(cache / "level", level)
            put(cache / "type", kind)
            put(cache / "size", f"{size}K")
            put(cache / "shared_cpu_list", format_list(shared))
    for node, cpus in groups["node"].items():
        put(system / f"node/node{node}/cpulist", format_list(cpus))
    return root


def card(root: Path, interface: str, node: int) -> None:
    """Give the machine a network card on a NUMA node; -1 is the kernel's "not known"."""
    put(root / f"class/net/{interface}/device/numa_node", node)


DRIVERS = {
    # driver: (governors, energy preferences, the switch of boost and what it says)
    "amd-pstate-epp": (
        "performance powersave",
        "default performance balance_performance balance_power power",
        ("cpufreq/boost", 0),
    ),
    "amd-pstate": (
        "conservative ondemand userspace powersave performance schedutil",
        "",
        ("cpufreq/boost", 0),
    ),
    "acpi-cpufreq": (
        "conservative ondemand userspace powersave performance schedutil",
        "",
        ("cpufreq/boost", 0),
    ),
    "intel_pstate": (
        "performance powersave",
        "default performance balance_performance balance_power power",
        ("intel_pstate/no_turbo", 1),
    ),
}


def power(sysfs: Path, driver: str, mode: str = "") -> None:
    """Give every CPU a frequency driver and idle states, as a kernel leaves them after boot."""
    base = sysfs / "devices/system/cpu"
    governors, preferences, (switch, says) = DRIVERS[driver]
    if mode:
        put(base / "amd_pstate/status", mode)
    put(base / switch, says)
    for cpu in base.glob("cpu[0-9]*"):
        put(cpu / "cpufreq/scaling_driver", driver)
        put(cpu / "cpufreq/scaling_available_governors", governors)
        put(cpu / "cpufreq/scaling_governor", "powersave")
        if preferences:
            put(cpu / "cpufreq/energy_performance_available_preferences", preferences)
            put(cpu / "cpufreq/energy_performance_preference", "balance_performance")
        for state, latency in enumerate((0, 1, 400)):  # POLL, C1, C2 of an EPYC
            put(cpu / f"cpuidle/state{state}/latency", latency)
            put(cpu / f"cpuidle/state{state}/disable", 0)


def interrupts(procfs: Path, sysfs: Path, affinities: dict[int, tuple[str, str]], default: str) -> None:
    """Give the machine interrupts: number to (name, CPUs), and where new ones go."""
    put(procfs / "irq/default_smp_affinity", default)
    for number, (name, cpus) in affinities.items():
        put(procfs / f"irq/{number}/smp_affinity_list", cpus)
        put(sysfs / f"kernel/irq/{number}/actions", name)
