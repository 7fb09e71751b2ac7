"""Fixtures shared by all engine tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from mev_devchain.chain import ChainError, find_anvil
from needs import data_folder, lacks


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the real chain data; see `needs.data_folder`."""
    path = data_folder()
    if not path.is_dir():
        lacks(
            "DATA",
            f"no chain data at {path}: set MEV_DATA_DIR to the folder that holds pools/, blocks/, events/",
        )
    return path


@pytest.fixture(scope="session")
def anvil_binary() -> Path:
    """anvil, of the locked npm packages."""
    try:
        return find_anvil()
    except ChainError as error:
        lacks("CHAIN", str(error))
