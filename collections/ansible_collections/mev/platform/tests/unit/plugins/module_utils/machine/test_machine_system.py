"""Processor, power, clock, names and versions, as servers show them."""

from __future__ import annotations

import pytest
from ansible_collections.mev.platform.plugins.module_utils.machine import power, software, system
from ansible_collections.mev.platform.tests.unit.plugins.module_utils.machine.conftest import Make, Tree


def cpuinfo(model: str, sockets: int, cores: int, threads: int, *, topology: bool = True) -> Tree:
    """All first threads of all cores, then all second ones: the order in which the kernel counts."""
    blocks = []
    for thread in range(threads):
        for socket in range(sockets):
            for core in range(cores):
                place = f"physical id\t: {socket}\ncore id\t\t: {core * 2}\n" if topology else ""
                number = (thread * sockets + socket) * cores + core
                blocks.append(
                    f"processor\t: {number}\nmodel name\t: {model}\n{place}flags\t\t: fpu hypervisor"
                )
    return {"proc/cpuinfo": "\n\n".join(blocks)}


@pytest.mark.parametrize(
    ("model", "sockets", "cores", "threads"),
    [
        ("AMD EPYC 9354 32-Core Processor", 1, 32, 2),
        ("Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz", 2, 32, 2),
        ("AMD Ryzen 9 7950X 16-Core Processor", 1, 16, 2),
        ("AMD EPYC 7763 64-Core Processor", 2, 64, 1),
    ],
)
# Could fail: threads count as cores, or the same core id in two sockets counts once.
def test_cores_are_physical(machine: Make, model: str, sockets: int, cores: int, threads: int) -> None:
    assert system.cpu(machine(cpuinfo(model, sockets, cores, threads))) == {
        "model": model, "sockets": sockets, "cores": sockets * cores, "threads": sockets * cores * threads,
    }  # fmt: skip


# Could fail: a virtual machine without topology has no core at all.
def test_without_topology_a_thread_is_a_core(machine: Make) -> None:
    assert system.cpu(machine(cpuinfo("QEMU Virtual CPU", 1, 4, 1, topology=False)))["cores"] == 4


PSU = """PS1 Status       | c8h | ok  | 10.1 | Presence detected
PS2 Status       | c9h | {state}
PS1 Input Power  | 32h | ok  | 10.1 | 180 Watts
PS3 Status       | cah | ns  | 10.3 | No Reading"""


@pytest.mark.parametrize(
    ("state", "working"),
    [
        ("ok  | 10.2 | Presence detected", 2),
        ("ok  | 10.2 | Presence detected, Power Supply AC lost", 1),
        ("ok  | 10.2 | Presence detected, Failure detected", 1),
        ("cr  | 10.2 | Presence detected", 1),
    ],
)
# Could fail: a supply that is plugged in but dead counts as redundancy, or a sensor of watts as a supply.
def test_power_supplies(machine: Make, state: str, working: int) -> None:
    found = power.supplies(machine(commands={"ipmitool": (0, PSU.format(state=state))}))
    assert found["present"] == ["PS1 Status", "PS2 Status"]
    assert len(found["working"]) == working


# Could fail: no readings are taken for no supplies, or the reason is lost.
@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((127, ""), "not installed"),
        ((1, ""), "no management controller"),
        ((124, ""), "in time"),
        ((0, ""), "lists no"),
    ],
)
def test_no_power_readings(machine: Make, answer: tuple[int, str], why: str) -> None:
    found = power.supplies(machine(commands={"ipmitool": answer}))
    assert found["present"] == []
    assert why in found["why"]


@pytest.mark.parametrize(
    ("status", "on_mains", "good"),
    [
        ("OL CHRG", True, True),
        ("OB DISCHRG", False, True),
        ("OB DISCHRG LB", False, False),
        ("OL RB", True, False),
    ],
)
# Could fail: a supply on battery passes because it answers.
def test_ups_by_nut(machine: Make, status: str, on_mains: bool, good: bool) -> None:
    text = f"battery.charge: 100\nups.model: Smart-UPS 3000\nups.status: {status}\n"
    found = power.ups(machine(commands={"upsc -l": (0, "rack-a\n"), "upsc rack-a": (0, text)}))
    assert (found["name"], found["on_mains"], found["battery_good"]) == ("rack-a", on_mains, good)


