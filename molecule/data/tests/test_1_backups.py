"""Backups are made, verified, encrypted, scheduled, and told of."""

from __future__ import annotations

import re

from conftest import Machine, operate

WAITING = ("ActiveState=active", "UnitFileState=enabled", "Persistent=yes", "RandomizedDelayUSec=30min")
UNITS = "mev-backup-database-full.timer mev-backup-database-diff.timer mev-backup-files.timer"


# Could fail: a timer that is not enabled, without jitter, or that forgets what it missed while all was off.
def test_timers_wait(database: Machine, recovery: Machine) -> None:
    shown = database.run(
        f"systemctl show --property=ActiveState,UnitFileState,Persistent,RandomizedDelayUSec {UNITS}"
    )
    for line in (
        "ActiveState=active",
        "UnitFileState=enabled",
        "Persistent=yes",
        "RandomizedDelayUSec=30min",
    ):
        assert shown.count(line) == 3, f"{line}: {shown}"
    shown = recovery.run(f"systemctl show --property=ActiveState,UnitFileState {UNITS}")
    assert shown.count("ActiveState=inactive") == 3, shown
    assert "UnitFileState=enabled" not in shown, shown


# Could fail: a unit that may do more than a backup takes.
def test_units_are_hardened(database: Machine) -> None:
    for unit in ("mev-backup-database@full.service", "mev-backup-files.service"):
        said = database.run(f"systemd-analyze security --no-pager {unit} | tail -n 1")
        exposure = re.search(r"(\d+\.\d)", said)
        assert exposure, said
        assert float(exposure.group(1)) <= 3.0, said


# Could fail: a backup ends without its verification; what it did is not told, or where nobody may read.
def test_backup_now(backed_up: Machine) -> None:
    before = len(backed_up.info()["backup"])
    said = operate("backup")
    assert ", verified" in said, said[-2000:]
    assert "checked;" in said, said[-2000:]
    backups = backed_up.info()["backup"]
    assert len(backups) == before + 1
    assert not [backup for backup in backups if backup["error"]]
    folder = "/var/lib/prometheus/node-exporter"
    files = f"{folder}/mev-backup-database-diff.prom {folder}/mev-backup-files.prom"
    told = backed_up.run(f"runuser -u nobody -- cat {files}")
    assert len(re.findall(r"^mev_backup_failed\{.*\} 0$", told, re.MULTILINE)) == 2, told
    for name in (
        "last_success_timestamp_seconds",
        "verified_timestamp_seconds",
        "duration_seconds",
        "size_bytes",
    ):
        values = re.findall(rf"^mev_backup_{name}\{{.*\}} (\S+)$", told, re.MULTILINE)
        assert len(values) == 2, told
        assert min(map(float, values)) > 0, told


# Could fail: the repository holds names or rows in the clear; others can read a secret, or a log has it.
def test_secrets_stay_secret(backed_up: Machine, store: Machine) -> None:
    assert backed_up.info()["cipher"] == "aes-256-cbc"
    files = "/etc/pgbackrest/conf.d/secrets.conf /etc/restic/password /etc/restic/repository"
    modes = backed_up.run(f"stat --format '%a %U' {files}").splitlines()
    assert modes == ["640 root", "600 root", "600 root"]
    passphrase = backed_up.run("sed -n 's/^repo1-cipher-pass=//p' /etc/pgbackrest/conf.d/secrets.conf")
    assert passphrase
    for secret in (passphrase, backed_up.run("cat /etc/restic/password")):
        places = "/var/log/pgbackrest /var/log/postgresql /etc/systemd/system"
        # Ansible's own commands are logged, this one too: the services' words alone
        said = "journalctl --no-pager -u 'mev-backup-*' -u 'postgresql@*' -u 'redis@*'"
        assert (
            backed_up.run(f"grep -rqF {secret} {places} || {said} | grep -qF {secret} || echo nowhere")
            == "nowhere"
        )
    assert store.run("grep -rlaE 'mev_user|appendonly' /var/lib/store/restic || echo nowhere") == "nowhere"
