"""What a pool family is to the rest of the engine: the interface that each family's file fills in.

A family has three faces, side by side in its own module:

1. *Exact*, in Python integers: `exact_in` and `exact_out` on a frozen state, as the contract computes.
2. *Float*, for screening and sizing: `params(state)` lays the state out as float64 and the module's
   `respond` (a `jit.helper`) answers from it.
3. *Exact in kernels*, where the family has it: `words(state)` lays the state out as uint64, and the
   module's `quote` and `least` (helpers) repeat face 1 in 256-bit integers.

`respond(params, at, i, j, x) -> (y, slope, c)`: the family's answer to an input of `x` raw units (float64,
>= 0) of token i for token j, read from `params[at:]`. `y`: raw units out, real-valued, no rounding.
`slope`: dy/dx there, after the fee. `c` = -y''/(2*y') >= 0, in 1/raw unit: so that near x the pool is the
Moebius map `y(x + h) = y + slope*h / (1 + c*h)`, exactly so for a constant product. An input that the
pool can't take gives slope 0 and the most that it pays. It never raises and never gives NaN.

`quote(words, at, i, j, x) -> (y, ok)` and `least(words, at, i, j, y) -> (x, ok)`: U256 in and out; not ok
where the contract would revert. `least` gives an input that buys at least y, the least one or close to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mev_engine.types import FloatArray, WordArray

Log = tuple[Sequence[str], bytes]
"""A log's topics (lower-case 0x hex, 32 bytes each) and its data."""


@dataclass(frozen=True)
class Family:
    """One line of the registry. `state` is the type of the states that the functions take.

    `coins(state)`: how many tokens the pool trades; i and j are below it.
    `head(state)`: the leading part of `params` and `words`, which is all that a swap changes, for families
    whose layouts are long; the rest changes only with `ticks`.
    `events`: topic0 -> the state after such a log of the pool. UnknownStateError where the log can't
    follow from the state: the pool must then be read anew.
    """

    name: str
    code: int
    state: type
    coins: Callable[[Any], int]
    exact_in: Callable[[Any, int, int, int], int]
    exact_out: Callable[[Any, int, int, int], int]
    params: Callable[[Any], FloatArray]
    words: Callable[[Any], WordArray] | None = None
    head: Callable[[Any], tuple[list[float], list[int]]] | None = None
    events: Mapping[str, Callable[[Any, Log], Any]] = field(default_factory=dict)
