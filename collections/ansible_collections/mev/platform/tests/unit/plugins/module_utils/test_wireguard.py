"""The mesh as values: who knows which keys, which generations count, what is refused."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from ansible_collections.mev.platform.plugins.module_utils import icmp, wireguard
from hypothesis import given
from hypothesis import strategies as st

SECRET = "s" * 40
NAMES = st.text("abcdefghijklmnopqrstuvwxyz-0123456789", min_size=1, max_size=12)


def key(number: int) -> str:
    return base64.b64encode(bytes([number]) * 32).decode()


def member(name: str, last: int, **other: Any) -> dict[str, Any]:
    usual = {
        "name": name,
        "administrator": False,
        "address": f"10.77.0.{last}",
        "endpoint": f"192.0.2.{last}",
        "keys": {0: key(last)},
    }
    return {**usual, **other}


# Could fail: the two ends of a pair derive different keys, or two pairs (or two generations) the same one.
@given(NAMES, NAMES, NAMES, st.integers(0, 50))
def test_a_pair_shares_one_key_and_no_other_pair_does(a: str, b: str, c: str, generation: int) -> None:
    mine = wireguard.preshared_key(SECRET, generation, a, b)
    assert mine == wireguard.preshared_key(SECRET, generation, b, a)
    assert wireguard.is_key(mine)
    assert mine != wireguard.preshared_key(SECRET, generation + 1, a, b)
    if c not in (a, b):
        assert mine != wireguard.preshared_key(SECRET, generation, a, c)


# Could fail: anything that decodes passes, and wg refuses it on the host.
@pytest.mark.parametrize("text", ["", "x", "A" * 43, key(1)[:-1], key(1) + "\n", "A" * 42 + "B=", None])
def test_only_32_bytes_in_canonical_base64_are_a_key(text: object) -> None:
    assert not wireguard.is_key(text)
    assert wireguard.is_key(key(1))


# Could fail: a straggler brings back old keys that the others deleted; or a rotation that was begun is lost
# because one host has no new key yet.
@pytest.mark.parametrize(
    ("held", "wanted"),
    [
        ([], [0]),
        ([{}, {}], [0]),
        ([{0}, {0}, {}], [0]),  # one has not joined
        ([{0, 1}, {0}, {0}], [0, 1]),  # a rotation stopped while keys were made
        ([{0, 1}, {0, 1}], [0, 1]),  # both stand
        ([{1}, {0, 1}, {0, 1}], [1]),  # it stopped while old ones were deleted
        ([{1}, {1}, {0}], [1]),  # restored from an old backup, or fresh with too little knowledge
        ([{4}, {7}], [7]),
    ],
)
def test_which_generations_count(held: list[set[int]], wanted: list[int]) -> None:
    assert wireguard.generations([{g: key(g) for g in own} for own in held]) == wanted


# Could fail: the two that may be up at once share an interface or a port.
@given(st.integers(0, 1000))
def test_a_generation_and_the_next_live_apart(generation: int) -> None:
    assert wireguard.interface_of(generation) != wireguard.interface_of(generation + 1)
    assert {wireguard.port_of(generation), wireguard.port_of(generation + 1)} == {51820, 51821}


# Could fail: an administrator lands on both interfaces, and answers take the wrong one.
def test_an_administrator_is_on_the_interface_of_her_configuration() -> None:
    mesh = [
        member("a", 1, keys={0: key(1), 1: key(2)}),
        member("b", 3, keys={0: key(3), 1: key(4)}),
        member("alice", 101, administrator=True, endpoint="", keys={0: key(5)}),
    ]
    assert [p["name"] for p in wireguard.peers_of("a", 0, mesh, SECRET)] == ["b", "alice"]
    assert [p["name"] for p in wireguard.peers_of("a", 1, mesh, SECRET)] == ["b"]


# Could fail: a peer whose key is unknown is written without one, and the whole file is refused.
def test_configuration_names_all_but_the_unknown_and_reads_back() -> None:
    mesh = [member("a", 1), member("b", 2), member("c", 3, keys={})]
    peers = [{**peer, "keepalive": 0} for peer in wireguard.peers_of("a", 0, mesh, SECRET)]
    text = wireguard.write_config(
        address="10.77.0.1",
        network="10.77.0.0/24",
        generation=0,
        metric=50,
        mtu=1420,
        key=key(9),
        peers=peers,
    )
    assert wireguard.read_config(text) == (0, True, {"b": key(2)})
    hidden = wireguard.hide_secrets(text)
    assert key(9) not in hidden
    assert wireguard.preshared_key(SECRET, 0, "a", "b") not in hidden
    assert key(2) in hidden


# Could fail: a file of a newer layout, or someone's own, is taken for ours and its peers for known.
def test_a_strangers_configuration_is_nothing_to_remember() -> None:
    assert wireguard.read_config("[Interface]\n# peer: b\n[Peer]\nPublicKey = x\n") == (None, False, {})


# Could fail: what wg says of a good interface differs from what is wanted, so that every run changes it.
def test_what_runs_equals_what_is_wanted() -> None:
    peers = [
        {**peer, "keepalive": 25}
        for peer in wireguard.peers_of("a", 1, [member("b", 2, keys={1: key(2)})], SECRET)
    ]
    shared = wireguard.preshared_key(SECRET, 1, "a", "b")
    dump = (
        f"{key(9)}\t{key(8)}\t51821\toff\n{key(2)}\t{shared}\t192.0.2.2:51821\t10.77.0.2/32\t17\t1\t2\t25\n"
    )
    assert wireguard.running(dump) == wireguard.wanted_running(key(9), 1, peers)


@given(
    st.dictionaries(
        st.integers(0, 99), st.binary(min_size=32, max_size=32).map(lambda b: base64.b64encode(b).decode())
    )
)
def test_key_files_read_back(keys: dict[int, str]) -> None:
    # Could fail: order, or a last line without its end, loses a key.
    assert wireguard.read_keys("# whose\n" + wireguard.write_keys(keys)) == keys


# Could fail: a merge conflict in the file is read as no key, and the host is left out without a word.
@pytest.mark.parametrize("text", ["<<<<<<< HEAD\n", "0 short\n", f"zero {key(1)}\n", f"0 {key(1)} more\n"])
def test_a_damaged_key_file_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="line 1"):
        wireguard.read_keys(text)


# Could fail: a slip reaches the hosts and cuts the mesh; the message does not name variable and value.
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"address": "10.78.0.2"}, "the mesh address of b is 10.78.0.2: one in mev_mesh_network"),
        ({"address": "10.77.0.255"}, "the mesh address of b is 10.77.0.255"),
        ({"address": ""}, "the mesh address of b is ''"),
        ({"address": "10.77.0.1"}, "b and a have the same mesh address, 10.77.0.1"),
        ({"name": "a"}, "a is the name of two members"),
        ({"keys": {0: key(1)}}, "b and a have the same public key"),
        ({"keys": {0: "short"}}, "the public key of b, generation 0, is 'short'"),
        ({"endpoint": "10.77.0.9"}, "wireguard_endpoint of b is 10.77.0.9, inside the mesh"),
        ({"endpoint": "192.0.2.2:51820"}, "wireguard_endpoint of b is '192.0.2.2:51820'"),
    ],
)
def test_what_is_no_mesh_is_told(change: dict[str, Any], said: str) -> None:
    good = [member("a", 1), member("b", 2)]
    assert list(wireguard.problems(good, "10.77.0.0/24", SECRET)) == []
    found = list(wireguard.problems([good[0], {**good[1], **change}], "10.77.0.0/24", SECRET))
    assert any(problem.startswith(said) for problem in found), found


def test_what_the_inventory_lacks_is_told() -> None:
    # Could fail: a missing network or secret comes up as a traceback on every host.
    two = [member("a", 1, endpoint=""), member("b", 2, endpoint="")]
    assert "mev_mesh_network is None" in next(wireguard.problems(two, None, SECRET))
    found = list(wireguard.problems(two, "10.77.0.0/24", ""))
    assert any("wireguard_psk_secret is not given" in problem for problem in found)
    assert any("a, b have no wireguard_endpoint" in problem for problem in found)


# Could fail: odd sizes break the checksum, and the kernel of the peer drops the ping as damaged.
@given(st.integers(1, 65535), st.integers(28, 1500))
def test_a_ping_is_sound_and_its_answer_is_known(ident: int, size: int) -> None:
    packet = icmp.echo_request(ident, 2, size)
    assert len(packet) == size - 20
    assert icmp.checksum(packet) == 0
    answer = bytes([0x45]) + bytes(19) + bytes([0]) + packet[1:]
    assert icmp.echo_reply(answer, ident) == 2
    assert icmp.echo_reply(answer, ident ^ 1) is None
    assert icmp.echo_reply(answer[:20], ident) is None
