"""The door knows which roles a host will get."""

from __future__ import annotations

from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


# Could fail: a role is added to a layer and its variables are checked too late, after something has changed.
def test_preflight_checks_the_roles_that_the_layers_apply() -> None:
    table = yaml.safe_load((ROOT / "roles/preflight/vars/main.yml").read_text())
    applied: dict[str, list[str]] = {}
    optional = set()
    for entry in yaml.safe_load((ROOT / "site.yml").read_text()):
        for play in yaml.safe_load((ROOT / entry["ansible.builtin.import_playbook"]).read_text()):
            for role in play.get("roles", []):
                for group in play["hosts"].split(":"):
                    applied.setdefault(group, []).append(role["role"])
                if "when" in role:
                    assert role["when"] == "postgresql_high_availability | default(false)"
                    optional.add(role["role"])
    assert table["_preflight_roles_of_group"] == applied
    assert set(table["_preflight_roles_of_high_availability"]) == optional
