#!/usr/bin/python
# Copyright (c) 2026, the MEV platform's authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Build a Debian tree that throwaway hosts are laid over."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nspawn_tree
short_description: Build a cached Debian tree for throwaway hosts
version_added: 0.1.0
description:
  - Builds a minimal Debian tree with mmdebstrap, from the controller's own apt sources and apt settings.
  - The tree lies in the cache under a key of everything that shaped it, so that a change builds another.
  - It is built beside its place and renamed when whole, so that an interrupted build is never used.
  - After a build the three newest trees are kept, and those that a host lies on.
author: The MEV platform's maintainers (@mev-platform)
options:
  suite:
    description: Debian release to install, by its code name.
    type: str
    default: trixie
  packages:
    description: Packages to install, beside the essential ones.
    type: list
    elements: str
    required: true
  customize:
    description: A program that is run with the tree's path when the packages are in; part of the key.
    type: path
    required: true
  ca_bundle:
    description:
      - A PEM bundle of the certificate authorities that the controller trusts.
      - Those that Debian does not bring are added to the tree's trust store. Empty for none.
    type: path
    default: /etc/ssl/certs/ca-certificates.crt
  mirror:
    description: Where Debian comes from if the controller's own apt sources are not Debian's.
    type: str
    default: http://deb.debian.org/debian
  mirror_security:
    description: The same for the security updates.
    type: str
    default: http://deb.debian.org/debian-security
  cache_dir:
    description: Directory of the trees.
    type: path
    default: /var/cache/mev-platform/trees
  state_dir:
    description: Where the hosts' records are kept, which name the trees that are in use.
    type: path
    default: /var/lib/mev-platform
attributes:
  check_mode:
    support: full
    description: Says whether a tree would be built.
requirements: [mmdebstrap]
"""

EXAMPLES = r"""
- name: Build the tree
  mev.platform.nspawn_tree:
    packages: [systemd, systemd-sysv, dbus, python3, openssh-server, sudo]
    customize: "{{ role_path }}/files/customize-tree"
  become: true
"""

RETURN = r"""
path:
  description: The tree.
  type: str
  returned: always
key:
  description: Hash of what shaped the tree.
  type: str
  returned: always
sources:
  description: The tree's apt sources.
  type: list
  elements: str
  returned: always
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mev.platform.plugins.module_utils.nspawn import (
    HostError,
    lock,
    mounts_under,
    read_record,
    run,
)

CARRIED = re.compile(
    r"Acquire::(Check-Valid-Until|Check-Date|Max-FutureTime|Retries"
    r"|https?::(Proxy|Timeout|Verify-Peer|Verify-Host|CaInfo|Pipeline-Depth)(::.*)?) "
)
"""apt settings that say how this network is reached; the rest is the controller's own business."""


def apt_sources(
    release: dict[str, str], suite: str, mirror: str, mirror_security: str, targets: str
) -> list[str]:
    """Return one-line apt sources for `suite`.

    Args:
        release: the controller's os-release.
        targets: lines "uri release component", as `apt-get indextargets` prints them.
    """
    code = release.get("VERSION_CODENAME", "")
    found: dict[tuple[str, str], list[str]] = {}
    for line in targets.splitlines() if release.get("ID") == "debian" and code else []:
        uri, name, component = line.split()
        suffix = name.removeprefix(code)
        if name.startswith(code) and suffix in ("", "-updates", "-security"):
            components = found.setdefault((uri.rstrip("/"), suite + suffix), [])
            if component not in components:
                components.append(component)
    if not any(name == suite for _, name in found):
        found = {
            (mirror, suite): ["main"],
            (mirror, f"{suite}-updates"): ["main"],
            (mirror_security, f"{suite}-security"): ["main"],
        }
    return [f"deb {uri} {name} {' '.join(components)}" for (uri, name), components in found.items()]


def apt_settings(dump: str) -> list[str]:
    """Pick from `apt-config dump` the lines that a guest on this network needs."""
    return [line for line in dump.splitlines() if CARRIED.match(line) and not line.endswith('"";')]


