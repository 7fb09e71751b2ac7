"""What tests need of the machine: real chain data, anvil, servers, the benchmark's peers.

A test that lacks it is skipped, with the reason. Where `MEV_REQUIRE_<WHAT>=1` it fails instead, so that a
run meant to use the thing can't pass without it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, NoReturn

import pytest

_REPOSITORY = Path(__file__).resolve().parents[2]


def lacks(what: Literal["DATA", "CHAIN", "SERVERS", "PEERS"], reason: str) -> NoReturn:
    """Skips the test, or fails it where `MEV_REQUIRE_<what>=1`."""
    if os.environ.get(f"MEV_REQUIRE_{what}") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def data_folder() -> Path:
    """Folder of the real chain data: `MEV_DATA_DIR`, by default `../shared/data` beside the checkout.
    It may be missing."""
    return Path(os.environ.get("MEV_DATA_DIR") or _REPOSITORY.parent / "shared" / "data").resolve()
