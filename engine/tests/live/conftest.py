"""Fixtures: a chain with four pairs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from mev_devchain.chain import ChainError, find_anvil

from .harness import PAIRS, Chain, running_chain

START = {
    PAIRS[0]: (10**21, 10**21),
    PAIRS[1]: (10**21, 10**21),
    PAIRS[2]: (10**21, 2 * 10**21),
    PAIRS[3]: (2 * 10**21, 10**21),
}


@pytest.fixture(scope="session")
def anvil() -> None:
    """anvil is there; with MEV_REQUIRE_CHAIN=1 a test fails where it is not, else it is skipped."""
    try:
        find_anvil()
    except ChainError as error:
        if os.environ.get("MEV_REQUIRE_CHAIN") == "1":
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))


@pytest.fixture
def chain(anvil: None, tmp_path: Path) -> Iterator[Chain]:
    with running_chain(tmp_path / "anvil.log") as running:
        running.place_pairs()
        running.mine(START)
        yield running
