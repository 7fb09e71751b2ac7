"""The one door to numba: every compiled function of the engine is made and listed here.

Kernels have eager signatures and an on-disk cache, so they are compiled, or loaded from the cache,
when their module is imported, and never on the hot path. A call with arguments of any other type
is a TypeError instead of a silent second compilation.

numba's cache is keyed by the processor and by the time and size of the kernel's own source file,
not of files that it calls into: a kernel therefore calls only functions of its own module.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numba

KERNEL_MODULES = ("mev_engine.amm.uniswap_v2", "mev_engine.market.cycles", "mev_engine.detect.kernels")
_kernels: dict[str, Any] = {}


def kernel(signature: str, *, fastmath: bool | set[str] = False) -> Callable[[Callable[..., Any]], Any]:
    """Decorator: compile a function now, for one signature, through the on-disk cache."""

    def compile_now(function: Callable[..., Any]) -> Any:
        dispatcher = numba.njit(signature, cache=True, fastmath=fastmath, nogil=True)(function)
        _kernels[f"{function.__module__.removeprefix('mev_engine.')}.{function.__name__}"] = dispatcher
        return dispatcher

    return compile_now


def warm() -> None:
    """Compile or load every kernel, and run the whole scan once on a small market.

    Takes some 5 s where the cache is cold and under a second where it is warm. The market
    has one profitable cycle of each length, so that a kernel that loads but can't run is found here.
    """
    for module in KERNEL_MODULES:
        importlib.import_module(module)
    from mev_engine.detect import selfcheck  # noqa: PLC0415  imports this module's decorator

    selfcheck.run()


def report() -> dict[str, tuple[int, int]]:
    """`{kernel: (cache_hits, cache_misses)}` of this process; a miss was a compilation."""
    for module in KERNEL_MODULES:
        importlib.import_module(module)
    return {
        name: (sum(k.stats.cache_hits.values()), sum(k.stats.cache_misses.values()))
        for name, k in sorted(_kernels.items())
    }
