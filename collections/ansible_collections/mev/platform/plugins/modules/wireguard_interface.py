#!/usr/bin/python
# Copyright (c) the MEV platform's authors. Apache-2.0 (see LICENSE)
"""Configure an interface of the mesh without dropping its tunnels."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mev.platform.plugins.module_utils.wireguard import (
    IN_USE,
    STANDBY,
    hide_secrets,
    interface_of,
    read_config,
    routes,
    running,
    wanted_running,
    write_config,
)

DOCUMENTATION = r"""
---
module: wireguard_interface
short_description: An interface of the WireGuard mesh, changed without dropping its tunnels
version_added: 0.1.0
description:
  - Writes the configuration that wg-quick reads, with the host's own private key, and brings a running
    interface to it by C(wg syncconf). It starts nothing; the unit C(wg-quick@) does.
  - A configuration is loaded into an interface of its own, which never comes up, before it lands. If the
    running one then refuses it, the former is put back.
  - What runs is read back, so that a peer, route or address changed by hand is put right.
options:
  generation:
    description: The generation of keys; its last bit says which interface it is.
    type: int
    required: true
  state:
    description: V(absent) stops the unit and removes the configuration; the keys stay.
    type: str
    choices: [present, absent]
    default: present
  address:
    description: The host's own address on the mesh.
    type: str
  network:
    description: The mesh, in CIDR notation.
    type: str
  in_use:
    description: Whether the host's traffic takes this interface.
    type: bool
    default: true
  mtu:
    description: Largest packet that fits into the tunnel.
    type: int
    default: 1420
  peers:
    description:
      - Everyone whom this host talks to. One without a public key keeps the one that it has here, if any, so
        that a controller that knows too little deletes nobody.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name.
        type: str
        required: true
      address:
        description: Address on the mesh.
        type: str
        required: true
      public_key:
        description: Public key, empty where the controller does not know it.
        type: str
        default: ""
      preshared_key:
        description: Key of this pair.
        type: str
        required: true
      endpoint:
        description: Name or address to reach it by. Empty for one that calls first.
        type: str
        default: ""
      port:
        description: UDP port at the endpoint.
        type: int
        required: true
      keepalive:
        description: Seconds between packets that keep a NAT's memory fresh; 0 for none.
        type: int
        default: 0
      route:
        description: Whether its address has a route of its own here, as administrators' have.
        type: bool
        default: false
  directory:
    description: Where keys and configuration are.
    type: path
    default: /etc/wireguard
attributes:
  check_mode:
    support: full
    description: Compares; loads and writes nothing.
  diff_mode:
    support: full
    description: Keys are hidden in it.
requirements: [wireguard-tools, wireguard-go where the kernel has no WireGuard]
author:
  - The MEV platform's authors
"""

EXAMPLES = r"""
- name: Talk to one other host
  mev.platform.wireguard_interface:
    generation: 0
    address: 10.77.0.11
    network: 10.77.0.0/24
    peers:
      - name: mev-db-1
        address: 10.77.0.12
        public_key: "{{ key_of_mev_db_1 }}"
        preshared_key: "{{ key_of_the_pair }}"
        endpoint: 192.0.2.12
        port: 51820
"""

RETURN = r"""
interface:
  description: Name of the interface.
  type: str
  returned: always
unknown:
  description: Peers left out because nobody knows their public key yet.
  type: list
  elements: str
  returned: always
remembered:
  description: Peers whose public key only this host knew.
  type: list
  elements: str
  returned: always
unresolved:
  description: Peers whose endpoint's name this host can't resolve; they are kept and may call first.
  type: list
  elements: str
  returned: always
