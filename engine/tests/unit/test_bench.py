"""The benchmark's yardstick measures the same work. Agreement is asserted, never time."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mev_engine import bench
from mev_engine.cli import main
from mev_engine.detect import kernels

SMALL = ["bench", "--cycles", "20000", "--pools", "500", "--repeat", "1", "--blocks", "1"]

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler: apt install gcc libc6-dev")


@pytest.mark.parametrize("hops", ["2", "3", "4"])
def test_c_and_numba_agree(hops: str, capsys: pytest.CaptureFixture[str]) -> None:
    # fails if the C loops no longer compile or give other hits or sizes, or the flags go unmentioned
    assert main([*SMALL, "--hops", hops]) == 0
    output = " ".join(capsys.readouterr().out.split())
    assert "-ffast-math" in output
    assert "Both gave the same hits and sizes" in output


def test_kernels_that_drift_apart_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    # fails if the comparison above could not fail: for as many, but other hits, and for other sizes
    screen, size = kernels.screen_all, kernels.size_hits

    def reversed_hits(*arguments: Any) -> Any:
        return screen(*arguments) ^ 1

    def doubled(hits: Any, loops: Any, reserve: Any, gamma: Any, amount: Any, bound: Any) -> None:
        size(hits, loops, reserve, gamma, amount, bound)
        np.multiply(amount, 2, out=amount)

    with monkeypatch.context() as patch:
        patch.setattr(kernels, "screen_all", reversed_hits)
        with pytest.raises(RuntimeError, match="drifted apart"):
            main(SMALL)
    monkeypatch.setattr(kernels, "size_hits", doubled)
    with pytest.raises(AssertionError, match="Mismatched elements"):
        main(SMALL)


def test_the_c_library_leaves_floats_as_they_are(tmp_path: Path) -> None:
    # gcc's -ffast-math at the link turns subnormal numbers off for the whole process that loads the library
    assert bench.compile_c(tmp_path) is not None
    assert np.nextafter(0.0, 1.0) * np.float64(1.0) > 0.0
