"""An auditor that we did not write looks at the converged host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from applying import ROOT, run

LEAST = 80
PROFILE = Path(__file__).parents[1] / "lynis.prf"


@pytest.fixture(scope="module")
def report(host: Any) -> list[str]:
    """lynis' report; what is skipped is argued line by line in docs/hardening.md."""
    skipped = PROFILE.read_text()
    run(host, "DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends lynis")
    run(host, f"cat > /etc/lynis/custom.prf <<'END'\n{skipped}END")
    run(host, "lynis audit system --quick --quiet --no-colors > /dev/null 2>&1 || true")
    return run(host, "cat /var/log/lynis-report.dat").splitlines()


# Could fail: a role lost a setting, or a new release of lynis looks at what we never did.
def test_hardening_index(report: list[str]) -> None:
    index = int(next(line for line in report if line.startswith("hardening_index=")).partition("=")[2])
    suggestions = [line for line in report if line.startswith(("warning[]", "suggestion[]"))]
    assert index >= LEAST, "\n".join(suggestions)


# Could fail: a warning is outweighed by points elsewhere.
def test_no_warnings(report: list[str]) -> None:
    assert [line for line in report if line.startswith("warning[]")] == []


# Could fail: a test is skipped without anybody having argued why.
def test_each_skipped_test_is_argued() -> None:
    skipped = {
        line.partition("=")[2].strip() for line in PROFILE.read_text().splitlines() if line.startswith("skip")
    }
    argued = (ROOT / "docs/hardening.md").read_text()
    assert skipped
    assert {name for name in skipped if f"`{name}`" not in argued} == set()
