"""Apply one role to the host under test, as an operator would, with variables of the test's own."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Applied:
    code: int
    output: str

    @property
    def words(self) -> str:
        """The output with its line breaks and quotes' doubling undone: messages are wrapped."""
        return " ".join(self.output.replace("''", "'").split())


def apply(host: Any, directory: Path, role: str, variables: dict[str, Any], *arguments: str) -> Applied:
    """Run ansible-playbook with the role for this host alone."""
    playbook = directory / f"{role}.json"
    play = {"hosts": host.backend.get_hostname(), "gather_facts": False, "become": True, "roles": [role]}
    playbook.write_text(json.dumps([play]))
    inventory = host.backend.ansible_runner.inventory_file or os.environ["ANSIBLE_INVENTORY"]
    done = subprocess.run(
        ["ansible-playbook", "-i", inventory, str(playbook), "-e", json.dumps(variables), *arguments],
        cwd=ROOT,
        env=os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return Applied(done.returncode, done.stdout + done.stderr)


def run(host: Any, command: str) -> str:
    """Output of a command run by root; the test fails when the command does."""
    with host.sudo():
        done = host.run(command)
    assert done.rc == 0, f"{command}: exit {done.rc}\n{done.stdout}{done.stderr}"
    return str(done.stdout).strip()
