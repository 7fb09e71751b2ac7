"""Send a packet to every port of a host, from any network namespace, and see what the host lets through.

Two witnesses. Outside: for TCP, a port that answers (RST or SYN-ACK) was let through, silence means shut.
Inside: a counting table in the host's own namespace notes which ports' packets arrived and which of them
passed the firewall. It adds nothing to the firewall's rules, decides nothing, and tells UDP's silence apart.

As a program (in another namespace): scan.py tcp|udp|flood ADDRESS; prints the ports that answered.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

EVERY = range(1, 65536)
SOURCE_PORT = 61999
"""All probes come from it, so that they can be told from the hosts' own traffic."""
TABLE = "mev_scan"
SYN, RST, SYN_ACK = 0x02, 0x04, 0x12


# --- what is sent -----------------------------------------------------------------------------------------


def _resolve(address: str) -> tuple[socket.AddressFamily, tuple[str | int, ...]]:
    family, _, _, _, place = socket.getaddrinfo(address, None, type=socket.SOCK_DGRAM)[0]
    return socket.AddressFamily(family), (str(place[0]), *place[1:])


def _own_address(family: socket.AddressFamily, place: Sequence[str | int]) -> str:
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((place[0], 9, *place[2:]))
        return str(probe.getsockname()[0])


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _syn(port: int, pseudo: bytes, sequence: int) -> bytes:
    """Return a SYN. The kernel fills the checksum of IPv6, we that of IPv4 (with its pseudo header)."""
    header = struct.pack("!HHIIBBHHH", SOURCE_PORT, port, sequence, 0, 5 << 4, SYN, 64240, 0, 0)
    check = _checksum(pseudo + header) if pseudo else 0
    return header[:16] + struct.pack("!H", check) + header[18:]


def _pace(ports: Iterable[int], burst: int = 512, *, gentle: bool = False) -> Iterator[int]:
    """Pause now and then, so that queues between here and there do not run over; `gentle`: for what did."""
    burst = 32 if gentle else burst
    for count, port in enumerate(ports):
        if count % burst == burst - 1:
            time.sleep(0.01 if gentle else 0.001)
        yield port


def _send(sender: socket.socket, data: bytes, target: tuple[str | int, ...] | None = None) -> None:
    for _ in range(1000):
        try:
            sender.send(data) if target is None else sender.sendto(data, target)
        except (BlockingIOError, ConnectionRefusedError):
            continue
        except OSError as error:
            if error.errno != 105:  # ENOBUFS: the queue is full
                raise
            time.sleep(0.001)
        else:
            return
    raise TimeoutError("the queue stayed full")


def tcp(address: str, ports: Collection[int] = EVERY) -> set[int]:
    """Send a SYN to each port; return those that answered with RST or SYN-ACK."""
    family, place = _resolve(address)
    own = _own_address(family, place)
    pseudo, protocol, skip = b"", 0x86DD, 40
    if family == socket.AF_INET:
        pseudo = socket.inet_aton(own) + socket.inet_aton(str(place[0])) + struct.pack("!BBH", 0, 6, 20)
        protocol, skip = 0x0800, 20
    answered: set[int] = set()
    with (
        socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_TCP) as sender,
        # below netfilter, so that our own side's firewall does not hide an answer
        socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(protocol)) as receiver,
    ):
        receiver.setsockopt(socket.SOL_SOCKET, 33, 1 << 25)  # SO_RCVBUFFORCE
        receiver.setblocking(False)
        if family == socket.AF_INET6:
            sender.setsockopt(socket.IPPROTO_IPV6, 7, 16)  # IPV6_CHECKSUM, at this offset
        sender.connect((place[0], 0, *place[2:]))
        source = socket.inet_pton(family, str(place[0]).partition("%")[0])

        def collect() -> None:
            with contextlib.suppress(BlockingIOError):
                while True:
                    packet = receiver.recv(256)
                    sent_by = packet[12:16] if family == socket.AF_INET else packet[8:24]
                    segment = packet[skip : skip + 20]
                    if sent_by != source or len(segment) < 20:
                        continue
                    port, to = struct.unpack("!HH", segment[:4])
                    if to == SOURCE_PORT and (segment[13] & RST or segment[13] & SYN_ACK == SYN_ACK):
                        answered.add(port)

        for port in _pace(ports, gentle=ports is not EVERY):
            _send(sender, _syn(port, pseudo, random.getrandbits(32)))
            if port % 512 == 0:
                collect()
        end = time.monotonic() + 0.7
        while time.monotonic() < end:
            collect()
            time.sleep(0.02)
    return answered


