# Copyright (c) 2026, the MEV platform's authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Read the processor's layout from sysfs, and choose the engine's cores by it.

What counts is which cores share an L3 cache: a CCX on AMD EPYC and Ryzen. Intel reports one L3 for the whole
socket even where sub-NUMA clustering splits it, so a group here is what shares both L3 and NUMA node. It is
called a CCX throughout.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


def parse_list(text: str) -> tuple[int, ...]:
    """Return the numbers of a kernel list such as ``0-3,8``."""
    numbers: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        numbers |= set(range(int(first), int(last or first) + 1))
    return tuple(sorted(numbers))


def format_list(numbers: Iterable[int]) -> str:
    """Return a kernel list, as short as possible."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


@dataclass(frozen=True)
class Ccx:
    """Cores that share an L3 cache and a NUMA node; each core is the tuple of its threads."""

    index: int
    socket: int
    node: int
    l3_kib: int  # 0: not told
    cores: tuple[tuple[int, ...], ...]

    @property
    def cpus(self) -> tuple[int, ...]:
        return tuple(sorted(cpu for core in self.cores for cpu in core))


@dataclass(frozen=True)
class Topology:
    """All that is online."""

    ccxs: tuple[Ccx, ...]

    @property
    def cpus(self) -> tuple[int, ...]:
        return tuple(sorted(cpu for ccx in self.ccxs for cpu in ccx.cpus))

    @property
    def cores(self) -> int:
        return sum(len(ccx.cores) for ccx in self.ccxs)

    @property
    def nodes(self) -> tuple[int, ...]:
        return tuple(sorted({ccx.node for ccx in self.ccxs}))

    def facts(self) -> dict[str, Any]:
        """For Ansible: plain types, CPUs as kernel lists."""
        return {
            "sockets": len({ccx.socket for ccx in self.ccxs}),
            "nodes": len(self.nodes),
            "cores": self.cores,
            "cpus": format_list(self.cpus),
            "smt": len(self.cpus) > self.cores,
            "ccx": [
                {
                    "index": ccx.index,
                    "socket": ccx.socket,
                    "node": ccx.node,
                    "l3_kib": ccx.l3_kib,
                    "cores": len(ccx.cores),
                    "cpus": format_list(ccx.cpus),
                }
                for ccx in self.ccxs
            ],
        }


def read(sysfs: Path = Path("/sys")) -> Topology:
    """Read the topology; what a virtual machine does not tell is taken as one node, one L3 per socket."""
    base = sysfs / "devices/system"
    online = parse_list((base / "cpu/online").read_text())
    node_of = {
        cpu: int(path.parent.name.removeprefix("node"))
        for path in base.glob("node/node[0-9]*/cpulist")
        for cpu in parse_list(path.read_text())
    }
    groups: dict[tuple[int, int, int], tuple[int, set[tuple[int, ...]]]] = {}
    for cpu in online:
        place = base / f"cpu/cpu{cpu}"
        socket = int(_text(place / "topology/physical_package_id", "0"))
        siblings = parse_list(_text(place / "topology/thread_siblings_list", str(cpu)))
        l3, size = _l3(place)
        key = (max(socket, 0), node_of.get(cpu, 0), l3[0] if l3 else -1)
        groups.setdefault(key, (size, set()))[1].add(tuple(t for t in siblings if t in online) or (cpu,))
    ordered = sorted(groups.items(), key=lambda item: min(item[1][1]))
    return Topology(
        tuple(
            Ccx(index, socket, node, size, tuple(sorted(cores)))
            for index, ((socket, node, _), (size, cores)) in enumerate(ordered)
        )
    )


def _text(path: Path, otherwise: str) -> str:
    return path.read_text().strip() if path.exists() else otherwise


def _l3(place: Path) -> tuple[tuple[int, ...], int]:
    """Return the CPUs that share this one's L3, and its size in KiB."""
    for index in place.glob("cache/index[0-9]*"):
        if _text(index / "level", "") == "3" and _text(index / "type", "") == "Unified":
            size = _text(index / "size", "0K").removesuffix("K")
            return parse_list(_text(index / "shared_cpu_list", "")), int(size)
    return (), 0


def nic_node(sysfs: Path, interface: str) -> int | None:
    """Return the NUMA node of a network card (of a bond: of its first member), or None."""
    place = sysfs / "class/net" / interface
    for path in sorted([*place.glob("device/numa_node"), *place.glob("lower_*/device/numa_node")]):
        if (node := int(path.read_text())) >= 0:
            return node
    return None


@dataclass(frozen=True)
class Wish:
    """What the operator wants of the choice; see the role's defaults for the reasons."""

    ccxs: int = 1
    cores: int = 0  # 0: all cores of the chosen CCXs
    whole_ccx: bool = True
    avoid_boot_ccx: bool = True
    siblings: bool = False
    housekeeping_cores: int = 2


@dataclass(frozen=True)
class Choice:
    """Which CPUs are whose, and why. CPUs are kernel lists."""

    reserved: bool
    engine_cpus: str
    idle_cpus: str
    housekeeping_cpus: str
    numa_policy: str
    numa_nodes: str
    numba_threads: int
    explanation: list[str]
    table: list[str]

    def facts(self) -> dict[str, Any]:
        return asdict(self)


def everything(topology: Topology, why: str) -> Choice:
    """Nothing is set aside."""
    every = format_list(topology.cpus)
    return Choice(False, every, "", every, "", "", topology.cores, [why], _table(topology, {}, {}))


