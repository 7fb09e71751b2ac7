"""All pool families, and the dispatch of kernels to them.

A new family is its own file, an entry in `FAMILIES` and a branch in each dispatch below: kernels can't look
functions up at run time without losing inlining, and a branch on a small number costs nothing.
"""

from __future__ import annotations

from typing import Any

from mev_engine.amm import (
    balancer_stable_kernels,
    balancer_weighted_kernels,
    concentrated_kernels,
    curve_crypto_kernels,
    curve_stable_kernels,
    solidly_stable_kernels,
    solidly_volatile_kernels,
    uniswap_v2,
    uniswap_v3,
    uniswap_v4,
)
from mev_engine.amm.family import Family
from mev_engine.jit import helper
from mev_engine.wide import u256

_MODULES = (
    uniswap_v2,
    uniswap_v3,
    uniswap_v4,
    curve_stable_kernels,
    curve_crypto_kernels,
    balancer_weighted_kernels,
    balancer_stable_kernels,
    solidly_volatile_kernels,
    solidly_stable_kernels,
)
FAMILIES: dict[str, Family] = {module.FAMILY.name: module.FAMILY for module in _MODULES}
_BY_STATE = {family.state: family for family in FAMILIES.values()}


def family_of(state: object) -> Family:
    """The family whose state this is; TypeError for anything else."""
    family = _BY_STATE.get(type(state))
    if family is None:
        raise TypeError(f"{type(state).__name__} is no pool state; known: {', '.join(FAMILIES)}")
    return family


@helper
def respond(code: int, params: Any, at: int, i: int, j: int, x: float) -> tuple[float, float, float]:
    """`family.respond` of the family with this code."""
    if code == 1:
        return uniswap_v2.respond(params, at, i, j, x)
    if code <= 3:
        return concentrated_kernels.respond(params, at, i, j, x)
    if code == 4:
        return curve_stable_kernels.respond(params, at, i, j, x)
    if code == 5:
        return curve_crypto_kernels.respond(params, at, i, j, x)
    if code == 6:
        return balancer_weighted_kernels.respond(params, at, i, j, x)
    if code == 7:
        return balancer_stable_kernels.respond(params, at, i, j, x)
    if code == 8:
        return solidly_volatile_kernels.respond(params, at, i, j, x)
    if code == 9:
        return solidly_stable_kernels.respond(params, at, i, j, x)
    return 0.0, 0.0, 0.0


@helper
def quote(code: int, words: Any, at: int, i: int, j: int, x: Any) -> tuple[Any, bool]:
    """`family.quote` of the family with this code."""
    if code == 1:
        return uniswap_v2.quote(words, at, i, j, x)
    if code == 2:
        return concentrated_kernels.quote_v3(words, at, i, j, x)
    if code == 3:
        return concentrated_kernels.quote_v4(words, at, i, j, x)
    if code == 4:
        return curve_stable_kernels.quote(words, at, i, j, x)
    if code == 6:
        return balancer_weighted_kernels.quote(words, at, i, j, x)
    if code == 7:
        return balancer_stable_kernels.quote(words, at, i, j, x)
    if code == 8:
        return solidly_volatile_kernels.quote(words, at, i, j, x)
    if code == 9:
        return solidly_stable_kernels.quote(words, at, i, j, x)
    return u256(0), False


@helper
def least(code: int, words: Any, at: int, i: int, j: int, y: Any) -> tuple[Any, bool]:
    """`family.least` of the family with this code."""
    if code == 1:
        return uniswap_v2.least(words, at, i, j, y)
    if code == 2:
        return concentrated_kernels.least_v3(words, at, i, j, y)
    if code == 3:
        return concentrated_kernels.least_v4(words, at, i, j, y)
    if code == 4:
        return curve_stable_kernels.least(words, at, i, j, y)
    if code == 6:
        return balancer_weighted_kernels.least(words, at, i, j, y)
    if code == 7:
        return balancer_stable_kernels.least(words, at, i, j, y)
    if code == 8:
        return solidly_volatile_kernels.least(words, at, i, j, y)
    if code == 9:
        return solidly_stable_kernels.least(words, at, i, j, y)
    return u256(0), False
