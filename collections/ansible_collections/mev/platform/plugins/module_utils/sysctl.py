# Copyright (c) the MEV platform's authors. Apache-2.0 (see LICENSE)
"""The kernel's settings as one transaction: all of them are in force and read back, or none was touched."""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.mev.platform.plugins.module_utils.sysctl_files import name_of, path_of
from ansible_collections.mev.platform.plugins.module_utils.sysctl_keys import (
    KEYS,
    MODULE_TREES,
    ONE_OF,
    Rule,
    touched,
)

NEARLY = 0.9
"""From here on a name that no kernel knows is a slip, even where a module might bring it."""

ACTS = re.compile(
    r"vm/(compact_memory|drop_caches|stat_refresh)|.*/flush"
    r"|kernel/(ns_last_pid|hung_task_warnings|tainted|random/.*|keys/.*|hostname|domainname)"
)
"""Writing these does something, or they count, or others own them."""

PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@-]*")


class Refused(Exception):  # noqa: N818  it is no error of ours
    """What the kernel did not take, in words for the operator."""


@dataclass(frozen=True)
class Setting:
    """One value of the kernel: `name` for people, `file` below /proc/sys or /sys."""

    name: str
    file: Path
    wanted: str
    rule: Rule | None = None

    def now(self) -> str:
        return read(self.file)

    def holds(self) -> bool:
        return same(self.wanted, self.now(), self.rule)


def read(file: Path) -> str:
    """Return a value without the kernel's spacing; of alternatives, the one in brackets."""
    text = " ".join(file.read_text().split())
    chosen = re.search(r"\[(\S+)\]", text)
    return chosen[1] if chosen else text


def write(file: Path, value: str) -> None:
    """Write by one call, as the kernel wants it."""
    file.write_text(value)


def same(wanted: str, found: str, rule: Rule | None = None) -> bool:
    """Say whether a value is in force, whatever its spelling (4096 or 0x1000) and the kernel's rounding."""
    left, right = ([_number(word) for word in text.split()] for text in (wanted, found))
    if left == right or not (rule and rule.rounds and len(left) == len(right) == 1):
        return left == right
    want, have = left[0], right[0]
    return isinstance(want, int) and isinstance(have, int) and want <= have < 2 * want


def _number(word: str) -> int | str:
    try:
        return int(word, 0) if word.lower().startswith("0x") else int(word)
    except ValueError:
        return word


def values_of(given: Mapping[str, Any], problems: list[str]) -> dict[str, str]:
    """Return `{path: value}` of what was given, and add what is wrong before any kernel is asked."""
    values: dict[str, str] = {}
    for key, value in given.items():
        path = path_of(str(key))
        if path.count("/") < 1 or not all(PART.fullmatch(part) for part in path.split("/")):
            problems.append(f"{key}: no name of a setting; one such as vm.swappiness is wanted")
        elif ACTS.fullmatch(path):
            problems.append(
                f"{key}: no setting that could be kept: writing it acts, or it is not for us to set"
            )
        elif path in values:
            problems.append(f"{key}: given twice, in two spellings")
        elif isinstance(value, (bool, float)) or not isinstance(value, (int, str)) or not _clean(str(value)):
            problems.append(f"{key} is {value!r}: a whole number or one line of text is wanted")
        else:
            values[path] = " ".join(str(value).split())
            problems += _outside(str(key), values[path], KEYS.get(name_of(path)))
    for one, other in ONE_OF:
        if all(values.get(path_of(key), "0") != "0" for key in (one, other)):
            problems.append(f"{one} and {other}: the kernel keeps one of the two; leave one of them out")
    return values


def _clean(text: str) -> bool:
    return 0 < len(text) <= 1024 and text.isascii() and text.isprintable() and bool(text.strip())


def _outside(key: str, value: str, rule: Rule | None) -> Iterator[str]:
    if rule is None:
        return
    if rule.choices:
        if value not in rule.choices:
            yield f"{key} is {value}: one of {', '.join(rule.choices)} is wanted"
        return
    numbers = [_number(word) for word in value.split()]
    if len(numbers) != rule.count or any(isinstance(number, str) for number in numbers):
        wanted = "a whole number is" if rule.count == 1 else f"{rule.count} whole numbers are"
        yield f"{key} is {value}: {wanted} wanted"
    elif any(not rule.low <= number <= rule.high for number in numbers if isinstance(number, int)):
        yield f"{key} is {value}: {rule.low} to {rule.high} is allowed"
    elif rule.rising and numbers != sorted(numbers, key=int):
        yield f"{key} is {value}: no number may be less than the one before it"


