"""An administrator comes and goes with the data, and Ansible can't take its own way in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from applying import apply, run

NAME = "mev-test-admin"
KEY = "/root/mev-test-key"
LOGIN = (
    f"ssh -n -i {KEY} -o BatchMode=yes -o IdentitiesOnly=yes -o StrictHostKeyChecking=no"
    f" -o UserKnownHostsFile=/dev/null {NAME}@127.0.0.1"
)


@pytest.fixture
def public(host: Any) -> Iterator[str]:
    """A key pair on the host, for logins over its loopback."""
    yield run(host, f"rm -f {KEY}*; ssh-keygen -q -t ed25519 -N '' -f {KEY}; cat {KEY}.pub")
    run(host, f"rm -f {KEY}*; userdel -rf {NAME} 2>/dev/null; rm -f /etc/sudoers.d/mev-administrators")


# Could fail: the key goes and the session stays, or the account goes and the sudo rule stays.
def test_an_administrator_comes_and_goes(host: Any, tmp_path: Path, public: str) -> None:
    # two keys, with the one that counts last: a list that is joined wrongly holds one key, or none
    mine = str(host.run("head -n 1 ~/.ssh/authorized_keys").stdout).strip()
    present = {"accounts_administrators": [{"name": NAME, "keys": [mine, public]}]}
    assert apply(host, tmp_path, "accounts", present).code == 0
    assert run(host, f"{LOGIN} sudo -n id -un 2>/dev/null") == "root"
    assert "changed=0" in apply(host, tmp_path, "accounts", present).words

    run(host, f"nohup {LOGIN} sleep 600 > /dev/null 2>&1 & sleep 2; pgrep -u {NAME}")
    absent = {"accounts_administrators": [{"name": NAME, "state": "absent"}]}
    assert apply(host, tmp_path, "accounts", absent).code == 0
    with host.sudo():
        assert "Permission denied (publickey)" in host.run(f"{LOGIN} true").stderr
    assert (
        run(host, f"pgrep -fa '[s]leep 600' || true; grep -r {NAME} /etc/sudoers.d /etc/passwd || true") == ""
    )
    assert run(host, f"stat -c '%U %a' /home/{NAME}; rm -r /home/{NAME}") == "root 700"
    assert "changed=0" in apply(host, tmp_path, "accounts", absent).words


# Could fail: a deleted line of the inventory leaves a person on the host, and nobody is told.
def test_an_administrator_whom_the_data_forgot_is_named(host: Any, tmp_path: Path, public: str) -> None:
    present = {"accounts_administrators": [{"name": NAME, "keys": [public]}]}
    assert apply(host, tmp_path, "accounts", present).code == 0
    forgot = apply(host, tmp_path, "accounts", {"accounts_administrators": []})
    assert forgot.code != 0
    assert f"accounts_administrators says nothing: {NAME}" in forgot.words


# Could fail: the role writes what it is given, and the next run has no way in.
@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"keys": ["KEY"]}, "the key of this connection"),
        ({"state": "absent"}, "it must not be absent"),
        ({"keys": ["MINE"], "sudo": "ALL=(ALL:ALL) ALL"}, "its sudo rule must have NOPASSWD"),
        ({"keys": ["MINE"], "sudo": "ALL=(ALL) PASSWD: ALL, NOPASSWD: /bin/id"}, "loses its sudo"),
        ({"keys": ["MINE"], "sudo": "ALL=(ALL) NOPASSWD: ALL, ("}, "syntax error"),
    ],
    ids=["other key", "absent", "password", "no sudo", "syntax"],
)
def test_ansible_keeps_its_key_and_its_sudo(
    host: Any, tmp_path: Path, public: str, entry: dict[str, Any], words: str
) -> None:
    me = str(host.run("id -un").stdout).strip()
    mine = run(host, f"head -n 1 ~{me}/.ssh/authorized_keys")
    keys = [{"KEY": public, "MINE": mine}[key] for key in entry.get("keys", [])]
    administrator = {"name": me, **entry, **({"keys": keys} if keys else {})}
    applied = apply(host, tmp_path, "accounts", {"accounts_administrators": [administrator]})
    assert applied.code != 0
    assert words in applied.words
    assert run(host, "cat /etc/sudoers.d/mev-administrators 2>/dev/null || true").count(f"{me} ") == 0
    # nothing else either: a run with good data goes on from here
    assert me not in run(host, "getent group administrators || true")
