"""A restore starts from the right backup, or says what there is."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from ansible_collections.mev.platform.plugins.module_utils.backup import moment, restore_point, snapshot
from hypothesis import given
from hypothesis import strategies as st

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC).timestamp()
DAY = 86400.0


def stanza(*stops: float, error: bool = False) -> list[dict[str, Any]]:
    """What pgBackRest says of a stanza with backups that ended then."""
    backups = [
        {
            "label": f"b{index}",
            "error": error,
            "timestamp": {"start": stop - 60, "stop": stop},
            "info": {"size": 7},
        }
        for index, stop in enumerate(stops)
    ]
    return [{"name": "mev", "backup": backups, "status": {"code": 0, "message": "ok"}}]


# Could fail: a later backup is taken, from which an earlier moment can't be reached; or one too old.
@given(st.lists(st.floats(NOW - 30 * DAY, NOW), min_size=1, max_size=8), st.floats(NOW - 30 * DAY, NOW))
def test_last_backup_before_the_moment_is_taken(stops: list[float], at: float) -> None:
    stops = [float(int(stop)) for stop in stops]
    at = float(int(at))
    wanted = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")
    before = [stop for stop in stops if stop <= at]
    if not before:
        with pytest.raises(ValueError, match="before the first moment"):
            restore_point(stanza(*stops), wanted, NOW)
        return
    point = restore_point(stanza(*stops), wanted, NOW)
    assert stops[int(point["set"][1:])] == max(before)
    assert (point["type"], point["at"]) == ("time", at)


# Could fail: an offset is read as UTC, so an hour of trades is lost; a date means its first instant.
@pytest.mark.parametrize(
    ("wanted", "hour"),
    [
        ("2026-03-09 10:30", 10.5),
        ("2026-03-09T10:30:00Z", 10.5),
        ("2026-03-09 10:30:00+02", 8.5),
        ("2026-03-09 10:30:00-05:30", 16),
        ("2026-03-09", 24),
    ],
)
def test_moments_are_read(wanted: str, hour: float) -> None:
    at = moment(wanted, NOW)
    assert at == pytest.approx(datetime(2026, 3, 9, tzinfo=UTC).timestamp() + hour * 3600, abs=1e-3)


# Could fail: today's date asks for a moment that has not come; nothing is taken for 1970.
@pytest.mark.parametrize("wanted", ["", " ", "2026-03-10"])
def test_newest(wanted: str) -> None:
    assert moment(wanted, NOW) is None
    point = restore_point(stanza(NOW - DAY, NOW - 100), wanted, NOW)
    assert (point["type"], point["target"], point["set"], point["at"]) == ("default", "", "b1", NOW - 100)


# Could fail: a slip of the operator's restores something else than he meant.
@pytest.mark.parametrize(
    "wanted", ["yesterday", "10.03.2026", "2026-02-30", "2026-03-09 25:00", "1773000000"]
)
def test_no_moment(wanted: str) -> None:
    with pytest.raises(ValueError, match="is no moment: give YYYY-MM-DD"):
        moment(wanted, NOW)


# Could fail: a moment to come, or a stanza without good backups, gives a traceback, or worse a restore.
def test_nothing_to_restore() -> None:
    with pytest.raises(ValueError, match="has not come yet"):
        restore_point(stanza(NOW), "2026-03-10 12:01", NOW)
    with pytest.raises(ValueError, match="knows no such stanza"):
        restore_point([], "", NOW)
    with pytest.raises(ValueError, match="no good backup"):
        restore_point(stanza(), "", NOW)
    with pytest.raises(ValueError, match="no good backup"):
        restore_point(stanza(NOW, error=True), "", NOW)


# Could fail: restic's nanoseconds or offsets aren't read, or its order is taken for the order of time.
def test_snapshot_of_a_moment() -> None:
    known = [
        {"id": "c", "time": "2026-03-09T12:00:00.123456789+01:00"},
        {"id": "a", "time": "2026-03-01T00:00:00Z"},
        {"id": "b", "time": "2026-03-09T11:30:00.5Z"},
    ]
    assert snapshot(known, "", NOW)["id"] == "b"
    assert snapshot(known, "2026-03-09 11:15", NOW)["id"] == "c"
    with pytest.raises(ValueError, match="before the first snapshot, 2026-03-01 00:00:00 UTC"):
        snapshot(known, "2026-02-01", NOW)
    with pytest.raises(ValueError, match="no snapshot"):
        snapshot([], "", NOW)
