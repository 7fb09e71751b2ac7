# Copyright (c) the MEV platform's authors. Apache-2.0 (see LICENSE)
"""Filters of the restore playbooks; see module_utils/backup.py for what they promise."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.mev.platform.plugins.module_utils.backup import restore_point, snapshot


def _filter(function: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    def chosen(known: Any, wanted: Any = "", now: float | None = None) -> dict[str, Any]:
        try:
            return function(known, str(wanted), time.time() if now is None else now)
        except ValueError as error:
            raise AnsibleFilterError(str(error)) from error

    return chosen


class FilterModule:
    """Makes the filters known to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"restore_point": _filter(restore_point), "snapshot_at": _filter(snapshot)}
