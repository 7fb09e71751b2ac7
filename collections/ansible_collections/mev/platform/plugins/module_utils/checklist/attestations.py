# Copyright (c) the MEV platform's authors. Apache-2.0 (see LICENSE)
"""What no machine can measure: statements that name their evidence, their author and their date."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.mev.platform.plugins.module_utils.checklist.outcome import (
    FAILED,
    PASSED,
    Outcome,
    settle,
    severities,
)

REQUIRED = {
    "contract_audit": ("Contract audits", 3, "by three independent firms"),
    "multi_sig": ("Multi-signature wallets", 1, "3 of 5 signatures"),
    "emergency_pause": ("Emergency pause", 1, "tested"),
    "upgrade_mechanism": ("Upgrade mechanism", 1, "transparent proxy"),
    "insurance": ("Insurance", 1, "cover of the contracts"),
}
"""Name: title, how many statements by different people or firms, and what they state."""

SEVERITIES = {"attestations": "fail warn warn"}
_FIELDS = {"name", "evidence", "date", "by", "max_age_days"}


def attested(
    file: str, today: datetime.date, environment: str, overrides: Mapping[str, Any]
) -> list[dict[str, str]]:
    """An item for each required statement, and for each other that the file makes."""
    severity = severities(SEVERITIES, environment, overrides)["attestations"]
    entries, complaint = _read(file)
    mend = f"add or mend it in {file}" if file else "set preflight_attestations_file (docs/preflight.md)"
    lines = []
    names = [str(entry.get("name", "")) for entry in entries]
    others = {name: (name.replace("_", " ") or "without a name", 1, "stated") for name in names}
    for name, (title, count, what) in {**others, **REQUIRED}.items():
        own = [entry for entry in entries if str(entry.get("name", "")) == name]
        result, found = _judge(own, count, Path(file).parent, today)
        outcome: Outcome = (result, complaint or found, f"{what}, dated, not too old", mend)
        lines.append(settle(f"attestation_{name}", f"Attestation: {title}", outcome, severity))
    return lines


def _read(file: str) -> tuple[list[dict[str, Any]], str]:
    """The entries, and what is wrong with the file as a whole."""
    if not file:
        return [], "no file of attestations is given"
    try:
        content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        return [], f"{file} can't be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}"
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        return [], f"{file} is no YAML" + (f" (line {place.line + 1})" if place else "")
    entries = content.get("attestations") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return [], f"{file} has no list named attestations"
    return entries, ""


def _judge(entries: list[dict[str, Any]], count: int, folder: Path, today: datetime.date) -> tuple[str, str]:
    """Enough good statements by different authors, or all that is wrong with what there is."""
    good: dict[str, str] = {}
    wrong: list[str] = []
    for entry in entries:
        problem = _problem(entry, folder, today)
        by = str(entry.get("by", "nobody"))
        if problem:
            wrong.append(f"{by}: {problem}")
        else:
            good.setdefault(by.strip().casefold(), f"{by}, {entry['date']}, {entry['evidence']}")
    said = "; ".join([*good.values(), *wrong]) or "none"
    if len(good) < count:
        return FAILED, f"{len(good)} of {count}: {said}"
    return (FAILED if wrong else PASSED), said


def _problem(entry: dict[str, Any], folder: Path, today: datetime.date) -> str | None:
    """What is wrong with one statement, or None."""
    if missing := sorted(field for field in _FIELDS if entry.get(field) in (None, "")):
        return f"without {', '.join(missing)}"
    if unknown := sorted(str(field) for field in set(entry) - _FIELDS):
        return f"unknown field {', '.join(unknown)}"
    evidence = str(entry["evidence"])
    if "://" not in evidence and not (folder / evidence).is_file():
        return f"its evidence {evidence} is not there"
    return _age(entry["date"], entry["max_age_days"], today)


def _age(dated: Any, days: Any, today: datetime.date) -> str | None:
    if not isinstance(days, int) or isinstance(days, bool) or days < 1:
        return f"max_age_days is {days}, and a number of days is wanted"
    try:
        date = datetime.date.fromisoformat(str(dated))
    except ValueError:
        return f"its date {dated} is not written as 2026-01-31"
    if date > today:
        return f"dated {date}, which is yet to come"
    age = (today - date).days
    return f"dated {date}, {age} days old, and {days} are allowed" if age > days else None
