"""Calls of a Curve stableswap pool, as the implementations see them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class CurveCall:
    """Answers: get_dy gives one amount; exchange gives what was paid and all balances after it."""

    kind: Literal["get_dy", "exchange"]
    i: int
    j: int
    dx: int
