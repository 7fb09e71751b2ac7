"""Errors that all pool families share."""

from __future__ import annotations


class SwapRevertedError(ValueError):
    """The contract would revert; the message is its own reason (error name or require string)."""


class UnknownStateError(LookupError):
    """The answer depends on pool state that was not loaded, so none is given."""
