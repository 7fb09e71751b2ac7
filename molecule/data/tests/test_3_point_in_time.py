"""★ A table that was dropped comes back, and Redis' state with it."""

from __future__ import annotations

from conftest import Machine, operate


# Could fail: the target is missed, so the drop is replayed too; archiving does not go on in the new history;
# Redis starts empty, because its append-only file wins over the snapshot.
def test_table_is_back(backed_up: Machine, redis_writer: str) -> None:
    ask = f"REDISCLI_AUTH={redis_writer} redis-cli --no-auth-warning --user writer "
    backed_up.run(ask + "set mev:pause before")
    backed_up.sql(
        "CREATE TABLE precious AS SELECT g AS id, md5(g::text) AS value FROM generate_series(1, 20000) g"
    )
    operate("backup")
    sums = "SELECT count(*), sum(hashtextextended(precious::text, 0)) FROM precious"
    backed_up.sql("INSERT INTO precious VALUES (0, 'after the backup')")  # from WAL alone
    wanted = backed_up.sql(sums)
    moment = backed_up.sql("SELECT clock_timestamp()")
    backed_up.run("sleep 1")
    backed_up.sql("DROP TABLE precious")
    backed_up.run(ask + "set mev:pause after")

    said = operate("restore", restore_time=moment, restore_confirm="mev_infrastructure@mev-data-1")

    print(said[said.rfind("mev-data-1 has") :][:150])
    assert backed_up.sql(sums) == wanted
    assert backed_up.run(ask + "get mev:pause") == "before"
    assert backed_up.run("ls /var/lib/postgresql/17 /var/lib/redis | grep -c former || true") == "0"
    # the new history is archived, and what runs is a primary
    backed_up.run("runuser -u postgres -- pgbackrest --stanza=mev check")
    assert backed_up.sql("SELECT pg_is_in_recovery(), current_setting('archive_mode')") == "f|on"
