"""Whoever leads archives and backs up, and the whole cluster goes back in time."""

from __future__ import annotations

import time

from cluster import Cluster

METRICS = "/var/lib/prometheus/node-exporter/mev-backup-database-diff.prom"


# Could fail: WAL can't leave Patroni's sandbox; the host that leads since the failover has no repository, or
# the one that led goes on telling of its last backup, which then looks old.
def test_the_leader_archives_and_backs_up(cluster: Cluster) -> None:
    leader = cluster.leader(cluster.databases[0])
    for name in cluster.databases:
        cluster.run(name, "systemctl start mev-backup-database@diff.service")
        there = cluster.run(name, f"test -e {METRICS} && echo yes || echo no")
        assert there == ("yes" if name == leader else "no"), name
    assert 'mev_backup_failed{job="database",type="diff"} 0' in cluster.run(leader, f"cat {METRICS}")
    cluster.run(leader, "cd / && runuser -u postgres -- pgbackrest --stanza=mev --archive-timeout=60 check")


# Could fail: Patroni copies a former member's data over what was restored; a member keeps its history; the
# new history's WAL is not archived.
def test_cluster_goes_back_before_a_slip(cluster: Cluster) -> None:
    leader = cluster.leader(cluster.databases[0])
    cluster.sql(
        leader, "CREATE TABLE kept AS SELECT n, md5(n::text) AS text FROM generate_series(1, 5000) AS n"
    )
    wanted = cluster.sql(leader, "SELECT count(*), md5(string_agg(text, ',' ORDER BY n)) FROM kept")
    time.sleep(2)
    [[moment]] = cluster.sql(leader, "SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')")
    time.sleep(2)
    cluster.sql(leader, "DROP TABLE kept; SELECT pg_switch_wal()")

    host = next(name for name in cluster.databases if name != leader)  # not the one that led
    began = time.monotonic()
    said = cluster.playbook(
        "operations/restore_cluster.yml",
        *("-e", f"restore_host={host}", "-e", f"restore_time='{moment}+00'"),
        *("-e", f"restore_confirm=mev_infrastructure@{host}"),
    )
    print(f"the cluster went back in {time.monotonic() - began:.0f} s")
    assert cluster.leader(host) == host, said
    cluster.whole(host)
    for name in cluster.databases:
        assert cluster.sql(name, "SELECT count(*), md5(string_agg(text, ',' ORDER BY n)) FROM kept") == wanted
        assert cluster.run(name, "ls /var/lib/postgresql/17") == "main"
    cluster.run(host, "cd / && runuser -u postgres -- pgbackrest --stanza=mev --archive-timeout=60 check")
