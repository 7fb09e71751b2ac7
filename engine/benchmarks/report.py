"""The benchmark report: every figure beside its yardstick, measured in one run, with plots.

    make bench                            writes .cache/bench/report.html and report.md, and prints the ratios
    python -m report --quick              the same in a few minutes, with fewer cycles; from engine/benchmarks

Yardsticks: the same loops in C for the kernels; degenbot 0.5.0 (Python) and 0.6.0a17 (Rust core) for whole
optimisations and quotes, each in an environment of its own from PyPI. A peer that can't be had here is named.
"""

from __future__ import annotations

import argparse
import base64
import cProfile
import io
import json
import platform
import pstats
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import blocks
import matplotlib as mpl
import numba
import numpy as np
import optimal
from mev_engine import __version__, bench
from mev_engine.amm import registry, uniswap_v3
from mev_engine.detect import GasModel, Scanner
from mev_engine.jit import kernel
from mev_engine.market import BlockDelta, StateUpdate
from mev_engine.types import FlagArray, WordArray
from mev_engine.wide import integer, limbs, load, store
from peers import environments, exact, generate
from peers.environments import PeerUnavailableError
from peers.run import run
from rich.console import Console
from rich.table import Table

mpl.use("Agg")
import matplotlib.pyplot as plt

DEFAULT = Path(__file__).resolve().parents[2] / ".cache" / "bench"
KINDS = (("v2", 2), ("v2", 3), ("v2", 4), ("v2-v3", 2), ("v2-v3", 3), ("v2-v3-v4", 3))


