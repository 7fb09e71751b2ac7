# Copyright (c) the MEV platform's authors. Apache-2.0 (see LICENSE)
"""Ask the endpoints of chains for their chain id."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mev.platform.plugins.module_utils.evm import EndpointError, chain_id, location

DOCUMENTATION = r"""
---
module: evm_endpoints
short_description: Check that Ethereum endpoints answer and serve the chain that they should
version_added: 0.1.0
description:
  - Asks every endpoint for its chain id, from the host that will use it; needs nothing but Python there.
  - Reads only. API keys (path, query and user of the URLs) never appear in messages.
options:
  chains:
    description: The chains.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name, for messages.
        type: str
        required: true
      chain_id:
        description: What the endpoints must serve.
        type: int
        required: true
      endpoints:
        description: Their addresses (ws, wss, http, https).
        type: list
        elements: str
        required: true
  later:
    description: Endpoints that need not answer yet. If one does, its chain id must be right all the same.
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds to wait for each endpoint.
    type: int
    default: 10
  ca_certificates:
    description: PEM certificates to trust besides the system's.
    type: str
author:
  - The MEV platform's authors
"""

EXAMPLES = r"""
- name: Ask the endpoints
  mev.platform.evm_endpoints:
    chains:
      - name: ethereum
        chain_id: 1
        endpoints: ["wss://eth.example.org/v2/KEY"]
"""

RETURN = r"""
problems:
  description: One sentence for each endpoint that is wrong.
  returned: always
  type: list
  elements: str
  sample: ["ethereum, endpoint 1 (127.0.0.1:1): Connection refused"]
silent:
  description: The same for those of O(later) that did not answer, which is no problem yet.
  returned: always
  type: list
  elements: str
  sample: ["ethereum, endpoint 1 (127.0.0.1:8545): Connection refused"]
"""


def problem_of(place: str, wanted: int, url: str, timeout: int, trust: str | None) -> tuple[str | None, bool]:
    """What is wrong with one endpoint, or None; and whether it answered at all."""
    where = f"{place} ({location(url)})"
    try:
        found = chain_id(url, timeout=timeout, cadata=trust)
    except EndpointError as error:
        return f"{where}: {error}", False
    return (f"{where} serves chain {found}, and chain_id is {wanted}" if found != wanted else None), True


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "chains": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "chain_id": {"type": "int", "required": True},
                    # Ansible cuts every no_log value out of all messages: they name endpoints by their place
                    "endpoints": {"type": "list", "elements": "str", "required": True, "no_log": True},
                },
            },
            "later": {"type": "list", "elements": "str", "default": []},
            "timeout": {"type": "int", "default": 10},
            "ca_certificates": {"type": "str"},
        },
        supports_check_mode=True,
    )
    p: dict[str, Any] = module.params
    questions = [
        (f"{chain['name']}, endpoint {place}", chain["chain_id"], url, p["timeout"], p["ca_certificates"])
        for chain in p["chains"]
        for place, url in enumerate(chain["endpoints"], start=1)
    ]
    with ThreadPoolExecutor(max_workers=8) as pool:
        answers = list(pool.map(lambda question: problem_of(*question), questions))
    problems: list[str] = []
    silent: list[str] = []
    for (_, _, url, *_), (problem, answered) in zip(questions, answers, strict=True):
        if problem:
            (problems if answered or url not in p["later"] else silent).append(problem)
    if problems:
        text = "\n".join(f"  - {problem}" for problem in problems)
        module.fail_json(
            msg=f"engine_chains has endpoints that can't be used:\n{text}", problems=problems, silent=silent
        )
    module.exit_json(changed=False, problems=[], silent=silent)


if __name__ == "__main__":
    main()
