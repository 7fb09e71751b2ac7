# Copyright (c) the MEV platform's authors. Apache-2.0 (see LICENSE)
"""One JSON-RPC question to an Ethereum node over HTTP or WebSocket, with the standard library alone.

It runs on hosts that have nothing but Python yet, hence no web3 and no websockets. It asks a single short
question and reads a single short answer: no fragments, no pings, no compression (RFC 6455, sections 4 to 6).
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import socket
import ssl
import struct
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

MAX_ANSWER = 65536  # bytes; an answer to eth_chainId has about 40
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3


class EndpointError(Exception):
    """The endpoint did not answer as a node does; the message says why and carries no URL."""


def location(url: str) -> str:
    """Host and port alone: providers put the API key into the path, the query or the user's name."""
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        return "unreadable address"
    try:
        return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
    except ValueError:  # the port is no port
        return str(parts.hostname)


def chain_id(url: str, *, timeout: float, cadata: str | None = None) -> int:
    """The chain's id as the node at ``url`` (ws, wss, http, https) gives it; EndpointError otherwise."""
    question = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []}).encode()
    try:
        parts = urllib.parse.urlsplit(url)
        _ = parts.port  # read only here: it raises for what is no port
    except ValueError as error:
        raise EndpointError("its host or its port (0 to 65535) can't be read") from error
    if parts.scheme not in ("ws", "wss", "http", "https") or not parts.hostname:
        raise EndpointError("it is no ws://, wss://, http:// or https:// address")
    ask = _ask_websocket if parts.scheme.startswith("ws") else _ask_http
    try:
        answer = json.loads(ask(url, question, timeout, cadata))
        return int(answer["result"], 16)
    except urllib.error.HTTPError as error:
        raise EndpointError(f"HTTP {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise EndpointError(_plain(error.reason)) from error
    except OSError as error:  # refused, unknown host, timeout, certificate
        raise EndpointError(_plain(error)) from error
    except (ValueError, KeyError, TypeError, struct.error, http.client.HTTPException) as error:
        raise EndpointError("the answer is not that of an Ethereum node") from error


def _plain(error: object) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(getattr(error, "strerror", None) or error)


def _ask_http(url: str, question: bytes, timeout: float, cadata: str | None) -> bytes:
    headers = {"Content-Type": "application/json", "User-Agent": "mev-platform"}
    request = urllib.request.Request(url, data=question, headers=headers)  # noqa: S310 - the scheme is checked above
    context = ssl.create_default_context(cadata=cadata) if url.startswith("https") else None
    with urllib.request.urlopen(request, timeout=timeout, context=context) as response:  # noqa: S310
        answer: bytes = response.read(MAX_ANSWER)
        return answer


def _ask_websocket(url: str, question: bytes, timeout: float, cadata: str | None) -> bytes:
    parts = urllib.parse.urlsplit(url)
    host = str(parts.hostname)
    secure = parts.scheme == "wss"
    connection: Any = socket.create_connection((host, parts.port or (443 if secure else 80)), timeout=timeout)
    with connection:
        if secure:
            connection = ssl.create_default_context(cadata=cadata).wrap_socket(
                connection, server_hostname=host
            )
        with connection, connection.makefile("rb") as stream:
            _shake_hands(connection, stream, parts)
            connection.sendall(_frame(question))
            return _read_frame(stream)


def _shake_hands(connection: Any, stream: Any, parts: urllib.parse.SplitResult) -> None:
    key = base64.b64encode(os.urandom(16)).decode()
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [
        f"GET {target} HTTP/1.1",
        f"Host: {parts.netloc.rpartition('@')[2]}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
    ]
    if parts.username:
        credentials = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        lines.append(f"Authorization: Basic {base64.b64encode(credentials.encode()).decode()}")
    connection.sendall("\r\n".join([*lines, "", ""]).encode())
    status = stream.readline(MAX_ANSWER).decode("latin-1").strip()
    if " 101 " not in f"{status} ":
        raise EndpointError(f"it speaks no WebSocket: {status or 'it hung up'}")
    headers = {}
    while line := stream.readline(MAX_ANSWER).decode("latin-1").strip():
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    wanted = base64.b64encode(hashlib.sha1((key + _GUID).encode(), usedforsecurity=False).digest()).decode()
    if headers.get("sec-websocket-accept") != wanted:
        raise EndpointError("its WebSocket handshake is wrong")


def _frame(payload: bytes) -> bytes:
    """One final, masked text frame (clients must mask)."""
    mask = os.urandom(4)
    head = bytes([0x81]) + (
        bytes([0x80 | len(payload)])
        if len(payload) < 126
        else bytes([0xFE]) + struct.pack("!H", len(payload))
    )
    return head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


def _read_frame(stream: Any) -> bytes:
    head = stream.read(2)
    if len(head) < 2 or head[0] & 0x0F != 1:
        raise EndpointError("it hung up instead of answering")
    length = head[1] & 0x7F
    if length == 126:
        (length,) = struct.unpack("!H", stream.read(2))
    elif length == 127:
        raise EndpointError("its answer is far too long")
    payload: bytes = stream.read(length)
    return payload
