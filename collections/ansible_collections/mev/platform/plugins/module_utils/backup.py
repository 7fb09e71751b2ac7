# Copyright (c) the MEV platform's authors. Apache-2.0 (see LICENSE)
"""Which backup a restore starts from, and whether what it would overwrite is younger."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

FORMS = "YYYY-MM-DD, or YYYY-MM-DD HH:MM[:SS][+HH:MM] (UTC without an offset)"


def moment(wanted: str, now: float) -> float | None:
    """The instant that an operator names; None for the newest there is, which today's date is too.

    A date alone is the end of that day in UTC.

    Raises:
        ValueError: it is no date or time, or has not come yet.
    """
    text = str(wanted).strip()
    if not text:
        return None
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            day = datetime.fromisoformat(text).replace(tzinfo=UTC)
            if day <= datetime.fromtimestamp(now, UTC) < day + timedelta(days=1):
                return None
            at = (day + timedelta(days=1) - timedelta(microseconds=1)).timestamp()
        elif re.fullmatch(r"\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}\S*", text):
            parsed = datetime.fromisoformat(re.sub(r"([+-]\d{2})$", r"\1:00", text))
            at = (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
        else:
            raise ValueError
    except ValueError:
        raise ValueError(f"{text!r} is no moment: give {FORMS}") from None
    if at > now:
        raise ValueError(f"{text} has not come yet: it is {_say(now)}")
    return at


def restore_point(info: Sequence[Mapping[str, Any]], wanted: str, now: float) -> dict[str, Any]:
    """What pgBackRest is to be told, from its own ``info --output=json`` of one stanza.

    Returns ``type``, ``target`` and ``set`` for its command line; ``at``, the instant that is surely reached;
    ``size``, bytes of the database; ``label`` for people.

    Raises:
        ValueError: the repository has nothing for that moment; the message names what it has.
    """
    at = moment(wanted, now)
    if not info:
        raise ValueError("the repository knows no such stanza")
    stanza = info[0]
    backups = sorted(
        (backup for backup in stanza.get("backup") or [] if not backup.get("error")),
        key=lambda backup: float(backup["timestamp"]["stop"]),
    )
    if not backups:
        said = (stanza.get("status") or {}).get("message", "no backups")
        raise ValueError(f"the stanza {stanza['name']} has no good backup: {said}")
    usable = [backup for backup in backups if at is None or backup["timestamp"]["stop"] <= at]
    if at is not None and not usable:
        raise ValueError(
            f"{_say(at)} is before the first moment that can be restored, "
            f"{_say(backups[0]['timestamp']['stop'])}"
        )
    backup = usable[-1]
    return {
        "type": "default" if at is None else "time",
        "target": "" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S.%f+00"),
        "set": backup["label"],
        "at": float(backup["timestamp"]["stop"]) if at is None else at,
        "size": int(backup["info"]["size"]),
        "label": "the newest there is" if at is None else _say(at),
    }


def snapshot(snapshots: Sequence[Mapping[str, Any]], wanted: str, now: float) -> dict[str, Any]:
    """The restic snapshot (of ``snapshots --json``) that shows a moment: the last one taken by then.

    Raises:
        ValueError: there is none; the message names the first.
    """
    at = moment(wanted, now)
    found = sorted(((_instant(str(item["time"])), item) for item in snapshots), key=lambda pair: pair[0])
    if not found:
        raise ValueError("the repository has no snapshot of this host")
    usable = [pair for pair in found if at is None or pair[0] <= at]
    if not usable:
        raise ValueError(f"{_say(at or 0)} is before the first snapshot, {_say(found[0][0])}")
    return {"id": usable[-1][1]["id"], "at": usable[-1][0], "label": _say(usable[-1][0])}


def _instant(text: str) -> float:
    """Seconds of a time as Go writes it: nanoseconds, and Z or an offset."""
    return datetime.fromisoformat(re.sub(r"(\.\d{1,6})\d*", r"\1", text).replace("Z", "+00:00")).timestamp()


def _say(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
