# Copyright (c) the MEV platform's authors. Apache-2.0 (see LICENSE)
"""A host's checklist."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.mev.platform.plugins.module_utils.checklist import judge

DOCUMENTATION = r"""
---
name: preflight_items
short_description: Judge a host's facts by what is wanted of it
version_added: 0.4.0
description:
  - Makes the items of a host's checklist, each with what was found, what is wanted, a result (C(passed),
    C(failed), C(warned), C(not measurable here), C(not wanted)) and how to mend it.
options:
  _input:
    description: C(machine), what M(mev.platform.machine_facts) found, and C(problem), why it found nothing.
    type: dict
    required: true
  wanted:
    description: The thresholds; the role preflight's C(_preflight_wanted) names them all.
    type: dict
    required: true
  environment:
    description: V(production), V(staging) or V(local); it decides whether an item fails or warns.
    type: str
    required: true
  severity:
    description: Items that shall V(fail) or V(warn) whatever the environment.
    type: dict
    default: {}
author:
  - The MEV platform's authors
"""

EXAMPLES = r"""
- name: Judge a host
  ansible.builtin.set_fact:
    items: "{{ {'machine': ansible_facts['mev_machine']} | mev.platform.preflight_items(wanted, 'staging') }}"
"""

RETURN = r"""
_value:
  description: The items.
  type: list
  elements: dict
"""


def preflight_items(
    facts: Mapping[str, Any],
    wanted: Mapping[str, Any],
    environment: str,
    severity: Mapping[str, Any] | None = None,
) -> list[dict[str, str]]:
    """Judge a host's facts."""
    return judge(facts, wanted, environment, severity or {})


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Names of the filters."""
        return {"preflight_items": preflight_items}
