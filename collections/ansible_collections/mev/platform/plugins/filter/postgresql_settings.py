# Copyright (c) the MEV platform's authors. Apache-2.0 (see LICENSE)
"""PostgreSQL's settings from the size of a machine."""

from __future__ import annotations

DOCUMENTATION = r"""
name: postgresql_settings
short_description: PostgreSQL's settings from the size of a machine
version_added: 0.2.0
description:
  - Memory, workers, WAL and costs; on the guide's machine the guide's values.
author: The MEV platform's authors (@mev-platform)
options:
  _input:
    description: >-
      The machine: V(memory_mb), V(cpus), V(disk) (nvme, ssd or hdd), V(disk_gb), V(max_connections), and
      V(share), the share of the memory that PostgreSQL may reckon with.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: What PostgreSQL gets here
  ansible.builtin.debug:
    msg: "{{ {'memory_mb': 16000, 'cpus': 4, 'disk': 'nvme', 'disk_gb': 200, 'max_connections': 200}
             | mev.platform.postgresql_settings }}"
"""

RETURN = r"""
_value:
  description: Setting to value.
  type: dict
"""

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
