"""What the firewall lets in, seen from outside and over the mesh; and what a change of it does to a host."""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import json
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import scan
from ansible_collections.mev.platform.plugins.module_utils.nspawn import guest_leader

ROOT = Path(__file__).parents[3]
PROGRAM = "/usr/local/lib/mev/mev-firewall"
TIMEOUT = 20
"""Seconds that a change waits in these tests: the least that the role takes."""

# What is meant, written down once more and on purpose: a rule that is too wide must differ from it.
PUBLIC = {"mev": {("udp", 51820), ("udp", 51821)}, "edge": {("tcp", 80), ("tcp", 443)}}
OVER_THE_MESH = {  # from a group to a group
    ("mev", "mev"): {22},
    ("engine", "database"): {5432},
    ("edge", "database"): {5432},
    ("monitoring", "database"): {5432, 9187},
    ("engine", "cache"): {6379, 6380},
    ("edge", "cache"): {6379, 6380},
    ("monitoring", "cache"): {6379, 6380, 9121},
    ("monitoring", "engine"): {9090, 9091, 9092},
    ("monitoring", "mev"): {9100},
    ("monitoring", "edge"): {8091},
    ("edge", "edge"): {8091, 3000},
    ("edge", "monitoring"): {3001},
    ("monitoring", "monitoring"): {9093, 9095},
}


