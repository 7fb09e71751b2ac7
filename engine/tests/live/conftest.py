"""Fixtures: a chain with four pairs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .harness import PAIRS, Chain, running_chain

START = {
    PAIRS[0]: (10**21, 10**21),
    PAIRS[1]: (10**21, 10**21),
    PAIRS[2]: (10**21, 2 * 10**21),
    PAIRS[3]: (2 * 10**21, 10**21),
}


@pytest.fixture(scope="session")
def anvil(anvil_binary: Path) -> None:
    """Asked for by tests that start chains of their own: anvil is there."""


@pytest.fixture
def chain(anvil: None, tmp_path: Path) -> Iterator[Chain]:
    with running_chain(tmp_path / "anvil.log") as running:
        running.place_pairs()
        running.mine(START)
        yield running
