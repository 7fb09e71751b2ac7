"""What of the controller's apt a host gets."""

from __future__ import annotations

import json
import time
from pathlib import Path

from ansible_collections.mev.platform.plugins.modules.nspawn_tree import apt_settings, apt_sources, prune

OFFICIAL = ("http://deb.debian.org/debian", "http://deb.debian.org/debian-security")
BOOKWORM = {"ID": "debian", "VERSION_CODENAME": "bookworm"}


def test_the_controllers_mirror_is_used_for_the_hosts_release() -> None:
    # fails if a third party's repository, or another release's, is carried over, or a component is lost
    targets = """\
http://mirror.test/debian/ bookworm main
http://mirror.test/debian/ bookworm contrib
http://mirror.test/debian/ bookworm-updates main
http://mirror.test/security/ bookworm-security main
http://mirror.test/debian/ bookworm-backports main
http://mirror.test/debian/ sid main
https://packages.test/sdk cloud-sdk-bookworm main
"""
    assert apt_sources(BOOKWORM, "trixie", *OFFICIAL, targets) == [
        "deb http://mirror.test/debian trixie main contrib",
        "deb http://mirror.test/debian trixie-updates main",
        "deb http://mirror.test/security trixie-security main",
    ]


def test_a_controller_that_is_not_debian_falls_back_to_the_given_mirror() -> None:
    # fails if Ubuntu's archive is asked for Debian's release
    ubuntu = {"ID": "ubuntu", "VERSION_CODENAME": "noble"}
    for release, targets in ((ubuntu, "http://archive.test/ubuntu/ noble main\n"), (BOOKWORM, "")):
        assert [line.split()[1:3] for line in apt_sources(release, "trixie", *OFFICIAL, targets)] == [
            [OFFICIAL[0], "trixie"],
            [OFFICIAL[0], "trixie-updates"],
            [OFFICIAL[1], "trixie-security"],
        ]


def test_only_settings_about_the_network_are_carried() -> None:
    # fails if hooks or paths of the controller get into a host, or a proxy for one site does not
    dump = """\
APT::Architecture "amd64";
Acquire "";
Acquire::Check-Date "false";
Acquire::http::Proxy "http://proxy.test:3128";
Acquire::http::Proxy::local.test "DIRECT";
Acquire::https::Verify-Peer "";
Acquire::IndexTargets::deb::Packages::MetaKey "x";
DPkg::Pre-Install-Pkgs:: "/usr/sbin/dpkg-preconfigure --apt || true";
"""
    assert apt_settings(dump) == [
        'Acquire::Check-Date "false";',
        'Acquire::http::Proxy "http://proxy.test:3128";',
        'Acquire::http::Proxy::local.test "DIRECT";',
    ]


def test_old_trees_go_but_not_those_of_a_host(tmp_path: Path) -> None:
    # fails if a tree is deleted under a host, a build of another kind is taken for a tree, or all are kept
    cache, hosts = tmp_path / "trees", tmp_path / "hosts"
    for name in ("trixie-1", "trixie-2", "bookworm-3", "trixie-4", "trixie-5"):
        (cache / "new" / "usr").mkdir(parents=True)
        (cache / "new").rename(cache / name)  # as a build ends
        time.sleep(0.02)  # ctime is the kernel's tick, and builds are a minute apart
    (cache / "lock").touch()
    (hosts / "one").mkdir(parents=True)
    (hosts / "one/record.json").write_text(json.dumps({"tree": str(cache / "trixie-1")}))
    prune(cache, hosts)
    assert {path.name for path in cache.iterdir()} == {
        "lock",
        "trixie-1",
        "bookworm-3",
        "trixie-4",
        "trixie-5",
    }
