"""`mev-engine bench`: the hot loops beside the same loops in C, and the cost of a block."""

from __future__ import annotations

import argparse
import ctypes
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from mev_engine.detect import GasModel, Scanner, kernels
from mev_engine.market import BlockDelta, BlockRef, Market, ReserveUpdate, TokenSpec, pair_spec
from mev_engine.types import FloatArray, IndexArray, LoopArray

C_FLAGS = ("-O3", "-march=native", "-ffast-math", "-fPIC")
BLOCK = BlockRef(0, "0x0", "0x0", 0, 10**9)
EPILOG = """\
examples:
  mev-engine bench
  mev-engine bench --cycles 4000000 --pools 100000 --hops 4
  taskset -c 1 mev-engine bench        # on a machine that does other work

The engine stores a cycle and its reverse as one loop and screens both at once; the times are a
cycle's, so half a loop's. Numba and C take turns in one process on the same arrays; the ratio is of
the minima, which other work on the machine disturbs least. C needs a compiler (Debian: apt install
gcc libc6-dev); without it its columns are empty.
"""


class Arrays(NamedTuple):
    """Random loops over random pools: sizes as on a chain, but no structure that a cache could like."""

    loops: LoopArray
    hits: IndexArray
    slope: FloatArray
    curve: FloatArray
    log_rate: FloatArray


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    parser.add_argument(
        "--cycles", type=positive, default=1_000_000, metavar="N", help="cycles (default 1,000,000)"
    )
    parser.add_argument("--pools", type=positive, default=20_000, metavar="N", help="pools (default 20,000)")
    parser.add_argument("--hops", type=int, choices=(2, 3, 4), default=3, help="hops a cycle (default 3)")
    parser.add_argument("--repeat", type=positive, default=15, metavar="N", help="repetitions (default 15)")
    parser.add_argument("--blocks", type=positive, default=50, metavar="N", help="blocks a row (default 50)")
    parser.add_argument("--seed", type=int, default=1, help="of the random numbers (default 1)")


