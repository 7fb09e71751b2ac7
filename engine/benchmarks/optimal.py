"""The best trade of a cycle, beside the peers: whose profit is higher, and who is faster.

    python -m optimal --count 2000        2,000 cycles of each kind and length, from engine/benchmarks

All solve the same random cycles (`peers.generate`). A peer's answer is its amount in; what that earns is
worked out with the contracts' exact integers, for it and for us. Profits are those of our thorough search,
which what is emitted gets; times are those of the fast one, which ranks a block's candidates: of a batch,
sizing and exact search together, divided by its cycles. A peer's time is that of its fastest entry point.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mev_engine.amm.errors import SwapRevertedError
from mev_engine.detect import kernels, settle, walk
from mev_engine.detect.exact import FAST, THOROUGH, Effort, Hop, best_amounts
from mev_engine.market.book import Book
from mev_engine.types import FloatArray, IndexArray
from mev_engine.wide import integer
from peers import environments, exact, generate
from peers.run import run

KINDS = ("v2", "v2-v3", "v2-v3-v4")
ROUNDS = 7


@dataclass(frozen=True, slots=True)
class Batch:
    """Cycles of one length as the scanner has them."""

    book: Book
    loops: IndexArray

    @classmethod
    def of(cls, cycles: Sequence[dict[str, Any]]) -> Batch:
        """Every pool is a pool of its own, with one leg."""
        book = Book()
        book.add([exact.state(hop) for cycle in cycles for hop in cycle["hops"]])
        hops = len(cycles[0]["hops"])
        legs = np.arange(len(cycles) * hops, dtype=np.int32).reshape(-1, hops)
        backwards = [[not hop["zero_for_one"] for hop in cycle["hops"]] for cycle in cycles]
        return cls(book, np.ascontiguousarray(2 * legs + np.array(backwards, np.int32)))

    def solve(self, effort: Effort) -> tuple[list[int], float]:
        """(profit of each cycle, 0 where none gains; seconds of all): what the scanner does with hits."""
        book, loops = self.book, self.loops
        rates: FloatArray = book.log_rate[loops].sum(axis=1)
        hits = (2 * np.flatnonzero(rates > 0.0)).astype(np.int32)
        amount, bound = np.empty(len(hits)), np.empty(len(hits))
        amounts = np.zeros((len(hits), loops.shape[1] + 1, 4), np.uint64)
        outcome, nothing = np.empty(len(hits), np.int8), np.zeros(len(hits))
        arrays = book.leg_pool, book.leg_i, book.leg_j, book.code, book.params_at, book.params
        started = time.perf_counter()
        kernels.size_hits(hits, loops, book.slope, book.curve, amount, bound)
        walk.size_others(hits, loops, book.slope, book.curve, nothing, *arrays, amount, bound)
        settle.settle(hits, loops, amount, *effort, *arrays, book.words_at, book.words, amounts, outcome)
        others = {int(n): self._in_python(int(hits[n] >> 1), amount[n]) for n in np.flatnonzero(outcome < 0)}
        seconds = time.perf_counter() - started
        profits = [0] * len(loops)
        for n in np.flatnonzero(outcome == settle.FOUND).tolist():
            profits[hits[n] >> 1] = integer(amounts[n, -1].tolist()) - integer(amounts[n, 0].tolist())
        for row, profit in others.items():
            profits[hits[row] >> 1] = profit
        return profits, seconds

    def _in_python(self, cycle: int, start: float) -> int:
        """A cycle with a family that has no integers in kernels."""
        hops = []
        for edge in self.loops[cycle].tolist():
            i, j = (1, 0) if edge & 1 else (0, 1)
            hops.append(Hop(self.book.states[self.book.leg_pool[edge >> 1]], i, j))
        best = best_amounts(hops, float(start))
        return 0 if best is None else best.profit


@dataclass(frozen=True, slots=True)
class Comparison:
    """One kind and length. ours, theirs: profits, cycle by cycle (raw units; None where refused).
    our_seconds: a cycle that gains; their_seconds: the median of those that gain by our account."""

    kind: str
    hops: int
    peer: str
    ours: list[int]
    theirs: list[int | None]
    our_seconds: float
    their_seconds: float

    @property
    def below(self) -> list[int]:
        """Cycles in which the peer earns more."""
        return [
            n for n, (a, b) in enumerate(zip(self.ours, self.theirs, strict=True)) if b is not None and b > a
        ]

    @property
    def above(self) -> int:
        """Cycles in which we earn more."""
        return sum(b is not None and a > b for a, b in zip(self.ours, self.theirs, strict=True))


def compare(
    kind: str, hops: int, count: int, seed: int, versions: Sequence[str], rounds: int
) -> list[Comparison]:
    """Solve `count` cycles with everybody. PeerUnavailableError where a peer can't be had."""
    cycles = list(generate.cycles(kind, count, seed, (hops,)))
    batch = Batch.of(cycles)
    ours, _ = batch.solve(THOROUGH)
    gaining = [n for n, profit in enumerate(ours) if profit > 0]
    result = []
    for version in versions:
        answers = _answers(version, cycles, rounds)
        # the peer's process is gone: what the machine does meanwhile slows both alike, if not at once
        seconds = min(batch.solve(FAST)[1] for _ in range(ROUNDS)) / max(len(gaining), 1)
        theirs = [_earned(cycle, answer) for cycle, answer in zip(cycles, answers, strict=True)]
        times = [answers[n]["seconds"] for n in gaining if "seconds" in answers[n]]
        their_seconds = statistics.median(times) if times else math.nan
        result.append(Comparison(kind, hops, version, ours, theirs, seconds, their_seconds))
    return result