def absent(path: str, root: Path, may_lack: Sequence[str], problems: list[str]) -> str:
    """Return why this kernel lacks a key, or add the problem where it may be a slip of the pen.

    Keys that are known to exist in Linux, or named in `may_lack`, are lacking; so is what a module or an
    interface brings along that isn't there. All others are taken for slips.
    """
    key = name_of(path)
    if key in may_lack or path in may_lack:
        return "this kernel has no such key, and may_lack names it"
    owner = _owner(path, root)
    if key in KEYS:
        return owner or "this kernel has no such key"
    existing = (file.relative_to(root).as_posix() for file in root.glob("**/*") if file.is_file())
    known = {*KEYS, *map(name_of, existing)}
    if owner and not difflib.get_close_matches(key, known, 1, NEARLY):
        return owner
    close = difflib.get_close_matches(key, known, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    problems.append(f"{key}: this kernel has no such key, and none is known by that name{hint}")
    return ""


def _owner(path: str, root: Path) -> str:
    """Say what brings a missing key along and isn't there; empty if nothing is known to."""
    for tree in map(path_of, MODULE_TREES):
        if path.startswith(f"{tree}/") and not (root / tree).exists():
            return f"the kernel module that brings {name_of(tree)} is not loaded; udev sets it when it comes"
    if interface := re.fullmatch(r"(net/ipv[46]/(?:conf|neigh))/([^/]+)/([^/]+)", path):
        folder, name, last = interface.groups()
        if not (root / folder / name).exists() and (root / folder / "default" / last).exists():
            return f"there is no interface {name}; udev sets it when it comes"
    elif path.startswith("net/") and not _first_network(root):
        return "it belongs to the machine's first network namespace, and this host is in one of its own"
    return ""


def _first_network(root: Path) -> bool:
    """Say whether the network's settings are the machine's own: this one is in no other namespace."""
    return (root / "net/core/netdev_max_backlog").exists()


def settings_of(
    values: Mapping[str, str], root: Path, may_lack: Sequence[str], problems: list[str]
) -> tuple[list[Setting], dict[str, str]]:
    """Return what is to be set, and `{path: reason}` of what this kernel lacks."""
    settings, lacking = [], {}
    for path, value in values.items():
        file = root / path
        setting = Setting(name_of(path), file, value, KEYS.get(name_of(path)))
        if not file.is_file():
            if file.is_dir():
                problems.append(f"{setting.name}: a folder of settings, no setting")
            elif reason := absent(path, root, may_lack, problems):
                lacking[path] = reason
        elif file.stat().st_mode & 0o222 or setting.holds():
            settings.append(setting)
        elif path.startswith("net/") and not _first_network(root):
            lacking[path] = (
                f"it belongs to the machine's first network namespace, where it is {setting.now()};"
                " this host, in one of its own, may only read it"
            )
        else:
            problems.append(
                f"{setting.name} is {value}: this kernel lets it be read only, and has {setting.now()}"
            )
    return settings, lacking


def apply(settings: Sequence[Setting], root: Path, commit: Callable[[set[str]], None]) -> set[str]:
    """Set all and read all back, then `commit` the files; on any failure the former values are put back.

    Returns:
        Names of the settings whose value this kernel was built without (tcp_congestion_control, a qdisc).
    """
    files = [root / path_of(key) for setting in settings for key in touched(setting.name)]
    former = {
        file: read(file) for file in [*files, *(setting.file for setting in settings)] if file.is_file()
    }
    without: set[str] = set()
    try:
        for setting in settings:
            if not setting.holds() and not _take(setting):
                without.add(setting.name)
        for setting in settings:
            if setting.name not in without and not setting.holds():
                raise Refused(
                    f"{setting.name}: {setting.wanted} was wanted, and {setting.now()} is read back"
                )
        commit(without)
    except BaseException as error:
        left = restore(former)
        text = str(error) if isinstance(error, Refused) else f"{type(error).__name__}: {error}"
        if left:
            raise Refused(f"{text}. NOT put back: {', '.join(left)}") from error
        raise Refused(f"{text}. The former values and files are in place again.") from error
    return without


def _take(setting: Setting) -> bool:
    """Write one value; say whether the kernel has it at all."""
    try:
        write(setting.file, setting.wanted)
    except OSError as error:
        if error.errno == errno.ENOENT and setting.rule and setting.rule.choices:
            return False
        raise Refused(
            f"{setting.name}: the kernel refuses {setting.wanted} ({error.strerror}); it has {setting.now()}"
        ) from error
    return True


def restore(former: Mapping[Path, str]) -> list[str]:
    """Put values back, in two rounds because some clear their sibling; return what could not be."""
    for _ in range(2):
        for file, value in former.items():
            try:
                if read(file) != value:
                    write(file, value)
            except OSError:  # what still differs is told below
                continue
    return [f"{file} (was {value})" for file, value in former.items() if read(file) != value]


def huge_pages(consumers: Mapping[str, Any], share: float, meminfo: str) -> int:
    """Return how many huge pages the consumers (MB each) need; raise where the host would starve."""
    has = {name: int(kb) for name, kb in re.findall(r"^(\w+):\s+(\d+)", meminfo, re.MULTILINE)}
    wrong = {
        name: mb
        for name, mb in consumers.items()
        if isinstance(mb, bool) or not re.fullmatch(r"\d+", str(mb))
    }
    if wrong:
        raise Refused(
            f"huge pages of {', '.join(wrong)}: whole numbers of MB are wanted, not {list(wrong.values())}"
        )
    wanted = sum(int(mb) for mb in consumers.values()) * 1024
    if wanted == 0:
        return 0
    if not has.get("Hugepagesize"):
        raise Refused("huge pages: this kernel has none")
    pages = -(-wanted // has["Hugepagesize"])
    more = pages * has["Hugepagesize"] - has["HugePages_Total"] * has["Hugepagesize"]
    said = ", ".join(f"{name} {mb} MB" for name, mb in consumers.items())
    for amount, of in ((wanted, "MemTotal"), (more, "MemAvailable")):
        if amount > share * has[of]:
            raise Refused(
                f"huge pages ({said}): {amount // 1024} MB{' more' * (of == 'MemAvailable')} would be taken,"
                f" and {share:g} of the {has[of] // 1024} MB of {of} is the most: the host would starve"
            )
    return pages
