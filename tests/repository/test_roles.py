"""A role's documentation, defaults and metadata say the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = sorted(path.parent for path in (Path(__file__).parents[2] / "roles").glob("*/tasks"))


def load(path: Path) -> Any:
    """Read a YAML file; what is not there is empty."""
    return yaml.safe_load(path.read_text()) if path.exists() else None


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_each_default_is_documented_and_each_optional_argument_has_a_default(role: Path) -> None:
    # fails when a variable is added to one of the two files only, or a required one has a default after all
    specs = load(role / "meta/argument_specs.yml")
    assert specs, f"{role.name} has no meta/argument_specs.yml"
    options: dict[str, Any] = {}
    for entry in specs["argument_specs"].values():
        options |= entry.get("options") or {}
    defaults = load(role / "defaults/main.yml") or {}
    optional = {name for name, option in options.items() if not option.get("required")}
    # the inventory's own mev_... variables belong to no role, so that no role can give them a default
    assert {name for name in optional if not name.startswith("mev_")} == set(defaults)
    for name, option in options.items():
        assert option.get("description"), f"{role.name}: {name} has no description"
        assert option.get("type"), f"{role.name}: {name} has no type"
        if "default" in option:
            assert option["default"] == defaults[name], f"{role.name}: two defaults for {name}"
