"""How records, owners and processes are told apart."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.mev.platform.plugins.module_utils import nspawn


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process with the arguments of a guest's supervisor."""
    script = "echo ready; while :; do sleep 0.1; done"
    command = ["/bin/sh", "-c", script, "mev-host-a", f"--directory={tmp_path}/hosts/a/root", "--machine=a"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_guest_is_known_by_its_whole_root(tmp_path: Path, stand_in: subprocess.Popen[bytes]) -> None:
    # fails if roots are compared as prefixes or substrings: host `a` would kill host `ab`, or the reverse
    hosts = tmp_path / "hosts"
    assert nspawn.guest_processes(hosts / "a/root") == [stand_in.pid]
    assert nspawn.guest_processes(hosts / "a") == []
    assert nspawn.guest_processes(hosts / "ab/root") == []
    nspawn.kill(hosts / "ab/root", seconds=1)
    assert stand_in.poll() is None


def test_kill_ends_a_supervisor_without_a_guest(tmp_path: Path, stand_in: subprocess.Popen[bytes]) -> None:
    # fails if kill relies on a guest's init to end the rest: after a crash there may be none.
    # The stand-in is our child, a zombie until we wait: a zombie has no arguments, so it counts as gone.
    nspawn.kill(tmp_path / "hosts/a/root", seconds=1)
    assert stand_in.wait(5) == -9


def test_others_hosts_are_refused_by_name_and_heirless_ones_taken(tmp_path: Path) -> None:
    # fails if a second checkout takes a host over, or if nobody can ever remove one whose checkout is gone
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    theirs.mkdir()
    with pytest.raises(nspawn.HostError, match=str(theirs)):
        nspawn.check_owner("the host a", {"owner": str(theirs)}, str(ours))
    theirs.rmdir()
    nspawn.check_owner("the host a", {"owner": str(theirs)}, str(ours))


def test_a_damaged_record_is_named_and_not_taken_for_none(tmp_path: Path) -> None:
    # fails if a half-written file reads as "no record": the network behind it would never be removed
    path = tmp_path / "record.json"
    assert nspawn.read_record(path) is None
    nspawn.write_record(path, {"owner": "x"})
    assert nspawn.read_record(path) == {"owner": "x"}
    path.write_text('{"owner": ')
    with pytest.raises(nspawn.HostError, match=r"record\.json"):
        nspawn.read_record(path)


def test_a_failing_command_says_what_it_said_and_a_missing_one_its_package() -> None:
    # fails if stderr is lost, which is all that a user has to go by
    with pytest.raises(nspawn.HostError, match="told you"):
        nspawn.run(["sh", "-c", "echo told you >&2; exit 3"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", "/nonexistent")
        with pytest.raises(nspawn.HostError, match=r"apt-get install .* nftables"):
            nspawn.run(["nft", "list", "tables"])
