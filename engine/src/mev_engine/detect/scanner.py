"""Screen, size, verify exactly, take off gas, rank: one scan of a block."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import numpy as np

from mev_engine.amm.uniswap_v2 import V2Pair
from mev_engine.detect import kernels, settle, walk
from mev_engine.detect.exact import EMITTED, FAST, Effort, Hop, best_amounts
from mev_engine.detect.gas import GasModel
from mev_engine.detect.opportunity import STRATEGY, Opportunity, opportunity_id
from mev_engine.detect.reach import Reach
from mev_engine.detect.selection import conflicts
from mev_engine.market.delta import BlockRef
from mev_engine.market.market import Market
from mev_engine.market.tables import LoopTable
from mev_engine.types import FloatArray, IndexArray, OffsetArray
from mev_engine.wide import integer


@dataclass(frozen=True, slots=True)
class ScanResult:
    """`opportunities`: net profit above the floor, best first. `cycles_touched` counts the cycles through
    touched pools (one through several of them each time), `cycles_screened` those of them tested one by one,
    as their legs may gain (`detect.reach`), both counting both directions of a loop, `cycles_passed` those
    that gain at the margin. `seconds`: wall time.

    When asked for, `unprofitable` has those that gain before gas and fall short of the floor after
    it, best first, and `unsettled` counts the cycles left out of it, none of which can reach the
    floor but for the `deferred` ones: a block has offered more than `Scanner.most`.
    `unpriced`: base tokens without an active pool to the wrapped native coin in this block,
    whose cycles are therefore among the unsettled."""

    opportunities: tuple[Opportunity, ...]
    cycles_screened: int
    cycles_passed: int
    seconds: float
    unprofitable: tuple[Opportunity, ...] = ()
    unsettled: int = 0
    unpriced: tuple[str, ...] = ()
    cycles_touched: int = 0
    deferred: int = 0


@dataclass(frozen=True, slots=True)
class _Price:
    """Native wei for a base token's raw unit, as the exact ratio `numerator / denominator`."""

    numerator: int
    denominator: int


