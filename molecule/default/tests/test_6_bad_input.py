"""Bad input is refused at the door, in words that name variable and value, and nothing changes."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import ENGINE, Platform

ROOT = Path(__file__).parents[3]
BAD_CHAIN = {
    "name": "ethereum",
    "chain_id": 31337,
    "endpoints": ["ws://127.0.0.1:8545"],
    "base_tokens": ["0x5FbDB2315678afecb367f032d93F642f64180aa3"],
    "wrapped_native": "0x5FbDB2315678afecb367f032d93F642f64180aa3",
    "factories": [
        {"address": "0xe7f1725E7734CE288F8367e1Bb143E90bb3F0512", "name": "uniswap_v2", "fee_bps": 30}
    ],
    "metrics_port": 9090,
}
UNDEFINED = "{{ vault_not_there }}"

# What is wrong: (variables, words of the message). All wrong variables are reported in one go.
CASES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "variables": (
        {
            "postgresql_max_connections": "many",
            "postgresql_port": 80,
            "redis_source": "homebrew",
            "engine_database_password": UNDEFINED,
            "postgresql_max_conections": 100,
            "postgresl_database": "mev",
            "engine_chains": [{**BAD_CHAIN, "wrapped_native": "0x1234"}],
        },
        [
            "postgresql_max_connections is 'many'",
            "to int",
            "postgresql_port is 80: the least allowed is 1024",
            "redis_source is 'homebrew'",
            "distribution, upstream, mirror",
            "engine_database_password: its value can't be worked out: 'vault_not_there' is undefined",
            "postgresql_max_conections: no such variable of postgresql",
            "the closest known name is postgresql_max_connections",
            "postgresl_database: no such variable; did you mean postgresql_database?",
            "engine_chains[0].wrapped_native is '0x1234'",
        ],
    ),
    "unknown key of a chain": (
        {"engine_chains": [{**BAD_CHAIN, "max_hop": 3}]},
        ["engine_chains", "max_hop"],
    ),
    "unsupported system": (
        {"_preflight_distribution": "Fedora", "_preflight_release": "43"},
        ["Fedora-43", "not supported", "Debian-12, Debian-13, Ubuntu-22.04, Ubuntu-24.04"],
    ),
    "packages too old": ({"_preflight_release": "12"}, ["Redis of Debian-12 is 7.0", "7.2", "redis_source"]),
    "machine too small": ({"preflight_min_memory_mb": 99999999}, ["preflight_min_memory_mb", "99999999"]),
    "wrong endpoints": (
        {
            "engine_chains": [
                {**BAD_CHAIN, "endpoints": ["ws://127.0.0.1:1/v2/SECRETKEY", "ws://127.0.0.1:9090"]},
                {**BAD_CHAIN, "name": "polygon", "chain_id": 137},
            ]
        },
        [
            "engine_chains",
            "ethereum, endpoint 1 (127.0.0.1:1): Connection refused",
            "ethereum, endpoint 2 (127.0.0.1:9090): it speaks no WebSocket",
            "polygon, endpoint 1 (127.0.0.1:8545) serves chain 31337, and chain_id is 137",
        ],
    ),
    "unreachable host": (
        {"ansible_host": "127.0.0.1", "ansible_port": 1},
        ["UNREACHABLE", "port 1: Connection refused"],
    ),
}


# The files and processes that a deploy would touch; restarts show in the process' start time.
STATE = f"""
find /etc /opt/mev-infrastructure /usr/local /var/lib/dpkg/status -type f -printf '%p %T@ %s\\n' | sort
readlink /opt/mev-infrastructure/engine/current
systemctl show -P ExecMainStartTimestampMonotonic {ENGINE} redis@state redis@cache postgresql@17-main
"""


def deploy(variables: dict[str, Any], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run site.yml against the very inventory of this run, with these variables on top."""
    command = ["ansible-playbook", "site.yml", "--extra-vars", json.dumps(variables), *arguments]
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_SSH_RETRIES": "0", "COLUMNS": "400"}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300
    )


@pytest.fixture(scope="module")
def before(platform: Platform) -> str:
    """What the host was like before anyone made a mistake."""
    return platform.run(STATE)


# Could fail: the mistake is found late, after something changed; or the message does not name what to mend.
@pytest.mark.parametrize("case", CASES)
def test_refused_at_the_door(platform: Platform, before: str, case: str) -> None:
    variables, words = CASES[case]
    done = deploy(variables)
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0, said
    for word in words:
        assert word in said, f"{word!r} is not in: {said[-3000:]}"
    assert "SECRETKEY" not in said
    assert platform.run(STATE) == before
