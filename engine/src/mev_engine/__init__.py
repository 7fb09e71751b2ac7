"""Detects cyclic arbitrage on EVM chains: float64 to screen, exact integers to decide."""

__version__ = "0.1.0"
