"""Finds what can be earned: screen, size, verify exactly, take off gas, rank."""

from mev_engine.detect.opportunity import Opportunity, opportunity_id
from mev_engine.detect.scanner import GasModel, Scanner, ScanResult

__all__ = ["GasModel", "Opportunity", "ScanResult", "Scanner", "opportunity_id"]
