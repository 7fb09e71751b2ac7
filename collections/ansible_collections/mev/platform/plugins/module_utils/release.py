# Copyright (c) the MEV platform's authors. Apache-2.0 (see LICENSE)
"""A Python package as a release: an id that says what is in it, and a wheel that holds just that."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

ID_LENGTH = 12
_IGNORED = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.pyc", "*.nbi", "*.nbc")
# What the wheel is made from. Tests and benchmarks are no part of a release.
PARTS = ("pyproject.toml", "README.md", "src")


def copy_source(source: Path, target: Path) -> None:
    """Copy what a wheel is made from, without caches; a build in the tree would keep deleted modules."""
    target.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        here = source / part
        if here.is_dir():
            shutil.copytree(here, target / part, ignore=_IGNORED)
        elif here.exists():
            shutil.copy2(here, target / part)
        elif part != "README.md":
            raise FileNotFoundError(f"{source} is no Python package in src layout: {part} is missing")


def release_id(source: Path, lock: Path) -> str:
    """Hex digits that change when a file of the package or its lock changes, and only then."""
    digest = hashlib.sha256()
    for name, content in _contents(source, lock):
        digest.update(f"{len(name)}:{name}{len(content)}:".encode() + content)
    return digest.hexdigest()[:ID_LENGTH]


def _contents(source: Path, lock: Path) -> Iterator[tuple[str, bytes]]:
    yield "requirements.txt", lock.read_bytes()
    for part in PARTS:
        here = source / part
        files = sorted(here.rglob("*")) if here.is_dir() else [here]
        for file in files:
            relative = file.relative_to(source)
            ignored = any(_IGNORED("", [name]) for name in relative.parts)
            if file.is_file() and not ignored:
                yield relative.as_posix(), file.read_bytes()
