"""One thing after another is killed while blocks flow; the engine must come back by itself and catch up."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from conftest import ENGINE, Platform, eventually

CHAIN = "mev-devchain.service"


def _kill_engine(p: Platform) -> None:
    p.run(f"systemctl kill --signal=KILL {ENGINE}")


def _redis_away(p: Platform) -> None:
    p.run("systemctl stop redis@state.service && sleep 8 && systemctl start redis@state.service")


def _postgresql_away(p: Platform) -> None:
    p.run(
        "systemctl stop postgresql@17-main.service && sleep 8 && systemctl start postgresql@17-main.service"
    )


def _kill_chain(p: Platform) -> None:
    p.run(f"systemctl kill --signal=KILL {CHAIN}")


DRILLS: dict[str, Callable[[Platform], None]] = {
    "engine killed": _kill_engine,
    "redis away": _redis_away,
    "postgresql away": _postgresql_away,
    "chain killed": _kill_chain,
}


# Could fail: a sink that gives up, a unit that stays down, a checkpoint that is wrong, rows written twice.
@pytest.mark.parametrize("drill", DRILLS)
def test_recovers_by_itself(following: Platform, drill: str) -> None:
    p = following
    since = p.now()
    before = int(p.metric("mev_block_height"))
    rows_before = p.number("SELECT count(*) FROM opportunities")
    DRILLS[drill](p)

    eventually(
        "the engine is at the chain's head, with nothing left to write", lambda: _at_rest(p, before), 240
    )
    eventually(
        "new opportunities arrive",
        lambda: p.number("SELECT count(*) FROM opportunities") > rows_before,
    )
    _nothing_doubled(p)
    _gaps_are_named(p, p.journal(since), before)


def _at_rest(p: Platform, before: int) -> bool:
    now = p.metrics()
    return now.chain_height > before + 5 and now.behind <= 2 and now.sum("mev_sink_queue_rows") == 0


def _nothing_doubled(p: Platform) -> None:
    doubled = """SELECT block_hash, path_tokens, pools, count(*) FROM opportunities
        GROUP BY block_hash, path_tokens, pools HAVING count(*) > 1 LIMIT 3"""
    assert p.sql(doubled) == []
    streamed = [entry["id"] for entry in p.stream()]
    assert len(streamed) == len(set(streamed))


def _gaps_are_named(p: Platform, journal: str, before: int) -> None:
    """Blocks for which nothing was found are either quiet ones or named as not seen."""
    named = sum(
        int(last) - int(first) + 1
        for first, last in re.findall(r"blocks_skipped first=(\d+) last=(\d+)", journal)
    )
    # The metric begins anew with the process; the journal of the drill has at least what it counted.
    if int(p.metric("mev_blocks_missed_total")) > 0:
        assert named > 0, journal
    # A long silence in the table is a lost stretch: trades come with every block, opportunities with most.
    longest = p.number(
        f"""SELECT coalesce(max(gap), 0)
        FROM (SELECT block_number - lag(block_number) OVER (ORDER BY block_number) AS gap
              FROM (SELECT DISTINCT block_number FROM opportunities
                    WHERE status = 'detected' AND block_number >= {before}) blocks) gaps"""
    )
    assert longest <= named + 10, f"{longest} blocks without a row, {named} named as skipped:\n{journal}"