def choose(topology: Topology, wish: Wish, node: int | None = None) -> Choice:
    """Choose the engine's cores. `node`: the network card's NUMA node, if known."""
    boot = next(ccx for ccx in topology.ccxs if topology.cpus[0] in ccx.cpus)
    if topology.cores < 2 * wish.housekeeping_cores:
        return everything(
            topology,
            f"Nothing is set aside: of {topology.cores} cores, {wish.housekeeping_cores} for the system "
            f"would leave the engine less than half. It shares all of them instead.",
        )

    kept = set(boot.cores[: wish.housekeeping_cores])
    reasons: dict[int, str] = {}
    candidates = list(topology.ccxs)
    if wish.avoid_boot_ccx and len(candidates) > 1:
        candidates.remove(boot)
        reasons[boot.index] = f"has CPU {topology.cpus[0]}, which takes the timers and most interrupts"

    chosen: list[Ccx] = []
    while candidates and len(chosen) < wish.ccxs:
        near = chosen[0] if chosen else None
        best = min(
            candidates,
            key=lambda ccx: (
                (ccx.node != near.node, ccx.socket != near.socket) if near else (),
                node is not None and ccx.node != node,
                -ccx.l3_kib,
                -len(set(ccx.cores) - kept),
                ccx.index,
            ),
        )
        candidates.remove(best)
        chosen.append(best)
    free = [core for ccx in chosen for core in ccx.cores if core not in kept]
    taken = free[: wish.cores] if wish.cores else free
    spare = [core for core in free if core not in taken]

    engine = {cpu for core in taken for cpu in (core if wish.siblings else core[:1])}
    idle = {cpu for core in taken for cpu in core} - engine
    if wish.whole_ccx and boot not in chosen:
        idle |= {cpu for core in spare for cpu in core}
    housekeeping = set(topology.cpus) - engine - idle

    nodes = {ccx.node for ccx in chosen if set(ccx.cores) & set(taken)}
    policy = "" if len(topology.nodes) == 1 else "preferred" if len(nodes) == 1 else "local"
    for ccx in candidates:
        far = node is not None and ccx.node != node and any(c.node == node for c in chosen)
        small = ccx.l3_kib < chosen[0].l3_kib
        reasons[ccx.index] = (
            f"is not on the network card's node {node}" if far
            else "has a smaller L3" if small
            else "has fewer cores" if len(ccx.cores) < len(chosen[0].cores)
            else "as good, but no more are wanted"
        )  # fmt: skip
    return Choice(
        True,
        format_list(engine),
        format_list(idle),
        format_list(housekeeping),
        policy,
        format_list(nodes) if policy == "preferred" else "",
        len(taken),
        list(_sentences(topology, wish, node, boot, chosen, taken, idle)),
        _table(topology, {ccx.index: engine & set(ccx.cpus) for ccx in chosen}, reasons),
    )


def _sentences(
    topology: Topology,
    wish: Wish,
    node: int | None,
    boot: Ccx,
    chosen: list[Ccx],
    taken: list[tuple[int, ...]],
    idle: set[int],
) -> Iterable[str]:
    first = format_list(core[0] for core in taken)
    places = " and ".join(f"CCX {ccx.index} (socket {ccx.socket}, node {ccx.node})" for ccx in chosen)
    yield f"The engine gets {len(taken)} cores, CPUs {first}, of {places}: cores that share an L3 cache."
    if boot in chosen:
        yield (
            f"CPU {topology.cpus[0]}'s CCX had to be shared, as there is no other: its first "
            f"{wish.housekeeping_cores} cores stay with the system."
            if len(topology.ccxs) == 1
            else f"CPU {topology.cpus[0]}'s CCX was allowed: its first {wish.housekeeping_cores} cores stay "
            f"with the system."
        )
    if node is None:
        yield "The network card's NUMA node is not known, so it had no say."
    elif any(ccx.node == node for ccx in chosen):
        yield f"They are on node {node}, as the network card is."
    else:
        yield f"The network card is on node {node}, where no CCX was to be had."
    if idle:
        yield (
            f"CPUs {format_list(idle)} stay idle: whatever ran there would share a core or an L3 cache "
            f"with the engine."
        )
    wanted = wish.cores or sum(len(ccx.cores) for ccx in chosen)
    if len(chosen) < wish.ccxs or len(taken) < wish.cores:
        yield (
            f"{wish.ccxs} CCX and {wanted} cores were wanted; {len(chosen)} CCX with {len(taken)} cores "
            f"could be had."
        )
    if not wish.cores and len(taken) > 16:
        yield (
            f"This L3 spans {len(taken)} cores: cpu_performance_engine_cores gives the engine fewer, and "
            f"cpu_performance_whole_ccx: false the others to the system."
        )


def _table(topology: Topology, chosen: dict[int, set[int]], reasons: dict[int, str]) -> list[str]:
    """One line a CCX: where it is, and why it was taken or not."""
    rows = [("CCX", "socket", "node", "L3 MiB", "cores", "CPUs", "verdict")]
    for ccx in topology.ccxs:
        if ccx.index in chosen:
            verdict = f"engine: {format_list(chosen[ccx.index])}"
        else:
            verdict = f"no: {reasons[ccx.index]}" if ccx.index in reasons else "shared"
        size = f"{ccx.l3_kib / 1024:g}" if ccx.l3_kib else "?"
        rows.append(
            (str(ccx.index), str(ccx.socket), str(ccx.node), size, str(len(ccx.cores)),
             format_list(ccx.cpus), verdict)
        )  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
