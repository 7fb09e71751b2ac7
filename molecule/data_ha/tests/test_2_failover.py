"""The primary hands over, and is killed, while the engine's sink writes: no acknowledged row is lost."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from cluster import DIRECT, PRIMARY, Cluster
from mev_engine.sinks.migrations import migrate
from writer import ROWS, Writer

WAYS = {"PgBouncer": PRIMARY, "direct": DIRECT}


@pytest.fixture(scope="module", autouse=True)
def schema(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> None:
    """By the way that migrations take: they hold a lock for the session."""
    with cluster.settings(DIRECT, tmp_path_factory.mktemp("migrate"), "mev_user") as settings:
        assert asyncio.run(migrate(settings)) == 0


@contextmanager
def writers(cluster: Cluster, directory: Path) -> Iterator[dict[str, Writer]]:
    """One on each way to the primary, each with rows of a chain of its own."""
    with ExitStack() as stack:
        made = {}
        # a chain that no earlier run of the tests has written
        for chain_id, (way, port) in enumerate(WAYS.items(), int(time.time()) * 10):
            settings = stack.enter_context(cluster.settings(port, directory))
            made[way] = stack.enter_context(Writer(settings, chain_id))
        wait_for_more(made)
        yield made
        wait_for_more(made, 120)


def wait_for_more(made: dict[str, Writer], seconds: float = 60) -> None:
    """Until each has been told of 20 more blocks."""
    wanted = {way: writer.last + 20 for way, writer in made.items()}
    end = time.monotonic() + seconds
    while any(made[way].last < block for way, block in wanted.items()):
        assert time.monotonic() < end, {way: (writer.put, writer.last) for way, writer in made.items()}
        time.sleep(0.2)


def account(cluster: Cluster, made: dict[str, Writer], leader: str, what: str) -> None:
    """Every row that was put is there once; says how long nothing was written."""
    for way, writer in made.items():
        [[rows, distinct, blocks, last]] = cluster.sql(
            leader,
            "SELECT count(*), count(DISTINCT id), count(DISTINCT block_number), max(block_number)"
            f" FROM opportunities WHERE chain_id = {writer.chain_id} AND status = 'detected'",
        )
        print(
            f"{what}, by {way}: {rows} rows of {writer.put} blocks, {writer.last} acknowledged;"
            f" longest time without a write {writer.longest_silence():.1f} s"
        )
        assert (int(rows), int(distinct)) == (writer.put * ROWS, writer.put * ROWS), way
        assert int(blocks) == int(last) == writer.last == writer.put, way


# Could fail: commits that only the former primary has; a proxy that goes on sending to it; a pooler with
# connections to what is a replica now; a sink that gives up; the playbook kills instead of handing over.
def test_planned_switchover(cluster: Cluster, tmp_path: Path) -> None:
    asked = cluster.databases[0]
    former = cluster.leader(asked)
    with writers(cluster, tmp_path) as made:
        said = cluster.playbook("operations/switchover.yml")
    leader = cluster.leader(asked)
    assert leader != former, said
    account(cluster, made, leader, "switchover")


# Could fail: as above; a replica that lacks acknowledged commits takes over; etcd does not outlive a member;
# the killed host comes back as a second primary, or not at all.
def test_primary_is_killed(cluster: Cluster, tmp_path: Path) -> None:
    former = cluster.leader(cluster.databases[0])
    others = [name for name in cluster.databases if name != former]
    with writers(cluster, tmp_path) as made:
        cluster.kill(former)
        killed = time.monotonic()
        acknowledged = {way: writer.last for way, writer in made.items()}
        wait_for_more(made, 180)
        print(f"writing again {time.monotonic() - killed:.1f} s after the kill")
        leader = cluster.leader(others[0])
        for way, writer in made.items():  # before anything is written again by hand
            [[rows]] = cluster.sql(
                leader,
                f"SELECT count(*) FROM opportunities WHERE chain_id = {writer.chain_id}"
                f" AND block_number <= {acknowledged[way]}",
            )
            assert int(rows) == acknowledged[way] * ROWS, way
    assert leader != former
    account(cluster, made, leader, "kill")

    began = time.monotonic()
    cluster.playbook("hosts/create.yml", "--limit", f"{former},localhost")
    cluster.whole(leader)
    print(f"whole again {time.monotonic() - began:.1f} s after the host was started")
    there = cluster.members(leader)
    assert there[former]["Role"] in {"Replica", "Sync Standby"}, there
    assert there[leader]["Role"] == "Leader", there
    counted = "SELECT count(*) FROM opportunities"
    wait_until_equal(cluster, former, leader, counted)


def wait_until_equal(cluster: Cluster, one: str, other: str, query: str) -> None:
    end = time.monotonic() + 60
    while (there := cluster.sql(one, query)) != (wanted := cluster.sql(other, query)):
        assert time.monotonic() < end, f"{one} has {there}, {other} {wanted}"


# Could fail: the pooler gives a client another user's connection, or takes a wrong password, or a superuser.
def test_pooler_knows_who_asks(cluster: Cluster, tmp_path: Path) -> None:
    leader = cluster.leader(cluster.databases[0])
    who = cluster.run(
        leader,
        f"PGPASSWORD={cluster.variables['mev_user']} psql 'host=127.0.0.1 port=6432 sslmode=require"
        " user=mev_user dbname=mev_infrastructure' -AtXc 'SELECT current_user'",
    )
    assert who == "mev_user"
    for user in ("mev_user", "postgres", "replicator", "rewind", "pgbouncer"):
        said = cluster.run(
            leader,
            f"PGPASSWORD=wrong psql 'host=127.0.0.1 port=6432 sslmode=require user={user}"
            " dbname=mev_infrastructure' -AtXc 'SELECT 1' 2>&1 || true",
        )
        assert re.search(r"failed|no such user", said), (user, said)
