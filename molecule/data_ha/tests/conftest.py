"""The cluster that the inventory names."""

from __future__ import annotations

import json
import subprocess

import pytest
import testinfra  # type: ignore[import-untyped]
from cluster import ROOT, Cluster


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Cluster:
    inventory = request.config.option.ansible_inventory
    listed = subprocess.run(
        ["ansible-inventory", "-i", inventory, "--list"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    groups = json.loads(listed.stdout)
    databases, front = groups["database"]["hosts"], groups["engine"]["hosts"][0]
    host = testinfra.get_host(f"ansible://{front}?ansible_inventory={inventory}&force_ansible=True")
    wanted = {
        "mev_user": "postgresql_password", "mev_engine": "engine_database_password",
        "user": "ansible_user", "address": "ansible_host",
        "key": "ansible_ssh_private_key_file", "arguments": "ansible_ssh_common_args",
    }  # fmt: skip
    text = "{{ {" + ", ".join(f"'{name}': {value}" for name, value in wanted.items()) + "} }}"
    variables = host.ansible("ansible.builtin.debug", f'msg="{text}"')["msg"]
    found = Cluster(inventory, databases, front, variables)
    assert len(databases) == 3
    return found
