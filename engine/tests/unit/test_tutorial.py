"""The tutorial runs as it stands in docs, on its own market and on a real snapshot. A few seconds."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

TUTORIAL = Path(__file__).resolve().parents[3] / "docs" / "tutorial.py"


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> dict[str, Any]:
    monkeypatch.chdir(folder)  # where a plot goes
    monkeypatch.setattr(sys, "argv", [str(TUTORIAL), *arguments])
    return runpy.run_path(str(TUTORIAL))


def check(names: dict[str, Any]) -> None:
    """The best input is the best of those shown, and the quote is the path's first hop."""
    best, profits, inputs = names["best"], names["profits"], names["inputs"]
    assert names["output"](best.amount_in) == best.amounts[-1]
    assert max(profits) == profits[inputs.index(best.amount_in)] == best.gross_profit > 0
    assert names["answer"].amount_out == best.amounts[1]
    assert names["market"].n_cycles > names["before"]
    assert names["again"].cycles_screened > 0


def test_tutorial_makes_its_own_market(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # fails if the documented API changes, or if its market of three families has nothing to find
    names = run(monkeypatch, tmp_path)
    assert len({type(pool.state) for pool in names["pools"]}) == 3
    assert names["result"].opportunities
    check(names)


@pytest.mark.data
def test_tutorial_on_a_real_snapshot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, data_dir: Path) -> None:
    # fails if a file that someone brings along needs more than its path
    check(run(monkeypatch, tmp_path, str(data_dir / "pools" / "multi_eth_head_18806161.jsonl.gz")))
