"""What the runners share: cycles in, answers out, timing. Only the standard library and no `mev_engine`:
it runs in the peer's environment."""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Cycle = dict[str, Any]
Hop = dict[str, Any]
PROGRESS_EVERY = 50


class RefusedError(Exception):
    """The peer can't take this cycle or hop; the message says why."""


@dataclass(frozen=True)
class Answer:
    """Raw units of the cycle's first token; all 0 where the peer finds no profit. seconds: of one solve."""

    amount_in: int
    amount_out: int
    seconds: float


@dataclass(frozen=True)
class Quote:
    """amount_out: raw units. seconds: of one quote."""

    amount_out: int
    seconds: float


def best_seconds(call: Callable[[], object], repeat: int, *, calls: int = 1) -> float:
    """Seconds of one call: the least of `repeat` rounds of `calls` calls, after one call to warm up.

    As in timeit, the garbage collector rests meanwhile.
    """
    call()
    best = float("inf")
    gc.collect()
    gc.disable()
    try:
        for _ in range(repeat):
            start = time.perf_counter()
            for _ in range(calls):
                call()
            best = min(best, (time.perf_counter() - start) / calls)
    finally:
        gc.enable()
    return best


def token_pair(hop: Hop) -> tuple[str, str]:
    """Addresses of token0 and token1."""
    pair = hop["token_in"], hop["token_out"]
    return pair if hop["zero_for_one"] else (pair[1], pair[0])


def decimals_pair(hop: Hop) -> tuple[int, int]:
    """Decimals of token0 and token1."""
    pair = hop["decimals_in"], hop["decimals_out"]
    return pair if hop["zero_for_one"] else (pair[1], pair[0])


def main(
    solve: Callable[[Cycle, int], Answer], quote: Callable[[Hop, int, int], Quote], description: str | None
) -> None:
    """Command line of a runner. solve(cycle, repeat), quote(hop, amount_in, repeat)."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cycles", type=Path, help="JSON lines: cycles, with --quote quotes")
    parser.add_argument("out", type=Path, help="JSON lines: answers")
    parser.add_argument("--repeat", type=int, default=5, help="rounds, the best counts (default: 5)")
    parser.add_argument("--quote", action="store_true", help="time quotes of one hop instead of cycles")
    args = parser.parse_args()
    with args.cycles.open() as lines, args.out.open("w") as out:
        for done, answer in enumerate(_answers(lines, solve, quote, args.repeat, quotes=args.quote), 1):
            out.write(json.dumps(answer) + "\n")
            if done % PROGRESS_EVERY == 0:
                print(f"{Path(sys.argv[0]).stem}: {done} done", file=sys.stderr, flush=True)


def _answers(
    lines: Iterable[str],
    solve: Callable[[Cycle, int], Answer],
    quote: Callable[[Hop, int, int], Quote],
    repeat: int,
    *,
    quotes: bool,
) -> Iterator[dict[str, Any]]:
    for line in lines:
        asked = json.loads(line)
        try:
            if quotes:
                quoted = quote(asked["hop"], int(asked["amount_in"]), repeat)
                yield {"id": asked["id"], "amount_out": str(quoted.amount_out), "seconds": quoted.seconds}
                continue
            answer = solve(asked, repeat)
        except RefusedError as reason:
            yield {"id": asked["id"], "refused": str(reason)}
            continue
        yield {
            "id": asked["id"],
            "amount_in": str(answer.amount_in),
            "amount_out": str(answer.amount_out),
            "profit": str(answer.amount_out - answer.amount_in),
            "seconds": answer.seconds,
        }
