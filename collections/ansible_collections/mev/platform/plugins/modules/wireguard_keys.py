#!/usr/bin/python
# Copyright (c) the MEV platform's authors. Apache-2.0 (see LICENSE)
"""Make a host's private keys where they stay, and say their public halves."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mev.platform.plugins.module_utils.wireguard import interface_of, read_config

DOCUMENTATION = r"""
---
module: wireguard_keys
short_description: A host's WireGuard keys, made on it and never leaving it
version_added: 0.1.0
description:
  - Makes the private keys that are missing, readable for root alone, and returns all public ones.
  - A key that exists is never written again.
options:
  generations:
    description: The generations to have keys of. A host without any, asked for none, makes the first, 0.
    type: list
    elements: int
    default: []
  make:
    description: V(false) only reads.
    type: bool
    default: true
  remove:
    description: Generations whose keys are deleted.
    type: list
    elements: int
    default: []
  directory:
    description: Where the keys and the interfaces' configuration are.
    type: path
    default: /etc/wireguard
attributes:
  check_mode:
    support: full
    description: Says what would be made or deleted; a key that is not there yet has no public half.
requirements: [wireguard-tools]
author:
  - The MEV platform's authors
"""

EXAMPLES = r"""
- name: Have the keys of the first generation
  mev.platform.wireguard_keys:
    generations: [0]
"""

RETURN = r"""
public_keys:
  description: Generation (as text) to public key.
  type: dict
  returned: always
in_use:
  description: The generation that carries the host's traffic, -1 where no interface is configured.
  type: int
  returned: always
"""


def wg(*arguments: str, given: str = "") -> str:
    """Run wg and return what it says."""
    done = subprocess.run(["wg", *arguments], input=given, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def make(path: Path) -> None:
    """Write a new private key, whole or not at all."""
    half = path.with_suffix(".new")
    half.unlink(missing_ok=True)
    with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(wg("genkey") + "\n")
        file.flush()
        os.fsync(file.fileno())
    half.rename(path)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "generations": {"type": "list", "elements": "int", "default": []},
            "make": {"type": "bool", "default": True},
            "remove": {"type": "list", "elements": "int", "default": []},
            "directory": {"type": "path", "default": "/etc/wireguard"},
        },
        supports_check_mode=True,
    )
    os.umask(0o077)
    directory = Path(module.params["directory"])
    found = {
        int(match[1]): path
        for path in directory.glob("mev-*.key")
        if (match := re.fullmatch(r"mev-(\d+)\.key", path.name))
    }
    wanted = set(module.params["generations"]) or (set() if found else {0})
    new = wanted - set(found) if module.params["make"] else set()
    gone = set(module.params["remove"]) & set(found)
    try:
        if not module.check_mode:
            for generation in new:
                found[generation] = directory / f"mev-{generation}.key"
                make(found[generation])
            for generation in gone:
                found[generation].unlink()
        public = {
            str(generation): wg("pubkey", given=path.read_text())
            for generation, path in sorted(found.items())
            if generation not in gone
        }
    except (OSError, subprocess.CalledProcessError) as error:
        module.fail_json(msg=f"the keys in {directory}: {getattr(error, 'stderr', '') or error}")
    in_use = -1
    for parity in (0, 1):
        config = directory / f"{interface_of(parity)}.conf"
        if config.exists():
            generation, used, _ = read_config(config.read_text())
            if used and generation is not None:
                in_use = max(in_use, generation)
    module.exit_json(changed=bool(new or gone), public_keys=public, in_use=in_use)


if __name__ == "__main__":
    main()
