#!/usr/bin/python
# Copyright (c) 2026, the MEV platform's authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Make or remove the bridge that throwaway hosts are on."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nspawn_network
short_description: Bridge, NAT and forwarding for throwaway hosts
version_added: 0.1.0
description:
  - Makes a bridge with an address, and one nftables table that lets its hosts out behind the controller's
    address and lets nobody in from outside.
  - Before the first network of any inventory, the controller's sysctls are written down (a guest shares
    the kernel and can write all that has no name space, as C(vm.*) and C(fs.*)); when the last network goes
    they are put back, but for those that the controller's own sysctl configuration asks for by then.
  - C(ip_forward) goes back to 0 unless a bridge, veth or tunnel of somebody else's has come up meanwhile.
author: The MEV platform's maintainers (@mev-platform)
options:
  bridge:
    description: The bridge's name, at most 15 characters.
    type: str
    required: true
  address:
    description: The bridge's own address with its prefix; the guests' gateway. Needed to make one.
    type: str
  owner:
    description: Directory of the inventory that the network is for. Others may not change it.
    type: path
    required: true
  state:
    description: Whether the network is to be there.
    type: str
    choices: [present, absent]
    default: present
  state_dir:
    description: Where records are kept.
    type: path
    default: /var/lib/mev-platform
attributes:
  check_mode:
    support: full
    description: Says whether anything would change.
requirements: [iproute2, nftables]
"""

EXAMPLES = r"""
- name: Make the network
  mev.platform.nspawn_network:
    bridge: mev-local
    address: 10.87.1.1/24
    owner: "{{ inventory_dir }}"
  become: true
"""

RETURN = r"""
forward_drops:
  description: Chains of others that drop forwarded packets by policy, and so may cut the guests off.
  type: list
  elements: str
  returned: when state is present
restored:
  description: Sysctls that were put back, as name=value.
  type: list
  elements: str
  returned: when state is absent
"""

import ipaddress
import json
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mev.platform.plugins.module_utils.kernel import configured, ours, restore, snapshot
from ansible_collections.mev.platform.plugins.module_utils.nspawn import (
    HostError,
    boot_id,
    check_owner,
    lock,
    read_record,
    run,
    wait_until,
    write_record,
)

FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
FORWARDERS = {"bridge", "ipvlan", "macvlan", "tun", "veth", "vxlan", "wireguard"}
"""Kinds of interfaces that containers, virtual machines and VPNs have packets forwarded through."""

TABLE = """\
table ip {table} {{
	chain postrouting {{
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr {subnet} ip daddr != {subnet} masquerade
	}}

	chain forward {{
		type filter hook forward priority filter; policy accept;
		iifname != "{bridge}" oifname "{bridge}" ct state new drop
	}}
}}
"""  # in the words and tabs that `nft list table` prints, so that the two can be compared


def table_name(bridge: str) -> str:
    """nftables identifiers know no hyphen at their start and we want none at all."""
    return "mev_" + bridge.replace("-", "_")


def bridge_state(bridge: str, address: str) -> bool:
    """Say whether the bridge is up with its address."""
    if not Path(f"/sys/class/net/{bridge}").exists():
        return False
    if not Path(f"/sys/class/net/{bridge}/bridge").exists():
        raise HostError(f"an interface {bridge} is there and is no bridge: give another nspawn_bridge")
    link = json.loads(run(["ip", "-json", "address", "show", "dev", bridge]))[0]
    addresses = [f"{item['local']}/{item['prefixlen']}" for item in link["addr_info"]]
    return "UP" in link["flags"] and address in addresses


def table_text(table: str) -> str:
    """Return the nftables table as nft prints it, empty where there is none."""
    tables = json.loads(run(["nft", "--json", "list", "tables"]))["nftables"]
    if not any(item.get("table", {}).get("name") == table for item in tables):
        return ""
    return run(["nft", "list", "table", "ip", table])


def check_subnet(bridge: str, subnet: ipaddress.IPv4Network) -> None:
    """Refuse a subnet that this machine already routes elsewhere."""
    for route in json.loads(run(["ip", "-json", "-4", "route", "show", "table", "all"])):
        if route.get("dev") in (None, bridge, "lo") or route["dst"] == "default":
            continue
        if ipaddress.ip_network(route["dst"], strict=False).overlaps(subnet):
            raise HostError(
                f"the subnet {subnet} overlaps {route['dst']} on {route['dev']}: "
                "give another nspawn_network and ansible_host addresses in this inventory"
            )


def forward_drops() -> list[str]:
    """List chains on the forward hook whose policy is drop: Docker and firewalls have those."""
    chains = (
        item.get("chain", {}) for item in json.loads(run(["nft", "--json", "list", "chains"]))["nftables"]
    )
    return [
        f"{chain['family']} {chain['table']} {chain['name']}"
        for chain in chains
        if chain.get("hook") == "forward" and chain.get("policy") == "drop"
    ]


def forwarders() -> list[str]:
    """List the interfaces that are up and may have packets forwarded."""
    links = json.loads(run(["ip", "-json", "-details", "link", "show", "up"]))
    return [link["ifname"] for link in links if link.get("linkinfo", {}).get("info_kind") in FORWARDERS]


def kernel_now() -> dict[str, object]:
    """Return what is compared when the last network goes."""
    return {"boot_id": boot_id(), "sysctls": snapshot(), "forwarders": forwarders()}


def remember_kernel(state: Path) -> None:
    """Write the controller's sysctls down once in a boot, before anything of ours runs."""
    record = read_record(state / "kernel.json")
    if record is None or record["boot_id"] != boot_id():
        write_record(state / "kernel.json", kernel_now())


