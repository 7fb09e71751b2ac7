"""One WebSocket connection to a node: raw JSON-RPC requests, batches and subscriptions.

web3's provider holds the connection. Its own waiting is bypassed in three places, by overriding
`socket_recv`, because a detector needs:

- answers matched to requests by futures (web3 8 spins on `sleep(0)` until the answer is there, a
  whole core while a node is silent, and allows one batch in flight);
- messages as the node sent them: web3's formatters raise on a malformed log, which would end the
  subscription, where we want to name the log and go on (see decode.py);
- a lost connection that wakes every waiter at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Self, cast

from web3 import AsyncWeb3, WebSocketProvider
from web3.exceptions import PersistentConnectionClosedOK, Web3Exception
from web3.types import RPCEndpoint, RPCResponse
from websockets.exceptions import WebSocketException

from mev_engine.chain.decode import block_ref
from mev_engine.chain.errors import LinkError, RpcError, WrongChainError
from mev_engine.market.delta import BlockRef
from mev_engine.redact import redact_url

REQUEST_TIMEOUT = 20.0  # seconds
CONNECT_TIMEOUT = 10.0
BATCH_SIZE = 400  # calls in one message; providers refuse more than 1,000
BUSY_RETRIES = 6  # with doubling pauses from 0.25 s: 16 s in all
MAX_MESSAGE = 256 * 2**20  # bytes; a batch of logs is larger than websockets' 1 MiB

# web3 logs the whole URL, and with it the provider's key, at INFO
logging.getLogger("web3").setLevel(logging.WARNING)

Request = tuple[str, Sequence[Any]]


class _Transport(WebSocketProvider):
    """web3's provider, with answers and notifications handed out by `socket_recv`."""

    def __init__(self, url: str) -> None:
        super().__init__(
            url,
            websocket_kwargs={
                "max_size": MAX_MESSAGE,
                "open_timeout": CONNECT_TIMEOUT,
                "ping_interval": 10,
                "ping_timeout": 20,
                "close_timeout": 1,  # a node that is gone does not answer the closing either
                "compression": None,  # deflate costs more time than it saves near the node
            },
            max_connection_retries=1,  # endpoints.py decides about retries
            request_timeout=REQUEST_TIMEOUT,
        )
        self.waiting: dict[Any, asyncio.Future[Any]] = {}
        self.notifications: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self.ended: BaseException | None = None

    async def socket_recv(self) -> RPCResponse:
        """Hand out messages until the connection ends; returns only what nobody here asked for."""
        while True:
            try:
                message = cast(Any, await super().socket_recv())
            except asyncio.CancelledError as error:
                self._end(error)
                raise
            except (WebSocketException, OSError, ValueError) as error:  # ValueError: not JSON
                self._end(error)
                raise PersistentConnectionClosedOK(user_message="ended") from error
            if isinstance(message, dict) and message.get("method") == "eth_subscription":
                self.notifications.put_nowait(message.get("params") or {})
            elif (future := self.waiting.pop(_key(message), None)) is not None:
                if not future.done():
                    future.set_result(message)
            elif isinstance(message, dict) and message.get("id") is None and "error" in message:
                # an error that names no request can only be meant for whatever is in flight
                self._end(ValueError(f"the node refused a message: {message['error']}"))
                raise PersistentConnectionClosedOK(user_message="refused")
            # else: an answer that came after its timeout

    def _end(self, error: BaseException) -> None:
        self.ended = error
        for future in self.waiting.values():
            if not future.done():
                future.set_exception(LinkError(f"connection ended: {_reason(error)}"))
        self.waiting.clear()
        self.notifications.put_nowait(None)


def _key(message: Any) -> Any:
    """The id that a message answers; for a batch the lowest one (a node may answer in any order)."""
    if isinstance(message, list):
        ids = [part.get("id") for part in message if isinstance(part, dict)]
        numbers = [number for number in ids if isinstance(number, int)]
        return ("batch", min(numbers)) if numbers else None
    return message.get("id") if isinstance(message, dict) else None


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


