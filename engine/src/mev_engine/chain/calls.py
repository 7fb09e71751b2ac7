"""eth_calls by the batch, all at one block, and what their answers say."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from mev_engine.chain.decode import as_address, words
from mev_engine.chain.errors import RpcError, StateUnavailableError
from mev_engine.chain.rpc import BATCH_SIZE, Link

log = logging.getLogger(__name__)

SAY_EVERY = 5.0  # seconds between lines of progress


class Caller:
    """Calls contracts through one link, as of one block."""

    def __init__(self, link: Link, at: str, beat: Callable[[], None]) -> None:
        """`at`: the block's hash. `beat` is called whenever there was progress."""
        self.at = at
        self._link = link
        self._beat = beat

    async def all(self, calls: Sequence[tuple[str, str]], what: str) -> list[Any]:
        """eth_call of (to, data) pairs; a reverted call gives its RpcError.

        Raises StateUnavailableError where the node lacks that block's state.
        """
        results: list[Any] = []
        started = said = time.monotonic()
        for first in range(0, len(calls), BATCH_SIZE):
            part = calls[first : first + BATCH_SIZE]
            # EIP-1898: by hash, so that a reorganisation in between cannot mix two states
            results += await self._link.batch(
                ("eth_call", [{"to": to, "data": data}, {"blockHash": self.at}]) for to, data in part
            )
            self._beat()
            if time.monotonic() - said > SAY_EVERY:
                said = time.monotonic()
                log.info(
                    "loading what=%r done=%d of=%d seconds=%.0f",
                    what,
                    len(results),
                    len(calls),
                    said - started,
                )
        broken = [r for r in results if isinstance(r, RpcError) and not r.is_revert]
        if broken:
            raise StateUnavailableError(
                f"{what} at block {self.at}: {len(broken)} of {len(results)} calls: {broken[0]}"
            )
        return results


def first_words(answer: Any, least: int) -> list[int] | None:
    """The first `least` words of an eth_call's answer; None where it is an error or too short."""
    if not isinstance(answer, str) or len(answer) < 2 + 64 * least:
        return None
    try:
        return words(answer[: 2 + 64 * least], least)
    except ValueError:
        return None


def address_of(answer: Any) -> str | None:
    """The address that an eth_call answers; None where it is an error or no address."""
    word = first_words(answer, 1)
    try:
        return as_address(word[0]) if word else None
    except ValueError:
        return None
