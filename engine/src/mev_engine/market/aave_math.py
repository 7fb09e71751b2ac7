"""Aave's fixed-point arithmetic, as Python integers: every rounding is the contract's.

Covered are Aave V2 (protocol-v2 1.0.1) and Aave V3.0 (core-v3 1.19.3): both round products and quotients
half up. Later releases (from V3.5 on balances are rounded in the protocol's favour) are not covered.

Units: ray 1e27 (indexes, rates a year), wad 1e18 (health factor), bps 1e4 (thresholds, bonus, fees), seconds.
Nothing here checks for 256-bit overflow: `market.aave` admits only values with which none can happen.

Sources: WadRayMath.sol, PercentageMath.sol and MathUtils.sol of the two packages named above.
"""

from __future__ import annotations

from enum import Enum

RAY = 10**27
WAD = 10**18
BPS = 10_000
SECONDS_PER_YEAR = 365 * 24 * 3600
NO_DEBT = 2**256 - 1
"""Health factor of an account without debt."""


class AaveVersion(Enum):
    """The releases whose arithmetic is known here."""

    V2 = "aave_v2"
    V3 = "aave_v3"


def ray_mul(a: int, b: int) -> int:
    """`a * b / RAY`, half up."""
    return (a * b + RAY // 2) // RAY


def ray_div(a: int, b: int) -> int:
    """`a * RAY / b`, half up. ZeroDivisionError where b is 0."""
    return (a * RAY + b // 2) // b


def wad_div(a: int, b: int) -> int:
    """`a * WAD / b`, half up. ZeroDivisionError where b is 0."""
    return (a * WAD + b // 2) // b


def percent_mul(value: int, bps: int) -> int:
    """`value * bps / 10000`, half up."""
    return (value * bps + BPS // 2) // BPS


def percent_div(value: int, bps: int) -> int:
    """`value * 10000 / bps`, half up. ZeroDivisionError where bps is 0."""
    return (value * BPS + bps // 2) // bps


def linear_interest(rate: int, seconds: int) -> int:
    """Growth (ray) of what is supplied: `1 + rate * t`."""
    return RAY + rate * seconds // SECONDS_PER_YEAR


def compounded_interest(rate: int, seconds: int, version: AaveVersion) -> int:
    """Growth (ray) of what is borrowed: three terms of the binomial series of `(1 + rate/year)^seconds`.

    V2 rounds the rate to a second first, V3 divides the powers of the yearly rate.
    """
    if seconds == 0:
        return RAY
    less_one, less_two = seconds - 1, max(seconds - 2, 0)
    if version is AaveVersion.V2:
        per_second = rate // SECONDS_PER_YEAR
        first = per_second * seconds
        square = ray_mul(per_second, per_second)
        cube = ray_mul(square, per_second)
    else:
        first = rate * seconds // SECONDS_PER_YEAR
        square = ray_mul(rate, rate) // SECONDS_PER_YEAR**2
        cube = ray_mul(square, rate) // SECONDS_PER_YEAR
    second = seconds * less_one * square // 2
    third = seconds * less_one * less_two * cube // 6
    return RAY + first + second + third
