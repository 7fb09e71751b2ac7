"""Rules as declared: what they open, what is wrong with them, and how UFW's files say it."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from ansible_collections.mev.platform.plugins.module_utils.firewall import (
    Opening,
    RuleError,
    admits,
    openings,
    read,
    user_rules,
)
from hypothesis import given
from hypothesis import strategies as st

GROUPS = {"engine": ["10.77.0.11"], "edge": ["10.77.0.13", "10.77.0.14"], "database": []}


def rule(**given: Any) -> dict[str, Any]:
    return {"name": "a rule", "ports": [443], "from": ["any"], **given}


# What `ufw` 0.36.2 itself wrote for the commands in the comments.
AS_UFW_WROTE_IT = [
    # ufw allow in on wg-mev+ proto tcp from 10.77.0.11 to any port 9090:9092,5432 comment 'héllo x'
    (
        rule(name="héllo x", ports=["9090-9092", 5432], interface="wg-mev+", **{"from": ["group:engine"]}),
        4,
        """\
### tuple ### allow tcp 5432,9090:9092 0.0.0.0/0 any 10.77.0.11 in_wg-mev+ comment=68c3a96c6c6f2078
-A ufw-user-input -i wg-mev+ -p tcp -m multiport --dports 5432,9090:9092 -s 10.77.0.11 -j ACCEPT
""",
    ),
    # ufw limit proto tcp from fd00:1::/64 to any port 22 comment a
    (
        rule(name="a", ports=22, limit=True, **{"from": "fd00:1::/64"}),
        6,
        """\
### tuple ### limit tcp 22 ::/0 any fd00:1::/64 in comment=61
-A ufw6-user-input -p tcp --dport 22 -s fd00:1::/64 -m conntrack --ctstate NEW -m recent --set
-A ufw6-user-input -p tcp --dport 22 -s fd00:1::/64 -m conntrack --ctstate NEW -m recent --update \
--seconds 30 --hitcount 6 -j ufw6-user-limit
-A ufw6-user-input -p tcp --dport 22 -s fd00:1::/64 -j ufw6-user-limit-accept
""",
    ),
    # ufw allow 51820:51821/udp comment a
    (
        rule(name="a", ports="51820-51821", proto="udp"),
        6,
        """\
