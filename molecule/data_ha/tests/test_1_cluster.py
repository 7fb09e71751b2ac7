"""The cluster as it stands: who confirms commits, who gets in, what each unit may do."""

from __future__ import annotations

import pytest
from cluster import Cluster

OPEN = {"etcd": 2379, "Patroni": 8008, "PostgreSQL": 5432, "PgBouncer": 6432}


# Could fail: synchronous mode is off in what PostgreSQL itself has, or a replica copies without a slot.
def test_a_second_host_confirms_each_commit(cluster: Cluster) -> None:
    leader = cluster.leader(cluster.databases[0])
    rows = cluster.sql(
        leader,
        "SELECT r.sync_state, r.state, s.active, current_setting('synchronous_commit')"
        " FROM pg_stat_replication r LEFT JOIN pg_replication_slots s ON s.active_pid = r.pid ORDER BY 1",
    )
    assert rows == [["async", "streaming", "t", "on"], ["sync", "streaming", "t", "on"]]


# Could fail: the role writes a file that Patroni does not read, or shares what belongs to one machine.
def test_settings_are_those_of_the_role(cluster: Cluster) -> None:
    query = (
        "SELECT name, setting FROM pg_settings WHERE name IN ('max_connections', 'shared_preload_libraries',"
        " 'password_encryption', 'data_checksums', 'ssl') ORDER BY 1"
    )
    expected = {
        "data_checksums": "on", "max_connections": "100", "password_encryption": "scram-sha-256",
        "shared_preload_libraries": "timescaledb", "ssl": "on",
    }  # fmt: skip
    for name in cluster.databases:
        found = dict(cluster.sql(name, query))
        found["shared_preload_libraries"] = found["shared_preload_libraries"].split(",")[0]
        assert found == expected, name
        rules = cluster.sql(
            name, "SELECT DISTINCT auth_method FROM pg_hba_file_rules WHERE error IS NULL ORDER BY 1"
        )
        assert rules == [["peer"], ["scram-sha-256"]], name


# Could fail: one of the services listens on every address, so that a host without a firewall shows it.
def test_listens_on_named_addresses_alone(cluster: Cluster) -> None:
    for name in cluster.databases:
        heard = {line.split()[3] for line in cluster.run(name, "ss -Hltn").splitlines()}
        addresses = {
            address.rsplit(":", 1)[0] for address in heard if int(address.rsplit(":", 1)[1]) in OPEN.values()
        }
        assert addresses, heard
        assert not addresses & {"0.0.0.0", "*", "[::]"}, heard  # noqa: S104


# Could fail: a unit of the package, as shipped, runs instead of the hardened one.
@pytest.mark.parametrize("unit", ["etcd", "patroni", "pgbouncer", "haproxy"])
def test_units_are_hardened(cluster: Cluster, unit: str) -> None:
    name = cluster.front if unit == "haproxy" else cluster.databases[0]
    said = cluster.run(
        name, f"systemctl is-active {unit} && systemd-analyze security --no-pager {unit} | tail -1"
    )
    assert said.startswith("active"), said
    assert float(said.split("level for")[1].split(":")[1].split()[0]) < 4.0, said