def udp(address: str, ports: Collection[int] = EVERY) -> None:
    """Send a datagram to each port. Who lets it through is for the counting table to say."""
    family, place = _resolve(address)
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sender.bind(("", SOURCE_PORT))
        for port in _pace(ports, gentle=ports is not EVERY):
            _send(sender, b"mev-scan", (place[0], port, *place[2:]))
        time.sleep(0.3)


def flood(address: str) -> None:
    """Send SYNs to one port after the other until stdin is closed."""
    stop = threading.Thread(target=sys.stdin.read, daemon=True)
    stop.start()
    family, place = _resolve(address)
    pseudo = socket.inet_aton(_own_address(family, place)) + socket.inet_aton(str(place[0]))
    with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_TCP) as sender:
        sender.connect((place[0], 0))
        for port in _pace(itertools.cycle(EVERY), burst=4):
            _send(sender, _syn(port, pseudo + struct.pack("!BBH", 0, 6, 20), random.getrandbits(32)))
            if not stop.is_alive():
                break
    time.sleep(0.5)


# --- where it is sent from and what the host counted --------------------------------------------------------


@dataclass(frozen=True)
class Namespace:
    """A network namespace: a name below /run/netns, or the process of a guest that lives in it."""

    path: str

    def run(self, *command: str, stdin: str | None = None) -> str:
        """Run a command of the controller's in there."""
        done = subprocess.run(
            ["nsenter", f"--net={self.path}", "--", *command],
            input=stdin, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr or done.stdout}"
        return done.stdout

    @contextlib.contextmanager
    def untracked(self) -> Iterator[None]:
        """Keep the probes out of the connection table: it holds fewer than all ports of some hosts."""
        rules = [
            f"{proto} {end} {SOURCE_PORT} notrack" for proto in ("tcp", "udp") for end in ("sport", "dport")
        ]
        hooks = ("prerouting", "output")
        chains = [f"chain {h} {{ type filter hook {h} priority -310; {'; '.join(rules)}; }}" for h in hooks]
        with self._table(f"{TABLE}_notrack", chains):
            yield

    @contextlib.contextmanager
    def counting(self) -> Iterator[None]:
        """Note the ports of probes before any rule (arrived) and after all of the firewall's (passed)."""
        sets = [
            f"set {when}_{proto} {{ type inet_service; size 65536; flags dynamic; }}"
            for when in ("arrived", "passed")
            for proto in ("tcp", "udp")
        ]
        chains = [
            f"chain {when} {{ type filter hook {hook} priority {priority};"
            f" tcp sport {SOURCE_PORT} add @{when}_tcp {{ tcp dport }};"
            f" udp sport {SOURCE_PORT} add @{when}_udp {{ udp dport }}; }}"
            for when, hook, priority in (("arrived", "prerouting", -320), ("passed", "input", 100))
        ]
        with self._table(TABLE, sets + chains):
            yield

    @contextlib.contextmanager
    def weighing(self, open_ports: str) -> Iterator[None]:
        """Count every SYN of the probes, for ports that are open and for the others, before and after."""
        names = ("arrived_open", "passed_open", "passed_shut")
        rules = {
            "prerouting": (-320, [f"tcp dport {open_ports} counter name arrived_open"]),
            "input": (
                100,
                [
                    f"tcp dport {open_ports} counter name passed_open",
                    f"tcp dport != {open_ports} counter name passed_shut",
                ],
            ),
        }
        chains = [
            f"chain {hook} {{ type filter hook {hook} priority {priority}; tcp sport != {SOURCE_PORT} accept;"
            f" tcp flags & (syn|ack|rst) != syn accept; meta l4proto != tcp accept; {'; '.join(lines)}; }}"
            for hook, (priority, lines) in rules.items()
        ]
        with self._table(TABLE, [f"counter {name} {{ }}" for name in names] + chains):
            yield

    def weighed(self, name: str) -> int:
        """Return how many packets a counter has seen."""
        answer = json.loads(self.run("nft", "--json", "list", "counter", "inet", TABLE, name))
        return int(next(item["counter"]["packets"] for item in answer["nftables"] if "counter" in item))

    @contextlib.contextmanager
    def _table(self, name: str, parts: Sequence[str]) -> Iterator[None]:
        text = "\n".join(
            [f"table inet {name}", f"delete table inet {name}", f"table inet {name} {{", *parts, "}"]
        )
        self.run("nft", "-f", "-", stdin=text)
        try:
            yield
        finally:
            self.run("nft", "delete", "table", "inet", name)

    def counted(self, when: str, proto: str) -> set[int]:
        """Return the ports that the table has noted."""
        answer = json.loads(self.run("nft", "--json", "list", "set", "inet", TABLE, f"{when}_{proto}"))
        return set(next(item["set"] for item in answer["nftables"] if "set" in item).get("elem", []))

    def scan(self, proto: str, address: str, ports: Collection[int] = EVERY) -> set[int]:
        """Probe ports of an address from in here; return those that answered (TCP alone)."""
        with tempfile.NamedTemporaryFile("w", suffix=".json") as given, self.untracked():
            json.dump(None if ports is EVERY else sorted(ports), given)
            given.flush()
            return set(json.loads(self.run(sys.executable, str(Path(__file__)), proto, address, given.name)))

    @contextlib.contextmanager
    def flooding(self, address: str) -> Iterator[None]:
        """Send to all ports of an address without a pause while the block runs."""
        command = [
            "nsenter",
            f"--net={self.path}",
            "--",
            sys.executable,
            str(Path(__file__)),
            "flood",
            address,
        ]
        with self.untracked():
            sender = subprocess.Popen(command, stdin=subprocess.PIPE)
            try:
                yield
            finally:
                sender.communicate(timeout=30)
            assert sender.returncode == 0