@dataclass(frozen=True, slots=True)
class _SizedHits:
    """Hits of one loop table with their best inputs (raw base units) and the most that each can be
    worth over gas and floor (wei; -inf without a price)."""

    table: LoopTable
    hits: IndexArray
    amount: FloatArray
    worth: FloatArray


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A verified trade, and where it came from. `net` is wei after gas. Sorts best first."""

    net: int
    edges: list[int]
    amounts: tuple[int, ...]
    gas_units: int
    table: LoopTable
    hit: int
    start: float

    def __lt__(self, other: _Candidate) -> bool:
        return (-self.net, self.edges) < (-other.net, other.edges)


class Scanner:
    """Finds opportunities in a market. Keeps no state between blocks but its scratch memory."""

    def __init__(
        self,
        market: Market,
        *,
        chain_id: int,
        gas: GasModel,
        min_profit: int,
        refined: int = 8,
        most: int = 128,
    ) -> None:
        """`min_profit`: wei of the native coin after gas; only what is above it is emitted. `refined`: how
        many of a block's best are searched once more, with more effort (`exact.EMITTED`). `most`: how many
        cycles of a block are settled at most, the most promising first; those beyond are counted as
        `deferred`."""
        self.most = most
        self.refined = refined
        self.market = market
        self.chain_id = chain_id
        self.gas = gas
        self.min_profit = min_profit
        self._index = market.cycles
        self._stamps: list[IndexArray] = []
        self._generation = 0
        self._native_edges: dict[str, list[int]] = {}
        self._gas_of_code = gas.by_code()
        self._fit()

    def scan(self, block: BlockRef, touched: IndexArray, *, unprofitable: int = 0) -> ScanResult:
        """Opportunities among the cycles through `touched` pools (what `Market.apply` returned).

        `unprofitable`: settle as many of the cycles that can't pay for gas too, the most promising first.
        """
        started = time.perf_counter()
        if self._index is not self.market.cycles:
            self._fit()
        self._generation += 1
        log_rate = self.market.book.log_rate
        legs = self.market.book.legs_of(touched)
        there = sum(int((t.leg_offsets[legs + 1] - t.leg_offsets[legs]).sum()) for t in self._index.tables)
        legs = self._reach.promising(legs, log_rate)
        found = [
            kernels.screen_touched(
                legs, t.leg_offsets, t.leg_loops, t.edges, log_rate, stamp, self._generation
            )
            for t, stamp in zip(self._index.tables, self._stamps, strict=True)
        ]
        screened = 2 * sum(count for count, _ in found)
        result = self._finish(block, screened, [hits for _, hits in found], unprofitable, started)
        return replace(result, cycles_touched=2 * there)

    def scan_all(self, block: BlockRef, *, unprofitable: int = 0) -> ScanResult:
        """Opportunities among all cycles; `unprofitable` as for `scan`."""
        started = time.perf_counter()
        if self._index is not self.market.cycles:
            self._fit()
        found = [kernels.screen_all(t.edges, self.market.book.log_rate) for t in self._index.tables]
        return self._finish(block, self._index.n_cycles, found, unprofitable, started)

    def _fit(self) -> None:
        """Scratch memory and price sources for the market's present index."""
        kept = {id(t): stamp for t, stamp in zip(self._index.tables, self._stamps, strict=False)}
        self._index = self.market.cycles
        self._stamps = [
            kept[id(t)] if id(t) in kept else np.zeros(len(t.edges), dtype=np.int32)
            for t in self._index.tables
        ]
        bases = [self.market.token_index[base] for base in self.market.base_tokens]
        self._reach = Reach.of(self._index, self.market.edge_token, bases)
        self._native_edges = {base: self.market.native_edges(base) for base in self.market.base_tokens}

    def _finish(
        self, block: BlockRef, screened: int, hits: list[IndexArray], unprofitable: int, started: float
    ) -> ScanResult:
        prices = {base: self._price(base) for base in self.market.base_tokens}
        sized = [
            self._size(block, table, table_hits, prices, pruned=not unprofitable)
            for table, table_hits in zip(self._index.tables, hits, strict=True)
        ]
        worth = np.concatenate([s.worth for s in sized])  # upper bound of net profit over the floor, wei
        least = _least_worth(worth, unprofitable)
        deferred = int(np.count_nonzero(worth >= 0.0)) - self.most
        if deferred > 0:
            least = float(np.partition(worth, -self.most)[-self.most])
        found = sorted(c for s in sized for c in self._settle(block, s, least, prices))
        first = found[: self.refined]
        found[: len(first)] = [self._refined(block, candidate, prices) for candidate in first]
        found.sort()
        profitable = sum(c.net > self.min_profit for c in found)
        opportunities = self._ranked(block, found[:profitable])
        rest = found[profitable:] if unprofitable else []
        others = [
            replace(o, rank=o.rank + profitable, conflicts_with=None) for o in self._ranked(block, rest)
        ]
        return ScanResult(
            opportunities=tuple(opportunities),
            cycles_screened=screened,
            cycles_passed=len(worth),
            seconds=time.perf_counter() - started,
            unprofitable=tuple(others),
            unsettled=int(np.count_nonzero(worth < least)),
            deferred=max(deferred, 0),
            unpriced=tuple(base for base, price in prices.items() if price is None),
        )

    def _ranked(self, block: BlockRef, found: list[_Candidate]) -> list[Opportunity]:
        """Opportunities with ranks, and what each conflicts with; `found` is sorted."""
        paths = [self._path(candidate.edges) for candidate in found]
        ids = [opportunity_id(self.chain_id, block.hash, *path) for path in paths]
        rivals = conflicts([pools for _tokens, pools in paths], [candidate.net for candidate in found])
        return [
            self._opportunity(block, candidate, path, rank, own, None if rival is None else ids[rival])
            for rank, (candidate, path, own, rival) in enumerate(
                zip(found, paths, ids, rivals, strict=True), start=1
            )
        ]

    def _price(self, base: str) -> _Price | None:
        """Mid price of the deepest direct pool to the native coin; None if none of them is active."""
        if base == self.market.wrapped_native:
            return _Price(1, 1)
        book, best, depth = self.market.book, None, 0.0
        for edge in self._native_edges[base]:
            if not book.curve[edge] > 0.0:
                continue
            reserve = float(book.slope[edge] / book.curve[edge])  # of the native coin, real or virtual
            if reserve > depth:
                best, depth = edge, reserve
        return None if best is None else self._mid_price(best)

    def _mid_price(self, edge: int) -> _Price:
        """Native wei for a unit of what the edge pays in: exact for pairs, else as float64 has it."""
        book = self.market.book
        state = book.states[book.leg_pool[edge >> 1]]
        if isinstance(state, V2Pair):
            other, native, _num, _den = state.side(edge & 1)
            return _Price(native, other)
        there, back = float(book.slope[edge]), float(book.slope[edge ^ 1])
        return _Price(*math.sqrt(there / back).as_integer_ratio())

    def _size(
        self,
        block: BlockRef,
        table: LoopTable,
        hits: IndexArray,
        prices: dict[str, _Price | None],
        *,
        pruned: bool,
    ) -> _SizedHits:
        """Inputs and bounds for the hits of one length, in float64; `pruned`: those that can't reach the
        floor need no input."""
        market, book = self.market, self.market.book
        amount, bound = np.empty(len(hits)), np.empty(len(hits))
        kernels.size_hits(hits, table.edges, book.slope, book.curve, amount, bound)
        value = self._native_values(prices)[market.edge_token[table.edges[hits >> 1, 0]]]
        legs = table.edges[hits >> 1] >> 1
        gas = self.gas.per_cycle + self._gas_of_code[book.code[book.leg_pool[legs]]].sum(axis=1)
        cost = gas * float(self.gas.price(block)) + float(self.min_profit)
        enough = (
            np.divide(cost, value, out=np.full(len(hits), np.inf), where=value > 0.0) if pruned else -cost
        )
        walk.size_others(
            hits, table.edges, book.slope, book.curve, enough, *self._book_arrays(), amount, bound
        )
        # the factor is far above the rounding of these few operations
        worth = bound * value * (1.0 + 1e-9) - cost
        worth[value == 0.0] = -np.inf  # no price
        return _SizedHits(table, hits, amount, worth)

    def _book_arrays(self) -> tuple[IndexArray, IndexArray, IndexArray, IndexArray, OffsetArray, FloatArray]:
        book = self.market.book
        return book.leg_pool, book.leg_i, book.leg_j, book.code, book.params_at, book.params

    def _settle(
        self, block: BlockRef, sized: _SizedHits, least: float, prices: dict[str, _Price | None]
    ) -> list[_Candidate]:
        """The exact optimum of every hit that may be worth `least` or more."""
        chosen = np.flatnonzero(sized.worth >= least)
        hits, start = sized.hits[chosen], sized.amount[chosen]
        found = self._best(sized.table, hits, start, FAST)
        return [
            self._candidate(block, sized.table, int(hit), float(at), amounts, prices)
            for hit, at, amounts in zip(hits, start, found, strict=True)
            if amounts is not None
        ]

    def _candidate(
        self,
        block: BlockRef,
        table: LoopTable,
        hit: int,
        start: float,
        amounts: tuple[int, ...],
        prices: dict[str, _Price | None],
    ) -> _Candidate:
        book, edges = self.market.book, _edges(table, hit)
        price = prices[self.market.tokens[self.market.edge_token[edges[0]]].address]
        assert price is not None  # noqa: S101  hits of unpriced bases have been left out
        codes = book.code[book.leg_pool[np.array(edges) >> 1]]
        units = self.gas.per_cycle + int(self._gas_of_code[codes].sum())
        gross = (amounts[-1] - amounts[0]) * price.numerator // price.denominator
        return _Candidate(gross - units * self.gas.price(block), edges, amounts, units, table, hit, start)

    def _refined(self, block: BlockRef, one: _Candidate, prices: dict[str, _Price | None]) -> _Candidate:
        """The same, searched with more effort."""
        hits, start = np.array([one.hit], np.int32), np.array([one.start])
        (amounts,) = self._best(one.table, hits, start, EMITTED)
        if amounts is None:
            return one
        return min(one, self._candidate(block, one.table, one.hit, one.start, amounts, prices))

    def _best(
        self, table: LoopTable, hits: IndexArray, start: FloatArray, effort: Effort
    ) -> list[tuple[int, ...] | None]:
        """Input and outputs of the best trade of each hit; None where nothing gains."""
        book = self.market.book
        words = np.zeros((len(hits), table.hops + 1, 4), np.uint64)
        outcome = np.empty(len(hits), np.int8)
        settle.settle(
            hits, table.edges, start, *effort, *self._book_arrays(), book.words_at, book.words, words, outcome
        )
        result: list[tuple[int, ...] | None] = [None] * len(hits)
        for n in np.flatnonzero(outcome != settle.NOTHING):
            if outcome[n] == settle.FOUND:
                result[n] = tuple(integer(limbs) for limbs in words[n].tolist())
            else:
                best = best_amounts(self._hops(_edges(table, int(hits[n]))), float(start[n]), effort)
                result[n] = None if best is None else best.amounts
        return result

    def _native_values(self, prices: dict[str, _Price | None]) -> FloatArray:
        """Native wei for one raw unit by token number; 0 where there is no price."""
        values = np.zeros(self.market.n_tokens)
        for base, price in prices.items():
            if price is not None:
                values[self.market.token_index[base]] = price.numerator / price.denominator
        return values

    def _hops(self, edges: list[int]) -> list[Hop]:
        book = self.market.book
        hops = []
        for edge in edges:
            leg = edge >> 1
            i, j = int(book.leg_i[leg]), int(book.leg_j[leg])
            state = book.states[book.leg_pool[leg]]
            hops.append(Hop(state, j, i) if edge & 1 else Hop(state, i, j))
        return hops

    def _path(self, edges: list[int]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Addresses of tokens (the first again at the end) and pools."""
        market, leg_pool = self.market, self.market.book.leg_pool
        tokens = [market.tokens[market.edge_token[edge]].address for edge in edges]
        return (*tokens, tokens[0]), tuple(market.pools[leg_pool[edge >> 1]].address for edge in edges)

    def _opportunity(
        self,
        block: BlockRef,
        candidate: _Candidate,
        path: tuple[tuple[str, ...], tuple[str, ...]],
        rank: int,
        own_id: str,
        conflicts_with: str | None,
    ) -> Opportunity:
        (tokens, pools), market = path, self.market
        gas_price = self.gas.price(block)
        return Opportunity(
            id=own_id,
            strategy=STRATEGY,
            block=block,
            tokens=tokens,
            symbols=tuple([market.tokens[market.token_index[token]].symbol for token in tokens]),
            pools=pools,
            amounts=candidate.amounts,
            gross_profit=candidate.amounts[-1] - candidate.amounts[0],
            gas_units=candidate.gas_units,
            gas_price=gas_price,
            gas_cost=candidate.gas_units * gas_price,
            net_profit=candidate.net,
            rank=rank,
            conflicts_with=conflicts_with,
        )


def _edges(table: LoopTable, hit: int) -> list[int]:
    """The edges of a hit in the order of the trade."""
    edges: list[int] = table.edges[hit >> 1].tolist()
    return [edge ^ 1 for edge in reversed(edges)] if hit & 1 else edges


def _least_worth(worth: FloatArray, unprofitable: int) -> float:
    """Cycles worth this much or more are settled: all that may reach the floor, and the best
    `unprofitable` of the others that have a price."""
    others = worth[(worth < 0.0) & np.isfinite(worth)]
    wanted = min(unprofitable, len(others))
    return float(np.partition(others, -wanted)[-wanted]) if wanted else 0.0
