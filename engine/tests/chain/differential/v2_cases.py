"""Calls of a V2 pair and its router, as the implementations see them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FEE = (997, 1000)


@dataclass(frozen=True, slots=True)
class Reserves:
    """A pair's state as seen from the token paid in; raw units."""

    reserve_in: int
    reserve_out: int


@dataclass(frozen=True, slots=True)
class V2Call:
    """Answers: amount_out and amount_in give one amount, swap both reserves after it (in, out).

    `x`: the amount in, for amount_in the amount out. `y`: for swap the amount out that is asked for.
    """

    kind: Literal["amount_out", "amount_in", "swap"]
    x: int
    y: int = 0
