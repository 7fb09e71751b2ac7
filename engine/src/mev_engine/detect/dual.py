"""The best flow through many pools at once, in float64, by dual decomposition.

Wanted: the trade of every pool that together gain most of a base token and use up no other one. Give
every token a price nu (base 1). At given prices the pools no longer depend on one another: each trades
until its marginal rate meets the ratio of prices, `dy/dx = nu_in / nu_out`, in closed form where it is
one Moebius map, else by the steps of `detect.walk`. What they gain together, `sum nu_out*y - nu_in*x`, is
convex in the prices and an upper bound of every feasible trade; at its minimum no token is left over.
Source: Diamandis, Resnick, Chitra, Angeris, "An Efficient Algorithm for Optimal Routing Through Constant
Function Market Makers" (2023), where L-BFGS-B finds the minimum. Here curvature comes with every answer:
in log prices a pool moves its trade by `nu_in / (2c)` (value, for a change of the ratio by 1), so the
Hessian is the Laplacian of a network with these conductances, and Newton's steps are damped (Levenberg,
Marquardt) as pools start and stop to trade.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mev_engine.amm import registry
from mev_engine.jit import helper, kernel
from mev_engine.market.book import Book
from mev_engine.types import FlagArray, FloatArray, IndexArray, OffsetArray

BALANCED = 1e-9
"""Of the value traded: what may be left over of a token. The gain that it costs is of second order."""
MAX_NEWTON = 100
_MAX_STEPS = 100
_CONVERGED = 1e-14
_LONGEST_STEP = 2.0  # in log price: beyond it a step is no more than a direction


@dataclass(frozen=True, slots=True)
class Flow:
    """Trades at one set of prices; values are raw base units.

    By leg: `edges` (int32), the edge that it trades along, -1 where it does not; `x` and `y` (float64), raw
    units in and out; `gain`, what it gains at these prices; `conductance`, by how much the value that it
    trades follows the ratio of prices. `log_price`: float64 (tokens,); `laplacian`: float64 (tokens, tokens).
    `bound`: no trade through these legs can gain more. `balanced`: no token is left over (`BALANCED`)."""

    edges: IndexArray
    x: FloatArray
    y: FloatArray
    gain: FloatArray
    log_price: FloatArray
    conductance: FloatArray
    laplacian: NDArray[np.float64]
    bound: float
    balanced: bool


class Network:
    """Legs between tokens numbered from 0, the base token. No two legs may be of one pool: each would
    trade as if the other did not."""

    def __init__(self, book: Book, legs: IndexArray, ends: NDArray[np.int32]) -> None:
        """`ends`: int32 (legs, 2), the tokens that a leg's edges 2k and 2k + 1 pay in. ValueError if two
        legs are of one pool."""
        pools = book.leg_pool[legs]
        if len(np.unique(pools)) < len(pools):
            raise ValueError("legs has two of one pool: keep one of them")
        self.book = book
        self.legs = np.ascontiguousarray(legs, dtype=np.int32)
        self.ends = np.ascontiguousarray(ends, dtype=np.int32)
        self.n_tokens = int(ends.max(initial=0)) + 1

    def solve(self, alive: FlagArray, log_price: FloatArray | None = None) -> Flow:
        """The best flow through the legs that are `alive`; `log_price`: where to start from."""
        alive = alive.copy()
        prune(self.ends, alive, self.n_tokens)
        search = _Search(self, alive, self._mid_prices(alive) if log_price is None else log_price)
        wall = np.diag(1e-2 * np.diag(search.laplacian))
        for _ in range(MAX_NEWTON):
            if search.balanced:
                break
            step, expected = search.step(wall)
            other = _Search(self, alive, search.log_price + step)
            # near the minimum the gain in value drowns in rounding
            noise = 1e-15 * search.traded
            ratio = (search.bound - other.bound + noise) / (expected + noise)
            # a step too far has met pools, or ranges, that hold the prices back: keep away from them alone
            wall = wall / 8 if ratio > 0.75 else 2 * wall if ratio > 0.25 else 4 * wall + other.laplacian
            if ratio > 1e-4:
                search = other
        return Flow(
            search.edges, search.x, search.y, search.gain, search.log_price, search.conductance,
            search.laplacian, search.bound, search.balanced,
        )  # fmt: skip

    def gains(self, log_price: FloatArray) -> FloatArray:
        """What each leg would gain at these prices, raw base units: at those of a flow that it is not in, the
        most that it can add to it."""
        return _Search(self, np.ones(len(self.legs), np.bool_), log_price).gain

    def losses(self, flow: Flow) -> FloatArray:
        """What the flow would gain less without each of its legs, raw base units, to second order.

        Without a leg its trade must find another way between its ends: its gain is lost, and half its
        value squared times the resistance of the rest, which by Sherman and Morrison's formula is
        `R / (1 - w*R)`, R being that of the whole network and w the leg's own conductance."""
        inverse = np.zeros_like(flow.laplacian)
        free = flow.laplacian[1:, 1:]
        inverse[1:, 1:] = _solved(free, np.eye(len(free)))
        a, b = self.ends.T
        resistance = inverse[a, a] + inverse[b, b] - 2.0 * inverse[a, b]
        pays = np.where(flow.edges & 1, b, a)
        value = np.exp(flow.log_price[pays]) * flow.x
        rest = np.maximum(1.0 - flow.conductance * resistance, 1e-12)
        return flow.gain + 0.5 * value**2 * resistance / rest

    def _mid_prices(self, alive: FlagArray) -> FloatArray:
        """Log prices that fit the pools' mid prices best, the deep ones' above all."""
        book, log_price = self.book, np.zeros(self.n_tokens)
        legs, (a, b) = self.legs[alive], self.ends[alive].T
        there, back = book.log_rate[2 * legs], book.log_rate[2 * legs + 1]
        priced = np.isfinite(there) & np.isfinite(back) & (book.curve[2 * legs] > 0.0)
        legs, a, b, mid = legs[priced], a[priced], b[priced], 0.5 * (there - back)[priced]
        weight = np.ones(len(legs))
        for _ in range(2):
            matrix, right = np.zeros((self.n_tokens, self.n_tokens)), np.zeros(self.n_tokens)
            for row, column, sign in ((a, a, 1.0), (b, b, 1.0), (a, b, -1.0), (b, a, -1.0)):
                np.add.at(matrix, (row, column), sign * weight)
            np.add.at(right, a, weight * mid)
            np.add.at(right, b, -weight * mid)
            log_price[1:] = _solved(matrix[1:, 1:], right[1:, None])[:, 0]
            weight = np.exp(log_price[a] - log_price[a].max(initial=0.0)) / book.curve[2 * legs]
        return log_price


