"""systemd's notify protocol (sd_notify(3)), and log lines with the priority that journald reads."""

from __future__ import annotations

import logging
import os
import socket

log = logging.getLogger(__name__)


def notify(*assignments: str) -> None:
    """Send `READY=1`, `WATCHDOG=1`, `STATUS=…` as a datagram to $NOTIFY_SOCKET; does nothing outside a
    Type=notify unit."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # Linux's abstract namespace
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as client:
        client.settimeout(1)  # a manager that does not read must not stop the engine
        try:
            client.connect(address)
            client.sendall("\n".join(assignments).encode())
        except OSError as error:
            log.warning("notify_failed socket=%s message=%r reason=%r", address, assignments, str(error))


def watchdog_seconds() -> float | None:
    """The unit's WatchdogSec=, where it has one and means this process."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    value = os.environ.get("WATCHDOG_USEC")
    return int(value) / 1e6 if value else None


PRIORITY = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


class JournalFormatter(logging.Formatter):
    """Lines for people; under systemd with sd-daemon(3)'s prefix, so that `journalctl -p err` works."""

    def __init__(self) -> None:
        super().__init__("%(levelname)s %(name)s %(message)s")
        self._journal = "JOURNAL_STREAM" in os.environ

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if not self._journal:
            return text
        prefix = f"<{PRIORITY.get(record.levelno, 6)}>"
        return "\n".join(prefix + line for line in text.split("\n"))