def os_release() -> dict[str, str]:
    """Read the controller's os-release."""
    pairs = (line.partition("=") for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    return {key: value.strip("\"'") for key, _, value in pairs}


def build(module: AnsibleModule, path: Path, sources: list[str], settings: list[str]) -> None:
    """Run mmdebstrap into a directory beside `path`, then rename it."""
    cache = path.parent
    for left in cache.glob("building-*"):  # we hold the lock: an earlier run left it when it was killed
        if mounts_under(left):
            raise HostError(f"{left} holds mounts of an interrupted build: umount them and run again")
        shutil.rmtree(left)
    work = Path(tempfile.mkdtemp(prefix="building-", dir=cache))
    work.chmod(0o755)
    (work / "sources.list").write_text("\n".join(sources) + "\n")
    command = [
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        f"--include={','.join(module.params['packages'])}",
    ]
    command += [f"--aptopt={setting.rstrip(';')}" for setting in settings]
    command += [f"--customize-hook={module.params['customize']}"]
    command += [module.params["suite"], str(work / "tree"), str(work / "sources.list")]
    environment = {**os.environ, "MEV_CA_BUNDLE": module.params["ca_bundle"] or "", "LC_ALL": "C.UTF-8"}
    log = work / "log"
    with log.open("w") as output:
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, check=False
            )
        except FileNotFoundError as error:
            raise HostError(
                "the command 'mmdebstrap' is missing: apt-get install --no-install-recommends mmdebstrap"
            ) from error
    if done.returncode != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-25:])
        raise HostError(f"mmdebstrap ended with {done.returncode}; sources were {sources}; it said:\n{tail}")
    (work / "tree").rename(path)
    shutil.rmtree(work)


def prune(cache: Path, hosts: Path, keep: int = 3) -> None:
    """Delete all trees but the `keep` newest and those that a host lies on, here or with other records."""
    used = {(read_record(path) or {}).get("tree") for path in hosts.glob("*/record.json")}
    mounted = set(re.findall(r"[ ,]lowerdir=([^,\s]+)", Path("/proc/self/mountinfo").read_text()))
    trees = [path for path in cache.glob("*-*") if path.is_dir() and not path.name.startswith("building-")]
    # a directory's ctime is that of its renaming; its mtime is what mmdebstrap gave it
    for path in sorted(trees, key=lambda path: path.stat().st_ctime_ns, reverse=True)[keep:]:
        if str(path) in used | mounted or mounts_under(path):
            continue
        dying = cache / f"building-{path.name}"  # a deletion that is cut short is finished by the next build
        path.rename(dying)
        shutil.rmtree(dying)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "suite": {"type": "str", "default": "trixie"},
            "packages": {"type": "list", "elements": "str", "required": True},
            "customize": {"type": "path", "required": True},
            "ca_bundle": {"type": "path", "default": "/etc/ssl/certs/ca-certificates.crt"},
            "mirror": {"type": "str", "default": "http://deb.debian.org/debian"},
            "mirror_security": {"type": "str", "default": "http://deb.debian.org/debian-security"},
            "cache_dir": {"type": "path", "default": "/var/cache/mev-platform/trees"},
            "state_dir": {"type": "path", "default": "/var/lib/mev-platform"},
        },
        supports_check_mode=True,
    )
    given = module.params
    try:
        targets = run(
            [
                "apt-get",
                "indextargets",
                "--format",
                "$(REPO_URI) $(RELEASE) $(COMPONENT)",
                "Created-By: Packages",
            ]
        )
        sources = apt_sources(
            os_release(), given["suite"], given["mirror"], given["mirror_security"], targets
        )
        settings = apt_settings(run(["apt-config", "dump"]))
        shaped_by = {
            "suite": given["suite"],
            "packages": sorted(given["packages"]),
            "customize": Path(given["customize"]).read_text(),
            "authorities": Path(given["ca_bundle"]).read_text() if given["ca_bundle"] else "",
            "sources": sources,
            "settings": settings,
        }
        key = hashlib.sha256(json.dumps(shaped_by, sort_keys=True).encode()).hexdigest()[:16]
        path = Path(given["cache_dir"]) / f"{given['suite']}-{key}"
        missing = not path.is_dir()
        if missing and not module.check_mode:
            with lock(path.parent / "lock", waiting=module.warn):
                if not path.is_dir():  # else another run built it while we waited
                    build(module, path, sources, settings)
                    prune(path.parent, Path(given["state_dir"]) / "hosts")
    except (HostError, OSError) as error:
        module.fail_json(msg=f"Debian tree: {error}")
    module.exit_json(changed=missing, path=str(path), key=key, sources=sources)


if __name__ == "__main__":
    main()
