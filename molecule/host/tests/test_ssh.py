"""ssh takes keys and modern algorithms only, and a change that keeps people out does not stay."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from applying import apply, run

CLIENT = "ssh -n -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
LANDED = "/etc/ssh/sshd_config.d/00-mev-platform.conf"


# Could fail: a file that sorts first, or a Match block, lets one of these back in.
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("-o PubkeyAuthentication=no -o BatchMode=no -o NumberOfPasswordPrompts=0", "denied (publickey)"),
        ("-c aes128-cbc", "no matching cipher found"),
        ("-m hmac-sha1", "no matching MAC found"),
        ("-o KexAlgorithms=diffie-hellman-group14-sha256", "no matching key exchange method found"),
        ("-o HostKeyAlgorithms=ecdsa-sha2-nistp256", "no matching host key type found"),
    ],
    ids=["password", "cipher", "mac", "kex", "host key"],
)
def test_what_is_weak_is_refused_by_a_real_handshake(host: Any, options: str, words: str) -> None:
    # the first value of an option wins, so the test's come first; with an AEAD cipher no MAC is agreed on
    cipher = "-c aes256-ctr" if options.startswith("-m") else ""
    done = host.run(f"{CLIENT.replace('ssh -n', f'ssh -n {options} {cipher}')} nobody@127.0.0.1 true")
    assert done.rc != 0
    assert words in done.stderr


# Could fail: a group of 2,047 bits came back with an upgrade of the package.
def test_no_weak_moduli(host: Any) -> None:
    sizes = run(host, "awk '$1 !~ /^#/ {print $5}' /etc/ssh/moduli | sort -un").split()
    assert sizes
    assert int(sizes[0]) + 1 >= 3072


# Could fail: sshd -t is asked about the drop-in alone, or after it has landed.
def test_a_value_that_sshd_does_not_know_never_lands(host: Any, tmp_path: Path) -> None:
    before = run(host, f"cat {LANDED}")
    applied = apply(host, tmp_path, "ssh", {"ssh_alive_count": 3, "_ssh_macs": ["hmac-of-nobody"]})
    assert applied.code != 0
    assert "Bad SSH2 mac spec" in applied.words
    assert run(host, f"cat {LANDED}; ! test -e /etc/ssh/mev-platform.former") == before


# Could fail: another file of the folder overrules ours, and nobody reads the effective values.
def test_a_file_that_overrules_ours_is_named(host: Any, tmp_path: Path) -> None:
    other = "/etc/ssh/sshd_config.d/00-cloud.conf"
    run(host, f"echo 'MaxAuthTries 6' > {other}")
    try:
        applied = apply(host, tmp_path, "ssh", {"ssh_alive_count": 3})
    finally:
        run(host, f"rm {other}")
    assert applied.code != 0
    assert "maxauthtries: wanted ['3'], in force would be ['6']" in applied.words


# Could fail: the control socket's old connection is taken for proof that the controller can come back.
def test_settings_that_keep_the_controller_out_are_taken_back(host: Any, tmp_path: Path) -> None:
    before = run(host, f"cat {LANDED}; systemctl show --value --property=MainPID ssh.service")
    applied = apply(host, tmp_path, "ssh", {"ssh_user_key_algorithms": ["rsa-sha2-512"]})
    assert applied.code != 0
    assert "no new connection after the change" in applied.words
    # the same process: sshd was reloaded, never restarted
    assert run(host, f"cat {LANDED}; systemctl show --value --property=MainPID ssh.service") == before


# Could fail: only the controller can go back, and it died; or the file comes back and sshd is never told.
def test_without_a_controller_the_host_goes_back_by_itself(host: Any) -> None:
    before = run(host, f"cat {LANDED}")
    soon = "/etc/systemd/system/mev-sshd-restore.timer.d"
    handshake = f"{CLIENT} -c aes256-gcm@openssh.com nobody@127.0.0.1 true"
    # one command: on a busy controller the timer may be faster than a second one
    applied = run(
        host,
        f"mkdir -p {soon}; printf '[Timer]\\nOnActiveSec=\\nOnActiveSec=10\\n' > {soon}/soon.conf;"
        " systemctl daemon-reload;"
        f" sed 's/^Ciphers .*/Ciphers aes256-ctr/' {LANDED} > /etc/ssh/mev-platform.staged;"
        f" /usr/local/lib/mev/sshd-guard apply; {handshake} 2>&1 || true",
    )
    try:
        assert "no matching cipher found" in applied
        deadline = time.monotonic() + 60
        while "denied" not in host.run(handshake).stderr and time.monotonic() < deadline:
            time.sleep(2)
        assert run(host, f"cat {LANDED}; ! test -e /etc/ssh/mev-platform.former") == before
        assert "denied (publickey)" in host.run(handshake).stderr
    finally:
        run(host, f"rm -r {soon}; systemctl daemon-reload; cp {LANDED} /etc/ssh/mev-platform.staged")


# Could fail: a variable that locks Ansible out is found only by the rollback, or not at all.
def test_a_group_without_the_controller_is_refused_at_the_door(host: Any, tmp_path: Path) -> None:
    applied = apply(host, tmp_path, "ssh", {"ssh_allow_groups": ["operators-of-another-house"]})
    assert applied.code != 0
    assert "ssh_allow_groups is ['operators-of-another-house']" in applied.words
    assert "changed=0" in applied.words
