"""Split trades: one base amount through several pools side by side, proposed in floats, decided in integers.

`detect.dual` proposes trades, in float64 and blind to gas; here they become something that can be carried
out. First legs whose gas is more than they add are taken out, and flows in a circle that the base token
is not on are broken, since nothing could start them; each time the rest is solved anew. Then the flow
becomes swaps in an order in which every input is there before it is needed: what has arrived of a token
is split over the pools that it goes on to by integer shares, the last and biggest takes the rest, so no
unit is left over. What the pools' exact integers give for that is the result.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mev_engine.detect.dual import Flow, Network
from mev_engine.detect.exact import Hop
from mev_engine.market.book import Book
from mev_engine.types import FlagArray, FloatArray, IndexArray, OffsetArray

_MAX_TRIALS = 16  # single legs that are left out, and that join, before a flow is taken for the best
_SHARE_BITS = 53


@dataclass(frozen=True, slots=True)
class Split:
    """Swaps in the order of execution, by number of the book's edges; raw units, exact. `gross`: raw base
    units, more than 0. `bound`: what no trade through the legs that were kept can gain (float64)."""

    edges: tuple[int, ...]
    amounts_in: tuple[int, ...]
    amounts_out: tuple[int, ...]
    gross: int
    bound: float


def best_split(
    book: Book,
    edge_token: IndexArray,
    legs: IndexArray,
    base: int,
    *,
    gas: FloatArray | OffsetArray,
    fixed: float,
) -> tuple[Split | None, str]:
    """The best split trade found through these legs of a book, or None and the reason.

    `edge_token`: int32, the token that each of the book's edges pays in; `base`: number of the token that the
    trade starts and ends with. `gas`: a swap's cost by family code, and `fixed`: that of the transaction
    (both raw base units). Legs without a way to the base token and back are left out. ValueError if two
    legs are of one pool.
    """
    tokens = [base, *(t for t in dict.fromkeys(_ends(edge_token, legs).ravel().tolist()) if t != base)]
    number = {token: n for n, token in enumerate(tokens)}
    ends = np.array([[number[t] for t in pair] for pair in _ends(edge_token, legs).tolist()], np.int32)
    network = Network(book, legs, ends.reshape(-1, 2))
    flow = _worth_their_gas(network, np.asarray(gas, np.float64)[book.code[book.leg_pool[legs]]], fixed)
    order = _order(network, flow)
    if order is None:
        return None, "no flow gains more than its gas"
    if len({ends[n, flow.edges[n] & 1] for n in order}) == len(order):
        return None, "nothing to split: a single cycle is best"
    return _execute(network, flow, order)


def _ends(edge_token: IndexArray, legs: IndexArray) -> NDArray[np.int32]:
    """int32 (legs, 2): the tokens that the edges 2k and 2k + 1 pay in."""
    return np.stack([edge_token[2 * legs], edge_token[2 * legs + 1]], axis=1)


# --- The proposal ------------------------------------------------------------------------------------


def _worth_their_gas(network: Network, gas: FloatArray, fixed: float) -> Flow:
    """The flow that no leg can leave or join for more net profit, as far as the trials show."""

    def net(flow: Flow) -> float:
        return flow.bound - fixed - float(gas[flow.edges >= 0].sum())

    flow = _acyclic(network, np.ones(len(network.legs), np.bool_), None)
    while True:
        for alive in _trials(network, flow, gas):
            other = _acyclic(network, alive, flow.log_price)
            if net(other) > net(flow):
                flow = other
                break
        else:
            return flow


def _trials(network: Network, flow: Flow, gas: FloatArray) -> Iterator[FlagArray]:
    """Other sets of legs that may be worth more after gas.

    What a leg gains at the flow's prices bounds from below what is lost without it, and from above
    what is won by its joining: the others need no trial. Those go first that are estimated to lose most,
    all of them together, then fewer, then one by one."""
    used = flow.edges >= 0
    leave = np.flatnonzero(used & (flow.gain < gas))
    margin = (network.losses(flow) - gas)[leave]
    leave = leave[np.argsort(margin)]
    many = int(np.count_nonzero(margin < 0.0))
    while many > 1:
        yield used & ~_flags(leave[:many], len(used))
        many //= 4
    for n in leave[:_MAX_TRIALS]:
        yield used & ~_flags(n, len(used))
    margin = np.where(used, -np.inf, network.gains(flow.log_price) - gas)
    for n in np.argsort(-margin)[:_MAX_TRIALS]:
        if margin[n] > 0.0:
            yield used | _flags(n, len(used))


def _flags(where: NDArray[np.intp] | np.intp, size: int) -> FlagArray:
    result = np.zeros(size, np.bool_)
    result[where] = True
    return result


def _acyclic(network: Network, alive: FlagArray, log_price: FloatArray | None) -> Flow:
    """The best flow without circles that miss the base token: of each, the leg of least value goes."""
    alive = alive.copy()
    while True:
        flow = network.solve(alive, log_price)
        circle = _circle(network, flow)
        if not circle:
            return flow
        value = np.exp(flow.log_price[_pays(network, flow)]) * flow.x
        alive[min(circle, key=lambda n: value[n])] = False
        log_price = flow.log_price


def _pays(network: Network, flow: Flow) -> IndexArray:
    """The token that each leg pays in; of a leg that does not trade, any."""
    return network.ends[np.arange(len(network.legs)), np.where(flow.edges >= 0, flow.edges & 1, 0)]


def _outgoing(network: Network, flow: Flow) -> dict[int, list[int]]:
    """Trading legs by the token that they pay in, the smallest trades first."""
    result: dict[int, list[int]] = {}
    for n in np.argsort(flow.x):
        if flow.edges[n] >= 0:
            result.setdefault(int(network.ends[n, flow.edges[n] & 1]), []).append(int(n))
    return result


def _target(network: Network, flow: Flow, n: int) -> int:
    return int(network.ends[n, 1 - (flow.edges[n] & 1)])


def _circle(network: Network, flow: Flow) -> list[int]:
    """Legs of a circle that misses the base token; empty if there is none."""
    outgoing, done = _outgoing(network, flow), {0}
    for start in outgoing:
        path: list[int] = []  # legs from `start` on
        on_path = {start: 0}
        waiting = [iter(outgoing.get(start, ()) if start not in done else ())]
        while waiting:
            n = next(waiting[-1], None)
            if n is None:
                waiting.pop()
                if path:
                    token = _target(network, flow, path.pop())
                    del on_path[token]
                    done.add(token)
                continue
            token = _target(network, flow, n)
            if token in on_path:
                return [*path[on_path[token] :], n]
            if token not in done:
                path.append(n)
                on_path[token] = len(path)
                waiting.append(iter(outgoing.get(token, ())))
        done.add(start)
    return []


def _order(network: Network, flow: Flow) -> list[int] | None:
    """Legs in an order of execution, a token's side by side; None if the flow starts nowhere."""
    outgoing = _outgoing(network, flow)
    arrivals: dict[int, int] = {}
    for legs in outgoing.values():
        for n in legs:
            token = _target(network, flow, n)
            arrivals[token] = arrivals.get(token, 0) + 1
    order, ready = [], [0]
    while ready:
        for n in outgoing.get(ready.pop(), ()):
            order.append(n)
            token = _target(network, flow, n)
            arrivals[token] -= 1
            if token != 0 and not arrivals[token]:
                ready.append(token)
    return order or None


