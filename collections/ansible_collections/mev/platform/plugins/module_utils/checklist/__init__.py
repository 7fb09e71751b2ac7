# Copyright (c) the MEV platform's authors. Apache-2.0 (see LICENSE)
"""The checklist of a host: what was found against what is wanted, each item with a result of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.mev.platform.plugins.module_utils.checklist import hardware, software
from ansible_collections.mev.platform.plugins.module_utils.checklist.outcome import (
    Facts,
    Wanted,
    settle,
    severities,
)

CHECKS = (*software.CHECKS[:4], *hardware.CHECKS, *software.CHECKS[4:])
SEVERITIES = {check.item: check.severity for check in CHECKS} | {"packages": "fail fail fail"}


def judge(
    facts: Facts, wanted: Wanted, environment: str, overrides: Mapping[str, Any]
) -> list[dict[str, str]]:
    """All items of one host. ``facts`` is empty where the host could not be asked."""
    severity = severities(SEVERITIES, environment, overrides)
    if not facts.get("machine"):
        return [settle("access", "Access", software.access(facts), severity["access"])]
    lines = [
        settle(check.item, check.title, check.judge(facts["machine"], wanted), severity[check.item])
        for check in CHECKS
    ]
    return [*lines, *software.packages(wanted, severity["packages"])]
