# Copyright (c) the MEV platform's authors. Apache-2.0 (see LICENSE)
"""What a role promises about its variables, and what is wrong with the ones it was given.

A role keeps its promises in two files: ``meta/argument_specs.yml`` (names, types, choices, which are
required; Ansible's own format) and ``meta/limits.yml`` (ranges and patterns, for which Ansible has no
place): ``{option: {min, max, pattern, ipv4, message}}``, a dot stepping into a dict or into each item of a
list.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

HIDDEN = "(hidden)"
# An unknown name that belongs to no role is taken for a slip only when it is nearly a known name.
NEARLY = 0.9


def misspelt(names: Iterable[str], known: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield a message for each name that no role knows but that is meant for one.

    ``known``: prefix (``redis``, ``mev``) to the full names of its public variables. A name is meant for a
    role when it starts with the role's prefix, or differs from a public name by a letter or two.
    """
    public = {name for options in known.values() for name in options}
    for name in sorted(set(names) - public):
        prefix = next((p for p in sorted(known, key=len, reverse=True) if name.startswith(f"{p}_")), None)
        if prefix is not None:
            close = difflib.get_close_matches(name, known[prefix], n=1, cutoff=0)
            hint = f"; the closest known name is {close[0]}" if close else ""
            yield f"{name}: no such variable of {prefix}{hint}"
        elif close := difflib.get_close_matches(name, public, n=1, cutoff=NEARLY):
            yield f"{name}: no such variable; did you mean {close[0]}?"


def out_of_limits(
    values: Mapping[str, Any], limits: Mapping[str, Mapping[str, Any]], secrets: Collection[str] = ()
) -> Iterator[str]:
    """Yield a message for each value outside its limits; absent and ``None`` values have no limits.

    Values at one of the paths ``secrets`` are never formatted.
    """
    for path, limit in limits.items():
        for place, value in _at(values, path.split("."), ""):
            if problem := _outside(value, limit):
                yield f"{place} is {HIDDEN if path in secrets else repr(value)}: {problem}"


def _at(value: Any, steps: Sequence[str], place: str) -> Iterator[tuple[str, Any]]:
    """Every (place, value) that a dotted path leads to; lists are entered on the way."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _at(item, steps, f"{place}[{index}]")
    elif not steps:
        if value is not None:
            yield place, value
    elif isinstance(value, Mapping) and steps[0] in value:
        yield from _at(value[steps[0]], steps[1:], f"{place}.{steps[0]}" if place else steps[0])


def _outside(value: Any, limit: Mapping[str, Any]) -> str | None:
    if "min" in limit or "max" in limit:
        try:
            number = float(value)
        except (TypeError, ValueError):
            return "a number is wanted"
        if "min" in limit and number < limit["min"]:
            return f"the least allowed is {limit['min']}"
        if "max" in limit and number > limit["max"]:
            return f"the most allowed is {limit['max']}"
    if limit.get("ipv4") and not _is_ipv4(value):
        return str(limit.get("message", "an IPv4 address is wanted"))
    if "pattern" in limit and not re.fullmatch(limit["pattern"], str(value)):
        return str(limit.get("message", f"it must match {limit['pattern']}"))
    return None


def _is_ipv4(value: Any) -> bool:
    try:
        ipaddress.IPv4Address(str(value))
    except ValueError:
        return False
    return True


def secret_paths(options: Mapping[str, Mapping[str, Any]], above: str = "") -> Iterator[str]:
    """Yield the dotted path of every option marked ``no_log``, however deep."""
    for name, option in options.items():
        if option.get("no_log"):
            yield above + name
        else:
            yield from secret_paths(option.get("options") or {}, f"{above}{name}.")


def hide(message: str, values: Mapping[str, Any], secrets: Iterable[str]) -> str:
    """The message without any value found at the secret paths, in whichever form it was put there."""
    forms: set[str] = set()
    for path in secrets:
        for _, value in _at(values, path.split("."), ""):
            for leaf in _leaves(value):
                forms |= {str(leaf), str(leaf).strip(), repr(leaf)}
                # inside another container's repr, and in JSON
                forms |= {repr(str(leaf))[1:-1], json.dumps(str(leaf))[1:-1]}
    for form in sorted(forms - {""}, key=len, reverse=True):
        message = message.replace(form, HIDDEN)
    return message


def _leaves(value: Any) -> Iterator[Any]:
    """What a value of the wrong shape holds: a dict where a string was wanted still has the secret in it."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    else:
        yield value