### tuple ### allow udp 51820:51821 ::/0 any ::/0 in comment=61
-A ufw6-user-input -p udp -m multiport --dports 51820:51821 -j ACCEPT
""",
    ),
]


@pytest.mark.parametrize(("declared", "version", "wanted"), AS_UFW_WROTE_IT)
def test_a_rule_is_written_as_ufw_writes_it(declared: dict[str, Any], version: int, wanted: str) -> None:
    # Could fail: another order of matches or another spelling, and `ufw` shows or rewrites it as another
    text = user_rules(openings(declared, GROUPS), version, "low")
    assert text.partition("### RULES ###\n\n")[2].partition("\n### END RULES ###")[0] == wanted


@pytest.mark.parametrize(("level", "lines", "unlimited"), [("off", 3, 3), ("low", 5, 0), ("medium", 9, 0)])
def test_no_logging_line_is_without_a_limit(level: str, lines: int, unlimited: int) -> None:
    # Could fail: a line forgotten or without `-m limit`, and a scan fills the disk
    text = user_rules([], 4, level)
    logging = text.partition("### LOGGING ###\n")[2].partition("### END LOGGING ###")[0].splitlines()
    assert len(logging) == lines
    assert sum("-m limit --limit 3/min --limit-burst 10" not in line for line in logging) == unlimited


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"ports": [0]}, "port 0"),
        ({"ports": ["9000-8000"]}, "the lower one first"),
        ({"ports": ["ssh"]}, "a port such as 443"),
        ({"ports": []}, "no ports"),
        ({"ports": [80, "70-90"]}, "port 80 is in the rule twice"),
        ({"ports": [*range(1, 17)]}, "16 ports"),
        ({"from": ["10.0.0.5/24"]}, "10.0.0.0/24 meant, or 10.0.0.5 alone"),
        ({"from": ["office"]}, "any, group:NAME, or an address"),
        ({"from": ["group:engine"]}, "give the mesh's interface"),
        ({"from": ["group:engin"], "interface": "wg-mev+"}, "no such group"),
        ({"interface": "a name of its own"}, "interface"),
        ({"limit": "20"}, "CONNECTIONS/SECONDS"),
        ({"limit": "1/30"}, "with 2 to 255"),
    ],
)
def test_a_wrong_rule_is_named_with_its_value(wrong: dict[str, Any], words: str) -> None:
    # Could fail: a value that iptables refuses later, or that opens something else than was meant
    with pytest.raises(RuleError, match=words):
        openings(rule(**wrong), GROUPS)


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ({}, {"name": "a rule"}, "the name is given twice"),
        ({}, {"from": ["10.1.2.3"]}, "already opened by rule a rule"),
        ({"ports": ["400-500"], "from": ["10.0.0.0/8"]}, {"from": ["10.1.0.0/16"]}, "already opened"),
        ({"interface": "wg-mev+"}, {"interface": "wg-mev0"}, "already opened"),
        ({"from": ["10.0.0.0/8"]}, {"limit": True, "ports": ["440-450"]}, "contradict each other"),
        ({"from": ["10.77.0.9"]}, {"ports": [1]}, "is of the mesh: give its interface"),
        ({"from": ["any", "::1"]}, {"ports": [1]}, "rule a rule: 443/tcp from ::1/128 is already opened"),
    ],
)
def test_rules_that_do_not_fit_each_other_are_named(
    one: dict[str, Any], other: dict[str, Any], words: str
) -> None:
    # Could fail: a stale or mistaken rule hides behind another, or a limit is undone by a rule beside it
    _, problems = read([rule(**one), rule(**{"name": "another", **other})], GROUPS, "10.77.0.0/24")
    assert any(words in problem for problem in problems), problems


@pytest.mark.parametrize(
    "other",
    [
        {"proto": "udp"},
        {"ports": [80]},
        {"interface": "eth0", "from": ["10.2.0.0/16"]},
        {"from": ["fd00::/8"]},
    ],
)
def test_rules_that_only_touch_are_good(other: dict[str, Any]) -> None:
    # Could fail: rules of another protocol, port, network or family taken for duplicates
    mine = rule(interface="wg-mev+", **{"from": ["10.1.0.0/16"]})
    assert read([mine, rule(**{"name": "another", **other})], GROUPS)[1] == []


def test_a_group_of_this_host_alone_opens_nothing() -> None:
    # Could fail: an empty list of sources written as a rule without a source, which opens to all
    assert openings(rule(interface="wg-mev+", **{"from": ["group:database"]}), GROUPS) == []


@pytest.mark.parametrize(
    ("source", "interface", "port", "let_in"),
    [
        ("203.0.113.9", "eth0", 22, True),
        ("203.0.114.9", "eth0", 22, False),
        ("203.0.113.9", "eth0", 2222, False),
        ("192.0.2.1", "wg-mev1", 22, True),
        ("192.0.2.1", "wg-other", 22, False),
        ("2001:db8::7", "eth0", 22, True),
        ("fe80::1%eth0", "eth0", 22, False),
    ],
)
def test_it_is_known_who_is_let_in(source: str, interface: str, port: int, let_in: bool) -> None:
    # Could fail: the controller told that it may come in, and locked out
    found, _ = read(
        [
            rule(name="a", ports=[22], **{"from": ["203.0.113.0/24", "2001:db8::/64"]}),
            rule(name="b", ports=[22], interface="wg-mev+"),
        ],
        GROUPS,
    )
    assert admits(found, source, interface, port) is let_in


networks = st.builds(
    lambda bits, length: ipaddress.ip_network((bits >> (32 - length) << (32 - length), length)),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0, 1, 2, 31, 32]),
)
spans = st.tuples(st.integers(1, 8), st.integers(0, 2)).map(lambda pair: (pair[0], pair[0] + pair[1]))
some_openings = st.builds(
    Opening,
    rule=st.just("r"),
    ports=st.lists(spans, min_size=1, max_size=2).map(tuple),
    proto=st.sampled_from(["tcp", "udp"]),
    source=networks,
    interface=st.sampled_from(["", "eth0", "wg-mev0", "wg-mev+"]),
    limit=st.none(),
    comment=st.just(""),
)


@given(some_openings, some_openings, st.integers(0, 2**32 - 1))
def test_covering_and_meeting_agree_with_packets(one: Opening, other: Opening, bits: int) -> None:
    # Could fail: a duplicate that is none (a rule dropped at the operator's cost), or one not seen
    for source in {ipaddress.ip_address(bits), one.source[0], other.source[0], other.source[-1]}:
        for interface in ("eth0", "eth1", "wg-mev0", "wg-mev1"):
            for port in range(1, 11):
                for proto in ("tcp", "udp"):
                    packet = (str(source), interface, port, proto)
                    by_one, by_other = admits([one], *packet), admits([other], *packet)
                    if by_one and by_other:
                        assert one.meets(other)
                    if one.covers(other) and by_other:
                        assert by_one
