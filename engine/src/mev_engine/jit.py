"""The one door to numba: every compiled function of the engine is made and listed here.

Kernels have eager signatures and an on-disk cache, so they are compiled, or loaded from the cache,
when their module is imported, and never on the hot path. A call with arguments of any other type
is a TypeError instead of a silent second compilation.

numba's cache is keyed by the processor and by the time and size of the kernel's own source file,
not of files that it calls into: a kernel therefore calls only functions of its own module.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

_kernels: dict[str, Any] = {}


def kernel(signature: str, *, fastmath: bool | set[str] = False) -> Callable[[Callable[..., Any]], Any]:
    """Decorator: compile a function now, for one signature, through the on-disk cache."""

    def compile_now(function: Callable[..., Any]) -> Any:
        dispatcher = numba.njit(signature, cache=True, fastmath=fastmath, nogil=True)(function)
        _kernels[f"{function.__module__.removeprefix('mev_engine.')}.{function.__name__}"] = dispatcher
        return dispatcher

    return compile_now


def report() -> dict[str, tuple[int, int]]:
    """`{kernel: (cache_hits, cache_misses)}` of the kernels imported so far; a miss was a compilation."""
    return {
        name: (sum(k.stats.cache_hits.values()), sum(k.stats.cache_misses.values()))
        for name, k in sorted(_kernels.items())
    }


def compiled() -> list[str]:
    """The kernels that this process had to compile; empty where the cache was warm."""
    return [name for name, (_hits, misses) in report().items() if misses]
