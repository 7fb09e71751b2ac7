"""A mistake is told at the door, with its mend, before anything stops or changes."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import SCENARIO, Machine, play

STATE = r"""
find /etc/pgbackrest /etc/restic /etc/postgresql /etc/systemd/system/mev-backup* -type f \
  -exec sha256sum {} + | sort -k 2
systemctl show --property=ActiveState,ExecMainStartTimestampMonotonic postgresql@17-main.service \
  redis@state.service
"""
SMALL = "/mnt/small"

CASES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "bucket without credentials": (
        {"pgbackrest_s3_key": ""},
        ("mev-infrastructure-backups has no credentials", "give pgbackrest_s3_key and pgbackrest_s3_secret"),
    ),
    "wrong secret": (
        {"pgbackrest_s3_secret": "SECRETKEYnotthatone"},
        ("nothing was changed", "the key or the secret is refused", "pgbackrest_s3_secret"),
    ),
    "wrong passphrase": (
        {"pgbackrest_passphrase": "SECRETKEYnotthatone"},
        ("nothing was changed", "the passphrase is not the one", "pgbackrest_passphrase"),
    ),
    "store unreachable": (
        {"pgbackrest_s3_endpoint": "mev-data-store:9001"},
        ("nothing was changed", "the store does not answer", "pgbackrest_s3_endpoint"),
    ),
    "store of an unknown authority": (
        {"pgbackrest_s3_ca_file": ""},
        ("nothing was changed", "name its authority in pgbackrest_s3_ca_file"),
    ),
    "full disk": (
        {"pgbackrest_repository": "directory", "pgbackrest_path": f"{SMALL}/pgbackrest"},
        (f"{SMALL}/pgbackrest on mev-data-1 has", "MB left", "Make room there", "pgbackrest_path"),
    ),
    "restic, wrong password": (
        {"restic_password": "SECRETKEYnotthatone"},
        ("nothing was changed", "the password is not the one", "restic_password"),
    ),
    "restic, unknown user": (
        {"restic_rest_password": "SECRETKEYnotthatone"},
        ("nothing was changed", "the credentials are refused", "restic_rest_user"),
    ),
    "restic, full disk": (
        {"restic_repository": f"{SMALL}/restic"},
        (f"{SMALL}/restic on mev-data-1 has", "MB left", "Make room there", "restic_repository"),
    ),
}


@pytest.fixture(scope="module")
def before(backed_up: Machine) -> str:
    """What the host was like before anyone made a mistake; beside it a disk with hardly any room."""
    backed_up.run(f"mkdir -p {SMALL}; mountpoint -q {SMALL} || mount -t tmpfs -o size=1m none {SMALL}")
    backed_up.run(f"dd if=/dev/zero of={SMALL}/full bs=4k 2>/dev/null || true")
    return backed_up.run(STATE)


# Could fail: the mistake is found after a restart or a change, or the message leaves one alone with it.
@pytest.mark.parametrize("case", CASES)
def test_refused_at_the_door(backed_up: Machine, before: str, case: str) -> None:
    variables, words = CASES[case]
    role = "restic" if case.startswith("restic") else "pgbackrest"
    good, said = play(str(SCENARIO / "role.yml"), {**variables, "role_to_apply": role}, "--limit=mev-data-1")
    assert not good, said
    for word in words:
        assert word in said, f"{word!r} is not in: {said[-3000:]}"
    assert "SECRETKEY" not in said
    assert backed_up.run(STATE) == before


# Could fail: a restore stops services and only then finds that it can't be done, or overwrites a younger one.
@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, ("nothing was stopped", "-e restore_confirm=mev_infrastructure@mev-data-1")),
        ({"restore_confirm": "yes"}, ("nothing was stopped", "What came since would be lost")),
        ({"restore_time": "2020-01-01"}, ("is before the first moment that can be restored",)),
        ({"restore_time": "yesterday"}, ("'yesterday' is no moment: give YYYY-MM-DD",)),
        ({"restore_host": "mev"}, ("restore_host must name one host",)),
    ],
)
def test_restore_refuses(backed_up: Machine, variables: dict[str, Any], words: tuple[str, ...]) -> None:
    backed_up.sql("CREATE TABLE IF NOT EXISTS younger AS SELECT 1")  # an empty database may be overwritten
    since = backed_up.started()
    good, said = play("playbooks/operations/restore.yml", variables)
    assert not good, said
    for word in words:
        assert word in said, f"{word!r} is not in: {said[-3000:]}"
    assert backed_up.started() == since


# Could fail: a restore fills the disk half-way, when the database is stopped already.
def test_restore_refuses_a_full_disk(recovery: Machine) -> None:
    since = recovery.run("systemctl show --property=ActiveEnterTimestampMonotonic postgresql@17-main.service")
    recovery.run("mount -t tmpfs -o size=8m none /var/lib/postgresql")
    try:
        good, said = play(
            "playbooks/operations/restore.yml", {"restore_host": "mev-data-2", "restore_what": "database"}
        )
    finally:
        recovery.run("umount /var/lib/postgresql")
    assert not good, said
    assert "/var/lib/postgresql on mev-data-2 has" in said, said[-3000:]
    assert "make room there; nothing was stopped" in said, said[-3000:]
    assert (
        recovery.run("systemctl show --property=ActiveEnterTimestampMonotonic postgresql@17-main.service")
        == since
    )
