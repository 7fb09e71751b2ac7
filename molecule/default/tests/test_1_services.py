"""What runs, and within which bounds."""

from __future__ import annotations

import re

import pytest
from conftest import ENGINE, Platform

UNITS = [
    ENGINE,
    "mev-engine.target",
    "mev-engine-maintenance.timer",
    "postgresql@17-main.service",
    "redis@state.service",
    "redis@cache.service",
    "mev-devchain.service",
    "mev-devchain-trader.service",
]


# Could fail: a unit was started by hand and is not enabled, or died after the deploy.
@pytest.mark.parametrize("unit", UNITS)
def test_unit_runs_and_starts_with_the_machine(platform: Platform, unit: str) -> None:
    assert platform.unit(unit, "ActiveState") == "active"
    if not unit.startswith("postgresql@"):  # started by Debian's generator, through postgresql.service
        assert platform.unit(unit, "UnitFileState") == "enabled"


# Could fail: a line of the sandbox was dropped (each weighs at least 0.1).
@pytest.mark.parametrize(
    ("unit", "most"),
    [
        (ENGINE, 2.0),
        ("mev-engine-maintenance.service", 2.0),
        ("redis@state.service", 2.0),
        ("redis@cache.service", 2.0),
    ],
)
def test_exposure(platform: Platform, unit: str, most: float) -> None:
    out = platform.run(f"systemd-analyze security --no-pager {unit}")
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", out)
    assert found, out
    assert float(found[1]) <= most


# Could fail: the process lives with other limits than its unit says, or a core dump could hold a password.
def test_limits_of_the_running_engine(platform: Platform) -> None:
    limits = platform.run(f"cat /proc/{platform.unit(ENGINE, 'MainPID')}/limits")
    assert re.search(r"Max core file size +0 +0 ", limits)
    assert re.search(r"Max processes +32768 +32768 ", limits)
    # A container can't give more files than it has itself; then systemd gives what there is.
    ceiling = int(platform.run("prlimit --pid 1 --nofile --noheadings --raw --output HARD"))
    files = min(65536, ceiling)
    assert platform.unit(ENGINE, "LimitNOFILE") == "65536"
    assert re.search(rf"Max open files +{files} +{files} ", limits)


# Could fail: a start limit makes systemd give up, or a requirement stops the engine with its stores.
def test_engine_never_gives_up_and_needs_nobody(platform: Platform) -> None:
    assert platform.unit(ENGINE, "StartLimitIntervalUSec") == "0"
    assert platform.unit(ENGINE, "Restart") == "always"
    required = platform.unit(ENGINE, "Requires") + platform.unit(ENGINE, "BindsTo")
    assert not re.search("postgresql|redis", required)


# Could fail: a secret is readable by others, or reached the settings, the environment or the journal.
def test_secrets_stay_where_they_are(platform: Platform) -> None:
    assert platform.run("stat -c '%U %a' /etc/mev/credentials/*").splitlines() == ["root 600"] * 3
    pid = platform.unit(ENGINE, "MainPID")
    for name in ("postgresql_password", "engine_redis_password"):
        secret = platform.secrets[name]
        with platform.host.sudo():
            for place in (
                "/opt/mev-infrastructure/config /etc/systemd/system /etc/redis",
                f"/proc/{pid}/environ",
            ):
                assert platform.host.run(f"grep -rqsF {secret} {place}").rc == 1, f"{name} is in {place}"
            # The services' own words alone: Ansible logs the commands of these very tests.
            said = "journalctl --no-pager -u 'mev-*' -u 'redis@*' -u 'postgresql@*'"
            assert platform.host.run(f"{said} | grep -qF {secret}").rc == 1, f"{name} is in the journal"
