"""What the default route's interface carries."""

from __future__ import annotations

import pytest
from ansible_collections.mev.platform.plugins.module_utils.machine.network import default_interface, network
from ansible_collections.mev.platform.tests.unit.plugins.module_utils.machine.conftest import Make, Tree

HEAD = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT"


def route(*interfaces: tuple[str, int]) -> Tree:
    lines = [
        f"{name}\t00000000\t0101A8C0\t0003\t0\t0\t{metric}\t00000000\t0\t0\t0" for name, metric in interfaces
    ]
    return {
        "proc/net/route": "\n".join(
            [HEAD, *lines, "eth9\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0"]
        )
    }


def card(name: str, driver: str, speed: str | None) -> Tree:
    place = f"sys/devices/pci0000:00/{name}"
    tree = {
        f"sys/class/net/{name}/device": f"-> {place}",
        f"{place}/driver": f"-> sys/bus/pci/drivers/{driver}",
    }
    return tree if speed is None else {**tree, f"sys/class/net/{name}/speed": speed}


def over(name: str, *below: str, **files: str) -> Tree:
    place = f"sys/class/net/{name}"
    return {
        f"{place}/speed": "1",
        **{f"{place}/lower_{lower}": f"-> sys/class/net/{lower}" for lower in below},
        **{f"{place}/{path.replace('__', '/')}": text for path, text in files.items()},
    }


# Could fail: the route with the greater metric, or one of a local network, is taken for the default.
def test_the_best_default_route_counts(machine: Make) -> None:
    assert default_interface(machine(route(("eno1", 100), ("ens5", 50)))) == "ens5"


# Could fail: a host that has IPv6 alone is said to have no default route.
def test_ipv6_alone(machine: Make) -> None:
    zeros = "0" * 32
    lines = [
        f"{zeros} 00 {zeros} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003 eno1",
        f"{zeros} 00 {zeros} 00 {zeros} ffffffff 00000001 00000000 00200200       lo",
    ]
    assert (
        default_interface(machine({"proc/net/route": HEAD, "proc/net/ipv6_route": "\n".join(lines)}))
        == "eno1"
    )


# Could fail: a bond's own speed, or one member's, is taken instead of the sum.
@pytest.mark.parametrize(
    ("mode", "speeds", "sum_"),
    [
        ("802.3ad 4", ("25000", "25000"), 50000),
        ("802.3ad 4", ("25000", "-1"), 25000),  # one cable is out
        ("active-backup 1", ("25000", "10000"), 25000),  # the second only waits
        ("802.3ad 4", ("-1", "-1"), None),
    ],
)
def test_bond(machine: Make, mode: str, speeds: tuple[str, str], sum_: int | None) -> None:
    source = machine(
        route(("bond0", 0)),
        over("bond0", "eno1", "eno2", bonding__mode=mode, bonding__active_slave="eno1"),
        card("eno1", "ice", speeds[0]),
        card("eno2", "mlx5_core", speeds[1]),
    )
    found = network(source)
    assert found["speed_mbps"] == sum_
    assert {card["driver"] for card in found["cards"]} == {"ice", "mlx5_core"}
    assert (found["why"] is None) == (sum_ is not None)


# Could fail: the VLAN or the bridge on top hides the card.
def test_vlan_on_a_bridge_on_a_card(machine: Make) -> None:
    source = machine(
        route(("br0.7", 0)), over("br0.7", "br0"), over("br0", "eno1", "tap0"), over("tap0"),
        card("eno1", "bnxt_en", "10000"),
    )  # fmt: skip
    found = network(source)
    assert found["speed_mbps"] == 10000
    assert [card["driver"] for card in found["cards"]] == ["bnxt_en"]


# Could fail: virtio, which tells no speed, fails or passes instead of being unknown.
@pytest.mark.parametrize("speed", [None, "-1", ""])
def test_virtio_tells_no_speed(machine: Make, speed: str | None) -> None:
    found = network(machine(route(("ens3", 0)), card("ens3", "virtio_net", speed)))
    assert found["speed_mbps"] is None
    assert found["cards"] == [{"name": "ens3", "driver": "virtio_net", "speed_mbps": None}]
    assert "virtio_net" in str(found["why"])


# Could fail: a container's veth passes for a card of 10 Gbit/s, which is what it claims.
def test_veth_claims_ten_gigabit(machine: Make) -> None:
    found = network(machine(route(("host0", 0)), {"sys/class/net/host0/speed": "10000"}))
    assert found["speed_mbps"] is None
    assert "virtual" in str(found["why"])


def test_no_default_route(machine: Make) -> None:
    # fails if a host without one raises instead of saying so
    assert network(machine({}))["why"] == "there is no default route"
