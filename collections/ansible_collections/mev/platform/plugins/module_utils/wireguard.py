# Copyright (c) the MEV platform's authors. Apache-2.0 (see LICENSE)
"""The mesh as values: keys, generations, peers, configuration files. Nothing here touches a host.

Keys come in generations, 0, 1, 2 ...: each rotation makes the next. Even generations live on the interface
wg-mev0, odd ones on wg-mev1, so that two that follow each other can be up at once.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

Keys = Mapping[int, str]
"""Generation to public key."""

FIRST_PORT = 51820
IN_USE = 50
STANDBY = 100
"""Metrics of the mesh's route: traffic takes the interface that has the lower one."""


def interface_of(generation: int) -> str:
    """Name of the interface that a generation's keys live on."""
    return f"wg-mev{generation % 2}"


def port_of(generation: int) -> int:
    """Return the UDP port of a generation."""
    return FIRST_PORT + generation % 2


def is_key(text: object) -> bool:
    """Say whether a text is 32 bytes in base64, as WireGuard writes its keys."""
    try:
        raw = base64.b64decode(str(text), validate=True)
    except (binascii.Error, ValueError):
        return False
    return len(raw) == 32 and base64.b64encode(raw).decode() == str(text)


def preshared_key(secret: str, generation: int, one: str, other: str) -> str:
    """Return the key that two members share, the same whichever of them asks."""
    pair = "\0".join(["mev mesh", str(generation), *sorted((one, other))])
    return base64.b64encode(hmac.digest(secret.encode(), pair.encode(), hashlib.sha256)).decode()


