# Copyright (c) the MEV platform's authors. Apache-2.0 (see LICENSE)
"""Rules as an inventory declares them, made into openings, compared with each other, and written for UFW.

A rule opens ports; whatever no rule opens stays shut, so the order of rules means nothing. An opening is one
rule for one source: what UFW numbers as one line.
"""

from __future__ import annotations

import ipaddress
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

ANYWHERE: tuple[Network, ...] = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
UFW_RATE = (6, 30)
"""What UFW itself means by `limit`: the sixth new connection of an address within 30 seconds is refused."""
MOST_PORTS = 15
"""What iptables' multiport takes; a range counts as two."""
INTERFACE = re.compile(r"[a-zA-Z0-9_.,=%@-]{1,14}\+?|[a-zA-Z0-9_.,=%@-]{15}")


@dataclass(frozen=True)
class Opening:
    """Ports of one protocol that one source may reach, by one interface or (empty) by any."""

    rule: str
    ports: tuple[tuple[int, int], ...]
    proto: str
    source: Network
    interface: str
    limit: tuple[int, int] | None
    comment: str

    def __str__(self) -> str:
        source = "any" if self.source in ANYWHERE else str(self.source)
        by = f" on {self.interface}" if self.interface else ""
        return f"{_ports(self.ports, '-')}/{self.proto} from {source}{by}"

    def covers(self, other: Opening) -> bool:
        """Say whether all that the other opens is opened by this one."""
        return (
            self._may_meet(other)
            and _within(other.source, self.source)
            and _interface_within(other.interface, self.interface)
            and all(any(a <= c and d <= b for a, b in self.ports) for c, d in other.ports)
        )

    def meets(self, other: Opening) -> bool:
        """Say whether there is a packet that both let in."""
        return (
            self._may_meet(other)
            and (_within(other.source, self.source) or _within(self.source, other.source))
            and (
                _interface_within(other.interface, self.interface)
                or _interface_within(self.interface, other.interface)
            )
            and any(a <= d and c <= b for a, b in self.ports for c, d in other.ports)
        )

    def _may_meet(self, other: Opening) -> bool:
        return self.proto == other.proto and self.source.version == other.source.version


def _within(inner: Network, outer: Network) -> bool:
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]


def _interface_within(inner: str, outer: str) -> bool:
    if outer.endswith("+"):
        return inner.startswith(outer[:-1])
    return outer in ("", inner)


def _ports(ports: Iterable[tuple[int, int]], dash: str) -> str:
    return ",".join(str(a) if a == b else f"{a}{dash}{b}" for a, b in ports)


class RuleError(Exception):
    """A rule that can't be understood; the message names the value and the mend."""


def openings(rule: Mapping[str, Any], groups: Mapping[str, Sequence[str]]) -> list[Opening]:
    """Read one rule. A source that is a group without other hosts opens nothing.

    Args:
        rule: name, ports and from; proto (tcp), interface (any), limit (false) and comment if given.
        groups: name of a group to the mesh addresses of its hosts, without the host itself.

    Raises:
        RuleError: the rule can't be understood.
    """
    name, interface = str(rule["name"]), str(rule.get("interface") or "")
    if interface and not INTERFACE.fullmatch(interface):
        raise RuleError(f"interface {interface!r}: a name such as eth0, or wg-mev+ for all that begin so")
    sources = _sources(rule["from"], groups, interface)
    ports = _parse_ports(rule["ports"])
    limit = _parse_limit(rule.get("limit") or False)
    comment = ": ".join(filter(None, (name, str(rule.get("comment") or ""))))
    proto = str(rule.get("proto") or "tcp")
    return [Opening(name, ports, proto, source, interface, limit, comment) for source in sources]


def _sources(given: Any, groups: Mapping[str, Sequence[str]], interface: str) -> list[Network]:
    found: dict[Network, None] = {}
    for source in [given] if isinstance(given, str) else given:
        if source == "any":
            found |= dict.fromkeys(ANYWHERE)
        elif str(source).startswith("group:"):
            group = str(source).removeprefix("group:")
            if not interface:
                raise RuleError(f"from {source}: give the mesh's interface, an address alone can be forged")
            if group not in groups:
                raise RuleError(f"from {source}: the inventory has no such group")
            found |= dict.fromkeys(ipaddress.ip_network(address) for address in groups[group])
        else:
            found[_network(str(source))] = None
    return list(found)


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        try:
            meant = ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise RuleError(f"from {text}: any, group:NAME, or an address or network is wanted") from error
        raise RuleError(
            f"from {text}: the address has bits of the host; is {meant} meant, or "
            f"{text.partition('/')[0]} alone?"
        ) from error


