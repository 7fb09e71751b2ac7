# Copyright (c) the MEV platform's authors. Apache-2.0 (see LICENSE)
"""Read sockets, NUMA nodes, CCXs and SMT siblings of a host, and choose the cores of the engine."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mev.platform.plugins.module_utils.topology import (
    Wish,
    choose,
    everything,
    nic_node,
    read,
)

DOCUMENTATION = r"""
---
module: cpu_topology
short_description: Read the processor's layout and choose cores by it
version_added: 0.2.0
description:
  - Reads sockets, NUMA nodes, groups of cores that share an L3 cache (CCX) and SMT siblings from sysfs.
  - Chooses whole groups for a process that needs low latency, and explains the choice.
  - Reads only.
options:
  sysfs:
    description: Where sysfs is mounted.
    type: path
    default: /sys
  reserve:
    description: Set cores aside. Without it, all cores are everyone's.
    type: bool
    default: true
  interface:
    description: Network interface whose NUMA node is preferred.
    type: str
    default: ""
  ccxs:
    description: How many groups to take.
    type: int
    default: 1
  cores:
    description: How many cores of them; V(0) for all.
    type: int
    default: 0
  whole_ccx:
    description: Leave the remaining cores of a group idle instead of giving them to the system.
    type: bool
    default: true
  avoid_boot_ccx:
    description: Leave the group of the first CPU to the system where there is another one.
    type: bool
    default: true
  siblings:
    description: Use both threads of a core.
    type: bool
    default: false
  housekeeping_cores:
    description: Cores of the first CPU's group that are never taken.
    type: int
    default: 2
author:
  - The MEV platform's authors
"""

EXAMPLES = r"""
- name: Choose the engine's cores
  mev.platform.cpu_topology:
    interface: eth0
  register: cpu
"""

RETURN = r"""
ansible_facts:
  description: >-
    The layout, as C(ansible_facts['mev_cpu_topology']), with the keys sockets, nodes, cores, cpus, smt, ccx.
  returned: always
  type: dict
choice:
  description: >-
    Lists of CPUs in the kernel's notation (engine_cpus, idle_cpus, housekeeping_cpus), what systemd needs
    (numa_policy, numa_nodes), numba_threads, and the reasons (explanation, table).
  returned: always
  type: dict
"""


def main() -> None:
    """Entry point."""
    wish = {
        "ccxs": {"type": "int", "default": 1},
        "cores": {"type": "int", "default": 0},
        "whole_ccx": {"type": "bool", "default": True},
        "avoid_boot_ccx": {"type": "bool", "default": True},
        "siblings": {"type": "bool", "default": False},
        "housekeeping_cores": {"type": "int", "default": 2},
    }
    module = AnsibleModule(
        argument_spec={
            "sysfs": {"type": "path", "default": "/sys"},
            "reserve": {"type": "bool", "default": True},
            "interface": {"type": "str", "default": ""},
            **wish,
        },
        supports_check_mode=True,
    )
    p = module.params
    sysfs = Path(p["sysfs"])
    try:
        topology = read(sysfs)
        node = nic_node(sysfs, p["interface"]) if p["interface"] else None
    except (OSError, ValueError) as error:
        module.fail_json(msg=f"{sysfs} does not tell the processor's layout: {error}")
    if p["reserve"]:
        choice = choose(topology, Wish(**{name: p[name] for name in wish}), node)
    else:
        choice = everything(topology, "Nothing is set aside: this host runs no engine.")
    module.exit_json(
        changed=False, ansible_facts={"mev_cpu_topology": topology.facts()}, choice=choice.facts()
    )


if __name__ == "__main__":
    main()