def read_keys(text: str) -> dict[int, str]:
    """Read a file of public keys: a generation and a key on each line; ``#`` begins a comment."""
    keys: dict[int, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 2 or not words[0].isdigit() or not is_key(words[1]):
            raise ValueError(f"line {number} is not a generation and a public key: {line!r}")
        keys[int(words[0])] = words[1]
    return keys


def write_keys(keys: Mapping[Any, str]) -> str:
    """Write what read_keys() reads."""
    return "\n".join(
        f"{generation} {key}" for generation, key in sorted(keys.items(), key=lambda k: int(k[0]))
    )


def generations(known: Iterable[Keys]) -> list[int]:
    """Return the generations that the mesh has now: one, or two while keys are being rotated.

    The newest that anyone has, and the one before if nobody has given it up: a host that was away while
    the others ended a rotation must not bring the old keys back.
    """
    everyone = [set(keys) for keys in known if keys]
    newest = max((max(own) for own in everyone), default=0)
    former = newest - 1
    return [former, newest] if everyone and all(former in own for own in everyone) else [newest]


def peers_of(
    me: str, generation: int, members: Sequence[Mapping[str, Any]], secret: str
) -> list[dict[str, Any]]:
    """Return everyone whom a member talks to in a generation, those of unknown public key too."""
    peers = []
    for member in members:
        keys = member["keys"]
        # an administrator is on the one interface that the configuration was made for
        if member["name"] == me or (member["administrator"] and keys and generation not in keys):
            continue
        endpoint = member["endpoint"]
        peers.append(
            {
                "name": member["name"],
                "address": member["address"],
                "public_key": keys.get(generation, ""),
                "preshared_key": preshared_key(secret, generation, me, member["name"]),
                "endpoint": endpoint,
                "port": port_of(generation),
                "route": member["administrator"],
            }
        )
    return peers


def problems(members: Sequence[Mapping[str, Any]], network: str | None, secret: str | None) -> Iterator[str]:
    """Yield a sentence for each thing that keeps these members from being one mesh."""
    try:
        mesh = ipaddress.IPv4Network(str(network))
    except ValueError as error:
        yield f"mev_mesh_network is {network!r}: an IPv4 network such as 10.77.0.0/24 is wanted ({error})"
        return
    if not secret:
        yield "wireguard_psk_secret is not given: it is the secret that the pre-shared keys are made from"
    addresses: dict[str, str] = {}
    names: set[str] = set()
    for member in members:
        name, address = str(member["name"]), str(member["address"])
        if name in names:
            yield f"{name} is the name of two members of the mesh (hosts and administrators): rename one"
        names.add(name)
        try:
            place = ipaddress.IPv4Address(address)
        except ValueError:
            yield f"the mesh address of {name} is {address!r}: an IPv4 address in {mesh} is wanted"
            continue
        if place not in mesh or place in (mesh.network_address, mesh.broadcast_address):
            yield f"the mesh address of {name} is {address}: one in mev_mesh_network, {mesh}, is wanted"
        if address in addresses:
            yield f"{name} and {addresses[address]} have the same mesh address, {address}: change one"
        addresses[address] = name
        yield from _endpoint_problems(name, member["endpoint"], mesh)
    yield from _key_problems(members)
    silent = [m["name"] for m in members if not m["administrator"] and not m["endpoint"]]
    if len(silent) > 1:
        yield f"{', '.join(silent)} have no wireguard_endpoint: at most one may be without"


def _key_problems(members: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    owners: dict[str, str] = {}
    for member in members:
        for generation, key in member["keys"].items():
            if not is_key(key):
                yield (
                    f"the public key of {member['name']}, generation {generation}, is {key!r}: "
                    "32 bytes in base64 are wanted, as wg pubkey prints them"
                )
            if owners.setdefault(key, member["name"]) != member["name"]:
                yield f"{member['name']} and {owners[key]} have the same public key: each needs its own"


def _endpoint_problems(name: str, endpoint: str, mesh: ipaddress.IPv4Network) -> Iterator[str]:
    try:
        place = ipaddress.ip_address(endpoint)
    except ValueError:
        if endpoint and not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", endpoint):
            yield f"wireguard_endpoint of {name} is {endpoint!r}: a name or address without a port is wanted"
        return
    if place in mesh:
        yield f"wireguard_endpoint of {name} is {endpoint}, inside the mesh: give the host's outer address"


def write_config(
    *,
    address: str,
    network: str,
    generation: int,
    metric: int,
    mtu: int,
    key: str,
    peers: Iterable[Mapping[str, Any]],
) -> str:
    """Return the file for wg-quick. Peers without a public key are left out."""
    used = "in use" if metric == IN_USE else "standing by"
    lines = [
        f"# Made by Ansible. Mesh, keys of generation {generation}, {used}.",
        "[Interface]",
        f"PrivateKey = {key}",
        f"ListenPort = {port_of(generation)}",
        f"Address = {address}/32",
        f"MTU = {mtu}",
        "# one address on two interfaces: routes and not addresses say which is in use",
        "Table = off",
        "PostUp = echo 2 >/proc/sys/net/ipv4/conf/%i/rp_filter",
        *(f"PostUp = ip route replace {route}" for route in routes("%i", address, network, metric, peers)),
    ]
    for peer in peers:
        if peer["public_key"]:
            lines += [
                "",
                f"# peer: {peer['name']}",
                "[Peer]",
                f"PublicKey = {peer['public_key']}",
                f"PresharedKey = {peer['preshared_key']}",
                f"AllowedIPs = {peer['address']}/32",
                *([f"Endpoint = {peer['endpoint']}"] if peer["endpoint"] else []),
                f"PersistentKeepalive = {peer['keepalive'] or 'off'}",
            ]
    return "\n".join(lines) + "\n"


def routes(
    interface: str, address: str, network: str, metric: int, peers: Iterable[Mapping[str, Any]]
) -> list[str]:
    """Return an interface's routes for ``ip route``: the mesh, and each administrator of this interface."""
    own = [f"{peer['address']}/32" for peer in peers if peer["route"] and peer["public_key"]]
    rest = f"dev {interface} src {address} metric"
    return [f"{network} {rest} {metric}", *(f"{place} {rest} {IN_USE}" for place in own)]


def read_config(text: str) -> tuple[int | None, bool, dict[str, str]]:
    """Read a file of write_config(): generation, whether in use, and the peers' names and public keys."""
    head = re.search(
        r"^# Made by Ansible\. Mesh, keys of generation (\d+), (in use|standing by)\.$", text, re.M
    )
    peers = dict(re.findall(r"^# peer: (\S+)\n\[Peer\]\nPublicKey = (\S+)$", text, re.M))
    return (int(head[1]), head[2] == "in use", peers) if head else (None, False, {})


def hide_secrets(text: str) -> str:
    """Return a configuration that may be shown."""
    return re.sub(r"^(PrivateKey|PresharedKey) = .*$", r"\1 = (hidden)", text, flags=re.M)


def running(dump: str) -> tuple[str, int, dict[str, tuple[str, str, str]]]:
    """Read ``wg show ... dump``: private key, port; of each peer pre-shared key, addresses, keepalive."""
    rows = [line.split("\t") for line in dump.splitlines()]
    return rows[0][0], int(rows[0][2]), {row[0]: (row[1], row[3], row[7]) for row in rows[1:]}


def wanted_running(
    key: str, generation: int, peers: Iterable[Mapping[str, Any]]
) -> tuple[str, int, dict[str, tuple[str, str, str]]]:
    """Return what running() says of an interface that is as it should be."""
    return (
        key,
        port_of(generation),
        {
            peer["public_key"]: (
                peer["preshared_key"],
                f"{peer['address']}/32",
                str(peer["keepalive"] or "off"),
            )
            for peer in peers
            if peer["public_key"]
        },
    )


def administrator_config(address: str, private: str, peers: Iterable[Mapping[str, Any]]) -> str:
    """Return the file that an administrator's WireGuard reads."""
    lines = ["[Interface]", f"PrivateKey = {private}", f"Address = {address}/32"]
    for peer in peers:
        if peer["public_key"] and peer["endpoint"]:
            host = f"[{peer['endpoint']}]" if ":" in peer["endpoint"] else peer["endpoint"]
            lines += [
                "",
                f"# {peer['name']}",
                "[Peer]",
                f"PublicKey = {peer['public_key']}",
                f"PresharedKey = {peer['preshared_key']}",
                f"AllowedIPs = {peer['address']}/32",
                f"Endpoint = {host}:{peer['port']}",
                "PersistentKeepalive = 25",
            ]
    return "\n".join(lines) + "\n"
