"""`mev-engine warm`: compile every kernel now, so that no block ever waits for the compiler."""

from __future__ import annotations

import argparse
import os
import time


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--check", action="store_true", help="fail (exit 1) if anything was not in the cache already"
    )
    parser.epilog = (
        "The cache is keyed by processor and source file: warm it on the host that runs the engine,\n"
        "as the user who runs it, with the same NUMBA_CACHE_DIR. A first run takes a minute or two."
    )


def run(args: argparse.Namespace) -> int:
    print(f"kernels: loading or compiling, cache {os.environ.get('NUMBA_CACHE_DIR', 'beside the source')}")
    started = time.perf_counter()
    from mev_engine import jit  # noqa: PLC0415
    from mev_engine.detect import selfcheck  # noqa: PLC0415  (compiling starts at import)

    selfcheck.warm()
    cold = jit.compiled()
    seconds = time.perf_counter() - started
    listed = f" {' '.join(cold)}" if cold else ""
    print(f"kernels: {len(jit.report())} ready in {seconds:.1f} s, {len(cold)} compiled{listed}")
    if args.check and cold:
        print("the cache was cold: a service starting now would have compiled on its way")
        return 1
    return 0
