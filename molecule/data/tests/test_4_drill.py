"""★ The restore drill, while production is written to."""

from __future__ import annotations

import json

from conftest import Machine, operate


# Could fail: what is compared is not of one moment, so a busy database never passes; production's archive
# gets the drill's own history; the drill's host keeps production's rows.
def test_drill_of_a_busy_database(backed_up: Machine, recovery: Machine, store: Machine) -> None:
    store.run("systemctl start store-writer.service")
    since = backed_up.started()
    try:
        operate("drill")
    finally:
        store.run("systemctl stop store-writer.service")

    newest = recovery.run("ls -t /var/lib/mev-backup/drills/*.json | head -n 1")
    report = json.loads(recovery.run(f"cat {newest}"))
    print(json.dumps(report, indent=1))
    assert report["passed"]
    assert {table["name"] for table in report["tables"]} >= {"written", "precious"}
    assert all(table["equal"] and table["rows"] == table["restored_rows"] for table in report["tables"])
    assert report["recovery_time_seconds"] > 0
    assert report["recovery_point_seconds"] <= report["recovery_point_allowed_seconds"]
    # production went on, in its own history
    assert backed_up.started() == since
    assert backed_up.sql("SELECT failed_count FROM pg_stat_archiver") == "0"
    assert recovery.run("ls /var/lib/postgresql/17") == "main"
    assert recovery.sql("SELECT to_regclass('written') IS NULL") == "t"
