"""A node that answers, but whose head no longer moves: every request succeeds, and nothing happens."""

from __future__ import annotations

import math
import time


class Silence:
    """For how long the last block has been the same one, against `limit` seconds (0: no limit)."""

    def __init__(self, limit: int, last_hash: str) -> None:
        self._limit = float(limit) or math.inf
        self._last_hash = last_hash
        self._since = self._due_from = time.monotonic()

    @property
    def due(self) -> float:
        """When it will have been too long, by time.monotonic()."""
        return self._due_from + self._limit

    def too_long(self, last_hash: str) -> float | None:
        """Seconds of silence, once for each `limit` that has passed without a new block."""
        now = time.monotonic()
        if last_hash != self._last_hash:
            self._last_hash = last_hash
            self._since = self._due_from = now
        elif now >= self.due:
            self._due_from = now
            return now - self._since
        return None
