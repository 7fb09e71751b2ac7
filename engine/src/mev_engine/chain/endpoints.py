"""Which endpoint to use: the first that works, in the order of the settings.

Every endpoint has a circuit: after a failure it stays open (unused) for a time that doubles with
each further failure, with jitter, up to one health interval. So a dead primary is not hammered,
many engines do not return in step, and a node that comes back is used again soon.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from mev_engine.chain.errors import LinkError, RpcError, WrongChainError
from mev_engine.chain.rpc import Link
from mev_engine.redact import redact_url

log = logging.getLogger(__name__)
FIRST_PAUSE = 0.5  # seconds


@dataclass(slots=True)
class _Circuit:
    url: str
    failures: int = 0
    open_until: float = 0.0  # time.monotonic()
    refused: bool = False


class Endpoints:
    """Hands out one link at a time. `beat()` is called at each attempt, for the watchdog."""

    def __init__(
        self, urls: list[str], *, chain_id: int, longest_pause: float, beat: Callable[[], None]
    ) -> None:
        self._circuits = [_Circuit(url) for url in urls]
        self._chain_id = chain_id
        self._longest_pause = longest_pause
        self._beat = beat
        self._current: _Circuit | None = None

    async def connect(self) -> Link:
        """A link to the first endpoint that can be had; waits as long as that takes.

        Raises WrongChainError when every endpoint was refused for serving another chain.
        """
        while True:
            self._beat()
            usable = [circuit for circuit in self._circuits if not circuit.refused]
            if not usable:
                names = ", ".join(redact_url(circuit.url) for circuit in self._circuits)
                raise WrongChainError(f"no endpoint serves chain id {self._chain_id}: {names}")
            now = time.monotonic()
            ready = next((circuit for circuit in usable if circuit.open_until <= now), None)
            if ready is None:
                await asyncio.sleep(min(circuit.open_until for circuit in usable) - now)
                continue
            link = await self._try(ready)
            if link is not None:
                self._current = ready
                return link

    async def _try(self, circuit: _Circuit) -> Link | None:
        try:
            return await Link.open(circuit.url, expected_chain_id=self._chain_id)
        except WrongChainError as error:
            circuit.refused = True
            log.error("endpoint_refused reason=%r", str(error))
        except LinkError as error:
            pause = self._open(circuit)
            log.warning("endpoint_down reason=%r retry_in=%.1f", str(error), pause)
        return None

    def worked(self) -> None:
        """The current link delivered a block: its circuit starts from zero again."""
        if self._current is not None:
            self._current.failures = 0

    def failed(self) -> float:
        """The current link broke; returns the seconds for which its endpoint is left alone."""
        return self._open(self._current) if self._current is not None else 0.0

    def has_other(self) -> bool:
        """Whether there is an endpoint besides the current one that may be tried."""
        return any(not circuit.refused for circuit in self._circuits if circuit is not self._current)

    async def better(self, not_before: float) -> Link | None:
        """A link to an endpoint that comes before the current one, if one is back.

        One whose newest block is older than `not_before` (a block's timestamp) is not: going back to
        a node that has stopped would lose the time that the failover has won.
        """
        now = time.monotonic()
        for circuit in self._circuits:
            if circuit is self._current:
                return None
            if circuit.refused or circuit.open_until > now:
                continue
            link = await self._try(circuit)
            if link is None:
                continue
            if await self._is_behind(link, circuit, not_before):
                await link.close()
                continue
            self._current = circuit
            return link
        return None

    async def _is_behind(self, link: Link, circuit: _Circuit, not_before: float) -> bool:
        try:
            head = await link.head()
            if head.timestamp >= not_before:
                return False
            reason = f"its newest block {head.number} is of {head.timestamp}, before {not_before:.0f}"
        except (LinkError, RpcError) as error:
            reason = str(error)
        log.warning(
            "endpoint_behind endpoint=%s reason=%r retry_in=%.1f", link.name, reason, self._open(circuit)
        )
        return True

    def _open(self, circuit: _Circuit) -> float:
        circuit.failures += 1
        longest = min(self._longest_pause, FIRST_PAUSE * 2 ** min(circuit.failures - 1, 16))
        pause: float = longest * random.uniform(0.5, 1.0)  # noqa: S311  (jitter, not cryptography)
        circuit.open_until = time.monotonic() + pause
        return pause