# --- The decision ------------------------------------------------------------------------------------


def _execute(network: Network, flow: Flow, order: Sequence[int]) -> tuple[Split | None, str]:
    """The flow in exact integers."""
    book, pays = network.book, _pays(network, flow).tolist()
    held = [0] * network.n_tokens  # what has arrived and has not been paid in
    weight = [0.0] * network.n_tokens  # of the legs that it still goes to
    for n in order:
        weight[pays[n]] += float(flow.x[n])
    edges, paid, got, spent = [], [], [], 0
    for position, n in enumerate(order):
        edge, token, x = int(flow.edges[n]), pays[n], float(flow.x[n])
        if token == 0:
            amount = round(x)
        elif position + 1 == len(order) or pays[order[position + 1]] != token:
            amount = held[token]
        else:
            amount = held[token] * int(math.ldexp(min(x / weight[token], 1.0), _SHARE_BITS)) >> _SHARE_BITS
        if not amount:
            continue
        hop = _hop(book, edge)
        out = hop.quote(amount)
        if token == 0 and out:
            amount, out = _cheaper(hop, amount, out)
        if not out:
            return None, f"pool {book.leg_pool[edge >> 1]} pays nothing for {amount}"
        if token == 0:
            spent += amount
        else:
            held[token] -= amount
            weight[token] -= x
        held[_target(network, flow, n)] += out
        edges.append(edge)
        paid.append(amount)
        got.append(out)
    if any(held[1:]):
        return None, "the flow found leaves tokens over"
    if held[0] <= spent:
        return None, "in whole units nothing is gained"
    return Split(tuple(edges), tuple(paid), tuple(got), held[0] - spent, flow.bound), ""


def _cheaper(hop: Hop, amount: int, out: int) -> tuple[int, int]:
    """The least input known to buy as much: what only rounds away is not paid in."""
    least = hop.least(out)
    if 0 < least < amount:
        again = hop.quote(least)
        if again >= out:
            return least, again
    return amount, out


def _hop(book: Book, edge: int) -> Hop:
    leg = edge >> 1
    i, j = int(book.leg_i[leg]), int(book.leg_j[leg])
    state: Any = book.states[book.leg_pool[leg]]
    return Hop(state, j, i) if edge & 1 else Hop(state, i, j)
