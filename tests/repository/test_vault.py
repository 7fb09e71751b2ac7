"""The vault's example has what the inventories ask for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret

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