"""

SCRATCH = "wg-mev-try"


def run(*command: str, given: str = "") -> str:
    """Run a command and return what it says."""
    return subprocess.run(command, input=given, capture_output=True, text=True, check=True).stdout


def exists(interface: str) -> bool:
    """Say whether there is such an interface."""
    return Path("/sys/class/net", interface).exists()


@contextmanager
def scratch() -> Iterator[None]:
    """Have an interface that nothing uses, of the kernel's kind or else of wireguard-go's."""
    if exists(SCRATCH):
        run("ip", "link", "delete", SCRATCH)
    process = None
    if subprocess.run(
        ["ip", "link", "add", SCRATCH, "type", "wireguard"], capture_output=True, check=False
    ).returncode:
        process = subprocess.Popen(
            ["wireguard-go", "-f", SCRATCH],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, "LOG_LEVEL": "error"},
        )  # fmt: skip
    try:
        for _ in range(100):
            if SCRATCH in run("wg", "show", "interfaces").split():
                break
            time.sleep(0.1)
        yield
    finally:
        if process:
            process.terminate()
            process.wait(timeout=10)
        elif exists(SCRATCH):
            run("ip", "link", "delete", SCRATCH)


def stripped(path: Path) -> str:
    """Return what wg understands of a file; never empty, since an empty one would delete every peer."""
    text = run("wg-quick", "strip", str(path))
    if "PrivateKey" not in text:
        raise ValueError(f"wg-quick makes nothing of {path}")
    return text


def resolve(endpoint: str, port: int) -> str:
    """Return address and port; empty when the name has no address now, which must not keep the mesh down."""
    if not endpoint:
        return ""
    try:
        found = sorted(
            {str(entry[4][0]) for entry in socket.getaddrinfo(endpoint, port, type=socket.SOCK_DGRAM)}
        )
    except OSError:
        return ""
    address = next((place for place in found if ":" not in place), found[0])
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


class Interface:
    """One interface, on disk and in the kernel."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.given = module.params
        self.name = interface_of(self.given["generation"])
        self.directory = Path(self.given["directory"])
        self.path = self.directory / f"{self.name}.conf"
        self.former = self.path.read_text() if self.path.exists() else ""
        self.unknown: list[str] = []
        self.remembered: list[str] = []
        self.unresolved: list[str] = []

    def peers(self) -> list[dict[str, Any]]:
        """Return the peers with what this host alone knows of them."""
        generation, _, known = read_config(self.former)
        peers = [dict(peer) for peer in self.given["peers"]]
        for peer in peers:
            if not peer["public_key"]:
                if generation == self.given["generation"] and peer["name"] in known:
                    peer["public_key"] = known[peer["name"]]
                    self.remembered.append(peer["name"])
                else:
                    self.unknown.append(peer["name"])
            place = resolve(peer["endpoint"], peer["port"])
            if peer["endpoint"] and not place:
                self.unresolved.append(peer["name"])
            peer["endpoint"] = place
        return peers

    def present(self) -> bool:
        """Bring file and interface to what is wanted; return whether they differed."""
        key = (self.directory / f"mev-{self.given['generation']}.key").read_text().strip()
        metric = IN_USE if self.given["in_use"] else STANDBY
        peers = self.peers()
        where = {"address": self.given["address"], "network": self.given["network"], "metric": metric}
        text = write_config(
            **where, generation=self.given["generation"], mtu=self.given["mtu"], key=key, peers=peers
        )
        wanted = wanted_running(key, self.given["generation"], peers)
        own_routes = routes(self.name, **where, peers=peers)
        up = exists(self.name)
        differs = text != self.former
        drifted = up and (
            running(run("wg", "show", self.name, "dump")) != wanted or self.links(own_routes, change=False)
        )
        if self.module.check_mode or not (differs or drifted):
            return differs or drifted
        if differs:
            self.land(text)
        if up:
            try:
                run("wg", "syncconf", self.name, "/dev/stdin", given=stripped(self.path))
                if running(run("wg", "show", self.name, "dump")) != wanted:
                    raise ValueError(f"{self.name} does not run what it was given")
                self.links(own_routes, change=True)
            except (OSError, ValueError, subprocess.CalledProcessError):
                if self.former and differs:
                    self.path.write_text(self.former)
                    run("wg", "syncconf", self.name, "/dev/stdin", given=stripped(self.path))
                raise
        return True

    def land(self, text: str) -> None:
        """Let WireGuard itself load the text, and only then replace the file."""
        with scratch():
            half = self.directory / f"{SCRATCH}.conf"
            with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            try:
                # all but the port, which the running interface may have
                lines = [line for line in stripped(half).splitlines() if not line.startswith("ListenPort")]
                run("wg", "setconf", SCRATCH, "/dev/stdin", given="\n".join(lines) + "\n")
                half.rename(self.path)
            finally:
                half.unlink(missing_ok=True)

    def links(self, own_routes: list[str], *, change: bool) -> bool:
        """Compare address, size and routes with what is wanted; new ones come before old ones go."""
        commands = []
        link = json.loads(run("ip", "-json", "address", "show", "dev", self.name))[0]
        address = f"{self.given['address']}/32"
        has = [f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"] if a["family"] == "inet"]
        commands += [] if address in has else [["address", "add", address, "dev", self.name]]
        if link["mtu"] != self.given["mtu"]:
            commands.append(["link", "set", "dev", self.name, "mtu", str(self.given["mtu"])])
        now = []
        for route in json.loads(run("ip", "-4", "-json", "route", "show", "dev", self.name) or "[]"):
            place = ipaddress.IPv4Network(route["dst"])
            now.append(f"{place} dev {self.name} src {route.get('prefsrc')} metric {route.get('metric')}")
        commands += [["route", "replace", *route.split()] for route in own_routes if route not in now]
        commands += [["route", "delete", *route.split()] for route in now if route not in own_routes]
        commands += [["address", "delete", old, "dev", self.name] for old in has if old != address]
        filter_ = Path("/proc/sys/net/ipv4/conf", self.name, "rp_filter")
        loose = filter_.read_text().strip() == "2"
        if change:
            for command in commands:
                run("ip", *command)
            filter_.write_text("2\n")
        return bool(commands) or not loose

    def absent(self) -> bool:
        """Stop the interface and forget its configuration; return whether there was any."""
        unit = f"wg-quick@{self.name}.service"
        enabled = Path("/etc/systemd/system/multi-user.target.wants", unit)
        there = bool(self.former) or exists(self.name) or enabled.is_symlink()
        if there and not self.module.check_mode:
            run("systemctl", "disable", "--now", unit)
            if exists(self.name):
                run("ip", "link", "delete", self.name)
            self.path.unlink(missing_ok=True)
        return there


def main() -> None:
    peer = {
        "name": {"type": "str", "required": True},
        "address": {"type": "str", "required": True},
        "public_key": {"type": "str", "default": "", "no_log": False},
        "preshared_key": {"type": "str", "required": True, "no_log": True},
        "endpoint": {"type": "str", "default": ""},
        "port": {"type": "int", "required": True},
        "keepalive": {"type": "int", "default": 0},
        "route": {"type": "bool", "default": False},
    }
    module = AnsibleModule(
        argument_spec={
            "generation": {"type": "int", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "address": {"type": "str"},
            "network": {"type": "str"},
            "in_use": {"type": "bool", "default": True},
            "mtu": {"type": "int", "default": 1420},
            "peers": {"type": "list", "elements": "dict", "default": [], "options": peer},
            "directory": {"type": "path", "default": "/etc/wireguard"},
        },
        required_if=[("state", "present", ["address", "network"])],
        supports_check_mode=True,
    )
    os.umask(0o077)
    if module.params["state"] == "present" and not shutil.which("wg"):
        module.fail_json(msg="wg is missing: apt-get install wireguard-tools")
    interface = Interface(module)
    try:
        changed = interface.present() if module.params["state"] == "present" else interface.absent()
    except subprocess.CalledProcessError as error:
        command = " ".join(map(str, error.cmd))
        module.fail_json(
            msg=f"{interface.name}: {command}: {error.stderr.strip()}; the former configuration stays"
        )
    except (OSError, ValueError) as error:
        module.fail_json(msg=f"{interface.name}: {error}; the former configuration stays")
    after = interface.path.read_text() if interface.path.exists() else ""
    module.exit_json(
        changed=changed,
        interface=interface.name,
        unknown=interface.unknown,
        remembered=interface.remembered,
        unresolved=interface.unresolved,
        diff={"before": hide_secrets(interface.former), "after": hide_secrets(after)},
    )


if __name__ == "__main__":
    main()
