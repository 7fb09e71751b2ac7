"""The id of a release says what is in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.mev.platform.plugins.module_utils.release import copy_source, release_id


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "src" / "p" / "__pycache__").mkdir(parents=True)
    (tmp_path / "src" / "p" / "__init__.py").write_text("x = 1\n")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    (tmp_path / "requirements.txt").write_text("numpy==2\n")
    return tmp_path


def _id(package: Path) -> str:
    return release_id(package, package / "requirements.txt")


# Could fail: a checkout with new times, or a cache written by a test run, makes every deploy a new release.
def test_times_and_caches_do_not_change_the_id(package: Path) -> None:
    before = _id(package)
    os.utime(package / "src" / "p" / "__init__.py", (1, 1))
    (package / "src" / "p" / "__pycache__" / "p.pyc").write_bytes(b"x")
    (package / "src" / "p.egg-info").mkdir()
    (package / "src" / "p.egg-info" / "PKG-INFO").write_text("x")
    assert _id(package) == before


# Could fail: a change that matters does not lead to a deploy.
@pytest.mark.parametrize("file", ["src/p/__init__.py", "pyproject.toml", "requirements.txt"])
def test_content_changes_the_id(package: Path, file: str) -> None:
    before = _id(package)
    (package / file).write_text("changed\n")
    assert _id(package) != before


# Could fail: content moved from one file to another, or a renamed module, hashes alike.
def test_names_count(package: Path) -> None:
    before = _id(package)
    (package / "src" / "p" / "__init__.py").rename(package / "src" / "p" / "other.py")
    assert _id(package) != before


# Could fail: the copy drags caches along, or hides that the folder is no package.
def test_copy_takes_the_package_alone(package: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    (package / "src" / "p" / "__pycache__" / "p.pyc").write_bytes(b"x")
    copy_source(package, target)
    assert sorted(p.relative_to(target).as_posix() for p in target.rglob("*") if p.is_file()) == [
        "pyproject.toml",
        "src/p/__init__.py",
    ]
    with pytest.raises(FileNotFoundError, match=r"pyproject\.toml is missing"):
        copy_source(tmp_path / "src", tmp_path / "elsewhere")
