# Copyright (c) the MEV platform's authors. Apache-2.0 (see LICENSE)
"""An administrator's configuration: made in memory, shown on the terminal, gone."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.mev.platform.plugins.module_utils.wireguard import administrator_config
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

CLEAR = "\x1b[2J\x1b[3J\x1b[H"
"""Clears the screen and what it scrolled away."""
QRENCODE = ["qrencode", "--type=ansiutf8", "--level=L", "--margin=2"]


class ActionModule(ActionBase):
    """See plugins/modules/wireguard_administrator.py for what it promises."""

    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset(("name", "address", "public_key", "peers"))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = self._task.args
        name = str(arguments["name"])
        terminal = _terminal()
        if self._display.verbosity > 2:
            raise AnsibleActionFail(
                "-vvv would print the QR code into Ansible's own output: run this without"
            )
        private, public = _new_keys()
        brought = str(arguments.get("public_key") or "")
        if brought:
            private, public = "YOUR-PRIVATE-KEY", brought
        text = administrator_config(str(arguments["address"]), private, arguments["peers"])
        parts = [f"\nConfiguration of {name}. It is shown once and stored nowhere.\n\n", text, "\n"]
        if not brought:
            parts.append(self._code(text))
        parts.append("\nPress Enter when it is where it belongs; the screen is then cleared. ")
        # unbuffered and through one descriptor: a terminal can't be sought
        with terminal.open("r+b", buffering=0) as screen:
            screen.write("".join(parts).replace("\n", "\r\n").encode())
            while screen.read(1) not in (b"\n", b"\r", b""):
                pass
            screen.write(CLEAR.encode())
        result.update(changed=True, public_key=public)
        return result

    def _code(self, text: str) -> str:
        """Return the QR code; where it can't be made, how to get it."""
        if shutil.which(QRENCODE[0]):
            return subprocess.run(QRENCODE, input=text, capture_output=True, text=True, check=True).stdout
        done = self._low_level_execute_command(" ".join(QRENCODE), in_data=text.encode())
        if done["rc"] == 0:
            return str(done["stdout"])
        return "No QR code: qrencode is neither on this machine nor on the host.\n"


def _new_keys() -> tuple[str, str]:
    """Return a private key and its public half."""
    key = X25519PrivateKey.generate()
    private = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return base64.b64encode(private).decode(), base64.b64encode(public).decode()


def _terminal() -> Path:
    """Return the terminal of the ansible-playbook that this is a worker of: workers have none themselves."""
    kept = [name for name in os.environ if name.startswith(("AWX_", "RUNNER_"))]
    found = subprocess.run(
        ["ps", "-o", "tty=", "-p", str(os.getppid())], capture_output=True, text=True, check=False
    ).stdout.strip()
    terminal = Path("/dev", found)
    if kept or not found or "?" in found or not os.access(terminal, os.R_OK | os.W_OK):
        raise AnsibleActionFail(
            "secrets are shown on a terminal and nowhere else; there is none, or it is recorded, as in AWX: "
            "run this playbook from a shell"
        )
    return terminal
