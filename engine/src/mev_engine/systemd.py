"""systemd's notify protocol (sd_notify(3)): datagrams to the socket that $NOTIFY_SOCKET names."""

from __future__ import annotations

import logging
import os
import socket

log = logging.getLogger(__name__)


def notify(*assignments: str) -> None:
    """Send `READY=1`, `WATCHDOG=1`, `STATUS=…`; does nothing outside a Type=notify unit."""
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
