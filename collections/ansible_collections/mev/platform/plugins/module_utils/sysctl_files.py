# Copyright (c) the MEV platform's authors. Apache-2.0 (see LICENSE)
"""The files that set the kernel's settings at boot, sysctl.d(5), and those that a new limit may break."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping
from pathlib import Path

DIRECTORIES = ("etc/sysctl.d", "run/sysctl.d", "usr/local/lib/sysctl.d", "usr/lib/sysctl.d")
"""Of files of the same name the first counts."""

LIMITS = ("etc/security/limits.conf", "etc/security/limits.d/*.conf")


def path_of(key: str) -> str:
    """Return a key's path below /proc/sys: a.b.c or a/b/c, the first separator says which it is."""
    dotted = "/" not in key or 0 <= key.find(".") < key.find("/")
    return key.translate(str.maketrans("./", "/.")) if dotted else key


def name_of(path: str) -> str:
    """Return the key of a path, dotted unless a part has a dot of its own (an interface eth0.100)."""
    return path if "." in path else path.replace("/", ".")


def sysctl_files(root: Path) -> list[Path]:
    """Return the files that count at boot, in the order of reading: a later one has the last word."""
    files: dict[str, Path] = {}
    for directory in DIRECTORIES:
        for path in (root / directory).glob("*.conf"):
            files.setdefault(path.name, path)
    return [files[name] for name in sorted(files)]


def assignments(text: str) -> Iterator[tuple[str, str]]:
    """Yield (path below /proc/sys, which may have wildcards; value) for each line that sets something."""
    for line in text.splitlines():
        name, equals, value = line.strip().removeprefix("-").partition("=")
        if equals and not name.startswith(("#", ";")):
            yield path_of(name.strip()), value.strip()


def tolerated(text: str) -> set[str]:
    """Return the paths that a file sets with a minus: there, failure is ignored at boot."""
    return {path for line in text.splitlines() if line.startswith("-") for path, _ in assignments(line)}


def overriding(root: Path, own: Path, wanted: Mapping[str, str]) -> Iterator[tuple[str, str, Path]]:
    """Yield (path, value, file) for each wanted path that a file read after `own` sets too."""
    for file in sysctl_files(root):
        if file.name <= own.name or not file.is_file():
            continue
        for pattern, value in assignments(file.read_text(errors="replace")):
            for path in wanted:
                if path.count("/") == pattern.count("/") and fnmatch.fnmatchcase(path, pattern):
                    yield path, value, file


def open_files_above(root: Path, most: int, own: str) -> Iterator[str]:
    """Yield "file: line" for each limit on open files that the kernel would refuse to a session."""
    for file in sorted(path for pattern in LIMITS for path in root.glob(pattern)):
        if file.name == own:
            continue
        for line in file.read_text(errors="replace").splitlines():
            words = line.split("#")[0].split()
            if len(words) == 4 and words[2] == "nofile" and words[3].isdigit() and int(words[3]) > most:
                yield f"{file}: {' '.join(words)}"


def sysctl_text(values: Mapping[str, str], tolerate: set[str]) -> str:
    """Return the drop-in for `{path: value}`; what may be lacking gets a minus, so that a boot is clean."""
    lines = [f"{'-' if path in tolerate else ''}{name_of(path)} = {values[path]}" for path in sorted(values)]
    return "\n".join([f"# {MANAGED}", *lines, ""])


def tmpfiles_text(values: Mapping[str, str]) -> str:
    """Return the tmpfiles.d(5) file for `{path below /sys: value}`."""
    lines = [f"w /sys/{path} - - - - {values[path]}" for path in sorted(values)]
    return "\n".join([f"# {MANAGED}", *lines, ""])


MANAGED = "Managed by Ansible: a change made here is undone by the next run."
