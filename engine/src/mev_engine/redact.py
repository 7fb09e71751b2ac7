"""Names for endpoints that are safe to log: the provider's key sits in the path or the query."""

from __future__ import annotations

from urllib.parse import urlsplit


def redact_url(url: str) -> str:
    """Scheme, host and port; user, path and query become `…` where there are any.

    >>> redact_url("wss://eth-mainnet.example.com/v2/SECRET?x=1")
    'wss://eth-mainnet.example.com/…'
    """
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:  # a port that is no number: show nothing of it
        return "(malformed URL)"
    hidden = parts.path.strip("/") or parts.query or parts.username
    return f"{parts.scheme}://{parts.hostname or ''}{port}{'/…' if hidden else ''}"
