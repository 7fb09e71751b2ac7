"""The engine's cores are chosen by what shares an L3 cache, on layouts of real machines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from ansible_collections.mev.platform.plugins.module_utils.topology import (
    Ccx,
    Choice,
    Topology,
    Wish,
    choose,
    format_list,
    nic_node,
    parse_list,
    read,
)
from ansible_collections.mev.platform.tests.unit.plugins.module_utils.layouts import LAYOUTS, card, put, write
from hypothesis import given
from hypothesis import strategies as st

NAMES = sorted(LAYOUTS)
Machine = Callable[[str], Path]
KEY_7763, KEY_9654 = "2 x EPYC 7763, NPS1, SMT off", "2 x EPYC 9654, NPS1, SMT on"


@pytest.fixture(scope="session")
def machine() -> Iterator[Machine]:
    """Give the root of a machine's tree, written once. Many files: in memory where it can be."""
    shm = Path("/dev/shm")  # noqa: S108 - TemporaryDirectory makes its own below
    with TemporaryDirectory(dir=shm if shm.is_dir() else None) as folder:
        yield cache(lambda name: write(LAYOUTS[name], Path(folder, name)))


@pytest.fixture(scope="session")
def choice(machine: Machine) -> Callable[..., Choice]:
    """Choose on a machine, by the defaults unless told otherwise."""
    topology = cache(lambda name: read(machine(name)))
    return lambda name, node=None, **wish: choose(topology(name), Wish(**wish), node)


# Could fail: the list is not split into ranges and single numbers, or a range is written for two.
@given(st.sets(st.integers(0, 600)))
def test_lists_survive_a_round_trip(numbers: set[int]) -> None:
    assert set(parse_list(format_list(numbers) + "\n")) == numbers


# Could fail: a layout here is not that of the machine that its source shows.
@pytest.mark.parametrize("name", NAMES)
def test_tree_is_what_the_source_shows(machine: Machine, name: str) -> None:
    system = machine(name) / "devices/system"
    for what, seen in LAYOUTS[name]["seen"].items():
        kind, _, cpu = what.partition("_of_")
        place = {
            "cpus": system / "cpu/online",
            "l3": system / f"cpu/{cpu}/cache/index3/shared_cpu_list",
            "siblings": system / f"cpu/{cpu}/topology/thread_siblings_list",
        }.get(kind, system / f"node/{kind}/cpulist")
        wanted = format_list(range(0, 80, 2)) if seen == "even" else str(seen)
        assert place.read_text().strip() == wanted, what


# Could fail: sockets, nodes, CCXs or siblings are counted wrongly: SNC reports one L3 for several nodes, the
# numbers of two sockets alternate, core ids have gaps.
@pytest.mark.parametrize(
    ("name", "sockets", "nodes", "ccxs", "cores", "smt"),
    [
        (KEY_7763, 2, 2, 16, 128, False),
        (KEY_9654, 2, 2, 24, 192, True),
        ("2 x EPYC 9375F, NPS1, SMT off", 2, 2, 16, 64, False),
        ("EPYC 9534, NPS4, SMT on", 1, 4, 8, 64, True),
        ("EPYC 74F3, NPS4, SMT on", 1, 4, 8, 24, True),
        ("EPYC 7452, NPS1, SMT on", 1, 1, 8, 32, True),
        ("EPYC 8434P, L3 as NUMA, SMT on", 1, 8, 8, 48, True),
        ("2 x Xeon Gold 6230, SMT on, sockets in turn", 2, 2, 2, 40, True),
        ("2 x Xeon of 56 cores, SNC4, SMT on", 2, 8, 8, 112, True),
        ("Xeon W7-3455, SMT on", 1, 1, 1, 24, True),
        ("Ryzen 9 7950X, two CCDs, SMT on", 1, 1, 2, 16, True),
    ],
)
def test_layout_is_read(
    machine: Machine, name: str, sockets: int, nodes: int, ccxs: int, cores: int, smt: bool
) -> None:
    facts = read(machine(name)).facts()
    found = (facts["sockets"], facts["nodes"], len(facts["ccx"]), facts["cores"], facts["smt"])
    assert found == (sockets, nodes, ccxs, cores, smt)


