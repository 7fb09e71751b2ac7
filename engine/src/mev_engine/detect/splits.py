"""Split trades: one base amount through several pools side by side, proposed in floats, decided in integers.

`detect.dual` proposes trades, in float64 and blind to gas; here they become something that can be carried
out. Legs whose gas is more than they add are taken out, and circles that the base token is not on and
that what comes from it can't start; each time the rest is solved anew. Then the flow becomes swaps in an
order in which every input is there before it is needed: what has arrived of a token is split over the
pools that it goes on to by integer shares, the last takes the rest, so no unit is left over.
What the pools' exact integers give for that is the result.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mev_engine.detect.dual import Flow, Network
from mev_engine.detect.exact import Hop
from mev_engine.market.book import Book
from mev_engine.types import FlagArray, FloatArray, IndexArray, OffsetArray

MAX_TRIALS = 500
"""Sets of legs that one split is sought among."""
_MAX_SINGLE = 16  # legs that are left out one by one, and that join, before a flow is taken for the best
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
    order, _stuck = _order(network, flow)
    if not order:
        return None, "no flow gains more than its gas"
    return _execute(network, flow, order)


def _ends(edge_token: IndexArray, legs: IndexArray) -> NDArray[np.int32]:
    """int32 (legs, 2): the tokens that the edges 2k and 2k + 1 pay in."""
    return np.stack([edge_token[2 * legs], edge_token[2 * legs + 1]], axis=1)


# --- The proposal ------------------------------------------------------------------------------------


def _worth_their_gas(network: Network, gas: FloatArray, fixed: float) -> Flow:
    """The flow that no leg can leave or join for more net profit, as far as `MAX_TRIALS` trials show."""

    def net(flow: Flow) -> float:
        return flow.bound - fixed - float(gas[flow.edges >= 0].sum())

    flow = _startable(network, np.ones(len(network.legs), np.bool_), None)
    left, better = MAX_TRIALS, True
    while better and left:
        better = False
        for alive in islice(_trials(network, flow, gas), left):
            left -= 1
            other = _startable(network, alive, flow.log_price)
            if net(other) > net(flow):
                flow, better = other, True
                break
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
    for n in leave[:_MAX_SINGLE]:
        yield used & ~_flags(n, len(used))
    margin = np.where(used, -np.inf, network.gains(flow.log_price) - gas)
    for n in np.argsort(-margin)[:_MAX_SINGLE]:
        if margin[n] > 0.0:
            yield used | _flags(n, len(used))


def _flags(where: NDArray[np.intp] | np.intp, size: int) -> FlagArray:
    result = np.zeros(size, np.bool_)
    result[where] = True
    return result


def _startable(network: Network, alive: FlagArray, log_price: FloatArray | None) -> Flow:
    """The best flow that has an order of execution: while there is none, a leg leaves a circle that stands
    in its way, the one estimated to be missed least."""
    alive = alive.copy()
    flow = network.solve(alive, log_price)
    while stuck := _order(network, flow)[1]:
        loss = network.losses(flow)
        alive[min(_circle(network, flow, stuck), key=lambda n: loss[n])] = False
        flow = network.solve(alive, flow.log_price)
    return flow


def _pays(network: Network, flow: Flow) -> IndexArray:
    """The token that each leg pays in; of a leg that does not trade, any."""
    return network.ends[np.arange(len(network.legs)), np.where(flow.edges >= 0, flow.edges & 1, 0)]


def _target(network: Network, flow: Flow, n: int) -> int:
    return int(network.ends[n, 1 - (flow.edges[n] & 1)])


def _order(network: Network, flow: Flow) -> tuple[list[int], dict[int, list[int]]]:
    """Trading legs in an order of execution, and by the token that they pay in those that have none.

    A token goes on when all of it has arrived, to the smallest trades first. Where every token left waits
    for another one, a leg may go ahead that what is there is enough for, if others are left for the rest."""
    left: dict[int, list[int]] = {}
    arrivals = [0] * network.n_tokens
    pays, targets = _pays(network, flow).tolist(), [0] * len(flow.edges)
    for n in np.argsort(flow.x).tolist():
        if flow.edges[n] >= 0:
            left.setdefault(pays[n], []).append(n)
            targets[n] = _target(network, flow, n)
            arrivals[targets[n]] += 1
    held = [0.0] * network.n_tokens
    order: list[int] = []
    ready = [0]
    while True:
        if ready:
            batch = left.pop(ready.pop(), [])
        else:
            batch = _ahead(left, targets, held, flow.x)
            if not batch:
                return order, left
        for n in batch:
            order.append(n)
            target = targets[n]
            held[pays[n]] -= float(flow.x[n])
            held[target] += float(flow.y[n])
            arrivals[target] -= 1
            if target != 0 and not arrivals[target]:
                ready.append(target)


def _ahead(
    left: dict[int, list[int]], targets: Sequence[int], held: Sequence[float], x: FloatArray
) -> list[int]:
    """A leg that can go before all of its token has arrived, taken out of `left`; those first whose
    output comes back."""

    def returns(n: int, token: int) -> bool:
        seen, waiting = set(), [targets[n]]
        while waiting:
            at = waiting.pop()
            if at == token:
                return True
            if at not in seen:
                seen.add(at)
                waiting += [targets[m] for m in left.get(at, ())]
        return False

    able = [(n, t) for t, legs in left.items() for n in legs if len(legs) > 1 and held[t] >= x[n]]
    if not able:
        return []
    n, token = next((pair for pair in able if returns(*pair)), able[0])
    left[token].remove(n)
    return [n]


def _circle(network: Network, flow: Flow, stuck: dict[int, list[int]]) -> list[int]:
    """Legs of a circle of tokens that wait for one another; the legs of a token that never arrives."""
    into: dict[int, tuple[int, int]] = {}
    for token, legs in stuck.items():
        for n in legs:
            into[_target(network, flow, n)] = n, token
    path: dict[int, int] = {}  # token -> the leg that it waits for
    token = next(iter(stuck))
    while token not in path:
        if token not in into:
            return stuck[token]
        path[token], token = into[token]
    return list(path.values())[list(path).index(token) :]


# --- The decision ------------------------------------------------------------------------------------


def _execute(network: Network, flow: Flow, order: Sequence[int]) -> tuple[Split | None, str]:
    """The flow in exact integers."""
    book, pays = network.book, _pays(network, flow).tolist()
    last = {pays[n]: n for n in order}
    held = [0] * network.n_tokens  # what has arrived and has not been paid in
    planned = [0.0] * network.n_tokens  # the same, of the flow
    edges, paid, got, spent = [], [], [], 0
    for n in order:
        edge, token, target, x = int(flow.edges[n]), pays[n], _target(network, flow, n), float(flow.x[n])
        if token == 0:
            amount = round(x)
        elif n == last[token]:
            amount = held[token]
        else:
            share = min(x / planned[token], 1.0)
            amount = held[token] * int(math.ldexp(share, _SHARE_BITS)) >> _SHARE_BITS
        planned[token] -= x
        planned[target] += float(flow.y[n])
        hop = _hop(book, edge)
        out = hop.quote(amount) if amount else 0
        if not out:
            continue  # it stays, for the token's last leg
        if token == 0:
            amount, out = _cheaper(hop, amount, out)
        if token == 0:
            spent += amount
        else:
            held[token] -= amount
        held[target] += out
        edges.append(edge)
        paid.append(amount)
        got.append(out)
    if len({pays[n] for n in order if flow.edges[n] in edges}) == len(edges):
        return None, "nothing to split: a single cycle is best"
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