@functools.cache
def inventory() -> dict[str, Any]:
    """The inventory as Ansible reads it."""
    done = subprocess.run(
        ["ansible-inventory", "--list"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    data: dict[str, Any] = json.loads(done.stdout)
    return data


@dataclass(frozen=True)
class Target:
    """One host of the mesh, from inside and from the controller."""

    host: Any
    name: str

    @property
    def variables(self) -> dict[str, Any]:
        found: dict[str, Any] = inventory()["_meta"]["hostvars"][self.name]
        return found

    @property
    def groups(self) -> set[str]:
        return {"mev"} | {name for name, group in inventory().items() if self.name in group.get("hosts", [])}

    @property
    def namespace(self) -> scan.Namespace:
        leader = guest_leader(Path(f"/var/lib/mev-platform/hosts/{self.name}/root"))
        assert leader, f"{self.name} does not run on this machine"
        return scan.Namespace(f"/proc/{leader}/ns/net")

    @property
    def others(self) -> list[Target]:
        return [Target(None, name) for name in all_hosts() if name != self.name]

    def link_local(self, device: str) -> str:
        shown = self.namespace.run("ip", "-json", "-6", "address", "show", "dev", device, "scope", "link")
        return next((str(a["local"]) for link in json.loads(shown) for a in link.get("addr_info", [])), "")

    def run(self, command: str) -> str:
        """Output of a command run by root; the test fails when the command does."""
        with self.host.sudo():
            done = self.host.run(command)
        assert done.rc == 0, f"{command}: exit {done.rc}\n{done.stdout}{done.stderr}"
        return str(done.stdout)

    def in_force(self) -> str:
        """Rules, policies and files, without counters and what iptables says about itself."""
        saved = self.run("iptables-save -t filter; ip6tables-save -t filter")
        lines = [re.sub(r"\[\d+:\d+\]", "", line) for line in saved.splitlines() if line[0] != "#"]
        lines.sort(key=lambda line: line.split()[:2])  # by chain: only within one does the order matter
        return "\n".join(lines) + self.run("cat /etc/ufw/user*.rules /etc/ufw/ufw.conf /etc/default/ufw")

    @contextlib.contextmanager
    def session(self) -> Iterator[Callable[[str], None]]:
        """Log in by a connection of its own; yields what sends a line there and wants it back."""
        keys = Path(os.environ["ANSIBLE_INVENTORY"], ".secrets/throwaway")
        command = ["ssh", "-o", "ControlPath=none", "-o", f"UserKnownHostsFile={keys}/known_hosts"]
        command += ["-i", f"{keys}/id_ed25519", f"ansible@{self.variables['ansible_host']}", "cat"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as ssh:
            assert ssh.stdin
            assert ssh.stdout

            def echo(line: str) -> None:
                print(line, file=ssh.stdin, flush=True)
                assert ssh.stdout
                assert ssh.stdout.readline() == f"{line}\n"

            echo("here")
            yield echo
            ssh.kill()

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run(f"{PROGRAM} status"))
        return found

    def play(self, **variables: Any) -> subprocess.CompletedProcess[str]:
        """Run the role for this host alone, with variables on top of the inventory's."""
        book = [{"hosts": self.name, "become": True, "gather_facts": False, "roles": ["firewall"]}]
        path = Path(os.environ.get("MOLECULE_EPHEMERAL_DIRECTORY", "/tmp")) / f"firewall-{self.name}.json"  # noqa: S108
        path.write_text(json.dumps(book))
        given = json.dumps({"firewall_confirm_timeout": TIMEOUT, **variables})
        return subprocess.run(
            ["ansible-playbook", str(path), "--extra-vars", given],
            cwd=ROOT, capture_output=True, text=True, check=False,
            env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        )  # fmt: skip


def all_hosts() -> list[str]:
    return sorted(inventory()["_meta"]["hostvars"])


@pytest.fixture(scope="module")
def target(host: Any) -> Target:
    return Target(host, host.backend.host)


@pytest.fixture(scope="module")
def outsider() -> Iterator[scan.Namespace]:
    """A stranger on the hosts' own network: outside of every named network, nothing between him and them."""
    first = Target(None, all_hosts()[0]).variables
    network = ipaddress.ip_interface(first["nspawn_network"]).network
    with scan.outsider(first["nspawn_bridge"], f"{network[250]}/{network.prefixlen}") as stranger:
        yield stranger


def edge(target: Target) -> Target:
    """Changes are tried on one host: the edge, for it has something open to everyone."""
    if "edge" not in target.groups:
        pytest.skip("tried on the edge host")
    return target


def rendered(target: Target, source: str, interface: str) -> set[tuple[str, int]]:
    """What the host's own files open to a source: UFW's tuples, read again."""
    found: set[tuple[str, int]] = set()
    address = ipaddress.ip_address(source.partition("%")[0])
    for line in target.run("cat /etc/ufw/user.rules /etc/ufw/user6.rules").splitlines():
        if line.startswith("### tuple ### "):
            _, proto, ports, _, _, who, by = line.removeprefix("### tuple ### ").split()[:7]
            network = ipaddress.ip_network(who)
            if address in network and (
                by == "in" or interface.startswith(by.removeprefix("in_").rstrip("+"))
            ):
                for part in ports.split(","):
                    low, _, high = part.partition(":")
                    found |= {(proto, port) for port in range(int(low), int(high or low) + 1)}
    return found


def seen(source: scan.Namespace, target: Target, address: str) -> set[tuple[str, int]]:
    """Probe all ports of an address by TCP and UDP; both witnesses must say the same."""
    namespace = target.namespace
    with namespace.counting():
        answered: set[int] = set()
        for proto in ("tcp", "udp"):
            missing: Collection[int] = scan.EVERY
            for _ in range(8):  # a queue may have run over: what was lost is sent again, gently
                answered |= source.scan(proto, address, missing)
                missing = set(scan.EVERY) - namespace.counted("arrived", proto)
                if not missing:
                    break
            assert not missing, f"{len(missing)} probes never reached {address}: the scan proves nothing"
        passed = namespace.counted("passed", "tcp")
        assert answered == passed, "what answered and what passed the firewall differ"
        return {("tcp", port) for port in passed} | {
            ("udp", port) for port in namespace.counted("passed", "udp")
        }


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
def test_a_stranger_finds_what_the_inventory_opens_to_all(
    target: Target, outsider: scan.Namespace, family: str
) -> None:
    # Could fail: a rule without its source or interface, a service's port open to all, IPv6 forgotten
    address, source = target.variables["ansible_host"], "192.0.2.1"
    if family == "IPv6":
        address, source = f"{target.link_local('host0')}%mev-scan-b", "fe80::1"
    wanted = set().union(*(PUBLIC.get(group, set()) for group in target.groups))
    found = seen(outsider, target, address)
    assert found == wanted
    assert found == rendered(target, source, "host0")


def test_the_mesh_lets_each_host_reach_what_is_meant_for_it(target: Target) -> None:
    # Could fail: a client's group forgotten, a source or a port too many, a rule that names the wrong host
    public = set().union(*(PUBLIC.get(group, set()) for group in target.groups))
    for other in target.others:
        meant = {
            port
            for (client, server), ports in OVER_THE_MESH.items()
            if client in other.groups and server in target.groups
            for port in ports
        }
        found = seen(other.namespace, target, target.variables["mev_address"])
        assert found == {("tcp", port) for port in meant} | public, f"from {other.name}"
        assert found == rendered(target, other.variables["mev_address"], "wg-mev0"), f"from {other.name}"


AS_UFW_WRITES = """
set -e
copy=/run/mev-test-ufw
rm -rf $copy
mkdir -p $copy/etc $copy/lib $copy/usr/share
cp -a /etc/ufw /etc/default $copy/etc
cp -a /lib/ufw $copy/lib
cp -a /usr/share/ufw $copy/usr/share
sed -i s/^ENABLED=yes/ENABLED=no/ $copy/etc/ufw/ufw.conf
cp -a $copy/etc/ufw $copy/before
ufw --rootdir=$copy --datadir=$copy allow 1/tcp >&2
ufw --rootdir=$copy --datadir=$copy delete allow 1/tcp >&2
for file in user.rules user6.rules; do diff $copy/before/$file $copy/etc/ufw/$file || [ $? = 1 ]; done
ufw status numbered
rm -rf $copy
"""


def test_the_files_are_what_ufw_itself_would_write(target: Target) -> None:
    # Could fail: a tuple that ufw skips or shows otherwise. A copy is given to ufw, which writes it anew; the
    # rate of a limit alone, for which ufw has no notation, may come out as its own 6 in 30 s
    shown = target.run(AS_UFW_WRITES)
    lines = [line for line in shown.splitlines() if line.startswith(("<", ">"))]
    assert all("--hitcount" in line for line in lines), shown
    assert len(re.findall(r"^\[ *\d+\]", shown, re.MULTILINE)) == target.state()["rules"]


WRONG = [{"name": "wrong", "addresses": ["192.0.2.9", "2001:db8::9"]}]


def test_rules_that_lock_the_controller_out_are_refused(target: Target) -> None:
    # Could fail: the door looks at another address than the one that the connection comes from
    target, before = edge(target), edge(target).in_force()
    done = target.play(firewall_ssh_networks=WRONG)
    assert done.returncode != 0
    assert "would not let this very connection in again" in done.stdout
    assert target.in_force() == before
    assert target.state()["pending"] is None


@dataclass
class Visitor:
    """Comes to a host's ssh port every three seconds, rarely enough for its limit, and notes how it went."""

    address: str
    shut: list[float] = field(default_factory=list)
    opened: list[float] = field(default_factory=list)

    def knock(self) -> None:
        try:
            socket.create_connection((self.address, 22), timeout=1).close()
        except TimeoutError:
            self.shut.append(time.monotonic())
        else:
            self.opened.append(time.monotonic())

    @contextlib.contextmanager
    def knocking(self) -> Iterator[None]:
        end = threading.Event()

        def work() -> None:
            while not end.wait(3):
                self.knock()

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join()


@pytest.mark.parametrize("first", [False, True], ids=["a change", "the first start"])
def test_a_change_that_cuts_ssh_goes_back_by_itself(target: Target, first: bool) -> None:
    # Could fail: confirmed by the old connection, no timer, a timer that restores less than was there, a play
    # that ends well or without a word
    target = edge(target)
    if first:
        target.run("ufw --force disable")
    before, visitor = target.in_force(), Visitor(target.variables["ansible_host"])
    with target.session() as old, visitor.knocking():
        playing: list[subprocess.CompletedProcess[str]] = []
        player = threading.Thread(
            target=lambda: playing.append(
                target.play(firewall_ssh_networks=WRONG, firewall_allow_lockout_risk=True)
            )
        )
        player.start()
        while player.is_alive() and not visitor.shut:
            time.sleep(0.2)
        old("still here")  # an established connection survives the change
        player.join()
        for _ in range(100):  # a knock that began while it was shut ends later
            if visitor.opened and visitor.opened[-1] > max(visitor.shut, default=0):
                break
            time.sleep(0.2)
    (done,) = playing
    assert visitor.shut, "the change never cut ssh: nothing was tried"
    assert max(visitor.shut) - min(visitor.shut) < TIMEOUT + 5
    assert visitor.opened[-1] > visitor.shut[-1]
    assert done.returncode != 0
    said = " ".join(done.stdout.split())
    assert f"were not confirmed within {TIMEOUT} s" in said
    assert "The host went back at" in said
    assert ("no firewall; UFW is inactive" if first else "In force now, as before") in said
    assert target.in_force() == before
    assert target.state()["last"]["outcome"] == "rolled back"
    if first:
        done = target.play()
        assert done.returncode == 0, done.stdout
        assert target.state()["active"]


def test_a_good_change_stays_and_at_no_moment_is_anything_open_or_shut_by_mistake(
    target: Target, outsider: scan.Namespace
) -> None:
    # Could fail: chains emptied before they are filled, as `ufw reload` does; a timer that is not disarmed; a
    # rule that stays when it is gone from the inventory
    target = edge(target)
    before = target.in_force()
    wide = {"name": "wide", "ports": ["20000-50000"], "from": ["any"]}
    added = {"name": "added", "ports": [20], "from": ["2001:db8::1"]}
    assert target.play(firewall_host_rules=[wide]).returncode == 0
    namespace, address = target.namespace, target.variables["ansible_host"]
    with namespace.weighing("{ 80, 443, 20000-50000 }"):
        with outsider.flooding(address):
            done = target.play(firewall_host_rules=[wide, added])
        arrived, passed, wrong = map(namespace.weighed, ("arrived_open", "passed_open", "passed_shut"))
    assert done.returncode == 0, done.stdout
    assert arrived > 2_000, "too few probes to prove anything"  # in some 15 s; a slow machine sends few
    assert (arrived - passed, wrong) == (0, 0), "packets shut out, and let in, while the rules changed"
    time.sleep(TIMEOUT + 2)
    assert "2001:db8::1" in target.in_force()
    assert target.state()["last"]["outcome"] == "confirmed"
    assert target.play().returncode == 0
    assert target.in_force() == before


WITH_WRONG_RULES = """
import json, pathlib, sys
rules = {name: pathlib.Path("/etc/ufw", name).read_text() for name in ("user.rules", "user6.rules")}
lines = {name: [x for x in text.splitlines(True) if "--dport 22" not in x] for name, text in rules.items()}
print(json.dumps({"incoming": "DROP", "logging": "low", **{name: "".join(x) for name, x in lines.items()}}))
"""
APPLY = f"python3 -c '{WITH_WRONG_RULES}' | {PROGRAM} apply --timeout"


def test_a_confirmation_by_an_old_connection_does_not_count(target: Target) -> None:
    # Could fail: the persisted control socket, open before the change and after, taken for a new one
    target, before = edge(target), edge(target).in_force()
    back = f"{PROGRAM} rollback --why 'the test is over'"
    said = target.run(f"{APPLY} 60 && {PROGRAM} confirm --over ssh 2>&1 || {back}")
    assert "older than the change" in said
    assert target.state()["last"]["outcome"] == "rolled back"
    assert target.in_force() == before


def test_a_restart_before_the_confirmation_goes_back(target: Target) -> None:
    # Could fail: a timer that the restart forgets, a unit that is not enabled or comes after UFW
    target, before = edge(target), edge(target).in_force()
    boot = "systemctl show -P UserspaceTimestamp"  # a container shares the machine's boot id
    target.run(f"{APPLY} 900")
    options = f"reboot_timeout=120 boot_time_command='{boot}'"
    done = target.host.ansible("ansible.builtin.reboot", options, check=False, become=True)
    assert done.get("rebooted"), done
    assert target.in_force() == before
    state = target.state()
    assert state["pending"] is None
    assert state["last"]["outcome"] == "rolled back"
    assert "started again" in state["last"]["why"]