def _answers(version: str, cycles: list[dict[str, Any]], rounds: int) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        asked, out = Path(folder) / "cycles.jsonl", Path(folder) / "answers.jsonl"
        asked.write_text("".join(json.dumps(cycle) + "\n" for cycle in cycles))
        # several times what 0.5.0 takes for a mixed cycle when it has a core to itself
        run(version, asked, out, repeat=rounds, timeout=max(1800, 10 * len(cycles)))
        return [json.loads(line) for line in out.read_text().splitlines()]


def _earned(cycle: dict[str, Any], answer: dict[str, Any]) -> int | None:
    """What the peer's amount in really earns; 0 where it does not trade, None where it refused."""
    if "refused" in answer:
        return None
    amount_in = int(answer["amount_in"])
    try:
        return max(exact.profit(cycle, amount_in), 0) if amount_in else 0
    except SwapRevertedError:
        return 0  # its trade would revert


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m optimal", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--count", type=int, default=1000, help="cycles of each kind and length (default: 1000)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="of a peer, the best counts (default: 3)")
    parser.add_argument("--seed", type=int, default=1, help="of the cycles (default: 1)")
    parser.add_argument(
        "--kind", action="append", choices=generate.KINDS, help=f"default: {', '.join(KINDS)}"
    )
    parser.add_argument(
        "--hops", type=int, action="append", choices=(2, 3, 4), help="default: 2 to 4, with V4 3 and 4"
    )
    parser.add_argument("--peer", action="append", choices=environments.PEERS, help="default: all")
    args = parser.parse_args()
    worse = 0
    for kind in args.kind or KINDS:
        for hops in args.hops or ((3, 4) if kind == "v2-v3-v4" else (2, 3, 4)):
            for one in compare(
                kind, hops, args.count, args.seed, args.peer or tuple(environments.PEERS), args.rounds
            ):
                worse += len(one.below)
                gain = sum(profit > 0 for profit in one.ours)
                print(
                    f"{kind:9} {hops} hops, degenbot {one.peer:8}: {len(one.ours)} cycles, {gain} gain; "
                    f"we earn more in {one.above}, less in {len(one.below)}; "
                    f"{one.our_seconds * 1e6:.2f} us against {one.their_seconds * 1e6:.1f}: "
                    f"{one.their_seconds / one.our_seconds:.1f} times faster"
                )
                for n in one.below[:5]:
                    print(f"    cycle {n}: {one.ours[n]} against {one.theirs[n]}", file=sys.stderr)
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
