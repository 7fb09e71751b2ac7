"""Clock, journal, core files and what has no business on the host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from applying import apply, run


# Could fail: chrony reads the package's lines after ours (Debian 12), or answers on its command port.
def test_chrony_serves_nobody_and_touches_no_container_clock(host: Any) -> None:
    printed = run(host, "chronyd -p").splitlines()
    assert [line for line in printed if line.startswith("makestep")][-1] == "makestep 1 3"
    assert {"port 0", "cmdport 0"} <= set(printed)
    assert run(host, "ss -H -lun 'sport = :123 or sport = :323'") == ""
    command = run(host, "tr '\\0' ' ' < /proc/$(systemctl show -P MainPID chrony)/cmdline").split()
    assert ("-x" in command) == (run(host, "systemd-detect-virt --container || true") != "none")


# Could fail: the file is right, and journald runs with what it read before.
def test_the_limits_of_the_journal_are_in_force(host: Any) -> None:
    limits = run(host, "journalctl -b -o cat -t systemd-journald -g '^System Journal' | tail -n 1")
    assert "/var/log/journal/" in limits
    assert "max 2G" in limits or "max 2.0G" in limits


# Could fail: limits.d counts for sessions alone, and services are started by systemd.
def test_nothing_writes_core_files(host: Any) -> None:
    assert run(host, "systemd-run --quiet --pipe --wait bash -c 'ulimit -Hc'") == "0"
    assert run(host, "runuser -l root -c 'ulimit -Hc'") == "0"


# Could fail: the service is stopped, and its socket starts it again; or an absent one is an error.
def test_an_unwanted_service_is_stopped_and_masked(host: Any, tmp_path: Path) -> None:
    unit = "/usr/lib/systemd/system/cups.service"
    run(
        host,
        f"mkdir -p /usr/lib/systemd/system; printf '[Service]\\nExecStart=sleep inf\\n' > {unit};"
        " systemctl daemon-reload; systemctl start cups.service",
    )
    try:
        first = apply(host, tmp_path, "base", {})
        state = run(host, "systemctl show --value --property=LoadState,ActiveState cups.service").split()
        assert (first.code, state) == (0, ["masked", "inactive"])
        assert "changed=0" in apply(host, tmp_path, "base", {}).words
    finally:
        run(host, f"rm -f {unit}; systemctl unmask cups.service; systemctl daemon-reload")


# Could fail: a run that ended between writing and restarting leaves old settings in force for ever.
def test_a_run_that_ended_half_way_is_made_good(host: Any, tmp_path: Path) -> None:
    run(
        host,
        "cd /etc; touch chrony/conf.d/mev-platform.conf; echo > systemd/system.conf.d/mev-platform.conf",
    )
    before = run(host, "systemctl show -P MainPID chrony.service; systemctl daemon-reload")
    assert apply(host, tmp_path, "base", {}).code == 0
    assert run(host, "systemctl show -P MainPID chrony.service") != before
    assert run(host, "systemctl show -P DefaultLimitCORE") == "0"
