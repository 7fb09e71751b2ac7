"""The vault's example has what the inventories ask for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible_collections.mev.platform.plugins.module_utils.variables import out_of_limits

ROOT = Path(__file__).parents[2]
PASSWORD = VaultSecret(b"mev-example")  # the one that docs/secrets.md names


# Could fail: a secret is added to an inventory and not to its example, so the next reader does not know; or
# the example can't be opened with the documented password.
@pytest.mark.parametrize("environment", ["staging", "production"])
def test_example_has_every_secret_that_is_asked_for(environment: str) -> None:
    folder = ROOT / "inventories" / environment
    asked = {
        name
        for file in folder.rglob("*.yml")
        if file.name != "vault.yml"
        for name in re.findall(r"\{\{\s*(vault_\w+)", file.read_text())
    }
    example = (folder / "group_vars/all/vault.yml.example").read_bytes()
    given = yaml.safe_load(VaultLib([("default", PASSWORD)]).decrypt(example))
    assert asked
    assert asked <= set(given)


# Could fail: a password of the example, which everyone can read, passes the door and is deployed.
@pytest.mark.parametrize("environment", ["staging", "production"])
def test_door_refuses_what_the_example_holds(environment: str) -> None:
    example = (ROOT / "inventories" / environment / "group_vars/all/vault.yml.example").read_bytes()
    given = yaml.safe_load(VaultLib([("default", PASSWORD)]).decrypt(example))
    for role, path, values in (
        ("postgresql", "postgresql_password", _at_top),
        ("engine", "engine_database_password", _at_top),
        ("engine", "engine_database_owner_password", _at_top),
        ("engine", "engine_redis_password", _at_top),
        ("wireguard", "wireguard_psk_secret", _at_top),
        ("pgbackrest", "pgbackrest_passphrase", _at_top),
        ("restic", "restic_password", _at_top),
        ("redis", "redis_users.password", _of_user),
        ("engine", "engine_chains.endpoints", _in_endpoint),
    ):
        limits = yaml.safe_load((ROOT / "roles" / role / "meta/limits.yml").read_text())
        own = {path: limits[path]}
        for secret in given.values():
            assert list(out_of_limits(values(path, secret), own, [path])), f"{path} may be {secret}"
        assert not list(out_of_limits(values(path, "6f2e" * 12), own, [path]))
        if values is not _in_endpoint:
            assert list(out_of_limits(values(path, "6f2e"), own, [path])), f"{path} may be short"


def _at_top(name: str, secret: str) -> dict[str, Any]:
    return {name: secret}


def _of_user(_: str, secret: str) -> dict[str, Any]:
    return {"redis_users": [{"password": secret}]}


def _in_endpoint(_: str, secret: str) -> dict[str, Any]:
    return {"engine_chains": [{"endpoints": [f"wss://node.example.org/v2/{secret}"]}]}
