"""One chain for all families; each deploys its own contracts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mev_devchain.chain import running_anvil
from mev_devchain.deploy import connect
from needs import lacks

from .evm import GAS, Chain

_CONTRACTS = Path(__file__).resolve().parents[2] / "contracts"


@pytest.fixture(scope="session")
def chain(anvil_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """Cancun has what V4 needs (transient storage) and no limit on a transaction's gas yet."""
    modules = _CONTRACTS / "node_modules"
    if not (modules / "@uniswap" / "v4-periphery").is_dir():
        lacks("CHAIN", f"{modules} is not there or not whole; run `npm ci --ignore-scripts` in {_CONTRACTS}")
    folder = tmp_path_factory.mktemp("differential")
    options = ("--hardfork", "cancun", "--gas-limit", str(2 * GAS), "--base-fee", "0", "--gas-price", "0")
    more = (
        "--no-mining",
        "--prune-history",
        "--no-request-size-limit",
    )  # no state but the latest is asked for
    devchain = anvil_binary.parents[3]
    with running_anvil(*options, *more, log=folder / "anvil.log", node_modules=devchain) as anvil:
        yield Chain(connect(anvil.http), (devchain, modules))
