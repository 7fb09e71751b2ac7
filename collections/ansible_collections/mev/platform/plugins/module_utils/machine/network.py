# Copyright (c) the MEV platform's authors. Apache-2.0 (see LICENSE)
"""The interface of the default route: its cards, their drivers and what they carry together."""

from __future__ import annotations

from typing import Any

from ansible_collections.mev.platform.plugins.module_utils.machine.source import Source

_UP = 0x1  # flag of a route in /proc/net/route
_Carried = tuple[int | None, list[dict[str, Any]], str | None]


def default_interface(source: Source) -> str:
    """Interface of the default route with the least metric; IPv4 first. Empty when there is none."""
    routes = []
    for line in source.read("/proc/net/route").splitlines()[1:]:
        fields = line.split()
        if len(fields) >= 8 and fields[1] == fields[7] == "00000000" and int(fields[3], 16) & _UP:
            routes.append((int(fields[6]), fields[0]))
    for line in source.read("/proc/net/ipv6_route").splitlines() if not routes else []:
        fields = line.split()
        if len(fields) >= 10 and set(fields[0]) == {"0"} and fields[1] == "00" and fields[9] != "lo":
            routes.append((int(fields[5], 16), fields[9]))
    return min(routes)[1] if routes else ""


def network(source: Source) -> dict[str, Any]:
    """Speed in Mbit/s (None: unknown, and ``why``), and the cards with their drivers."""
    name = default_interface(source)
    if not name:
        return {"interface": "", "speed_mbps": None, "cards": [], "why": "there is no default route"}
    speed, cards, why = _carried(source, name, depth=0)
    return {"interface": name, "speed_mbps": speed, "cards": cards, "why": why}


def _carried(source: Source, name: str, depth: int) -> _Carried:
    """Speed, cards and what is not known of an interface, down to the cards below VLANs, bridges, bonds."""
    place = f"/sys/class/net/{name}"
    below = [entry.removeprefix("lower_") for entry in source.names(place) if entry.startswith("lower_")]
    if not below:
        return _card(source, name)
    if depth > 4:
        return None, [], f"{name} lies on too many others"
    parts = {lower: _carried(source, lower, depth + 1) for lower in below}
    cards = [card for part in parts.values() for card in part[1]]
    speeds = [part[0] for part in parts.values() if part[0] is not None]
    if not speeds:
        return None, cards, next(part[2] for part in parts.values())
    mode = source.read(f"{place}/bonding/mode").split(" ")[0]
    if mode in ("active-backup", "broadcast"):
        active = parts.get(source.read(f"{place}/bonding/active_slave"))
        return (active[0] if active and active[0] else min(speeds)), cards, None
    # a bond's member that is down tells no speed and carries nothing; a VLAN has one interface below it,
    # and of a bridge's ports one leads out
    return sum(speeds) if mode else max(speeds), cards, None


def _card(source: Source, name: str) -> _Carried:
    place = f"/sys/class/net/{name}"
    if not source.at(f"{place}/device").exists():  # veth claims 10 Gbit/s whatever carries it
        return None, [], f"{name} is a virtual interface: its speed means nothing"
    speed, driver = source.number(f"{place}/speed"), source.target(f"{place}/device/driver")
    if speed is None or speed <= 0:
        card = {"name": name, "driver": driver, "speed_mbps": None}
        return None, [card], f"the driver of {name} ({driver or 'unknown'}) tells no speed"
    return speed, [{"name": name, "driver": driver, "speed_mbps": speed}], None
