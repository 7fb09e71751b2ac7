# Copyright (c) the MEV platform's authors. Apache-2.0 (see LICENSE)
"""What an item of the checklist may come to.

Nothing passes because it could not be looked at: such an item is "not measurable here", with the reason, and
what the inventory does not ask for is "not wanted".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

PASSED, FAILED, WARNED = "passed", "failed", "warned"
UNKNOWN, UNWANTED = "not measurable here", "not wanted"
RESULTS = (FAILED, WARNED, UNKNOWN, PASSED, UNWANTED)
"""In the order in which a reader wants them."""
ENVIRONMENTS = ("production", "staging", "local")

Facts = Mapping[str, Any]
Wanted = Mapping[str, Any]
Outcome = tuple[str, str, str, str]
"""Result, what was found, what is wanted, how to mend it."""


@dataclass(frozen=True)
class Item:
    """One line of the report."""

    item: str
    title: str
    found: str
    wanted: str
    result: str
    mend: str


@dataclass(frozen=True)
class Check:
    """What is looked at, and what a failure means in each environment."""

    item: str
    title: str
    severity: str
    """``fail`` or ``warn`` in production, staging and local; an override of the inventory wins."""
    judge: Callable[[Facts, Wanted], Outcome]


def severities(checks: Mapping[str, str], environment: str, overrides: Mapping[str, Any]) -> dict[str, str]:
    """``fail`` or ``warn`` for each item. An environment that nobody knows is as strict as production."""
    place = ENVIRONMENTS.index(environment) if environment in ENVIRONMENTS else 0
    return {item: str(overrides.get(item) or words.split()[place]) for item, words in checks.items()}


def settle(item: str, title: str, outcome: Outcome, severity: str) -> dict[str, str]:
    """Make a line of an outcome: a failure that only warns is a warning; what is good needs no mending."""
    result, found, wanted, mend = outcome
    if result == FAILED and severity == "warn":
        result = WARNED
    return asdict(Item(item, title, found, wanted, result, mend if result in (FAILED, WARNED) else ""))


def number(value: float) -> str:
    """A figure as people read it: 125,000 and 99.5."""
    return f"{value:,.1f}".removesuffix(".0")


def version(text: str) -> tuple[int, ...]:
    """The numbers with which a version begins: 6.1.0-42-amd64 is (6, 1, 0)."""
    match = re.match(r"v?(\d+(?:\.\d+)*)", text)
    return tuple(int(part) for part in match[1].split(".")) if match else ()


def at_least(
    found: float | None, wanted: float, unit: str, mend: str, why: str = "it can't be read"
) -> Outcome:
    """At least so much is wanted; 0: nothing is."""
    said = why if found is None else f"{number(found)} {unit}"
    if wanted <= 0:
        return UNWANTED, said, "nothing", ""
    want = f"at least {number(wanted)} {unit}"
    if found is None:
        return UNKNOWN, said, want, ""
    return (PASSED if found >= wanted else FAILED), said, want, mend
