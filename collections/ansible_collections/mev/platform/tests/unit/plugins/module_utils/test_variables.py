"""What a wrong variable is told to its writer."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mev.platform.plugins.module_utils.variables import (
    hide,
    misspelt,
    out_of_limits,
    secret_paths,
)

KNOWN = {"redis": ["redis_instances", "redis_users"], "mev": ["mev_address"]}


# Could fail: a name under a role's prefix slips through, or the hint names another role's variable.
def test_unknown_name_under_a_known_prefix_is_refused_with_the_closest_name() -> None:
    assert list(misspelt(["redis_instnces", "redis_users"], KNOWN)) == [
        "redis_instnces: no such variable of redis; the closest known name is redis_instances"
    ]


# Could fail: the slip is in the prefix, so no role feels meant, and the value is silently ignored.
def test_slip_in_the_prefix_is_found_and_strangers_are_left_alone() -> None:
    found = list(misspelt(["reddis_instances", "my_own_note", "group_names"], KNOWN))
    assert found == ["reddis_instances: no such variable; did you mean redis_instances?"]


# Could fail: lists are not entered, or an absent optional key counts as wrong.
@pytest.mark.parametrize(
    ("port", "problem"),
    [
        (6379, []),
        (80, ["redis_instances[1].port is 80: the least allowed is 1024"]),
        (70000, ["redis_instances[1].port is 70000: the most allowed is 65535"]),
        ("many", ["redis_instances[1].port is 'many': a number is wanted"]),
    ],
)
def test_ranges_reach_into_lists(port: object, problem: list[str]) -> None:
    values = {"redis_instances": [{"name": "portless"}, {"port": port}]}
    limits: dict[str, dict[str, Any]] = {
        "redis_instances.port": {"min": 1024, "max": 65535},
        "redis_users.name": {"pattern": "x"},
    }
    assert list(out_of_limits(values, limits)) == problem


# Could fail: re.match instead of fullmatch lets an address with a tail pass.
def test_patterns_bind_the_whole_value() -> None:
    limits = {"token": {"pattern": "0x[0-9a-f]{4}", "message": "an address is wanted"}}
    assert list(out_of_limits({"token": "0xabcd"}, limits)) == []
    assert list(out_of_limits({"token": "0xabcdef"}, limits)) == ["token is '0xabcdef': an address is wanted"]


# Could fail: what merely looks like an address passes, and PostgreSQL refuses it after the deploy has begun.
@pytest.mark.parametrize(
    ("address", "good"), [("10.77.0.11", True), ("999.1.1.1", False), ("fd00::1", False)]
)
def test_addresses_are_parsed(address: str, good: bool) -> None:
    limits = {"mev_address": {"ipv4": True}}
    assert (list(out_of_limits({"mev_address": address}, limits)) == []) is good


# Could fail: only top-level no_log is honoured, and an API key inside an endpoint is printed.
def test_secrets_deep_inside_are_hidden() -> None:
    options: dict[str, dict[str, Any]] = {
        "chains": {"options": {"name": {}, "endpoints": {"no_log": True}}},
        "password": {"no_log": True},
    }
    assert list(secret_paths(options)) == ["chains.endpoints", "password"]
    values = {"chains": [{"endpoints": ["wss://node/KEY"]}], "password": "hunter2"}
    said = hide("wss://node/KEY is wrong, so is hunter2", values, secret_paths(options))
    assert said == "(hidden) is wrong, so is (hidden)"


# Could fail: a key that ends in a newline (YAML's `|`) is printed, since messages carry its repr.
def test_secrets_are_hidden_in_every_form() -> None:
    secret = "wss://node/K'EY\n"
    values = {"chains": [{"endpoints": [secret]}], "password": {"wrong": ["hunter2\n"]}}
    limits = {"chains.endpoints": {"pattern": "http"}}
    (said,) = out_of_limits(values, limits, ["chains.endpoints"])
    assert said == "chains[0].endpoints[0] is (hidden): it must match http"
    said = hide(f"{values} {secret} {secret.strip()}", values, ["chains.endpoints", "password"])
    assert "EY" not in said
    assert "hunter2" not in said