@dataclass
class Report:
    """Sections in order: a title, lines of text, tables, plots (PNG)."""

    console: Console
    parts: list[tuple[str, Any]] = field(default_factory=list)

    def title(self, text: str) -> None:
        self.console.print(f"\n[bold]{text}[/bold]")
        self.parts.append(("title", text))

    def text(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False)
        self.parts.append(("text", text))

    def table(self, names: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
        table = Table(*names)
        for row in rows:
            table.add_row(*row)
        self.console.print(table)
        self.parts.append(("table", (names, rows)))

    def plot(self, name: str, figure: Any) -> None:
        image = io.BytesIO()
        figure.savefig(image, dpi=110, bbox_inches="tight")
        plt.close(figure)
        self.parts.append(("plot", (name, image.getvalue())))

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        markdown, html = [], [_HEAD]
        for kind, content in self.parts:
            if kind == "title":
                markdown.append(f"## {content}\n")
                html.append(f"<h2>{content}</h2>")
            elif kind == "text":
                markdown.append(content + "\n")
                html.append(f"<p>{content.replace(chr(10), '<br>')}</p>")
            elif kind == "table":
                names, rows = content
                lines = [names, ("---",) * len(names), *rows]
                markdown.append("\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n")
                head = "".join(f"<th>{name}</th>" for name in names)
                body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
                html.append(f"<table><tr>{head}</tr>{body}</table>")
            else:
                name, image = content
                (folder / f"{name}.png").write_bytes(image)
                markdown.append(f"![{name}]({name}.png)\n")
                html.append(
                    f"<img alt='{name}' src='data:image/png;base64,{base64.b64encode(image).decode()}'>"
                )
        (folder / "report.md").write_text("\n".join(markdown))
        (folder / "report.html").write_text("\n".join(html))
        self.console.print(f"\nwritten: {folder / 'report.html'} and report.md")


_HEAD = (
    "<!doctype html><meta charset=utf-8><title>mev_engine benchmarks</title>"
    "<style>body{font:15px sans-serif;max-width:60em;margin:2em auto}table{border-collapse:collapse}"
    "td,th{border:1px solid #bbb;padding:.3em .6em;text-align:right}img{max-width:100%}</style>"
)


def machine(report: Report) -> None:
    report.title("Machine and versions")
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    report.text(
        f"{model or platform.processor()}, {platform.machine()}, {platform.system()} {platform.release()}\n"
        f"mev_engine {__version__}, Python {platform.python_version()}, numba {numba.__version__}, "
        f"numpy {np.__version__}; one core unless said otherwise; {time.strftime('%Y-%m-%d')}"
    )


def kernels(report: Report, cycles: int) -> None:
    report.title("Kernels beside the same loops in C (bar: 1.2)")
    rng, rows = np.random.default_rng(1), []
    for pools in (2_000, 100_000):
        arrays = bench.random_arrays(rng, cycles // 2, pools, 3)
        found = bench.beside_c(Console(file=io.StringIO()), arrays, 15)
        rows += [(f"{name}, {pools:,} pools", *cells) for name, *cells in found if cells[-1]]
    names = ("kernel, 3 hops", "ns a cycle", "least", "C, ns", "least", "ratio")
    report.table(names, rows)


def optima(report: Report, count: int, versions: list[str]) -> None:
    report.title("The best trade of a cycle beside degenbot (bar: 10 times 0.6, 100 times 0.5; V2-V3 30 us)")
    rows, bars = [], []
    for kind, hops in KINDS:
        for one in optimal.compare(kind, hops, count, 1, versions, 3):
            ratio = one.their_seconds / one.our_seconds
            rows.append(
                (
                    f"{kind}, {hops} hops",
                    one.peer,
                    f"{one.our_seconds * 1e6:.2f}",
                    f"{one.their_seconds * 1e6:.1f}",
                    f"{ratio:.1f}",
                    f"{one.above} / {len(one.below)} of {sum(p > 0 for p in one.ours)}",
                )
            )
            bars.append((f"{kind} {hops}\n{one.peer}", ratio))
    names = (
        "cycles",
        "degenbot",
        "our us",
        "its us",
        "times faster",
        "we earn more / less, of those that gain",
    )
    report.table(names, rows)
    if bars:
        figure, axes = plt.subplots(figsize=(10, 3.5))
        axes.bar([name for name, _ in bars], [ratio for _, ratio in bars])
        axes.axhline(10, color="black", linewidth=0.8, linestyle="--")
        axes.set(yscale="log", ylabel="times faster than degenbot")
        axes.tick_params(axis="x", labelsize=7)
        report.plot("optima", figure)


@kernel("void(int64, uint64[::1], int64, uint64[::1], int64, uint64[::1], boolean[::1])")
def quote_often(
    code: int, words: WordArray, i: int, given: WordArray, times: int, result: WordArray, ok: FlagArray
) -> None:
    """The same quote over and over, so that the call from Python does not count."""
    for _ in range(times):
        y, fits = registry.quote(code, words, 0, i, 1 - i, load(given, 0))
        store(result, 0, y)
        ok[0] = fits


def quotes(report: Report, count: int, versions: list[str]) -> None:
    report.title("Uniswap V3 quotes beside degenbot (bar: below 8 us across ticks)")
    asked = list(generate.quotes("v3", count, 1))
    ours, answers = [], []
    for quote in asked:
        state: Any = exact.state(quote["hop"])
        given = np.array(limbs(int(quote["amount_in"])), np.uint64)
        arguments = 2, uniswap_v3.words(state), 0 if quote["hop"]["zero_for_one"] else 1, given, 200
        result, ok = np.zeros(4, np.uint64), np.zeros(1, np.bool_)
        seconds = []
        for _ in range(5):
            started = time.perf_counter()
            quote_often(*arguments, result, ok)
            seconds.append((time.perf_counter() - started) / 200)
        ours.append(min(seconds))
        answers.append(integer(result.tolist()) if ok[0] else None)
    rows = []
    for version in versions:
        with tempfile.TemporaryDirectory() as folder:
            source, out = Path(folder) / "quotes.jsonl", Path(folder) / "answers.jsonl"
            source.write_text("".join(json.dumps(quote) + "\n" for quote in asked))
            run(version, source, out, repeat=5, mode="quote")
            theirs = [json.loads(line) for line in out.read_text().splitlines()]
        both = [(a, t) for a, t in zip(answers, theirs, strict=True) if a is not None and "amount_out" in t]
        equal = sum(a == int(t["amount_out"]) for a, t in both)
        ratios = [t["seconds"] / o for o, t in zip(ours, theirs, strict=True) if "seconds" in t]
        median = statistics.median(t["seconds"] for t in theirs if "seconds" in t)
        rows.append(
            (
                version,
                f"{statistics.median(ours) * 1e6:.2f} ({min(ours) * 1e6:.2f} to {max(ours) * 1e6:.1f})",
                f"{median * 1e6:.1f}",
                f"{statistics.median(ratios):.1f}",
                f"{equal} of {len(both)}",
            )
        )
    report.table(
        ("degenbot", "our us, median (range)", "its us", "times faster, median", "answers equal"), rows
    )


def whole_blocks(report: Report, count: int, sizes: tuple[int, ...], cores: tuple[int, ...]) -> None:
    report.title("A block: 100,000 pools, 200 touched (bar: p99 below 5 ms on one core)")
    rng = np.random.default_rng(1)
    rows, by_size, by_cycles, scanner = [], [], [], None
    for core in cores:
        market = blocks.make_market(rng, 100_000, core)
        scanner = Scanner(market, chain_id=1, gas=GasModel(), min_profit=0)
        blocks.measure(rng, scanner, 50, 5)
        for touched in sizes if core == cores[-1] else (200,):
            for storm in (False, True) if (core, touched) == (cores[-1], 200) else (False,):
                row = blocks.measure(rng, scanner, touched, count, storm=storm)
                rows.append(
                    (
                        f"{touched}{', storm' if storm else ''}",
                        f"{market.n_cycles:,}",
                        f"{row.cycles_touched:,}",
                        f"{row.cycles_screened:,}",
                        f"{row.opportunities}",
                        f"{row.median:.2f}",
                        f"{row.p99:.2f}",
                    )
                )
                if core == cores[-1] and not storm:
                    by_size.append((touched, row.median, row.p99))
                if touched == 200 and not storm:
                    by_cycles.append((market.n_cycles, row.median, row.p99))
        report.text(blocks.describe(market))
    names = ("pools touched", "cycles indexed", "through them", "screened", "found", "median ms", "p99 ms")
    report.table(names, rows)
    report.text(
        "Calm: 98 % of the touched pools end the block within the fees of the others, the rest as far off as "
        "single real swaps go; storm: all do. The scan settles the 128 most promising cycles of a block."
    )
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.5))
    for axis, points, label in ((axes[0], by_size, "pools touched"), (axes[1], by_cycles, "cycles indexed")):
        for column, name in ((1, "median"), (2, "p99")):
            axis.plot([p[0] for p in points], [p[column] for p in points], marker="o", label=name)
        axis.axhline(5, color="black", linewidth=0.8, linestyle="--")
        axis.set(xlabel=label, ylabel="ms a block", ylim=0)
        axis.legend()
    report.plot("blocks", figure)
    if scanner is not None:
        _profile(report, rng, scanner)


