"""How the engine is told where Redis is: one server or a cluster, in the clear or by TLS."""

from __future__ import annotations

from typing import Any

import pytest
from mev_engine.settings import RedisSettings
from mev_engine.sinks.redis_stream import connect
from pydantic import ValidationError
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster


# fails if what can't be an address, or an authority that nobody would ask, is taken
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"cluster": ["10.77.0.2"]}, "must be host:port"),
        ({"cluster": ["10.77.0.2:99999"]}, "must be host:port"),
        ({"cluster": [":6379"]}, "must be host:port"),
        ({"ca_file": "/etc/ca.crt"}, "ca_file is given and tls is false"),
        ({"tls": "yes"}, "valid boolean"),
    ],
)
def test_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        RedisSettings.model_validate(given)


# fails if a client repeats a command by itself (an entry twice), or takes any certificate
async def test_clients_never_repeat_a_command() -> None:
    cluster = connect(RedisSettings(cluster=["a:1", "b:2"], tls=True))
    assert isinstance(cluster, RedisCluster)
    assert cluster.retry.get_retries() == 0
    assert [(node.host, node.port) for node in cluster.startup_nodes] == [("a", 1), ("b", 2)]
    assert cluster.connection_kwargs["ssl_cert_reqs"] == "required"
    alone = connect(RedisSettings())
    assert isinstance(alone, Redis)
    retry = alone.get_retry()
    assert retry is not None
    assert retry.get_retries() == 0
