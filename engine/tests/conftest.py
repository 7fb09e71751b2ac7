"""Fixtures shared by all engine tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the real chain data: `MEV_DATA_DIR`, by default `../shared/data` beside the checkout.

    A test that needs it is skipped, with the reason, where the folder is missing; with
    `MEV_REQUIRE_DATA=1` it fails instead, so that a run meant to use the data can't pass without it.
    """
    path = Path(os.environ.get("MEV_DATA_DIR") or REPOSITORY.parent / "shared" / "data").resolve()
    if path.is_dir():
        return path
    reason = f"no chain data at {path}: set MEV_DATA_DIR to the folder that holds pools/, blocks/, events/"
    if os.environ.get("MEV_REQUIRE_DATA") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
