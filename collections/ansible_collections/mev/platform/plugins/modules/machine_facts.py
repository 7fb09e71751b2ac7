# Copyright (c) the MEV platform's authors. Apache-2.0 (see LICENSE)
"""What a machine is made of."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mev.platform.plugins.module_utils.machine import (
    network,
    power,
    software,
    storage,
    system,
)
from ansible_collections.mev.platform.plugins.module_utils.machine.source import Source, run_command

DOCUMENTATION = r"""
---
module: machine_facts
short_description: Read what a machine is made of, for a checklist
version_added: 0.4.0
description:
  - Reads processor, memory, what lies under a directory (file system, encryption, RAID, disks), the default
    route's cards, power supplies, clock, virtualisation and a few versions from /proc, /sys and commands that
    only read (C(lvs), C(ipmitool), C(upsc), C(chronyc), C(getent), C(systemd-detect-virt)).
  - Judges nothing and installs nothing. What can't be read carries the reason in C(why).
  - Needs root for LVM and IPMI.
options:
  root:
    description: Directory below which /proc and /sys are looked for; another one than / is for tests.
    type: path
    default: /
  data_path:
    description: Directory whose file system, RAID and disks are described. It need not exist yet.
    type: path
    default: /
  free_paths:
    description: Paths whose file systems are measured. They need not exist yet.
    type: list
    elements: path
    default: [/]
  resolve:
    description: Names that should resolve. Addresses among them are left out.
    type: list
    elements: str
    default: []
  docker:
    description: Whether to ask the Docker engine.
    type: bool
    default: false
  kubernetes:
    description: Whether to ask the Kubernetes cluster.
    type: bool
    default: false
author:
  - The MEV platform's authors
"""

EXAMPLES = r"""
- name: Look at what lies under the database
  mev.platform.machine_facts:
    data_path: /var/lib/postgresql
  become: true
"""

RETURN = r"""
ansible_facts:
  description: All of it, as C(mev_machine).
  returned: always
  type: dict
  sample: {mev_machine: {memory_mb: 128500, cpu: {model: AMD EPYC 9354 32-Core Processor, cores: 32}}}
"""


def gather(source: Source, params: dict[str, Any]) -> dict[str, Any]:
    """All facts; what waits for a command waits at the same time."""
    real = str(source.root) == "/"
    data_path = os.path.realpath(params["data_path"]) if real else params["data_path"]
    free_paths = [os.path.realpath(path) if real else path for path in params["free_paths"]]
    with ThreadPoolExecutor(max_workers=8) as pool:
        waiting: dict[str, Future[Any]] = {
            "virtualisation": pool.submit(system.virtualisation, source),
            "storage": pool.submit(storage.storage, source, data_path),
            "power": pool.submit(power.supplies, source),
            "ups": pool.submit(power.ups, source),
            "clock": pool.submit(system.clock, source),
            "names": pool.submit(system.names, source, params["resolve"]),
        }
        if params["docker"]:
            waiting["docker"] = pool.submit(software.docker, source)
        if params["kubernetes"]:
            waiting["kubernetes"] = pool.submit(software.kubernetes, source)
    return {
        "cpu": system.cpu(source),
        "memory_mb": system.memory_mb(source),
        "kernel": system.kernel(source),
        "network": network.network(source),
        "graphics": system.graphics(source),
        "filesystems": storage.filesystems(source, free_paths),
        **{name: future.result() for name, future in waiting.items()},
    }


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "default": "/"},
            "data_path": {"type": "path", "default": "/"},
            "free_paths": {"type": "list", "elements": "path", "default": ["/"]},
            "resolve": {"type": "list", "elements": "str", "default": []},
            "docker": {"type": "bool", "default": False},
            "kubernetes": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    facts = gather(Source(Path(module.params["root"]), run_command), module.params)
    module.exit_json(changed=False, ansible_facts={"mev_machine": facts})


if __name__ == "__main__":
    main()
