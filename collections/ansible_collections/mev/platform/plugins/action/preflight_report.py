# Copyright (c) the MEV platform's authors. Apache-2.0 (see LICENSE)
"""The report of all hosts, written on the controller."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.mev.platform.plugins.module_utils.checklist import SEVERITIES, report, software
from ansible_collections.mev.platform.plugins.module_utils.checklist.attestations import attested
from ansible_collections.mev.platform.plugins.module_utils.checklist.outcome import settle, severities


class ActionModule(ActionBase):
    """See plugins/modules/preflight_report.py for what it promises."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _VALID_ARGS = frozenset(
        ("environment", "hosts", "hosts_left_out", "attestations_file", "severity", "directory", "template")
    )

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        args = self._task.args
        environment, severity = str(args["environment"]), args.get("severity") or {}
        now = datetime.datetime.now(datetime.UTC)
        hosts = {
            str(name): [
                {key: str(value) for key, value in line.items()} for line in lines or _silent(environment)
            ]
            for name, lines in args["hosts"].items()
        }
        file = str(args.get("attestations_file") or "")
        hosts["the environment"] = attested(file, now.date(), environment, severity)
        made = report.build(
            environment, now.strftime("%Y-%m-%d %H:%M:%S UTC"), hosts, int(args.get("hosts_left_out", 0))
        )
        contents = {
            "json": json.dumps(made, indent=2, ensure_ascii=False) + "\n",
            "html": report.page(made, Path(str(args["template"]))),
        }
        folder = Path(str(args["directory"])).absolute()
        try:
            files = report.write(folder, now.strftime("%Y-%m-%dT%H-%M-%SZ"), contents)
        except OSError as error:
            raise AnsibleActionFail(f"the report can't be written to {folder}: {error.strerror}") from error
        result.update(
            changed=False,  # a report is no state of a host: a second run must be able to say changed=0
            counts=made["counts"],
            failures=report.failures(made),
            table=report.table(made),
            files=[str(path) for path in files],
            page=str(folder / "latest.html"),
        )
        return result


def _silent(environment: str) -> list[dict[str, str]]:
    """The item of a host that dropped out before it was judged."""
    severity = severities(SEVERITIES, environment, {})["access"]
    return [settle("access", "Access", software.access({}), severity)]
