# Copyright (c) the MEV platform's authors. Apache-2.0 (see LICENSE)
"""The mesh out of an inventory: who is in it, with which keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.mev.platform.plugins.module_utils import wireguard

KEEPALIVE = 25
"""Seconds: NATs forget UDP after 30 s or more (WireGuard's own advice)."""


def _known(name: str, directory: str, given: Mapping[str, Any]) -> dict[int, str]:
    """Public keys that the controller knows: the variable's before the file's."""
    if name in given:
        return {int(generation): str(key) for generation, key in given[name].items()}
    file = Path(directory) / f"{name}.txt"
    try:
        return wireguard.read_keys(file.read_text()) if file.exists() else {}
    except ValueError as error:
        raise AnsibleFilterError(f"{file}: {error}") from error


def members(
    hosts: Sequence[str],
    hostvars: Mapping[str, Any],
    administrators: Sequence[Mapping[str, Any]],
    directory: str,
    given: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Return the mesh's members. What a host said of its keys in this run counts before what was known."""
    found: list[dict[str, Any]] = []
    for name in hosts:
        own = hostvars[name]
        said = (own.get("_wireguard_keys") or {}).get("public_keys")
        known = _known(name, directory, given)
        keys = {int(generation): str(key) for generation, key in said.items()} if said else known
        endpoint = own.get("wireguard_endpoint", own.get("ansible_host", name))
        found.append(
            {
                "name": str(name),
                "administrator": False,
                "address": str(own.get("mev_address", "")),
                "endpoint": str(endpoint or ""),
                "keys": keys,
                "filed": known,
            }
        )
    newest = wireguard.generations(member["keys"] for member in found)[-1]
    for admin in administrators:
        name = str(admin["name"])
        known = _known(name, directory, given)
        keys = dict(known)
        if admin.get("public_key"):
            # the generation of host keys that the configuration was made for stays
            keys = {max(known, default=newest): str(admin["public_key"])}
        found.append(
            {
                "name": name,
                "administrator": True,
                "address": str(admin["address"]),
                "endpoint": "",
                "keys": keys,
                "filed": known,
            }
        )
    return found


def mesh_generations(mesh: Iterable[Mapping[str, Any]]) -> list[int]:
    """Return the generations of keys that the mesh's hosts have now."""
    return wireguard.generations(member["keys"] for member in mesh if not member["administrator"])


def mesh_peers(
    mesh: Sequence[Mapping[str, Any]], me: str, generation: int, secret: str, keepalive: int = 0
) -> list[dict[str, Any]]:
    """Return the peers of a member in a generation, each with the key of this pair."""
    peers = wireguard.peers_of(me, generation, mesh, secret)
    return [{**peer, "keepalive": keepalive if peer["endpoint"] else 0} for peer in peers]


def mesh_problems(mesh: Sequence[Mapping[str, Any]], network: str | None, secret: str | None) -> list[str]:
    """Return a sentence for each thing that keeps the members from being a mesh."""
    return list(wireguard.problems(mesh, network, secret))


class FilterModule:
    """Ansible looks for this name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "mesh_members": members,
            "mesh_generations": mesh_generations,
            "mesh_peers": mesh_peers,
            "mesh_problems": mesh_problems,
            "mesh_interface": wireguard.interface_of,
            "mesh_key_file": wireguard.write_keys,
        }