CONTROLLER = Namespace("/proc/self/ns/net")


@contextlib.contextmanager
def outsider(bridge: str, address: str) -> Iterator[Namespace]:
    """Make a namespace on a bridge of the controller's, with an address and a link-local one: a stranger.

    Args:
        address: with the length of its network's prefix.
    """
    name, ours, theirs = "mev-scan", "mev-scan-a", "mev-scan-b"

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    subprocess.run(
        ["ip", "netns", "delete", name], check=False, capture_output=True
    )  # of a run that was killed
    ip("netns", "add", name)
    try:
        ip("link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", name)
        ip("link", "set", ours, "master", bridge, "up")
        ip("-n", name, "address", "add", address, "dev", theirs)
        ip("-n", name, "link", "set", theirs, "up")
        ip("-n", name, "link", "set", "lo", "up")
        time.sleep(2.5)  # the link-local address is on trial for so long
        with CONTROLLER.untracked():
            yield Namespace(f"/run/netns/{name}")
    finally:
        ip("netns", "delete", name)


if __name__ == "__main__":
    found: set[int] = set()
    probed = EVERY if sys.argv[1] == "flood" else json.loads(Path(sys.argv[3]).read_text()) or EVERY
    if sys.argv[1] == "tcp":
        found = tcp(sys.argv[2], probed)
    elif sys.argv[1] == "udp":
        udp(sys.argv[2], probed)
    else:
        flood(sys.argv[2])
    print(json.dumps(sorted(found)))