class Link:
    """An open connection to one endpoint whose chain id was checked.

    `name` is safe to log. Every method raises LinkError when the connection is of no more use.
    """

    def __init__(self, url: str) -> None:
        self.name = redact_url(url)
        self._transport = _Transport(url)
        self.w3: AsyncWeb3[Any] = AsyncWeb3(self._transport)
        self.notifications = self._transport.notifications

    @classmethod
    async def open(cls, url: str, *, expected_chain_id: int) -> Self:
        """Connect and check the chain id. Raises LinkError or WrongChainError."""
        link = cls(url)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT + 1):
                await link._transport.connect()
        except (Web3Exception, WebSocketException, OSError, TimeoutError) as error:
            # web3's own text holds the whole URL: say the cause instead
            raise LinkError(f"{link.name}: cannot connect: {_reason(error.__cause__ or error)}") from None
        try:
            found = int(await link.call("eth_chainId"), 16)
        except (TypeError, ValueError, RpcError) as error:
            await link.close()
            raise LinkError(f"{link.name}: no usable answer to eth_chainId: {_reason(error)}") from error
        except LinkError:
            await link.close()
            raise
        if found != expected_chain_id:
            await link.close()
            raise WrongChainError(
                f"{link.name}: serves chain id {found}, but chain.chain_id is {expected_chain_id}: "
                f"correct chain.endpoints or chain.chain_id"
            )
        return link

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        try:
            async with asyncio.timeout(5):
                await self._transport.disconnect()
        except (Web3Exception, WebSocketException, OSError, TimeoutError) as error:
            logging.getLogger(__name__).debug("close endpoint=%s error=%s", self.name, _reason(error))

    async def call(self, method: str, params: Sequence[Any] = ()) -> Any:
        """One request; the raw `result`. Raises RpcError for the node's own errors."""
        request = self._transport.form_request(RPCEndpoint(method), list(params))
        payload = self._transport.encode_rpc_dict(request)
        return self._result(await self._exchange(request["id"], payload, method), method)

    async def batch(self, requests: Iterable[Request]) -> list[Any]:
        """The results in the order of the requests; an element is an RpcError where one failed.

        Split into messages of BATCH_SIZE; what the provider refuses for its rate is asked again.
        """
        pending = list(requests)
        results: list[Any] = []
        for start in range(0, len(pending), BATCH_SIZE):
            results += await self._patient_batch(pending[start : start + BATCH_SIZE])
        return results

    async def _patient_batch(self, requests: list[Request]) -> list[Any]:
        results = await self._one_batch(requests)
        for attempt in range(BUSY_RETRIES):
            busy = [i for i, r in enumerate(results) if isinstance(r, RpcError) and r.is_busy]
            if not busy:
                break
            await asyncio.sleep(0.25 * 2**attempt)
            for i, result in zip(busy, await self._one_batch([requests[i] for i in busy]), strict=True):
                results[i] = result
        return results

    async def _one_batch(self, requests: list[Request]) -> list[Any]:
        forms = [self._transport.form_request(RPCEndpoint(method), list(p)) for method, p in requests]
        ids = [cast(int, form["id"]) for form in forms]
        payload = self._transport.encode_batch_request_dicts(forms)
        answer = await self._exchange(("batch", min(ids)), payload, f"batch of {len(forms)}")
        by_id = {part.get("id"): part for part in answer if isinstance(part, dict)}
        results: list[Any] = []
        for number, (method, _) in zip(ids, requests, strict=True):
            if number not in by_id:
                raise LinkError(f"{self.name}: a batch was answered without its request {method}")
            try:
                results.append(self._result(by_id[number], method))
            except RpcError as error:
                results.append(error)
        return results

    async def _exchange(self, key: Any, payload: bytes, what: str) -> Any:
        transport = self._transport
        if transport.ended is not None:
            raise LinkError(f"{self.name}: connection ended: {_reason(transport.ended)}")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        transport.waiting[key] = future
        try:
            await transport.socket_send(payload)
            async with asyncio.timeout(REQUEST_TIMEOUT):
                return await future
        except TimeoutError:
            raise LinkError(f"{self.name}: no answer to {what} within {REQUEST_TIMEOUT:.0f} s") from None
        except (Web3Exception, WebSocketException, OSError) as error:
            raise LinkError(f"{self.name}: {what}: {_reason(error)}") from error
        finally:
            transport.waiting.pop(key, None)

    def _result(self, answer: Any, method: str) -> Any:
        if isinstance(answer, dict) and isinstance(answer.get("error"), dict):
            error = answer["error"]
            raise RpcError(self.name, method, int(error.get("code", 0)), str(error.get("message", "")))
        if not isinstance(answer, dict) or "result" not in answer:
            raise LinkError(f"{self.name}: {method}: an answer without result or error: {str(answer)[:200]}")
        return answer["result"]

    async def subscribe(self, *params: Any) -> str:
        """eth_subscribe; its notifications arrive in `notifications`, None when the link ends."""
        return str(await self.call("eth_subscribe", params))

    async def head(self) -> BlockRef:
        return self._block(await self.call("eth_getBlockByNumber", ["latest", False]), "latest")

    async def block_by_hash(self, block_hash: str) -> BlockRef:
        return self._block(await self.call("eth_getBlockByHash", [block_hash, False]), block_hash)

    async def blocks_by_number(self, numbers: Iterable[int]) -> dict[int, BlockRef]:
        """Headers by number; numbers that the chain does not have (yet) are absent."""
        wanted = list(numbers)
        answers = await self.batch([("eth_getBlockByNumber", [hex(n), False]) for n in wanted])
        found = ((n, a) for n, a in zip(wanted, answers, strict=True) if a and not isinstance(a, RpcError))
        return {n: self._block(answer, str(n)) for n, answer in found}

    def _block(self, header: Any, asked: str) -> BlockRef:
        if header is None:
            raise LinkError(f"{self.name}: does not know block {asked}")
        try:
            return block_ref(header)
        except ValueError as error:
            raise LinkError(f"{self.name}: malformed header of block {asked}: {error}") from error
