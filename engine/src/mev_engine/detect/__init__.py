"""Finds what can be earned: screen, size, verify exactly, take off gas, rank."""

from mev_engine.detect.backrun import PendingSwap, pending_delta, scan_after
from mev_engine.detect.gas import GasModel
from mev_engine.detect.opportunity import Opportunity, opportunity_id
from mev_engine.detect.scanner import Scanner, ScanResult

__all__ = [
    "GasModel",
    "Opportunity",
    "PendingSwap",
    "ScanResult",
    "Scanner",
    "opportunity_id",
    "pending_delta",
    "scan_after",
]