# Could fail: a CCX is cut, CPU 0's is taken, a sibling is used or given to the system, memory is bound where
# there is nothing to bind.
@pytest.mark.parametrize(
    ("name", "engine", "idle", "policy", "memory"),
    [
        (KEY_7763, "8-15", "", "preferred", "0"),
        (KEY_9654, "8-15", "200-207", "preferred", "0"),
        ("2 x EPYC 9375F, NPS1, SMT off", "4-7", "", "preferred", "0"),
        ("EPYC 9534, NPS4, SMT on", "8-15", "72-79", "preferred", "0"),
        ("EPYC 74F3, NPS4, SMT on", "3-5", "27-29", "preferred", "0"),
        ("EPYC 7452, NPS1, SMT on", "4-7", "36-39", "", ""),
        ("EPYC 8434P, L3 as NUMA, SMT on", "6-11", "54-59", "preferred", "1"),
        ("2 x Xeon Gold 6230, SMT on, sockets in turn",
         format_list(range(1, 40, 2)), format_list(range(41, 80, 2)), "preferred", "1"),
        ("2 x Xeon of 56 cores, SNC4, SMT on", "14-27", "126-139", "preferred", "1"),
        ("Xeon W7-3455, SMT on", "2-23", "26-47", "", ""),
        ("Ryzen 9 7950X, two CCDs, SMT on", "8-15", "24-31", "", ""),
    ],
)  # fmt: skip
def test_default_choice(
    choice: Callable[..., Choice], name: str, engine: str, idle: str, policy: str, memory: str
) -> None:
    found = choice(name)
    assert (found.engine_cpus, found.idle_cpus) == (engine, idle)
    assert (found.numa_policy, found.numa_nodes) == (policy, memory)
    assert found.numba_threads == len(parse_list(engine))


# Could fail: the card's node is ignored, or preferred to staying off CPU 0's CCX.
@pytest.mark.parametrize(
    ("name", "node", "engine"),
    [
        (KEY_7763, 1, "64-71"),
        (KEY_9654, 1, "96-103"),
        ("EPYC 9534, NPS4, SMT on", 2, "32-39"),
        ("EPYC 8434P, L3 as NUMA, SMT on", 0, "6-11"),
        ("2 x Xeon of 56 cores, SNC4, SMT on", 5, "70-83"),
    ],
)
def test_network_cards_node_is_preferred(
    choice: Callable[..., Choice], name: str, node: int, engine: str
) -> None:
    found = choice(name, node)
    assert found.engine_cpus == engine
    near = name != "EPYC 8434P, L3 as NUMA, SMT on"
    assert any(f"on node {node}, {'as the network card is' if near else 'where no CCX'}" in text
               for text in found.explanation)  # fmt: skip


# Could fail: a second CCX is taken from another node or socket, or an unmet wish passes in silence.
def test_wishes(choice: Callable[..., Choice]) -> None:
    two = choice("EPYC 9534, NPS4, SMT on", 2, ccxs=2)
    assert (two.engine_cpus, two.numa_nodes) == ("32-47", "2")
    spread = choice("EPYC 9534, NPS4, SMT on", 2, ccxs=3)
    assert (spread.numa_policy, spread.numa_nodes) == ("local", "")
    few = choice("EPYC 9534, NPS4, SMT on", cores=3)
    assert (few.engine_cpus, few.idle_cpus) == ("8-10", "11-15,72-79")
    shared = choice("EPYC 9534, NPS4, SMT on", cores=3, whole_ccx=False)
    assert shared.idle_cpus == "72-74"
    assert set(parse_list("11-15,75-79")) <= set(parse_list(shared.housekeeping_cpus))
    threads = choice("EPYC 9534, NPS4, SMT on", siblings=True)
    assert (threads.engine_cpus, threads.idle_cpus, threads.numba_threads) == ("8-15,72-79", "", 8)
    first = choice("EPYC 9534, NPS4, SMT on", 0, avoid_boot_ccx=False, ccxs=2)
    assert first.engine_cpus == "2-15"
    much = choice("Ryzen 9 7950X, two CCDs, SMT on", ccxs=4)
    assert much.engine_cpus == "8-15"
    assert any("4 CCX" in text and "1 CCX with 8 cores could be had" in text for text in much.explanation)


