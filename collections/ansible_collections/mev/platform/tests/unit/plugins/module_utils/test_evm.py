"""One question to a node, over real sockets."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from ansible_collections.mev.platform.plugins.module_utils.evm import EndpointError, chain_id, location
from websockets.asyncio.server import ServerConnection, serve

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3


class Node(BaseHTTPRequestHandler):
    """Serves chain 10 over HTTP; everything at /bad is not JSON-RPC."""

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.end_headers()
        answer = {"jsonrpc": "2.0", "id": question["id"], "result": "0xa"}
        self.wfile.write(b"<html>" if self.path == "/bad" else json.dumps(answer).encode())

    def log_message(self, format: str, *args: object) -> None:
        """Keep the tests' output clean."""


@pytest.fixture(scope="module")
def http_port() -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), Node)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()


@pytest.fixture(scope="module")
def websocket_port() -> Iterator[int]:
    """A node by the websockets library, which refuses frames that break the standard."""
    ready: threading.Event = threading.Event()
    port: list[int] = []
    loop = asyncio.new_event_loop()

    async def answer(connection: ServerConnection) -> None:
        question = json.loads(await connection.recv())
        padding = "x" * 200  # a length in two bytes
        await connection.send(json.dumps({"id": question["id"], "result": "0x7a69", "padding": padding}))

    async def listen() -> None:
        async with serve(answer, "127.0.0.1", 0) as server:
            port.append(server.sockets[0].getsockname()[1])
            ready.set()
            await asyncio.get_running_loop().create_future()

    task = loop.create_task(listen())
    threading.Thread(target=lambda: loop.run_until_complete(asyncio.wait([task])), daemon=True).start()
    assert ready.wait(5)
    yield port[0]
    loop.call_soon_threadsafe(task.cancel)


# Could fail: handshake, masking or lengths not as RFC 6455 wants them.
def test_websocket(websocket_port: int) -> None:
    assert chain_id(f"ws://127.0.0.1:{websocket_port}/v2/KEY", timeout=5) == 31337


# Could fail: an answer that is no JSON-RPC ends in a traceback instead of a sentence.
def test_http(http_port: int) -> None:
    assert chain_id(f"http://127.0.0.1:{http_port}", timeout=5) == 10
    with pytest.raises(EndpointError, match="not that of an Ethereum node"):
        chain_id(f"http://127.0.0.1:{http_port}/bad", timeout=5)


# Could fail: a plain web server, a closed port or a typo in the scheme gives no reason, or the key leaks.
def test_what_is_no_node_is_told_why(http_port: int) -> None:
    with pytest.raises(EndpointError, match=r"speaks no WebSocket: HTTP/1\.0 501"):
        chain_id(f"ws://127.0.0.1:{http_port}/SECRET", timeout=5)
    with pytest.raises(EndpointError, match="refused"):
        chain_id("ws://127.0.0.1:1/SECRET", timeout=5)
    with pytest.raises(EndpointError, match="no ws://"):
        chain_id("wws://127.0.0.1", timeout=5)


# Could fail: a part of the URL that carries the key stays.
def test_location_carries_no_key() -> None:
    assert location("wss://user:pw@eth.example.org:8546/v2/KEY?token=KEY") == "eth.example.org:8546"
    assert location("wss://eth.example.org/KEY") == "eth.example.org"


# Could fail: a port that is none raises where nobody expects it, and no message names the endpoint.
@pytest.mark.parametrize("url", ["wss://node.example.org:99999/KEY", "ws://[::1/KEY", "ws://node:x/KEY"])
def test_unreadable_addresses_are_told_without_the_key(url: str) -> None:
    assert "KEY" not in location(url)
    with pytest.raises(EndpointError, match=r"port \(0 to 65535\) can't be read"):
        chain_id(url, timeout=5)


# Could fail: a server that hangs up within a frame ends in a traceback.
@pytest.mark.parametrize("frame", [b"\x81", b"\x81\x7e\x01", b"\x81\x7e\x00\x80{"])
def test_cut_frames_are_no_answer(frame: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve_one() -> None:
            connection, _ = server.accept()
            with connection:
                request = connection.recv(4096).decode()
                key = request.split("Sec-WebSocket-Key: ")[1].split("\r\n")[0]
                accept = base64.b64encode(
                    hashlib.sha1(f"{key}{GUID}".encode(), usedforsecurity=False).digest()
                ).decode()
                head = f"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
                connection.sendall(head.encode() + frame)
                connection.recv(4096)  # the question

        threading.Thread(target=serve_one, daemon=True).start()
        with pytest.raises(EndpointError, match=r"hung up|not that of an Ethereum node"):
            chain_id(f"ws://127.0.0.1:{server.getsockname()[1]}", timeout=5)