class _Search:
    """Everything about one set of prices."""

    def __init__(self, network: Network, alive: FlagArray, log_price: FloatArray) -> None:
        book, n = network.book, len(network.legs)
        self.log_price = log_price
        self.edges = np.empty(n, np.int32)
        self.x, self.y, self.gain, self.conductance = (np.empty(n) for _ in range(4))
        self._left = np.zeros(network.n_tokens)
        self.laplacian = np.zeros((network.n_tokens, network.n_tokens))
        self.traded = trade(
            network.legs, network.ends, alive, np.exp(log_price), book.leg_pool, book.leg_i, book.leg_j,
            book.code, book.params_at, book.params, book.slope,
            self.edges, self.x, self.y, self.gain, self.conductance, self._left, self.laplacian,
        )  # fmt: skip
        self.bound = float(self.gain.sum())
        self.balanced = bool(np.abs(self._left[1:]).max(initial=0.0) <= BALANCED * self.traded)

    def step(self, wall: NDArray[np.float64]) -> tuple[FloatArray, float]:
        """A step in log prices, and by how much it should lower the bound."""
        left, laplacian = self._left[1:], self.laplacian[1:, 1:]
        step = np.zeros(len(self._left))
        step[1:] = free = _solved(laplacian + wall[1:, 1:], -left[:, None])[:, 0]
        longest = float(np.abs(free).max())
        if longest > _LONGEST_STEP:
            step *= _LONGEST_STEP / longest
        free = step[1:]
        return step, float(-left @ free - 0.5 * free @ laplacian @ free)