# Could fail: someone can't tell from the output why these cores, or why not others.
def test_choice_is_explained(choice: Callable[..., Choice]) -> None:
    found = choice(KEY_9654, 1)
    text = "\n".join(found.explanation)
    assert "8 cores, CPUs 96-103, of CCX 12 (socket 1, node 1)" in text
    assert "CPUs 288-295 stay idle" in text
    verdicts = {line.split()[0]: line for line in found.table[1:]}
    assert len(verdicts) == 24
    assert "has CPU 0" in verdicts["0"]
    assert "not on the network card's node 1" in verdicts["3"]
    assert verdicts["12"].endswith("engine: 96-103")
    assert "as good, but no more are wanted" in verdicts["13"]


# Could fail: a small machine is divided until nothing is left, or one without L3, NUMA or SMT files raises.
def test_small_and_silent_machines(tmp_path: Path) -> None:
    for cpu in range(2):
        (tmp_path / f"devices/system/cpu/cpu{cpu}").mkdir(parents=True)
    put(tmp_path / "devices/system/cpu/online", "0-1")
    found = choose(read(tmp_path), Wish())
    assert not found.reserved
    assert (found.engine_cpus, found.housekeeping_cpus, found.idle_cpus) == ("0-1", "0-1", "")
    assert "Nothing is set aside: of 2 cores" in found.explanation[0]
    put(tmp_path / "devices/system/cpu/online", "0-3")
    assert choose(read(tmp_path), Wish()).engine_cpus == "2-3"


# Could fail: a core whose sibling is off is read as having it (nosmt, or a CPU taken offline).
def test_offline_threads_do_not_count(tmp_path: Path) -> None:
    root = write(LAYOUTS["EPYC 7452, NPS1, SMT on"], tmp_path)
    put(root / "devices/system/cpu/online", "0-31")
    topology = read(root)
    assert topology.cpus == tuple(range(32))
    assert choose(topology, Wish()).idle_cpus == ""


# Could fail: a bond has no device of its own, and the kernel's -1 is taken for a node.
def test_node_of_the_network_card(tmp_path: Path) -> None:
    card(tmp_path, "eth0", 1)
    card(tmp_path, "eth1", -1)
    put(tmp_path / "class/net/bond0/lower_eth0/device/numa_node", 3)
    assert [nic_node(tmp_path, name) for name in ("eth0", "eth1", "bond0", "none")] == [1, None, 3, None]


# Could fail: the larger L3 (X3D) is not preferred where one die has more of it.
def test_larger_cache_is_preferred() -> None:
    dies = [
        Ccx(index, 0, 0, kib, tuple((cpu,) for cpu in range(index * 8, index * 8 + 8)))
        for index, kib in enumerate((32768, 32768, 98304))
    ]
    assert choose(Topology(tuple(dies)), Wish()).engine_cpus == "16-23"


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    """Any machine: some CCXs of some cores with one or two threads, on any sockets and nodes."""
    sizes = draw(st.lists(st.integers(1, 9), min_size=1, max_size=12))
    total, smt = sum(sizes), draw(st.booleans())
    cores = [(cpu, cpu + total) if smt else (cpu,) for cpu in range(total)]
    ccxs = []
    for index, size in enumerate(sizes):
        own, cores = cores[:size], cores[size:]
        node = draw(st.integers(0, 3))
        ccxs.append(Ccx(index, node // 2, node, draw(st.sampled_from([0, 16384])), tuple(own)))
    return Topology(tuple(ccxs))


# Could fail: on some machine a CPU is given twice or to nobody, CPU 0 goes to the engine, or it gets nothing.
@given(
    topologies(),
    st.builds(
        Wish,
        ccxs=st.integers(1, 5),
        cores=st.integers(0, 20),
        whole_ccx=st.booleans(),
        avoid_boot_ccx=st.booleans(),
        siblings=st.booleans(),
        housekeeping_cores=st.integers(1, 4),
    ),
    st.none() | st.integers(0, 4),
)
def test_every_cpu_has_one_purpose(topology: Topology, wish: Wish, node: int | None) -> None:
    found = choose(topology, wish, node)
    engine, idle, rest = map(parse_list, (found.engine_cpus, found.idle_cpus, found.housekeeping_cpus))
    assert engine
    assert rest
    if found.reserved:
        assert sorted([*engine, *idle, *rest]) == list(topology.cpus)
        assert topology.cpus[0] in rest
    else:
        assert engine == rest == topology.cpus