def _profile(report: Report, rng: np.random.Generator, scanner: Scanner) -> None:
    """Where a block's time goes: the slowest of 50 blocks are what p99 is made of."""
    market, profile = scanner.market, cProfile.Profile()
    for delta in blocks.blocks(rng, market, 200, 50):
        before = [StateUpdate(u.pool, market.state(u.pool)) for u in delta.updates]
        profile.enable()
        scanner.scan(blocks.BLOCK, market.apply(delta))
        profile.disable()
        market.apply(BlockDelta(blocks.BLOCK, tuple(before)))
    stats: Any = pstats.Stats(profile)
    total = stats.total_tt
    functions = sorted(stats.stats.items(), key=lambda item: -item[1][2])[:10]
    rows = [
        (f"{Path(path).name}:{line} {name}", f"{own / 50 * 1e3:.3f}", f"{own / total:.0%}")
        for (path, line, name), (_calls, _primitive, own, _all, _callers) in functions
    ]
    report.text("Profile of 50 blocks that touch 200 pools (the profiler itself slows the Python part):")
    report.table(("function", "own ms a block", "share"), rows)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=DEFAULT, help="folder (default: .cache/bench)")
    parser.add_argument("--quick", action="store_true", help="fewer cycles, quotes and blocks")
    args = parser.parse_args()
    report = Report(Console(width=None if sys.stdout.isatty() else 120))
    machine(report)
    versions = []
    for version in environments.PEERS:
        try:
            environments.ensure(version)
            versions.append(version)
        except PeerUnavailableError as error:
            report.text(f"not run: {error}")
    kernels(report, 200_000 if args.quick else 1_000_000)
    optima(report, 60 if args.quick else 300, versions)
    quotes(report, 30 if args.quick else 100, versions)
    sizes = (10, 50, 100, 200, 400)
    whole_blocks(report, 40 if args.quick else 200, sizes, (2_000, 4_500, 8_500))
    report.write(args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
