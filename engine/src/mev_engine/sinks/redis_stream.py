"""Opportunities into a Redis stream: flat fields, one entry an opportunity, for who follows live."""

from __future__ import annotations

from typing import Any

import redis.asyncio as redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import DataError

from mev_engine.detect.opportunity import Opportunity
from mev_engine.settings import RedisSettings
from mev_engine.sinks.queue import Batch, QueuedSink, RefusedError

REMEMBERED = 5_000  # newest entries: more than the blocks of a catch-up bring


Client = redis.Redis | RedisCluster


def connect(settings: RedisSettings) -> Client:
    """A client; it connects at its first command."""
    common: dict[str, Any] = {
        "username": settings.username,
        "password": settings.password(),
        "socket_timeout": 5 if settings.cluster else 10,  # another member has taken over after that
        "socket_connect_timeout": 5,
        "health_check_interval": 15,
        "client_name": "mev-engine",
        "decode_responses": True,
        "retry": Retry(NoBackoff(), 0),  # the queue retries, after asking what has arrived
        "protocol": 2,
        "ssl": settings.tls,
    }
    if settings.tls and settings.ca_file:
        common["ssl_ca_certs"] = settings.ca_file
    if not settings.cluster:
        return redis.Redis(host=settings.host, port=settings.port, **common)
    members = [ClusterNode(host, port) for host, port in settings.where()]
    # the stream is one key, so it goes on while other keys' members are away
    return RedisCluster(startup_nodes=members, require_full_coverage=False, **common)


class RedisSink(QueuedSink):
    """Entries have `kind`: `opportunity` with the opportunity's fields, or `orphaned` with a block.

    After each reconnect the stream's newest ids are read, and what is there already is not added
    again: neither after a lost answer nor after a restart does an entry appear twice.

    In a Redis Cluster the stream is one key, so one member has it and order is kept. When that member is
    lost, another goes on with what had been copied to it: entries of the last moment may be gone, never
    doubled (docs/redis.md).
    """

    name = "redis"

    def __init__(self, settings: RedisSettings, *, chain: str, chain_id: int, **queue: Any) -> None:
        super().__init__(**queue)
        self._settings = settings
        self._chain = chain
        self._chain_id = chain_id
        self._client: Client | None = None
        self._present: dict[str, None] = {}  # in order of arrival

    async def disconnect(self) -> None:
        client, self._client = self._client, None
        if isinstance(client, RedisCluster):
            # its aclose() does nothing once a connection was lost
            await client.nodes_manager.aclose()
            await client.nodes_manager.aclose("startup_nodes")
        elif client is not None:
            await client.aclose()

    async def write(self, batches: list[Batch]) -> int:
        if self._client is None:
            self._client = connect(self._settings)
            self._present = await self._newest(self._client)
        entries = [entry for batch in batches for entry in self._entries(batch)]
        entries = [entry for entry in entries if entry["id"] not in self._present]
        if not entries:
            return 0
        pipe: Any = self._client.pipeline(transaction=False)
        for entry in entries:
            pipe.xadd(self._settings.stream, entry, maxlen=self._settings.stream_maxlen, approximate=True)
        try:
            await (pipe.execute(allow_redirections=False) if self._settings.cluster else pipe.execute())
        except DataError as error:
            raise RefusedError(str(error)) from error
        self._present.update((entry["id"], None) for entry in entries)
        for old in list(self._present)[: max(0, len(self._present) - 2 * REMEMBERED)]:
            del self._present[old]
        return len(entries)

    async def _newest(self, client: Client) -> dict[str, None]:
        """Ids of the stream's newest entries, oldest first."""
        newest: Any = await client.xrevrange(self._settings.stream, count=REMEMBERED)
        return {fields["id"]: None for _entry, fields in reversed(newest) if "id" in fields}

    def _entries(self, batch: Batch) -> list[dict[Any, Any]]:
        orphaned = [
            {
                "kind": "orphaned", "id": f"orphaned:{block_hash}:{batch.block.hash}", "chain": self._chain,
                "chain_id": self._chain_id, "block_number": number, "block_hash": block_hash,
            }
            for number, block_hash in batch.orphaned
        ]  # fmt: skip
        return [self._entry(row) for row in batch.rows] + orphaned

    def _entry(self, o: Opportunity) -> dict[Any, Any]:
        """Lists are joined by `,`; integers are decimal strings, exact at any width."""
        return {
            "kind": "opportunity",
            "id": o.id,
            "chain": self._chain,
            "chain_id": self._chain_id,
            "strategy": o.strategy,
            "block_number": o.block.number,
            "block_hash": o.block.hash,
            "timestamp": o.block.timestamp,
            "tokens": ",".join(o.tokens),
            "symbols": ",".join(symbol.replace(",", " ") for symbol in o.symbols),
            "pools": ",".join(o.pools),
            "amounts": ",".join(map(str, o.amounts)),
            "gross_profit": str(o.gross_profit),
            "gas_units": str(o.gas_units),
            "gas_price": str(o.gas_price),
            "gas_cost": str(o.gas_cost),
            "net_profit": str(o.net_profit),
            "rank": o.rank,
            "conflicts_with": o.conflicts_with or "",
        }
