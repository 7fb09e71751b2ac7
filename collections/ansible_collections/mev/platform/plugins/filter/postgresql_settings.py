# Copyright (c) the MEV platform's authors. Apache-2.0 (see LICENSE)
"""PostgreSQL's settings from the size of a machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.mev.platform.plugins.module_utils.postgresql import problems, refusals, settings


def postgresql_settings(machine: dict[str, Any]) -> dict[str, str | int | float]:
    """The settings; an error that names the variable to change where nothing fits."""
    try:
        return settings(**machine)
    except (TypeError, ValueError) as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """Makes the filter known to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "postgresql_settings": postgresql_settings,
            "postgresql_problems": problems,
            "postgresql_refusals": refusals,
        }
