#!/usr/bin/python
# Copyright (c) the MEV platform's authors. Apache-2.0 (see LICENSE)
"""Ask the peers of the mesh whether they are there."""

from __future__ import annotations

import os
import select
import socket
import struct
import subprocess
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mev.platform.plugins.module_utils.icmp import echo_reply, echo_request

DOCUMENTATION = r"""
---
module: wireguard_reach
short_description: Which peers answer through an interface of the mesh
version_added: 0.1.0
description:
  - Sends each peer a small ping and one of the tunnel's full size through the named interface, again each
    half second, until all have answered or the time is over. An answer may come by either interface.
  - Reads only; it never fails because a peer is silent. Those who call it judge.
options:
  interface:
    description: The interface to send through.
    type: str
    required: true
  peers:
    description: Name to address on the mesh.
    type: dict
    required: true
  size:
    description: Size of the large packet with its headers, the interface's MTU.
    type: int
    default: 1420
  timeout:
    description: Seconds to wait for all of them.
    type: int
    default: 20
attributes:
  check_mode:
    support: full
    description: It changes nothing.
requirements: [wireguard-tools]
author:
  - The MEV platform's authors
"""

EXAMPLES = r"""
- name: Ask one peer
  mev.platform.wireguard_reach:
    interface: wg-mev0
    peers:
      mev-db-1: 10.77.0.12
"""

RETURN = r"""
silent:
  description: Peers that did not answer, with what is known of their last handshake.
  type: dict
  returned: always
narrow:
  description: Peers that answered small packets and lost those of full size.
  type: list
  elements: str
  returned: always
"""

SMALL, LARGE = 1, 2


def handshakes(interface: str) -> dict[str, int]:
    """Address to the time of the last handshake, 0 where there was none."""
    dump = subprocess.run(
        ["wg", "show", interface, "dump"], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split("\t") for line in dump.splitlines()[1:]]
    return {row[3].removesuffix("/32"): int(row[4]) for row in rows}


def ask(interface: str, addresses: set[str], size: int, timeout: float) -> tuple[set[str], set[str]]:
    """Return who answered the small packet and who the large one."""
    answered: dict[int, set[str]] = {SMALL: set(), LARGE: set()}
    ident = os.getpid() & 0xFFFF
    with (
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as out,
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as back,
    ):
        out.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        end = time.monotonic() + timeout
        next_round = 0.0
        while time.monotonic() < end and not all(got >= addresses for got in answered.values()):
            if time.monotonic() >= next_round:
                next_round = time.monotonic() + 0.5
                for sequence, length in ((SMALL, 64), (LARGE, size)):
                    for address in addresses - answered[sequence]:
                        try:
                            out.sendto(echo_request(ident, sequence, length), (address, 0))
                        except OSError:  # no endpoint known yet: the peer calls first, if it lives
                            continue
            if select.select([back], [], [], 0.1)[0]:
                packet, (source, _) = back.recvfrom(65535)
                reply = echo_reply(packet, ident)
                if reply in answered:
                    answered[reply].add(source)
    return answered[SMALL] & addresses, answered[LARGE] & addresses


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "interface": {"type": "str", "required": True},
            "peers": {"type": "dict", "required": True},
            "size": {"type": "int", "default": 1420},
            "timeout": {"type": "int", "default": 20},
        },
        supports_check_mode=True,
    )
    interface, peers = module.params["interface"], module.params["peers"]
    try:
        small, large = ask(interface, set(peers.values()), module.params["size"], module.params["timeout"])
        shaken = handshakes(interface)
    except (OSError, struct.error, subprocess.CalledProcessError) as error:
        module.fail_json(msg=f"{interface}: {getattr(error, 'stderr', '') or error}")
    silent = {}
    for name, address in peers.items():
        if address not in small:
            last = shaken.get(address, 0)
            silent[name] = f"last handshake {int(time.time()) - last} s ago" if last else "no handshake"
    narrow = sorted(name for name, address in peers.items() if address in small - large)
    module.exit_json(changed=False, silent=silent, narrow=narrow)


if __name__ == "__main__":
    main()
