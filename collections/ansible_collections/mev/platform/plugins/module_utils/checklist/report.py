# Copyright (c) the MEV platform's authors. Apache-2.0 (see LICENSE)
"""One report of all hosts: as data, as a page, as a few lines for a terminal."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jinja2
from ansible_collections.mev.platform.plugins.module_utils.checklist.outcome import (
    FAILED,
    RESULTS,
    UNKNOWN,
    WARNED,
)

Lines = list[dict[str, str]]
_WIDTH = 60


def build(environment: str, time: str, hosts: Mapping[str, Lines], left_out: int) -> dict[str, Any]:
    """The report as data. ``left_out``: hosts of the inventory that this run was not asked about."""
    return {
        "version": 1,
        "environment": environment,
        "time": time,
        "hosts_left_out": left_out,
        "counts": _count(line for lines in hosts.values() for line in lines),
        "hosts": [{"name": name, "counts": _count(lines), "items": lines} for name, lines in hosts.items()],
    }


def _count(lines: Iterable[Mapping[str, str]]) -> dict[str, int]:
    counter = Counter(line["result"] for line in lines)
    return {result: counter[result] for result in RESULTS}


def failures(report: Mapping[str, Any]) -> list[str]:
    """A sentence for each failure of each host."""
    return [
        f"{host['name']}: {line['title']}: {line['found']}; wanted: {line['wanted']}; {line['mend']}"
        for host in report["hosts"]
        for line in host["items"]
        if line["result"] == FAILED
    ]


def summary(counts: Mapping[str, int]) -> str:
    """3 failed, 2 warned, …"""
    return ", ".join(f"{count} {result}" for result, count in counts.items() if count)


def table(report: Mapping[str, Any]) -> str:
    """What needs attention, for a terminal; the page has the rest."""
    hosts = report["hosts"]
    width = max((len(host["name"]) for host in hosts), default=0)
    out = [f"{report['environment']}, {report['time']}: {summary(report['counts'])}"]
    for result in (FAILED, WARNED):
        out += [
            f"{result.upper():7}  {host['name']:{width}}  {line['title']}: {_short(line['found'])}; "
            f"wanted: {_short(line['wanted'])}"
            for host in hosts
            for line in host["items"]
            if line["result"] == result
        ]
    for host in hosts:
        titles = [line["title"] for line in host["items"] if line["result"] == UNKNOWN]
        if titles:
            out.append(f"{UNKNOWN}: {host['name']}: {', '.join(titles)}")
    if report["hosts_left_out"]:
        out.append(f"not asked: {report['hosts_left_out']} other hosts of this inventory")
    return "\n".join(out)


def _short(text: str) -> str:
    return text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"


def page(report: Mapping[str, Any], template: Path) -> str:
    """The report as one HTML page that needs nothing else. What a host said is never taken for HTML."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(template.read_text(encoding="utf-8")).render(
        report=report, results=RESULTS, summary=summary
    )


def write(folder: Path, name: str, contents: Mapping[str, str]) -> list[Path]:
    """Write ``name.suffix`` and ``latest.suffix`` for each suffix: whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for suffix, text in contents.items():
        for stem in (name, "latest"):
            handle, temporary = tempfile.mkstemp(dir=folder, prefix=".report-")
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    file.write(text)
                Path(temporary).chmod(0o640)  # it lists what is weak
                Path(temporary).replace(folder / f"{stem}.{suffix}")
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
            written.append(folder / f"{stem}.{suffix}")
    return written
