# Copyright (c) the MEV platform's authors. Apache-2.0 (see LICENSE)
# The work is done by the action plugin of the same name; this file documents it.

DOCUMENTATION = r"""
---
module: wireguard_administrator
short_description: Show an administrator's WireGuard configuration once, and store it nowhere
version_added: 0.1.0
description:
  - Makes a key pair on the controller, in memory, and writes the configuration with a QR code to the
    terminal that Ansible was started from, past Ansible's own output, so that no log and no fact has it. Only
    the public key is returned.
  - Fails before anything else where there is no terminal, as in AWX.
  - The QR code is made by C(qrencode), here or else on the host of the task, which gets it on standard input.
options:
  name:
    description: The administrator.
    type: str
    required: true
  address:
    description: Their address on the mesh.
    type: str
    required: true
  public_key:
    description: Public key of a pair that the administrator has. None is made then.
    type: str
  peers:
    description: The hosts, as M(mev.platform.wireguard_interface) takes peers.
    type: list
    elements: dict
    required: true
author:
  - The MEV platform's authors
"""

EXAMPLES = r"""
- name: Let alice in
  mev.platform.wireguard_administrator:
    name: alice
    address: 10.77.0.101
    peers: "{{ the_hosts }}"
"""

RETURN = r"""
public_key:
  description: The public key, for the hosts.
  type: str
  returned: success
"""
