"""What we pin agrees with what we install, and no file ties the repository to one network."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import yaml
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[2]
PUBLIC = re.compile(
    # the registries themselves, what the guide and the licences name, and addresses that lead nowhere
    r"(pypi\.org|files\.pythonhosted\.org|registry\.npmjs\.org|deb\.debian\.org|[a-z.]*debian\.org)$"
)


def tracked(*patterns: str) -> list[Path]:
    """List the files that git knows, or will."""
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *patterns],
        check=True, capture_output=True, text=True,
    ).stdout.split("\0")  # fmt: skip
    return [ROOT / name for name in listed if name and (ROOT / name).is_file()]


LOCKS = tracked("requirements/*.txt", "engine/*requirements.txt")


def test_galaxy_requirements_are_what_the_locked_ansible_brings() -> None:
    # fails when `make lock` brings other collections than those that AWX would fetch: the lower bounds are
    # those of ansible 12 (Python 3.11), the upper ones those of ansible 14 (3.12 and newer)
    spec = find_spec("ansible_collections")
    assert spec is not None
    assert spec.submodule_search_locations
    wrong = {}
    for wanted in yaml.safe_load((ROOT / "requirements.yml").read_text())["collections"]:
        namespace, name = wanted["name"].split(".")
        bundled = [
            json.loads(path.read_text())["collection_info"]["version"]
            for place in spec.submodule_search_locations
            if (path := Path(place) / namespace / name / "MANIFEST.json").exists()
        ]
        bound = "<=" if sys.version_info >= (3, 12) else ">="
        exact = {str(item) for item in SpecifierSet(wanted["version"]) if item.operator == bound}
        if {f"{bound}{version}" for version in bundled} != exact:
            wrong[wanted["name"]] = {"bundled": bundled, "requirements.yml": wanted["version"]}
    assert wrong == {}


def test_every_collection_that_is_called_is_required() -> None:
    # fails when a task calls a module of a collection that requirements.yml does not name
    required = {
        item["name"] for item in yaml.safe_load((ROOT / "requirements.yml").read_text())["collections"]
    }
    called: set[str] = set()
    for path in tracked("roles", "playbooks", "site.yml", "molecule", ".config", "ansible.cfg"):
        if path.suffix in (".yml", ".cfg"):
            text = path.read_text()
            called |= set(re.findall(r"\b((?:community|ansible|amazon|kubernetes)\.\w+)\.[a-z]\w+", text))
    assert called - {"ansible.builtin"} <= required


def test_lock_files_hold_hashes_and_no_addresses() -> None:
    # fails when a lock is compiled without --generate-hashes, or names the index that it was made with
    assert LOCKS
    for lock in LOCKS:
        pins = re.findall(r"^[a-z0-9][^\s;]*==", lock.read_text(), re.MULTILINE)
        assert len(pins) == len(re.findall(r"^[a-z0-9].*\\$", lock.read_text(), re.MULTILINE)), lock
        assert "://" not in lock.read_text(), lock
    for lock in tracked("*package-lock.json"):
        packages = json.loads(lock.read_text())["packages"]
        assert not [name for name, package in packages.items() if "resolved" in package], lock
        assert not [name for name, package in packages.items() if name and "integrity" not in package], lock


def upstreams() -> set[str]:
    """Hosts of the repositories that a role takes for the source `upstream`: public, and a developer's apt
    may know them too."""
    sources = [
        str(repository)
        for path in tracked("roles/*/vars/main.yml")
        for name, value in (yaml.safe_load(path.read_text()) or {}).items()
        if name.endswith("_repositories")
        for repository in value["upstream"]
    ]
    return set(re.findall(r"https?://([\w.-]+)", " ".join(sources)))


def test_no_file_names_a_mirror_of_this_machine() -> None:
    # fails when an index or a registry of the network that we happen to be in gets into a file
    settings = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], check=True, capture_output=True, text=True
    ).stdout
    npmrc = Path.home() / ".npmrc"
    settings += npmrc.read_text() if npmrc.exists() else ""
    for source in [*Path("/etc/apt/sources.list.d").glob("*.*"), Path("/etc/apt/sources.list")]:
        settings += source.read_text() if source.is_file() else ""
    found = set(re.findall(r"https?://(?:[^/@\s]+@)?([\w.-]+)", settings))
    hosts = {host for host in found - upstreams() if not PUBLIC.match(host)}
    named = {
        host: str(path)
        for path in tracked()
        for host in hosts
        if path.suffix not in (".gz", ".png") and host.encode() in path.read_bytes()
    }
    assert named == {}
