"""A node that lies or stumbles: a proxy before anvil that tampers with its answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mev_engine.chain.pools import value_of
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from .harness import PAIRS, Chain, assert_same_state, make_settings, reaches, running_engine, until

pytestmark = pytest.mark.chain

Tamper = Callable[[str, dict[str, Any]], None]


class Proxy:
    """Forwards WebSocket messages; `tamper(method, answer)` may change each answer on its way back."""

    def __init__(self, target: str) -> None:
        self._target = target
        self.tamper: Tamper | None = None
        self.url = ""
        self.client: ServerConnection | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Proxy]:
        async with serve(self._serve, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            self.url = f"ws://127.0.0.1:{port}"
            yield self

    async def _serve(self, client: ServerConnection) -> None:
        self.client = client
        async with connect(self._target) as node:
            methods: dict[int, str] = {}
            back = asyncio.create_task(self._answers(node, client, methods))
            try:
                async for message in client:
                    requests = json.loads(message)
                    for request in requests if isinstance(requests, list) else [requests]:
                        methods[request["id"]] = request["method"]
                    await node.send(message)
            except ConnectionClosed:
                pass  # the engine went away: so do we
            finally:
                back.cancel()

    async def _answers(
        self, node: ClientConnection, client: ServerConnection, methods: dict[int, str]
    ) -> None:
        async for message in node:
            content = json.loads(message)
            for answer in content if isinstance(content, list) else [content]:
                if self.tamper is not None and "id" in answer:
                    self.tamper(methods[answer["id"]], answer)
            await client.send(json.dumps(content))


@pytest.fixture
async def proxy(chain: Chain) -> AsyncIterator[Proxy]:
    async with Proxy(chain.url).running() as running:
        yield running


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("address", None, "it names no address"),
        ("address", "0x12", "it names no address"),
        ("blockHash", "0x" + "12" * 32, "is not the block that was asked for"),
        ("data", "0xzz", "data is not hex"),
        ("data", "0x" + "ff" * 64, "does not fit uint112"),
        ("topics", [], "topics is not a list of hashes"),
        ("topics", ["0x" + "12" * 32], "was not asked for"),
        ("logIndex", "first", "logIndex = 'first' is not a hex quantity"),
        ("removed", True, "removed = true"),
    ],
)
async def test_lies_in_a_log(
    chain: Chain,
    proxy: Proxy,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    field: str,
    value: Any,
    reason: str,
) -> None:
    # fails if a bad field crashes the engine, corrupts the state, or is not named with its block
    def tamper(method: str, answer: dict[str, Any]) -> None:
        if method == "eth_getLogs" and answer["result"]:
            answer["result"][0][field] = value

    async with running_engine(make_settings(tmp_path, proxy.url)) as engine:
        proxy.tamper = tamper
        number = await asyncio.to_thread(chain.mine, {PAIRS[0]: (101, 102), PAIRS[1]: (103, 104)})
        await reaches(engine, chain)
        assert_same_state(engine, chain)
    (line,) = [r.getMessage() for r in caplog.records if r.getMessage().startswith("malformed log:")]
    assert reason in line
    assert f"block={number}" in line


async def test_incomplete_logs(
    chain: Chain, proxy: Proxy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # fails if a node that answers before it has indexed the block's logs is believed
    left = [2]

    def tamper(method: str, answer: dict[str, Any]) -> None:
        if method == "eth_getLogs" and answer["result"] and left[0]:
            left[0] -= 1
            del answer["result"][-1]

    async with running_engine(make_settings(tmp_path, proxy.url)) as engine:
        proxy.tamper = tamper
        await asyncio.to_thread(chain.mine, {PAIRS[0]: (111, 112), PAIRS[1]: (113, 114)})
        await reaches(engine, chain)
        await until(
            lambda: "logs_incomplete" in caplog.text or "announced but not among its logs" in caplog.text,
            "noticed",
        )
        await until(lambda: value_of(engine.state_of(PAIRS[1])) == (113, 114), "put right")
        assert_same_state(engine, chain)


async def test_garbage_on_the_wire(chain: Chain, proxy: Proxy, tmp_path: Path) -> None:
    # fails if a message that is not JSON ends the engine instead of the connection
    async with running_engine(make_settings(tmp_path, proxy.url)) as engine:
        assert proxy.client is not None
        await proxy.client.send("<html>502 Bad Gateway</html>")
        await asyncio.to_thread(chain.mine, {PAIRS[0]: (121, 122)})
        await reaches(engine, chain)
        assert_same_state(engine, chain)


async def test_rate_limit(chain: Chain, proxy: Proxy, tmp_path: Path) -> None:
    # fails if a provider's "limit exceeded" is taken for a broken pool or a lost state
    left = [3]

    def tamper(method: str, answer: dict[str, Any]) -> None:
        if method == "eth_call" and left[0]:
            left[0] -= 1
            del answer["result"]
            answer["error"] = {"code": -32005, "message": "limit exceeded"}

    proxy.tamper = tamper
    async with running_engine(make_settings(tmp_path, proxy.url)) as engine:
        assert_same_state(engine, chain)
    assert left == [0]


async def test_silent_node(
    chain: Chain, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # fails if a request without an answer holds the engine up for longer than its timeout
    monkeypatch.setattr("mev_engine.chain.rpc.REQUEST_TIMEOUT", 0.3)
    silenced = [1]

    def tamper(method: str, answer: dict[str, Any]) -> None:
        if method == "eth_getLogs" and silenced[0]:
            silenced[0] -= 1
            answer["id"] = 10**9  # an answer to nothing

    async with running_engine(make_settings(tmp_path, proxy.url)) as engine:
        proxy.tamper = tamper
        await asyncio.to_thread(chain.mine, {PAIRS[0]: (131, 132)})
        await reaches(engine, chain)
        assert_same_state(engine, chain)
    assert silenced == [0]
