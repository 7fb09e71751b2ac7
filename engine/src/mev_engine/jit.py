"""The one door to numba: every compiled function of the engine is made and listed here.

Kernels have eager signatures and an on-disk cache, so they are compiled, or loaded from the cache,
when their module is imported, and never on the hot path. A call with arguments of any other type
is a TypeError instead of a silent second compilation.

numba's cache is keyed by the processor and by the kernel's own source file, not by files that it calls
into. Kernels here call helpers of other modules (wide integers, each pool family's maths), so their
cache lies in a folder named after the content of all of them: a change in any makes all compile anew.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

_PACKAGE = Path(__file__).parent
_SOURCES = ("jit.py", "wide.py", "amm/*.py", "market/*.py", "detect/*.py")
_kernels: dict[str, Any] = {}


def _cache_folder() -> Path:
    """`$NUMBA_CACHE_DIR`, else the package's __pycache__, else where that can't be written the user's
    cache; in it a folder for these sources."""
    digest = hashlib.sha256()
    for path in sorted(path for pattern in _SOURCES for path in _PACKAGE.glob(pattern)):
        digest.update(path.name.encode() + path.read_bytes())
    named = os.environ.get("NUMBA_CACHE_DIR")
    base = Path(named) if named else _PACKAGE / "__pycache__"
    if not named and not os.access(_PACKAGE, os.W_OK):
        base = Path(os.environ.get("XDG_CACHE_HOME") or tempfile.gettempdir()) / "mev-engine"
    return base / f"kernels-{digest.hexdigest()[:16]}"


numba.config.CACHE_DIR = str(_cache_folder())  # type: ignore[attr-defined]  # of the environment


def kernel(signature: str, *, fastmath: bool | set[str] = False) -> Callable[[Callable[..., Any]], Any]:
    """Decorator: compile a function now, for one signature, through the on-disk cache."""

    def compile_now(function: Callable[..., Any]) -> Any:
        dispatcher = numba.njit(signature, cache=True, fastmath=fastmath, nogil=True)(function)
        _kernels[f"{function.__module__.removeprefix('mev_engine.')}.{function.__name__}"] = dispatcher
        return dispatcher

    return compile_now


def helper(function: Callable[..., Any]) -> Any:
    """Decorator: a function that only kernels call. Compiled, and cached, as part of each of them."""
    return numba.njit(function)


def report() -> dict[str, tuple[int, int]]:
    """`{kernel: (cache_hits, cache_misses)}` of the kernels imported so far; a miss was a compilation."""
    return {
        name: (sum(k.stats.cache_hits.values()), sum(k.stats.cache_misses.values()))
        for name, k in sorted(_kernels.items())
    }


def compiled() -> list[str]:
    """The kernels that this process had to compile; empty where the cache was warm."""
    return [name for name, (_hits, misses) in report().items() if misses]
