"""Security updates alone, and nothing that trades is restarted by surprise."""

from __future__ import annotations

from typing import Any

from applying import run


# Could fail: the package's own list of origins is added to ours, and point releases are installed by night.
def test_a_dry_run_takes_security_updates_only(host: Any) -> None:
    # the host's own timers may hold apt's lock just then
    output = run(
        host, "flock --timeout 120 /var/lib/apt/daily_lock unattended-upgrade --dry-run --debug 2>&1"
    )
    origins = next(line for line in output.splitlines() if line.startswith("Allowed origins are:"))
    release = run(host, ". /etc/os-release; echo $ID $VERSION_CODENAME").split()
    names = origins.removeprefix("Allowed origins are:").replace(",", " ").split()
    assert f"codename={release[1]}-security" in names
    assert all(name.endswith("-security") for name in names if name.startswith(("codename=", "archive=")))
    # the host's main archive is there, so that the run had something to leave out
    assert f"n={release[1]}," in run(host, "apt-cache policy")
    assert not [line for line in output.splitlines() if "Traceback" in line or "error" in line.lower()]


# Could fail: a package is held by a name that the matching does not see (it matches the beginning only).
def test_the_stores_are_held_back(host: Any) -> None:
    held = run(host, "apt-config dump --format '%f=%v%n' Unattended-Upgrade::Package-Blacklist").splitlines()
    patterns = [line.partition("::=")[2] for line in held if "::=" in line]
    for package in (
        "postgresql-17",
        "postgresql-17-timescaledb",
        "timescaledb-2-postgresql-17",
        "redis-server",
    ):
        assert any(package.startswith(pattern) for pattern in patterns), package
    for package in ("openssl", "nginx", "linux-image-amd64", "openssh-server"):
        assert not any(package.startswith(pattern) for pattern in patterns), package


# Could fail: needrestart does not read conf.d, or a pattern is no regular expression of Perl.
def test_needrestart_leaves_what_trades_alone(host: Any) -> None:
    units = "mev-engine@ethereum.service postgresql@17-main.service redis@state.service cron.service"
    script = (
        'our %nrconf; do "/etc/needrestart/needrestart.conf"; die $@ if $@; for my $unit (@ARGV) {'
        " my ($no) = grep { $unit =~ /$_/ } keys %{$nrconf{override_rc}};"
        ' print $unit, "=", (defined $no ? $nrconf{override_rc}{$no} : "restart"), "\\n" }'
    )
    decided = dict(line.split("=") for line in run(host, f"perl -e '{script}' {units}").splitlines())
    assert decided.pop("cron.service") == "restart"
    assert set(decided.values()) == {"0"}


# Could fail: OnCalendar of a drop-in is added to the package's instead of replacing it.
def test_updates_have_one_hour_and_jitter(host: Any) -> None:
    shown = run(
        host, "systemctl show -p TimersCalendar,RandomizedDelayUSec,ActiveState apt-daily-upgrade.timer"
    )
    assert shown.count("OnCalendar=") == 1
    assert "OnCalendar=*-*-* 04:00:00" in shown
    assert "RandomizedDelayUSec=2h" in shown
    assert "ActiveState=active" in shown
    assert run(host, "systemctl show -P CPUSchedulingPolicy apt-daily-upgrade.service") in ("idle", "5")
    assert run(host, "apt-config shell REBOOT Unattended-Upgrade::Automatic-Reboot") == "REBOOT='false'"
