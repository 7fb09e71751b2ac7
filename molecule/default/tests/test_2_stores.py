"""PostgreSQL and Redis let in those who say who they are, and nobody else."""

from __future__ import annotations

import pytest
from conftest import Platform

PSQL = "PGPASSWORD={password} psql -h {where} -U {user} -d mev_infrastructure -AtXc 'SELECT 1'"


# Could fail: a rule of pg_hba trusts the address, or the password that the engine has is not the server's.
def test_postgresql_wants_the_right_password(platform: Platform) -> None:
    right = platform.secrets["postgresql_password"]
    assert platform.run(PSQL.format(password=right, where="127.0.0.1", user="mev_user")) == "1"
    for where in ("127.0.0.1", "::1", "/run/postgresql"):
        for user in ("mev_user", "postgres"):
            done = platform.host.run(PSQL.format(password="wrong", where=where, user=user))
            assert done.rc != 0, f"{user} got in at {where} with a wrong password"
            assert "authentication failed" in done.stderr


# Could fail: the file is right and the running server still has another one loaded.
def test_postgresql_trusts_nobody(platform: Platform) -> None:
    rules = platform.sql("SELECT auth_method FROM pg_hba_file_rules WHERE error IS NULL")
    assert {method for (method,) in rules} == {"peer", "scram-sha-256"}
    assert platform.sql("SELECT count(*) FROM pg_settings WHERE pending_restart") == [["0"]]
    assert platform.sql("SELECT count(*) FROM pg_authid WHERE rolpassword NOT LIKE 'SCRAM-SHA-256$%'") == [
        ["0"]
    ]


# Could fail: a database server or Redis that others on the network can reach although all clients are here.
def test_stores_listen_on_loopback_alone(platform: Platform) -> None:
    for port in (5432, 6379, 6380):
        listening = platform.run(f"ss -Hltn 'sport = :{port}'").splitlines()
        assert listening, f"nobody listens on {port}"
        assert all(line.split()[3].startswith(("127.0.0.1:", "[::1]:")) for line in listening), listening


# Could fail: the default user is on, or an instance lost its list of users.
@pytest.mark.parametrize("port", [6379, 6380])
def test_redis_default_user_is_off(platform: Platform, port: int) -> None:
    assert "NOAUTH" in platform.run(f"redis-cli -p {port} get x")
    assert "WRONGPASS" in platform.run(f"redis-cli -p {port} auth default '' 2>&1 || true")


# Could fail: the engine's user may do what only an operator should, or may not do what it must.
def test_redis_engine_may_write_its_stream_and_no_more(platform: Platform) -> None:
    assert (
        platform.redis("ACL", "DRYRUN", "engine", "XADD", "mev:opportunities", "*", "k", "v", user="engine")
        == "OK"
    )
    for command in (
        ["FLUSHALL"],
        ["CONFIG", "SET", "maxmemory", "1"],
        ["SET", "elsewhere", "1"],
        ["DEL", "mev:pause"],
        ["XADD", "mev:pause", "*", "k", "v"],
        ["DEL", "mev:opportunities"],
        ["XTRIM", "mev:opportunities", "MAXLEN", "0"],
        ["CLIENT", "KILL", "TYPE", "normal"],
        ["ACL", "LIST"],
    ):
        assert "NOPERM" in platform.redis(*command, user="engine"), command


# Could fail: one policy for both, so that a full cache could evict the pause key.
def test_redis_state_never_forgets(platform: Platform) -> None:
    assert platform.redis("CONFIG", "GET", "maxmemory-policy").split()[1] == "noeviction"
    assert platform.redis("CONFIG", "GET", "appendonly").split()[1] == "yes"
    assert platform.redis("CONFIG", "GET", "maxmemory-policy", port=6380).split()[1] == "allkeys-lru"


# Could fail: an index of the hypertable that was dropped, or left half made, is not made again on each chunk;
# only here is there a TimescaleDB.
def test_index_of_the_hypertable_is_mended(platform: Platform) -> None:
    platform.sql(
        "INSERT INTO market_data SELECT now() - n * interval '3 days', 0, n, 'a', 'b', 'c', 1, 1"
        " FROM generate_series(0, 7) AS n; DROP INDEX market_data_time_token_idx"
    )
    platform.run("systemctl start mev-engine-maintenance.service")
    chunks, whole = platform.sql(
        "SELECT count(*), count(*) FILTER (WHERE EXISTS (SELECT FROM pg_index i WHERE i.indisvalid"
        " AND i.indrelid = format('%I.%I', chunk_schema, chunk_name)::regclass"
        " AND i.indexrelid::regclass::text LIKE '%market_data_time_token_idx'))"
        " FROM timescaledb_information.chunks WHERE hypertable_name = 'market_data'"
    )[0]
    assert int(chunks) >= 3
    assert chunks == whole
    platform.sql("DELETE FROM market_data WHERE chain_id = 0")


# Could fail: the platform's own host archives nothing, or a backup of it fails.
def test_backups_are_made_and_verified(platform: Platform) -> None:
    platform.run("systemctl start --wait mev-backup-database@full.service mev-backup-files.service")
    failed = platform.run("grep -h ^mev_backup_failed /var/lib/prometheus/node-exporter/mev-backup-*.prom")
    assert [line.split()[-1] for line in failed.splitlines()] == ["0", "0"]
    assert platform.sql("SELECT archived_count > 0, failed_count FROM pg_stat_archiver")[0][0] == "t"