def _parse_ports(given: Any) -> tuple[tuple[int, int], ...]:
    ranges = []
    for item in given if isinstance(given, list | tuple) else [given]:
        first, _, last = str(item).partition("-")
        if not (first.isdecimal() and (last or first).isdecimal()):
            raise RuleError(f"port {item}: a port such as 443 or a range such as 9090-9092 is wanted")
        low, high = int(first), int(last or first)
        if not 1 <= low <= high <= 65535:
            raise RuleError(f"port {item}: ports are 1 to 65535, the lower one first")
        ranges.append((low, high))
    ranges.sort()
    if not ranges:
        raise RuleError("no ports are given")
    for (_, before), (low, _) in itertools.pairwise(ranges):
        if low <= before:
            raise RuleError(f"port {low} is in the rule twice")
    if (weight := sum(1 if a == b else 2 for a, b in ranges)) > MOST_PORTS:
        raise RuleError(
            f"{weight} ports, a range counting as two: a rule takes {MOST_PORTS}, so make two of it"
        )
    return tuple(ranges)


def _parse_limit(given: Any) -> tuple[int, int] | None:
    if given is False or given is True:
        return UFW_RATE if given else None
    found = re.fullmatch(r"(\d{1,3})/(\d{1,4})", str(given))
    if not found or not 2 <= int(found[1]) <= 255 or int(found[2]) < 1:
        raise RuleError(
            f"limit {given!r}: true, false, or CONNECTIONS/SECONDS such as 20/30 is wanted, with 2 to 255"
        )
    return int(found[1]), int(found[2])


def read(
    rules: Sequence[Mapping[str, Any]], groups: Mapping[str, Sequence[str]], mesh: str | None = None
) -> tuple[list[Opening], list[str]]:
    """Read all rules of a host and say what is wrong with them, one sentence each.

    Args:
        mesh: the mesh's network. A rule for a part of it must name an interface.
    """
    found: list[Opening] = []
    problems: list[str] = []
    names = [str(rule["name"]) for rule in rules]
    problems += [
        f"rule {name}: the name is given twice" for name in sorted(set(names)) if names.count(name) > 1
    ]
    for rule in rules:
        try:
            found += openings(rule, groups)
        except RuleError as error:
            problems.append(f"rule {rule['name']}: {error}")
    if mesh:
        network = ipaddress.ip_network(mesh)
        problems += [
            f"rule {one.rule}: {one} is of the mesh: give its interface, an address alone can be forged"
            for one in found
            if not one.interface and _within(one.source, network)
        ]
    problems += _conflicts(found)
    return found, list(dict.fromkeys(problems))


def _conflicts(found: Sequence[Opening]) -> Iterator[str]:
    for one, other in itertools.combinations(found, 2):
        if one.limit != other.limit and one.meets(other):
            yield (
                f"rules {one.rule} and {other.rule} contradict each other: {one} is limited to "
                f"{_rate(one.limit)}, {other} to {_rate(other.limit)}"
            )
        elif one.covers(other) or other.covers(one):
            wide, narrow = (one, other) if one.covers(other) else (other, one)
            yield (
                f"rule {narrow.rule}: {narrow} is already opened by rule {wide.rule} ({wide}): "
                "drop one of them"
            )


def _rate(limit: tuple[int, int] | None) -> str:
    return "nothing" if limit is None else f"{limit[0]} in {limit[1]} s"


def admits(found: Iterable[Opening], source: str, interface: str, port: int, proto: str = "tcp") -> bool:
    """Say whether a new connection from `source`, coming in by `interface`, would be let in."""
    network = ipaddress.ip_network(source.partition("%")[0])
    packet = Opening("", ((port, port),), proto, network, interface, None, "")
    return any(one.covers(packet) for one in found)