def run(args: argparse.Namespace) -> int:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    rng = np.random.default_rng(args.seed)
    console.print(
        f"{args.cycles:,} cycles of {args.hops} hops over {args.pools:,} pools, {args.repeat} repetitions"
    )
    beside_c(console, random_arrays(rng, -(-args.cycles // 2), args.pools, args.hops), args.repeat)
    _blocks(console, rng, args.pools, args.blocks)
    return 0


def positive(text: str) -> int:
    """An integer of 1 or more, as argparse wants it."""
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer of 1 or more")
    return int(text)


def random_arrays(rng: np.random.Generator, n_loops: int, n_pools: int, hops: int) -> Arrays:
    loops = rng.integers(0, 2 * n_pools, (n_loops, hops), dtype=np.int32)
    reserve = np.exp(rng.normal(50.0, 3.0, n_pools)).repeat(2)
    reserve *= np.exp(rng.normal(0.0, 0.02, 2 * n_pools))  # so that half of the loops gain
    slope, curve = 0.997 * reserve[np.arange(2 * n_pools) ^ 1] / reserve, 0.997 / reserve
    hits = (2 * np.arange(n_loops) + rng.integers(0, 2, n_loops)).astype(np.int32)
    return Arrays(loops, hits, slope, curve, np.log(slope))


def compile_c(folder: Path) -> ctypes.CDLL | None:
    """The C kernels as a library; None without a compiler. A compiler's own failure is raised."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    source = resources.files("mev_engine") / "bench_kernels.c"
    with resources.as_file(source) as path:
        # linked without -ffast-math, for which gcc adds code that turns subnormal numbers off in this process
        library, compiled = folder / "bench_kernels.so", folder / "bench_kernels.o"
        subprocess.run([compiler, *C_FLAGS, "-c", str(path), "-o", str(compiled)], check=True)
        subprocess.run([compiler, "-shared", str(compiled), "-o", str(library), "-lm"], check=True)
    return ctypes.CDLL(str(library))


def beside_c(console: Console, arrays: Arrays, repeat: int) -> list[tuple[str, ...]]:
    """Prints, and returns, a row for each kernel: name, numba's median and least time, C's, and the ratio."""
    loops, hits, slope, curve, log_rate = arrays
    amount, bound = np.empty(len(hits)), np.empty(len(hits))
    stamp = np.zeros(len(loops), dtype=np.int32)
    offsets = np.array([0, len(loops)], dtype=np.int64)  # as if one pool were in every loop
    order = np.arange(len(loops), dtype=np.int32)
    generation = iter(range(1, 10**6))
    with tempfile.TemporaryDirectory() as folder:
        library = compile_c(Path(folder))
        cases: list[tuple[str, Callable[[], object], Callable[[], object] | None]] = [
            ("screen, every loop", lambda: kernels.screen_all(loops, log_rate), None),
            ("size", lambda: kernels.size_hits(hits, loops, slope, curve, amount, bound), None),
            (
                "screen through pool lists, with stamps",
                lambda: kernels.screen_touched(
                    order[:1], offsets, order, loops, log_rate, stamp, next(generation)
                ),
                None,
            ),
        ]
        if library is None:
            console.print(
                "no C compiler (cc) found: nothing to compare with. Debian: apt install gcc libc6-dev"
            )
        else:
            out, n, hops = np.empty(len(loops), dtype=np.int32), *map(ctypes.c_int64, loops.shape)
            c_amount, c_bound = np.empty(len(hits)), np.empty(len(hits))
            library.screen_all.restype = ctypes.c_int64
            screen = (_pointer(loops), n, hops, _pointer(log_rate), _pointer(out))
            tables = (_pointer(slope), _pointer(curve), _pointer(c_amount), _pointer(c_bound))
            size = (_pointer(hits), n, _pointer(loops), hops, *tables)
            cases[0] = (*cases[0][:2], lambda: library.screen_all(*screen))
            cases[1] = (*cases[1][:2], lambda: library.size_hits(*size))
            _check_agreement(arrays, library, screen, size, out, c_amount, amount, bound)
            console.print(
                f"C: cc {' '.join(C_FLAGS)}\n"
                "-ffast-math, since the kernels allow numba to reorder sums too; strict C would be a slower "
                "yardstick.\nBoth gave the same hits and sizes."
            )
        table = Table(
            "kernel", "numba median", "min", "C median", "min", "ratio", title="nanoseconds a cycle"
        )
        rows = []
        for name, ours, theirs in cases:
            cycles = len(hits) if name == "size" else 2 * len(loops)
            rows.append((name, *_compare(ours, theirs, repeat, cycles)))
            table.add_row(*rows[-1])
    console.print(table)
    return rows


def _check_agreement(
    arrays: Arrays,
    library: ctypes.CDLL,
    screen: tuple[object, ...],
    size: tuple[object, ...],
    out: IndexArray,
    c_amount: FloatArray,
    amount: FloatArray,
    bound: FloatArray,
) -> None:
    """Two loops are only worth comparing when they give the same answers."""
    ours = kernels.screen_all(arrays.loops, arrays.log_rate)
    found = library.screen_all(*screen)
    differ = len(np.setxor1d(out[:found], ours))
    # rounding may differ on loops whose sum is zero to the last bit
    if differ > 1 + len(ours) // 10_000:
        raise RuntimeError(
            f"of C's {found} hits and numba's {len(ours)}, {differ} are not the other's: "
            "the kernels have drifted apart"
        )
    library.size_hits(*size)
    kernels.size_hits(arrays.hits, arrays.loops, arrays.slope, arrays.curve, amount, bound)
    np.testing.assert_allclose(c_amount, amount, rtol=1e-6)


def _compare(
    ours: Callable[[], object], theirs: Callable[[], object] | None, repeat: int, n: int
) -> tuple[str, ...]:
    """Cells of one row; the two take turns, so that a busy machine slows both."""
    mine: list[float] = []
    other: list[float] = []
    for _ in range(repeat):
        mine.append(_nanoseconds(ours, n))
        if theirs is not None:
            other.append(_nanoseconds(theirs, n))
    median = statistics.median(mine)
    cells = (f"{median:.2f}", f"{min(mine):.2f}")
    if not other:
        return (*cells, "", "", "")
    c_median = statistics.median(other)
    return (*cells, f"{c_median:.2f}", f"{min(other):.2f}", f"{min(mine) / min(other):.2f}")


def _nanoseconds(call: Callable[[], object], n: int) -> float:
    started = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - started) / n


def _pointer(array: IndexArray | FloatArray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def random_market(rng: np.random.Generator, n_pools: int) -> Market:
    """Pools in the shape of a chain's: every token has a pool with the main hub, most have no other;
    a core of tokens has more, with three further hubs or with each other. All prices agree to
    within the fee, so that only what a block moves gains."""
    n_core = min(n_pools // 4, 4000)
    n_tokens = n_pools - n_core + 1
    tokens = [TokenSpec(f"0x{i:040x}", f"T{i}", 18) for i in range(n_tokens)]
    price = np.exp(rng.normal(0.0, 3.0, n_tokens))
    pools = []
    for i in range(n_pools):
        a, b = i + 1, 0
        if i >= n_tokens - 1:
            a = int(n_tokens * rng.random() ** 2)
            b = int(rng.integers(1, 4) if rng.random() < 0.75 else rng.integers(n_tokens))
            a = a if a != b else (b + 1) % n_tokens
        value = 10 ** rng.uniform(19, 24)
        off = np.exp(rng.normal(0.0, 0.0005))
        reserves = int(value / price[a]), int(value * off / price[b])
        pools.append(pair_spec(f"0x{n_tokens + i:040x}", tokens[a].address, tokens[b].address, *reserves))
    bases = [t.address for t in tokens[:4]]
    return Market.build(tokens, pools, base_tokens=bases, wrapped_native=bases[0])


def _blocks(console: Console, rng: np.random.Generator, n_pools: int, n_blocks: int) -> None:
    """Whole blocks, from the update to the ranked opportunities."""
    started = time.perf_counter()
    market = random_market(rng, n_pools)
    seconds = time.perf_counter() - started
    console.print(
        f"\nmarket: {market.n_pools:,} pools, {market.n_cycles:,} cycles of 2 to 4 hops, "
        f"{market.cycles.n_bytes / market.n_cycles:.0f} bytes a cycle, built in {seconds:.1f} s"
    )
    scanner = Scanner(market, chain_id=0, gas=GasModel(), min_profit=0)
    names = ("pools touched", "cycles screened", "opportunities", "median ms", "p99 ms", "ns a cycle")
    table = Table(*names, title="a block, from reserves to ranked opportunities (medians)")
    for k in (1, 3, 10, 30, 100, 300):
        if k <= market.n_pools:
            table.add_row(str(k), *_block_row(rng, market, scanner, k, n_blocks))
    console.print(table)


def _block_row(
    rng: np.random.Generator, market: Market, scanner: Scanner, touched: int, n_blocks: int
) -> tuple[str, ...]:
    times, screened, found = [], [], []
    for _ in range(n_blocks):
        chosen = rng.choice(market.n_pools, touched, replace=False)
        undo, updates = [], []
        for pool in chosen:
            address = market.pools[pool].address
            r0, r1 = market.reserves(address)
            move = float(np.exp(rng.normal(0.0, 0.003)))
            undo.append(ReserveUpdate(address, r0, r1))
            updates.append(ReserveUpdate(address, int(r0 * move), int(r1 / move)))
        delta = BlockDelta(BLOCK, tuple(updates))
        started = time.perf_counter()
        result = scanner.scan(BLOCK, market.apply(delta))
        times.append(time.perf_counter() - started)
        screened.append(result.cycles_screened)
        found.append(len(result.opportunities))
        market.apply(BlockDelta(BLOCK, tuple(undo)))
    median, cycles = statistics.median(times), statistics.median(screened)
    p99 = float(np.percentile(times, 99))
    return (
        f"{cycles:,.0f}",
        f"{statistics.median(found):,.0f}",
        f"{median * 1e3:.3f}",
        f"{p99 * 1e3:.3f}",
        f"{median * 1e9 / cycles:.1f}" if cycles else "",
    )
