"""One thing after another is killed while blocks flow; the engine must come back by itself and catch up."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from conftest import ENGINE, Metrics, Platform, eventually

CHAIN = "mev-devchain.service"
CHECKPOINT = "/var/lib/mev-engine/ethereum/checkpoint.json"


def _stopped_for_a_while(unit: str) -> str:
    return f"systemctl stop {unit} && sleep 8 && systemctl start {unit}"


@dataclass(frozen=True)
class Drill:
    """What is done to the host, and the lines that tell an operator about it, in their order."""

    command: str
    told: tuple[str, ...]


DRILLS = {
    # the checkpoint is read before the new process can have written one
    "engine killed": Drill(
        f"systemctl kill --signal=KILL {ENGINE} && cat {CHECKPOINT}",
        ("starting version=", "connected endpoint=", "loaded block="),
    ),
    "redis away": Drill(
        _stopped_for_a_while("redis@state.service"), ("sink_down sink=redis ", "sink_back sink=redis ")
    ),
    "postgresql away": Drill(
        _stopped_for_a_while("postgresql@17-main.service"),
        ("sink_down sink=postgresql ", "sink_back sink=postgresql "),
    ),
    "chain killed": Drill(
        f"systemctl kill --signal=KILL {CHAIN}", ("link_lost endpoint=", "connected endpoint=")
    ),
}


# Could fail: a sink that gives up, a unit that stays down, a checkpoint ahead of what was written, rows of a
# block that is no longer on the chain, a block that nobody looked at, an outage that no line tells of.
@pytest.mark.parametrize("name", DRILLS)
def test_recovers_by_itself(following: Platform, name: str) -> None:
    p, drill = following, DRILLS[name]
    since = p.now()
    before = p.metrics()
    rows_before = p.number("SELECT count(*) FROM opportunities")
    said = p.run(drill.command)

    eventually(
        "the engine is at the chain's head, with nothing left to write", lambda: _at_rest(p, before), 240
    )
    eventually(
        "new opportunities arrive",
        lambda: p.number("SELECT count(*) FROM opportunities") > rows_before,
    )
    _nothing_doubled(p)
    after = p.metrics()
    journal = p.journal(since)
    places = [journal.find(line) for line in drill.told]
    assert -1 not in places, f"{drill.told} at {places}: {journal}"
    assert places == sorted(places), f"{drill.told} at {places}: {journal}"
    ACCOUNTS[name](before, after, journal, said)


def _at_rest(p: Platform, before: Metrics) -> bool:
    now = p.metrics()
    height = before.sum("mev_block_height")
    return now.chain_height > height + 5 and now.behind <= 2 and now.sum("mev_sink_queue_rows") == 0


def _nothing_doubled(p: Platform) -> None:
    """An opportunity's id is a hash of its block and path: doubled is what two blocks of one height say."""
    doubled = """SELECT block_number, array_agg(DISTINCT block_hash) FROM opportunities
        WHERE status = 'detected' GROUP BY block_number HAVING count(DISTINCT block_hash) > 1 LIMIT 3"""
    assert p.sql(doubled) == []
    streamed = [entry["id"] for entry in p.stream()]
    assert len(streamed) == len(set(streamed))


def _grown(before: Metrics, after: Metrics, metric: str) -> int:
    return int(after.sum(metric) - before.sum(metric))


def _every_block_seen(before: Metrics, after: Metrics, journal: str, said: str) -> None:
    """The process and the chain lived on: each new height is one block looked at."""
    assert _grown(before, after, "mev_blocks_missed_total") == 0, journal
    assert _grown(before, after, "mev_blocks_total") == _grown(before, after, "mev_block_height"), journal


def _seen_since_the_checkpoint(before: Metrics, after: Metrics, journal: str, said: str) -> None:
    """The new process, whose metrics began at 0, went on at the checkpoint and left no block out."""
    checkpoint = json.loads(said)["blocks"][-1][0]
    loaded = int(re.findall(r"loaded block=(\d+)", journal)[-1])
    assert loaded == checkpoint, journal
    assert after.sum("mev_blocks_missed_total") == 0, journal
    assert after.sum("mev_blocks_total") == after.sum("mev_block_height") - loaded, journal


def _skipped_are_named(before: Metrics, after: Metrics, journal: str, said: str) -> None:
    """A chain that comes back lower has its blocks again; what can't be read any more is named."""
    skipped = [(int(a), int(b)) for a, b in re.findall(r"blocks_skipped first=(\d+) last=(\d+)", journal)]
    missed = _grown(before, after, "mev_blocks_missed_total")
    assert missed == sum(last - first + 1 for first, last in skipped), journal
    looked_at = _grown(before, after, "mev_blocks_total")
    assert looked_at + missed >= _grown(before, after, "mev_block_height"), journal


ACCOUNTS: dict[str, Callable[[Metrics, Metrics, str, str], None]] = {
    "engine killed": _seen_since_the_checkpoint,
    "redis away": _every_block_seen,
    "postgresql away": _every_block_seen,
    "chain killed": _skipped_are_named,
}