def present(module: AnsibleModule, state: Path) -> dict[str, object]:
    """Make what is missing."""
    bridge, owner = module.params["bridge"], module.params["owner"]
    if len(bridge) > 15:
        raise HostError(f"nspawn_bridge {bridge!r} has {len(bridge)} characters: Linux allows 15")
    try:
        interface = ipaddress.IPv4Interface(module.params["address"])
    except ValueError as error:
        raise HostError(
            f"nspawn_network {module.params['address']!r}: {error}; write it as 10.87.1.1/24"
        ) from error
    if interface.network.prefixlen > 30 or interface.ip == interface.network.network_address:
        raise HostError(
            f"nspawn_network {interface} is no host's address in a subnet: write it as 10.87.1.1/24"
        )
    path = state / "networks" / f"{bridge}.json"
    check_owner(f"the network {bridge}", read_record(path), owner)
    table = table_name(bridge)
    rules = TABLE.format(table=table, bridge=bridge, subnet=interface.network)
    missing = []
    if not bridge_state(bridge, str(interface)):
        check_subnet(bridge, interface.network)
        missing.append("bridge")
    if table_text(table) != rules:
        missing.append("table")
    if FORWARD.read_text().strip() != "1":
        missing.append("forwarding")
    wanted = {"owner": owner, "address": str(interface), "boot_id": boot_id()}
    if read_record(path) != wanted:
        missing.append("record")
    if missing and not module.check_mode:
        remember_kernel(state)
        write_record(path, wanted)  # before the first change: whatever is interrupted can be removed
        if "bridge" in missing:
            if not Path(f"/sys/class/net/{bridge}").exists():
                run(["ip", "link", "add", "name", bridge, "type", "bridge"])
            run(["ip", "address", "replace", str(interface), "dev", bridge])
            run(["ip", "link", "set", "dev", bridge, "up"])
        if "table" in missing:  # added first, so that deleting it can't fail; all in one transaction
            run(["nft", "-f", "-"], stdin=f"table ip {table}\ndelete table ip {table}\n{rules}")
        if "forwarding" in missing:
            FORWARD.write_text("1")
    return {"changed": bool(missing), "made": missing, "forward_drops": forward_drops()}


def tear_down(bridge: str) -> None:
    """Remove the bridge and its table, as far as they are there."""
    members = Path(f"/sys/class/net/{bridge}/brif")
    # the kernel takes a dead guest's interfaces away a moment after its last process
    if not wait_until(lambda: not (members.exists() and list(members.iterdir())), 15):
        names = ", ".join(sorted(member.name for member in members.iterdir()))
        raise HostError(f"the bridge {bridge} still has {names}: remove what uses them and run again")
    if table_text(table_name(bridge)):
        run(["nft", "delete", "table", "ip", table_name(bridge)])
    if members.exists():
        run(["ip", "link", "delete", "dev", bridge, "type", "bridge"])


def put_kernel_back(module: AnsibleModule, state: Path) -> list[str]:
    """Give the controller its sysctls back, unless it has booted since and has them anyway."""
    restored: list[str] = []
    kernel = read_record(state / "kernel.json")
    if kernel is not None and kernel["boot_id"] == boot_id():
        others = sorted(set(forwarders()) - set(kernel.get("forwarders", [])))
        if others and kernel["sysctls"].get("net/ipv4/ip_forward") == "0":
            module.warn(
                f"net.ipv4.ip_forward stays 1, as {', '.join(others)} came up since it was 0; when nothing "
                "needs it any more: sysctl --write net.ipv4.ip_forward=0"
            )
        values = ours(kernel["sysctls"], meant=configured(), forwarded=bool(others))
        restored, refused = restore(values)
        for name in refused:
            module.warn(f"the kernel refused to take back {name}")
    (state / "kernel.json").unlink(missing_ok=True)
    return restored


def absent(module: AnsibleModule, state: Path) -> dict[str, object]:
    """Remove all that `present` made; put the kernel's settings back if no network is left."""
    bridge = module.params["bridge"]
    path = state / "networks" / f"{bridge}.json"
    record = read_record(path)
    check_owner(f"the network {bridge}", record, module.params["owner"])
    last = not [other for other in (state / "networks").glob("*.json") if other != path]
    # a kernel record without any network is left where a run was killed between the two
    if record is None and not (last and (state / "kernel.json").exists()):
        return {"changed": False, "restored": []}
    for other in sorted((state / "hosts").glob("*/record.json")):
        if (read_record(other) or {}).get("bridge") == bridge:
            raise HostError(f"the host {other.parent.name} is still on {bridge}: destroy it first")
    restored = []
    if not module.check_mode:
        if record is not None:
            tear_down(bridge)
        if last:
            restored = put_kernel_back(module, state)
        path.unlink(missing_ok=True)  # last: until here another run finishes what was interrupted
    return {"changed": True, "restored": restored}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "bridge": {"type": "str", "required": True},
            "address": {"type": "str"},
            "owner": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "state_dir": {"type": "path", "default": "/var/lib/mev-platform"},
        },
        required_if=[("state", "present", ["address"])],
        supports_check_mode=True,
    )
    state = Path(module.params["state_dir"])
    try:
        with lock(state / "lock", waiting=module.warn):
            result = present(module, state) if module.params["state"] == "present" else absent(module, state)
    except (HostError, OSError) as error:
        module.fail_json(msg=f"network {module.params['bridge']}: {error}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