LIMIT = "-m limit --limit 3/min --limit-burst 10"


def user_rules(found: Iterable[Opening], version: int, logging: str) -> str:
    """Write user.rules (or user6.rules) as UFW 0.36 writes it, so that `ufw status` shows what is there."""
    ufw = "ufw" if version == 4 else "ufw6"
    flows = ("input", "output", "forward")
    chains = [
        f"{kind}-{flow}"
        for kind in ("user", "before-logging", "user-logging", "after-logging")
        for flow in flows
    ]
    chains += ["logging-deny", "logging-allow", "user-limit", "user-limit-accept"]
    lines = ["*filter", *(f":{ufw}-{chain} - [0:0]" for chain in chains), "### RULES ###", ""]
    for one in found:
        if one.source.version == version:
            lines += [*_opening_lines(one, ufw), ""]
    lines += [
        "### END RULES ###",
        "",
        "### LOGGING ###",
        *_logging_lines(ufw, logging),
        "### END LOGGING ###",
        "",
    ]
    lines += ["### RATE LIMITING ###"]
    if logging != "off":
        lines += [f'-A {ufw}-user-limit -m limit --limit 3/minute -j LOG --log-prefix "[UFW LIMIT BLOCK] "']
    lines += [
        f"-A {ufw}-user-limit -j REJECT",
        f"-A {ufw}-user-limit-accept -j ACCEPT",
        "### END RATE LIMITING ###",
    ]
    return "\n".join([*lines, "COMMIT", ""])


def _opening_lines(one: Opening, ufw: str) -> Iterator[str]:
    anywhere = "0.0.0.0/0" if one.source.version == 4 else "::/0"
    source = str(one.source)
    if one.source.prefixlen == one.source.max_prefixlen:
        source = str(one.source.network_address)
    ports, action = _ports(one.ports, ":"), "limit" if one.limit else "allow"
    by = f"in_{one.interface}" if one.interface else "in"
    yield (
        f"### tuple ### {action} {one.proto} {ports} {anywhere} any {source} {by} "
        f"comment={one.comment.encode().hex()}"
    )
    rule = f"-A {ufw}-user-input"
    rule += f" -i {one.interface}" if one.interface else ""
    rule += f" -p {one.proto} " + (
        f"--dport {ports}" if ports.isdecimal() else f"-m multiport --dports {ports}"
    )
    rule += f" -s {source}" if source != anywhere else ""
    if one.limit:
        recent = f"{rule} -m conntrack --ctstate NEW -m recent"
        yield f"{recent} --set"
        yield f"{recent} --update --seconds {one.limit[1]} --hitcount {one.limit[0]} -j {ufw}-user-limit"
        yield f"{rule} -j {ufw}-user-limit-accept"
    else:
        yield f"{rule} -j ACCEPT"


def _logging_lines(ufw: str, logging: str) -> Iterator[str]:
    """UFW's own lines for a level, given that incoming and forwarded packets are denied, outgoing allowed."""
    if logging == "off":
        yield from (f"-I {ufw}-user-logging-{flow} -j RETURN" for flow in ("input", "output", "forward"))
        return

    def log(chain: str, prefix: str, match: str = "") -> str:
        return f'-{chain}{match} -j LOG --log-prefix "[UFW {prefix}] " {LIMIT}'

    yield log(f"A {ufw}-after-logging-input", "BLOCK")
    if logging == "medium":
        yield log(f"A {ufw}-after-logging-output", "ALLOW")
    yield log(f"A {ufw}-after-logging-forward", "BLOCK")
    if logging == "medium":
        yield log(f"A {ufw}-logging-deny", "AUDIT INVALID", " -m conntrack --ctstate INVALID")
    else:
        yield f"-I {ufw}-logging-deny -m conntrack --ctstate INVALID -j RETURN {LIMIT}"
    yield log(f"A {ufw}-logging-deny", "BLOCK")
    yield log(f"A {ufw}-logging-allow", "ALLOW")
    if logging == "medium":
        for flow in ("input", "output", "forward"):
            yield (
                f'-I {ufw}-before-logging-{flow} -j LOG --log-prefix "[UFW AUDIT] " '
                f"-m conntrack --ctstate NEW {LIMIT}"
            )
