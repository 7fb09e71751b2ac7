# Copyright (c) the MEV platform's authors. Apache-2.0 (see LICENSE)
"""The door: all variables of a host, checked on the controller before anything is asked of the host."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action import ActionBase
from ansible_collections.mev.platform.plugins.module_utils.variables import (
    HIDDEN,
    hide,
    misspelt,
    out_of_limits,
    secret_paths,
)


class ActionModule(ActionBase):
    """See plugins/modules/check_variables.py for what it promises."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _VALID_ARGS = frozenset(("roles", "roles_path", "shared_prefixes"))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        roles_path = Path(str(self._task.args["roles_path"]))
        specs = _read_specs(roles_path)
        roles = list(self._task.args["roles"])
        if unknown := sorted(set(roles) - set(specs)):
            raise AnsibleActionFail(
                f"roles without meta/argument_specs.yml in {roles_path}: {', '.join(unknown)}"
            )

        problems = list(misspelt(_given(task_vars), self._known(specs)))
        for role in roles:
            problems += self._check_role(
                specs[role], _read_yaml(roles_path / role / "meta" / "limits.yml"), task_vars
            )

        result["changed"] = False
        if problems:
            result["failed"] = True
            result["problems"] = problems
            host = task_vars["inventory_hostname"]
            head = f"{len(problems)} wrong in the variables of {host}; nothing was changed:"
            result["msg"] = "\n".join([head, *(f"  - {problem}" for problem in problems)])
        else:
            result["msg"] = f"the variables of {', '.join(roles)} are good"
        return result

    def _known(self, specs: Mapping[str, dict[str, Any]]) -> dict[str, list[str]]:
        """Prefix to public names; names like mev_address belong to no role's prefix but to a shared one."""
        public = [name for options in specs.values() for name in options]
        prefixes = [*specs, *self._task.args.get("shared_prefixes", [])]
        return {prefix: [name for name in public if name.startswith(f"{prefix}_")] for prefix in prefixes}

    def _check_role(
        self, options: dict[str, Any], limits: Mapping[str, Mapping[str, Any]], task_vars: Mapping[str, Any]
    ) -> list[str]:
        """Types, choices and required ones by Ansible's own validator, one by one so each is named."""
        problems: list[str] = []
        for name, option in options.items():
            given = {}
            if name in task_vars:
                try:
                    given[name] = self._templar.template(task_vars[name])
                    str(given[name])  # containers are templated on access: reach into every corner now
                except AnsibleError as error:
                    problems.append(f"{name}: its value can't be worked out: {_reason(error)}")
                    continue
            checked = ArgumentSpecValidator({name: option}).validate(given, validate_role_argument_spec=True)
            found = list(checked.error_messages)
            secrets = list(secret_paths({name: option}))
            if found:
                value = "not given"
                if name in given:
                    value = HIDDEN if secrets else repr(given[name])
                found = [f"{name} is {value}: {message}" for message in found] if len(value) < 100 else found
            else:
                own = {path: limit for path, limit in limits.items() if path.split(".")[0] == name}
                found = list(out_of_limits(checked.validated_parameters, own, secrets))
            problems += [hide(message, given, secrets) for message in found]
        return problems


def _reason(error: AnsibleError) -> str:
    """The innermost cause: which name is undefined, or which lookup failed."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return str(cause).strip().rstrip(".")


def _given(task_vars: Mapping[str, Any]) -> list[str]:
    """Names that a person may have written: not Ansible's own, not internal ones, not the vault's."""
    return [name for name in task_vars if not name.startswith(("_", "ansible_", "vault_", "molecule_"))]


def _read_specs(roles_path: Path) -> dict[str, dict[str, Any]]:
    """Role to its options, those of all its entry points together."""
    specs: dict[str, dict[str, Any]] = {}
    for file in sorted(roles_path.glob("*/meta/argument_specs.yml")):
        options = specs.setdefault(file.parent.parent.name, {})
        for entry in _read_yaml(file)["argument_specs"].values():
            options.update(entry.get("options") or {})
    return specs


def _read_yaml(file: Path) -> Any:
    if not file.exists():
        return {}
    return yaml.safe_load(file.read_text(encoding="utf-8")) or {}
