"""The door knows which roles a host will get."""

from __future__ import annotations

from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


# Could fail: a role is added to a layer and its variables are checked too late, after something has changed.
def test_preflight_checks_the_roles_that_the_layers_apply() -> None:
    checked = yaml.safe_load((ROOT / "roles/preflight/vars/main.yml").read_text())[
        "_preflight_roles_of_group"
    ]
    applied: dict[str, list[str]] = {}
    for entry in yaml.safe_load((ROOT / "site.yml").read_text()):
        for play in yaml.safe_load((ROOT / entry["ansible.builtin.import_playbook"]).read_text()):
            for role in play.get("roles", []):
                applied.setdefault(play["hosts"], []).append(role["role"])
    assert checked == applied