def _solved(matrix: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """X with `matrix @ X = right`, float64 (n, m). What nothing ties to the base is held by a hair."""
    diagonal = np.diag(matrix)
    matrix = matrix + 1e-12 * (diagonal.max(initial=0.0) or 1.0) * np.eye(len(matrix))
    result = np.ascontiguousarray(right.T)
    solve_symmetric(matrix, result)
    return result.T


@kernel("void(float64[:, ::1], float64[:, ::1])", fastmath={"reassoc", "contract"})
def solve_symmetric(matrix: NDArray[np.float64], rows: NDArray[np.float64]) -> None:
    """Replace each row b by `matrix**-1 @ b`. Cholesky's factor replaces the lower half of `matrix`.

    Not LAPACK's: its threads take more than they give at this size, where cores are shared most of all,
    and its last digits follow their number."""
    n = matrix.shape[0]
    for i in range(n):
        for j in range(i + 1):
            rest = matrix[i, j]
            for k in range(j):
                rest -= matrix[i, k] * matrix[j, k]
            matrix[i, j] = math.sqrt(max(rest, 1e-300)) if i == j else rest / matrix[j, j]
    for b in rows:
        for i in range(n):
            for k in range(i):
                b[i] -= matrix[i, k] * b[k]
            b[i] /= matrix[i, i]
        for i in range(n - 1, -1, -1):
            b[i] /= matrix[i, i]
            for k in range(i):
                b[k] -= matrix[i, k] * b[i]


@helper
def best_at(
    code: int, params: Any, at: int, i: int, j: int, rate: float, x: float
) -> tuple[float, float, float]:
    """(x, y, c) where a pool's dy/dx is `rate`, sought from x on; dy/dx at 0 must be above it."""
    low, high = 0.0, np.inf
    y, curve = 0.0, 0.0
    for _ in range(_MAX_STEPS):
        y, slope, curve = registry.respond(code, params, at, i, j, x)
        if abs(slope - rate) <= _CONVERGED * rate:
            break
        if slope > rate:
            low = x
        else:
            high = x
        best = x + (math.sqrt(slope / rate) - 1.0) / curve if slope > 0.0 and curve > 0.0 else np.inf
        if not (low < best < high):
            best = 0.5 * (low + high) if high < np.inf else 2.0 * x + 1.0
        if abs(best - x) <= _CONVERGED * x:
            break
        x = best
    return x, y, curve


@kernel(
    "float64(int32[::1], int32[:, ::1], boolean[::1], float64[::1], int32[::1], int32[::1], int32[::1], "
    "int32[::1], int64[::1], float64[::1], float64[::1], int32[::1], float64[::1], float64[::1], "
    "float64[::1], float64[::1], float64[::1], float64[:, ::1])"
)
def trade(
    legs: IndexArray,
    ends: NDArray[np.int32],
    alive: FlagArray,
    price: FloatArray,
    leg_pool: IndexArray,
    leg_i: IndexArray,
    leg_j: IndexArray,
    code: IndexArray,
    params_at: OffsetArray,
    params: FloatArray,
    slope: FloatArray,
    edges: IndexArray,
    x: FloatArray,
    y: FloatArray,
    gain: FloatArray,
    conductance: FloatArray,
    left: FloatArray,
    laplacian: NDArray[np.float64],
) -> float:
    """Every leg's best trade at these prices, into the arrays of a `Flow`; adds to `left` the value of
    what is left over of each token, the dual's gradient in log prices, and to `laplacian` its Hessian.
    Returns the value traded, raw base units."""
    traded = 0.0
    for n in range(legs.size):
        edges[n], x[n], y[n], gain[n], conductance[n] = -1, 0.0, 0.0, 0.0, 0.0
        if not alive[n]:
            continue
        k = legs[n]
        p = leg_pool[k]
        for back in range(2):
            a, b = ends[n, back], ends[n, 1 - back]
            rate = price[a] / price[b]
            if not slope[2 * k + back] > rate:
                continue
            i, j = (leg_j[k], leg_i[k]) if back else (leg_i[k], leg_j[k])
            u, v, curve = best_at(code[p], params, params_at[p], i, j, rate, 0.0)
            paid, got = price[a] * u, price[b] * v
            if not (u > 0.0 and got > paid):
                continue
            edges[n], x[n], y[n], gain[n] = 2 * k + back, u, v, got - paid
            traded += paid
            left[a] -= paid
            left[b] += got
            # a stretch without curvature would be a conductor without resistance
            w = conductance[n] = 0.5 * price[a] / max(curve, 1e-9 / u)
            laplacian[a, a] += w
            laplacian[b, b] += w
            laplacian[a, b] -= w
            laplacian[b, a] -= w
            break
    return traded


@kernel("void(int32[:, ::1], boolean[::1], int64)")
def prune(ends: NDArray[np.int32], alive: FlagArray, n_tokens: int) -> None:
    """Leave alive only what may carry a flow: legs that the base token reaches and that are no dead end."""
    reached = np.zeros(n_tokens, np.bool_)
    reached[0] = True
    changed = True
    while changed:
        changed = False
        for n in range(alive.size):
            a, b = ends[n, 0], ends[n, 1]
            if alive[n] and reached[a] != reached[b]:
                reached[a] = reached[b] = changed = True
    degree = np.zeros(n_tokens, np.int64)
    for n in range(alive.size):
        alive[n] &= reached[ends[n, 0]]
        if alive[n]:
            degree[ends[n, 0]] += 1
            degree[ends[n, 1]] += 1
    changed = True
    while changed:
        changed = False
        for n in range(alive.size):
            a, b = ends[n, 0], ends[n, 1]
            if alive[n] and ((a != 0 and degree[a] == 1) or (b != 0 and degree[b] == 1)):
                alive[n], changed = False, True
                degree[a] -= 1
                degree[b] -= 1
