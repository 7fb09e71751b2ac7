# Copyright (c) the MEV platform's authors. Apache-2.0 (see LICENSE)
"""Filters of the role firewall: what a host's rules open, what is wrong with them, and UFW's own files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.mev.platform.plugins.module_utils.firewall import admits, read, user_rules


def firewall_plan(
    rules: Sequence[Mapping[str, Any]],
    groups: Mapping[str, Sequence[str]],
    mesh: str | None = None,
    logging: str = "low",
) -> dict[str, Any]:
    """See firewall_plan.yml."""
    found, problems = read(rules, groups, mesh)
    return {
        "problems": problems,
        "openings": [str(one) for one in found],
        "user.rules": user_rules(found, 4, logging),
        "user6.rules": user_rules(found, 6, logging),
    }


def firewall_admits(
    rules: Sequence[Mapping[str, Any]],
    groups: Mapping[str, Sequence[str]],
    source: str,
    interface: str,
    port: int | str,
) -> bool:
    """See firewall_admits.yml."""
    return admits(read(rules, groups)[0], source, interface, int(port))


class FilterModule:
    """Filters of the role firewall."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name them for Ansible."""
        return {"firewall_plan": firewall_plan, "firewall_admits": firewall_admits}
