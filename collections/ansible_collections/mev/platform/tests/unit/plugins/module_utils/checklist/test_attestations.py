"""Statements about what no machine can measure."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.mev.platform.plugins.module_utils.checklist.attestations import REQUIRED, attested

TODAY = datetime.date(2026, 11, 25)


def entry(name: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name, "evidence": "https://example.org/report.pdf", "date": datetime.date(2026, 6, 1),
        "by": "Firm A", "max_age_days": 365, **more,
    }  # fmt: skip


GOOD = [
    *[entry("contract_audit", by=f"Firm {letter}") for letter in "ABC"],
    *[entry(name) for name in REQUIRED if name != "contract_audit"],
]


def results(tmp_path: Path, content: Any, environment: str = "production") -> dict[str, dict[str, str]]:
    file = tmp_path / "attestations.yml"
    file.write_text(content if isinstance(content, str) else yaml.safe_dump({"attestations": content}))
    lines = attested(str(file), TODAY, environment, {})
    return {line["item"].removeprefix("attestation_"): line for line in lines}


# Could fail: good statements are refused.
def test_good_statements_pass(tmp_path: Path) -> None:
    (tmp_path / "pause.txt").write_text("tested on the fork of 1 June")
    entries = [*GOOD[:-1], {**GOOD[-1], "evidence": "pause.txt", "date": "2026-06-01"}]
    assert {line["result"] for line in results(tmp_path, entries).values()} == {"passed"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"date": datetime.date(2025, 11, 24)}, "366 days old, and 365 are allowed"),
        ({"date": datetime.date(2026, 11, 26)}, "yet to come"),
        ({"date": "June"}, "not written as"),
        ({"by": ""}, "without by"),
        ({"max_age_days": 0}, "number of days"),
        ({"max_age_days": True}, "number of days"),
        ({"evidence": "gone.pdf"}, "gone.pdf is not there"),
        ({"max_age": 3}, "unknown field max_age"),
    ],
)
# Could fail: a statement that is stale, from the future, unsigned or without its evidence passes.
def test_bad_statements_fail(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    line = results(tmp_path, [*GOOD[:-1], {**GOOD[-1], **change}])["insurance"]
    assert line["result"] == "failed"
    assert words in line["found"]


# Could fail: one firm's three audits count as three firms', or a name that is nearly right goes unnoticed.
def test_audits_are_by_three_firms(tmp_path: Path) -> None:
    same = [entry("contract_audit", by=name) for name in ("Firm A", "firm a ", "Firm B")]
    found = results(tmp_path, [*same, *GOOD[3:], entry("contract_audits")])
    assert found["contract_audit"]["result"] == "failed"
    assert found["contract_audit"]["found"].startswith("2 of 3")
    assert "contract_audits" in found


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a: [", "is no YAML (line 1)"),
        ("- x", "no list"),
        ("attestations: {a: 1}", "no list"),
        ("", "no list"),
    ],
)
# Could fail: a file that can't be understood counts as an empty, harmless one, or stops the run half-way.
def test_malformed_files_fail_every_statement(tmp_path: Path, content: str, words: str) -> None:
    found = results(tmp_path, content)
    assert set(found) == set(REQUIRED)
    assert {line["result"] for line in found.values()} == {"failed"}
    assert all(words in line["found"] for line in found.values())


# Could fail: no file at all, or one that is not there, passes; or local is refused for it.
@pytest.mark.parametrize("file", ["", "/nowhere/attestations.yml"])
@pytest.mark.parametrize(("environment", "result"), [("production", "failed"), ("local", "warned")])
def test_missing_file(file: str, environment: str, result: str) -> None:
    assert {line["result"] for line in attested(file, TODAY, environment, {})} == {result}
