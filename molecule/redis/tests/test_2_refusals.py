"""A wrong value is refused at the door, with its mend; no file and no process changes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cluster import CONVERGE, Cluster

STATE = """
find /etc /usr/local -type f -printf '%p %T@ %s\\n' | sort
systemctl show -P ExecMainStartTimestampMonotonic -P MainPID redis@state redis@state-2 redis@cache
"""
INSTANCES = [
    {
        "name": "state",
        "port": 6379,
        "maxmemory_mb": 1024,
        "maxmemory_policy": "noeviction",
        "appendonly": True,
    },
    {
        "name": "cache",
        "port": 6380,
        "maxmemory_mb": 64,
        "maxmemory_policy": "allkeys-lru",
        "appendonly": False,
    },
]


def user(*rules: str, name: str = "api", password: str = "SECRETKEY0123456789") -> dict[str, Any]:  # noqa: S107
    return {"name": name, "password": password, "rules": list(rules), "instances": ["state", "cache"]}


ADMIN = user("~*", "&*", "+@all", name="admin")

# What is wrong: (variables, words of the message). What the door itself can tell is told in one go.
CASES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "unknown policy": (
        {"redis_instances": [INSTANCES[0], {**INSTANCES[1], "maxmemory_policy": "forget-all"}]},
        ["maxmemory_policy must be one of: noeviction", "got: forget-all found in redis_instances"],
    ),
    "variables": (
        {
            "redis_users": [
                ADMIN, user("nopass"), user(">SECRETKEY0123"), user("allcommands"),
                user("+get", name="default"), user("+get", password="SECRETKEYshort"),
            ],
            "redis_cluster_second_port": 60000,
            "redis_cluster_node_timeout_ms": 10,
            "redis_replication_password": "change-me",
            "redis_clustr": True,
        },
        [
            "redis_users[1].rules[0] is (hidden)", "nobody is without one",
            "redis_users[2].rules[0] is (hidden)", "redis_users[3].rules[0] is (hidden)",
            "redis_users[4].name is 'default'", "redis_users[5].password is (hidden)",
            "redis_cluster_second_port is 60000: the most allowed is 55535",
            "redis_cluster_node_timeout_ms is 10: the least allowed is 2000",
            "redis_replication_password is (hidden)", "redis_clustr: no such variable", "redis_cluster",
        ],
    ),
    "a state that forgets": (
        {"redis_instances": [{**INSTANCES[0], "maxmemory_policy": "allkeys-lru"}, INSTANCES[1]]},
        ["maxmemory_policy of state is allkeys-lru", "set noeviction and true"],
    ),
    "memory beyond the machine's": (
        {"redis_instances": [INSTANCES[0], {**INSTANCES[1], "maxmemory_mb": 99999999}]},
        ["want 100002047 MB", "lower maxmemory_mb"],
    ),
    "no admin, no way to replicate": (
        {"redis_users": [user("+get")], "redis_replication_password": ""},
        ["need a user admin", "a redis_replication_password"],
    ),
    "too few hosts": ({"redis_cluster_group": "few"}, ["this host and 3 or more in all"]),
    "alone, on a member's data": (
        {"redis_cluster": False},
        ["is a member of a cluster, and redis_cluster is False", "move /var/lib/redis/state away"],
    ),
    "a rule that Redis doesn't know": (
        {"redis_users": [ADMIN, user("~mev:*", "+gett")]},
        ["redis_users, instance state", "Redis refuses it", "+gett", "Unknown command"],
    ),
    "everything for an application": (
        {"redis_users": [ADMIN, user("~*", "+@all")]},
        ["api may", "ACL DELUSER", "dangerous commands are for admin alone"],
    ),
    "a dangerous command": (
        {"redis_users": [ADMIN, user("~*", "+@all", "-@dangerous", "-@admin", "(~x +flushall)")]},
        ["api may FLUSHALL:", "dangerous commands are for admin alone"],
    ),
    "a category with dangerous ones": (
        {"redis_users": [ADMIN, user("+@connection")]},
        ["api may CLIENT KILL", "add -@dangerous after a category"],
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def before(cluster: Cluster) -> str:
    """What a host was like before anyone made a mistake."""
    return cluster.run(next(iter(cluster.hosts)), STATE)


# Could fail: the mistake is found after something changed, or not at all; the message names nothing to mend.
@pytest.mark.parametrize("case", CASES)
def test_refused_at_the_door(cluster: Cluster, before: str, case: str) -> None:
    name = next(iter(cluster.hosts))
    variables, words = CASES[case]
    good, said = cluster.playbook(
        CONVERGE, "--tags=redis", f"--limit={name}", f"--extra-vars={json.dumps(variables)}"
    )
    assert not good, said[-3000:]
    for word in words:
        assert word in said, f"{word!r} is not in: {said[-3000:]}"
    assert "SECRETKEY" not in said
    assert cluster.run(name, STATE) == before
