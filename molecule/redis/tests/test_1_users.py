"""Over TLS, each user may do what it needs, and whoever has not the right rules can read nothing."""

from __future__ import annotations

import socket
import ssl
from collections import Counter
from typing import Any

import pytest
import redis
from cluster import CACHE, SECOND, STATE, STREAM, Cluster

KEYS = {"mev:pause": "why", "elsewhere": "1"}
READ: list[list[str]] = [
    ["GET", "mev:pause"], ["GET", "elsewhere"], ["XRANGE", STREAM, "-", "+"], ["XREVRANGE", STREAM, "+", "-"],
    ["XREAD", "STREAMS", STREAM, "0"], ["XLEN", STREAM], ["EXISTS", "mev:pause"], ["DUMP", "mev:pause"],
]  # fmt: skip
WRITE: list[list[str]] = [
    ["SET", "mev:pause", ""], ["DEL", "mev:pause"], ["DEL", STREAM], ["XADD", STREAM, "*", "k", "v"],
    ["XTRIM", STREAM, "MAXLEN", "0"], ["SET", "elsewhere", "2"],
]  # fmt: skip
OPERATE: list[list[str]] = [
    ["FLUSHALL"], ["KEYS", "*"], ["CONFIG", "GET", "*"], ["CONFIG", "SET", "maxmemory", "1"],
    ["SHUTDOWN", "NOW"], ["ACL", "LIST"], ["ACL", "SETUSER", "x"], ["CLIENT", "KILL", "TYPE", "normal"],
    ["CLIENT", "PAUSE", "1"], ["CLUSTER", "FAILOVER"], ["CLUSTER", "RESET"], ["MONITOR"],
    ["EVAL", "return 1", "0"], ["PSYNC", "?", "-1"], ["MODULE", "LIST"], ["SUBSCRIBE", "x"],
    ["SCAN", "0"], ["RANDOMKEY"],
]  # fmt: skip
WATCH: list[list[str]] = [["INFO"], ["SLOWLOG", "GET"], ["CLIENT", "LIST"], ["CLUSTER", "INFO"]]
SAVE: list[list[str]] = [["INFO"], ["BGSAVE"]]

# What each may do, of all that is tried; everything else must be refused.
MAY: dict[str, list[list[str]]] = {
    "engine": [["XADD", STREAM, "*", "k", "v"], ["XREVRANGE", STREAM, "+", "-"]],
    "api": [
        ["GET", "mev:pause"], ["XRANGE", STREAM, "-", "+"], ["XREVRANGE", STREAM, "+", "-"],
        ["XREAD", "STREAMS", STREAM, "0"], ["XLEN", STREAM], ["EXISTS", "mev:pause"],
    ],
    "exporter": WATCH,
    "backup": SAVE,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def keys(cluster: Cluster) -> None:
    admin = cluster.everywhere("admin")
    admin.xadd(STREAM, {"id": "a", "kind": "opportunity"})
    for key, value in KEYS.items():
        admin.set(key, value)


# Could fail: a rule admits more than was meant, or less than the service needs; it isn't loaded everywhere.
@pytest.mark.parametrize("user", MAY)
def test_users_may_do_what_they_need_and_no_more(cluster: Cluster, user: str) -> None:
    admin = cluster.everywhere("admin")
    tried = {" ".join(words): words for words in READ + WRITE + OPERATE + WATCH + SAVE}
    may = {" ".join(words) for words in MAY[user]}
    assert may <= set(tried)
    wrong = []
    for shown, words in tried.items():
        key = next((word for word in words if word in {*KEYS, STREAM}), STREAM)
        node: Any = admin.get_node_from_key(key)  # type: ignore[no-untyped-call]
        assert node is not None
        with redis.Redis(host=node.host, port=node.port, **cluster.ways(user)) as client:
            try:
                client.execute_command(*words)
                allowed = True
            except redis.exceptions.NoPermissionError:
                allowed = False
        if allowed != (shown in may):
            wrong.append(f"{shown}: {'allowed' if allowed else 'refused'}")
    assert not wrong, f"{user}: {wrong}"
    everywhere = admin.get("mev:pause"), admin.get("elsewhere")
    assert everywhere == ("why", "1")


# Could fail: an application's user reaches the other instance too, with the rights that it has in its own.
def test_engine_is_unknown_to_the_cache(cluster: Cluster) -> None:
    with pytest.raises(redis.AuthenticationError):
        cluster.client("engine", next(iter(cluster.hosts)), CACHE).ping()


# Could fail: the default user is on somewhere, no password is asked, or the port without TLS is still open.
@pytest.mark.parametrize("port", [STATE, SECOND, CACHE])
def test_nobody_without_name_password_and_tls(cluster: Cluster, port: int) -> None:
    for name, address in cluster.hosts.items():
        for user, password in (("engine", "wrong"), ("admin", ""), ("default", ""), ("replicator", "wrong")):
            with pytest.raises(redis.AuthenticationError):
                cluster.client(user, name, port, password).get(STREAM)
        ways: dict[str, Any] = {**cluster.ways("admin"), "username": None, "password": None}
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(host=address, port=port, **ways).get(STREAM)
        with socket.create_connection((address, port), timeout=5) as plain:
            plain.sendall(b"PING\r\n")
            try:
                said = plain.recv(64)
            except ConnectionResetError:
                said = b""
        assert b"PONG" not in said
        assert b"NOAUTH" not in said
        ways = {**cluster.ways("admin"), "ssl_ca_certs": "/etc/ssl/certs/ca-certificates.crt"}
        with pytest.raises(redis.ConnectionError, match="certificate verify failed"):
            redis.Redis(host=address, port=port, **ways).ping()


# Could fail: the bus, which knows no passwords, takes whoever reaches it.
def test_the_bus_wants_a_certificate(cluster: Cluster) -> None:
    context = ssl.create_default_context(cafile=cluster.ca)
    address = next(iter(cluster.hosts.values()))

    def stranger() -> None:
        with (
            socket.create_connection((address, STATE + 10000), timeout=5) as plain,
            context.wrap_socket(plain, server_hostname=address) as bus,
        ):
            bus.sendall(b"RCmb")
            bus.recv(1)

    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        stranger()


# Could fail: a replica on its master's host; or a host leads two, and its loss would take the majority along.
def test_no_replica_is_on_its_masters_host(cluster: Cluster) -> None:
    for asked in cluster.hosts:
        nodes = cluster.nodes(asked)
        assert len(nodes) == 6
        assert Counter(node.host for node in nodes if node.leads) == dict.fromkeys(cluster.hosts, 1)
        masters = {node.id: node.host for node in nodes if node.leads}
        follow = {node.master: node.host for node in nodes if not node.leads}
        assert follow.keys() == masters.keys()
        assert all(masters[master] != host for master, host in follow.items())


# Could fail: settings are written and not those of the running server; a unit as the package ships it.
def test_settings_and_unit(cluster: Cluster) -> None:
    wanted = {
        "maxmemory-policy": "noeviction", "appendonly": "yes", "port": "0", "tls-replication": "yes",
        "tls-cluster": "yes", "cluster-allow-replica-migration": "no", "cluster-require-full-coverage": "no",
    }  # fmt: skip
    for name in cluster.hosts:
        for port in (STATE, SECOND):
            config: Any = cluster.client("admin", name, port).config_get("*")
            assert {key: config[key] for key in wanted} == wanted
    said = cluster.run(name, "systemd-analyze security --no-pager redis@state redis@state-2 | grep level")
    levels = [float(line.split(":")[1].split()[0]) for line in said.splitlines()]
    assert len(levels) == 2
    assert max(levels) < 3
