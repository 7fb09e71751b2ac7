"""The audit rules are ones that the kernel would take, and a slip is found before it lands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from applying import apply, run

TRY = "/usr/local/lib/mev/audit-try"
WATCHED = (
    "/etc/mev/credentials",
    "/etc/wireguard",
    "/opt/mev-infrastructure/config",
    "/etc/sudoers",
    "/etc/ssh",
)


# Could fail: a rule is in the platform's file and lost in the merge, or libaudit does not know a word of it.
def test_the_merged_rules_are_whole(host: Any) -> None:
    rules = run(host, f"{TRY} /etc/audit/audit.rules && cat /etc/audit/audit.rules")
    for path in WATCHED:
        assert f"-w {path} -p" in rules
    for call in ("init_module", "clock_settime", "execve"):
        assert call in rules


# Could fail: the tool is a parser of our own that takes what the kernel's does not.
@pytest.mark.parametrize(
    "rule",
    [
        "-a always,exit -F arch=b64 -S clock_setime -F key=time",
        "-a always,exit -F arch=b65 -S execve -F key=exec",
        "-a sometimes,exit -F arch=b64 -S execve -F key=exec",
        "-a always,exit -F arch=b64 -S execve -F aud>=1000 -F key=exec",
        "-w etc/passwd -p wa -k accounts",
        "-w /etc/passwd -p wz -k accounts",
        "-w /etc/passwd -p wa",
    ],
)
def test_a_slip_in_a_rule_is_refused(host: Any, rule: str) -> None:
    assert host.run(f"f=$(mktemp); echo '{rule}' > $f; {TRY} $f").rc == 1


# Could fail: the role writes first and validates after, so that the next boot has half of its rules.
def test_a_bad_watch_stops_at_the_door(host: Any, tmp_path: Path) -> None:
    applied = apply(host, tmp_path, "audit", {"audit_watches": [{"path": "etc/passwd", "key": "accounts"}]})
    assert applied.code != 0
    assert "audit_watches[0].path is 'etc/passwd'" in applied.words
    assert "changed=0" in applied.words


# Could fail: a container's units fail at each boot and hide real failures, or a real host's are masked too.
def test_auditd_runs_where_it_can(host: Any) -> None:
    container = run(host, "systemd-detect-virt --container || true") != "none"
    state = run(host, "systemctl show --value --property=LoadState,ActiveState auditd.service").split()
    assert state == (["masked", "inactive"] if container else ["loaded", "active"])
    assert "audit" not in run(host, "systemctl list-units --failed --plain --no-legend")