# Could fail: a laptop's battery is taken for an uninterruptible supply.
@pytest.mark.parametrize(("kind", "name"), [("UPS", "hid-ups"), ("Battery", "")])
def test_ups_by_the_kernel(machine: Make, kind: str, name: str) -> None:
    place = "sys/class/power_supply/hid-ups"
    found = power.ups(
        machine({f"{place}/type": kind, f"{place}/status": "Discharging", f"{place}/capacity": "80"})
    )
    assert found["name"] == name
    assert not found["on_mains"]


TRACKING = (
    "A29FC803,time.cloudflare.com,4,1764088000.1,{offset},-0.00001,0.00002,"
    "-12.3,0.001,0.02,0.004,0.0005,64.3,{leap}"
)


# Could fail: another column is read, a clock that runs behind is exact, or an idle chrony is a good one.
@pytest.mark.parametrize(
    ("answer", "installed", "synchronised", "offset"),
    [
        ((0, TRACKING.format(offset="-0.0251", leap="Normal")), True, True, 25.1),
        ((0, TRACKING.format(offset="0.000000000", leap="Not synchronised")), True, False, 0.0),
        ((1, "506 Cannot talk to daemon\n"), True, False, None),
        ((127, ""), False, False, None),
    ],
)
def test_time(
    machine: Make, answer: tuple[int, str], installed: bool, synchronised: bool, offset: float | None
) -> None:
    found = system.clock(machine(commands={"chronyc": answer}))
    assert (found["installed"], found["synchronised"], found["offset_ms"]) == (
        installed,
        synchronised,
        offset,
    )


# Could fail: the console chip of every server's management controller is taken for a graphics card.
def test_graphics(machine: Make) -> None:
    def device(address: str, cls: str, vendor: str) -> Tree:
        place = f"sys/bus/pci/devices/{address}"
        return {f"{place}/class": cls, f"{place}/vendor": vendor, f"{place}/device": "0x2684"}

    aspeed = device("0000:c3:00.0", "0x030000", "0x1a03")
    card = device("0000:41:00.0", "0x030000", "0x10de")
    bridge = device("0000:00:00.0", "0x060000", "0x1022")
    assert system.graphics(machine(aspeed, bridge)) == []
    assert system.graphics(machine(card)) == ["NVIDIA 0x2684 at 0000:41:00.0 (no driver)"]


# Could fail: bare metal, where the command exits with 1, is taken for unknown.
@pytest.mark.parametrize(
    ("answer", "kind"), [((1, "none\n"), "none"), ((0, "kvm\n"), "kvm"), ((127, ""), "a hypervisor")]
)
def test_virtualisation(machine: Make, answer: tuple[int, str], kind: str) -> None:
    source = machine(cpuinfo("any", 1, 1, 1), commands={"systemd-detect-virt": answer})
    assert system.virtualisation(source) == kind


# Could fail: an address is looked up as a name, or a failed look-up counts.
def test_names(machine: Make) -> None:
    source = machine(commands={"getent": (2, "")})
    assert system.names(source, ["eth.example.org", "127.0.0.1", "::1"]) == {"eth.example.org": False}


# Could fail: a cluster that does not answer is given a version, or one whose ingress is unknown has none.
def test_docker_and_kubernetes(machine: Make) -> None:
    source = machine(
        commands={
            "docker version": (0, "26.1.5\n"),
            "docker buildx": (
                0,
                "github.com/docker/buildx v0.13.1 788433953af10f2a698f5c07611dddce2e08c7a0\n",
            ),
            "kubectl version": (0, '{"clientVersion": {}, "serverVersion": {"gitVersion": "v1.29.3"}}'),
            "kubectl get": (1, ""),
        }
    )
    assert software.docker(source) == {"version": "26.1.5", "buildx": "v0.13.1", "why": None}
    assert software.kubernetes(source) == {"version": "1.29.3", "ingress_classes": None, "why": None}
    dead = machine(commands={"docker version": (1, ""), "kubectl version": (1, '{"clientVersion": {}}')})
    assert software.docker(dead)["why"] == "the Docker engine does not answer"
    assert software.kubernetes(dead)["version"] == ""
