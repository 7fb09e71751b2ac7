"""What redis-members decides, without a server: who follows whom, and who hands over."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

SOURCE = Path(__file__).parents[3] / "roles/redis/files/redis-members"


def load() -> Any:
    loader = importlib.machinery.SourceFileLoader("redis_members", str(SOURCE))
    spec = importlib.util.spec_from_loader("redis_members", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["redis_members"] = module
    loader.exec_module(module)
    return module


members = load()
HOSTS = ["a", "b", "c"]


# Could fail: a replica lands on its master's host, two follow one master, or one that stood well is moved.
@given(
    st.permutations(HOSTS), st.permutations(HOSTS), st.lists(st.sampled_from("012 "), min_size=3, max_size=3)
)
def test_place(leaders: list[str], followers: list[str], present: list[str]) -> None:
    masters = {str(index): host for index, host in enumerate(leaders)}
    replicas = {f"r{index}": (host, present[index].strip()) for index, host in enumerate(followers)}
    pairs = members.place(masters, replicas)
    assert sorted(pairs.values()) == sorted(masters)
    assert all(masters[master] != replicas[replica][0] for replica, master in pairs.items())
    good = all(masters.get(master, host) != host and master for host, master in replicas.values())
    if good and len({master for _, master in replicas.values()}) == 3:
        assert pairs == {replica: master for replica, (_, master) in replicas.items()}


# Could fail: a placement that can't be is made all the same.
def test_no_place() -> None:
    assert members.place({"1": "a"}, {"r": ("a", "1")}) is None


# Could fail: after a failover one host keeps two of three masters, or another gets two.
@pytest.mark.parametrize(
    ("leaders", "followers", "handed"),
    [
        ({"1": "a", "2": "b", "3": "c"}, {"1": "b", "2": "c", "3": "a"}, []),
        ({"1": "b", "2": "b", "3": "c"}, {"1": "a", "2": "c", "3": "a"}, ["1"]),
        ({"1": "b", "2": "b", "3": "c"}, {"2": "c"}, []),
    ],
)
def test_hand_overs(leaders: dict[str, str], followers: dict[str, str], handed: list[str]) -> None:
    found = members.hand_overs(leaders, followers)
    assert found == handed
    after = Counter(followers[master] if master in found else host for master, host in leaders.items())
    assert not handed or max(after.values()) == 1


# Could fail: ranges of slots that are on their way, or a member without an address, are misread.
def test_nodes() -> None:
    said = """\
07c3 10.0.0.1:6379@16379,host myself,master - 0 1426238317239 4 connected 0-5460 5462 [5461->-292f]
67ed :0@0 master,fail,noaddr - 1426238316232 0 2 disconnected
6ec2 10.0.0.3:6381@16381 slave 07c3 0 1426238318243 3 connected"""
    first, gone, replica = members.nodes(said)
    assert (first.slots, first.leads, first.alive, first.at) == (5462, True, True, "10.0.0.1:6379")
    assert not gone.alive
    assert (replica.master, replica.leads) == ("07c3", False)
