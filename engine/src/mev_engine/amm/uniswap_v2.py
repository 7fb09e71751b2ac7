"""Uniswap V2 pairs: the contracts' integer arithmetic, and its float64 kernels.

The exact functions take and give Python integers in raw token units and raise `SwapRevertedError`
with the contract's own reason where the contract reverts. The fee is `fee_num / fee_den` of the
input counted (997 / 1000 for 30 bps, 9975 / 10000 for PancakeSwap's 25).

Sources: Uniswap/v2-periphery UniswapV2Library.sol (getAmountOut, getAmountIn) and Uniswap/v2-core
UniswapV2Pair.sol (swap, _update).
"""

from __future__ import annotations

import math

import numpy as np

from mev_engine.amm.errors import SwapRevertedError
from mev_engine.jit import kernel
from mev_engine.types import FloatArray, IndexArray

MAX_RESERVE = 2**112 - 1
_UINT256 = 2**256


def get_amount_out(amount_in: int, reserve_in: int, reserve_out: int, fee_num: int, fee_den: int) -> int:
    """Output of a swap as the router computes it: `gn*x*s // (fd*r + gn*x)`."""
    if amount_in <= 0:
        raise SwapRevertedError("UniswapV2Library: INSUFFICIENT_INPUT_AMOUNT")
    if reserve_in <= 0 or reserve_out <= 0:
        raise SwapRevertedError("UniswapV2Library: INSUFFICIENT_LIQUIDITY")
    amount_with_fee = amount_in * fee_num
    numerator = amount_with_fee * reserve_out
    if numerator >= _UINT256:
        raise SwapRevertedError("ds-math-mul-overflow")
    return numerator // (reserve_in * fee_den + amount_with_fee)


def get_amount_in(amount_out: int, reserve_in: int, reserve_out: int, fee_num: int, fee_den: int) -> int:
    """Input for an output as the router computes it: `fd*r*y // (gn*(s - y)) + 1`.

    Where the division leaves no rest this is one more than needed; see `least_input`.
    """
    if amount_out <= 0:
        raise SwapRevertedError("UniswapV2Library: INSUFFICIENT_OUTPUT_AMOUNT")
    if reserve_in <= 0 or reserve_out <= 0:
        raise SwapRevertedError("UniswapV2Library: INSUFFICIENT_LIQUIDITY")
    if amount_out > reserve_out:
        raise SwapRevertedError("ds-math-sub-underflow")
    if amount_out == reserve_out:
        raise SwapRevertedError("division by zero")
    return reserve_in * amount_out * fee_den // ((reserve_out - amount_out) * fee_num) + 1


def least_input(amount_out: int, reserve_in: int, reserve_out: int, fee_num: int, fee_den: int) -> int:
    """The least x with `get_amount_out(x) >= amount_out`: `ceil(fd*r*y / (gn*(s - y)))`.

    From `gn*x*s >= y*(fd*r + gn*x)`. Needs `0 < amount_out < reserve_out`.
    """
    return -(-reserve_in * amount_out * fee_den // ((reserve_out - amount_out) * fee_num))


def swap(
    reserve_in: int, reserve_out: int, amount_in: int, amount_out: int, fee_num: int, fee_den: int
) -> tuple[int, int]:
    """The pair's own checks for a swap of one token for the other; returns the reserves after it."""
    if amount_out <= 0:
        raise SwapRevertedError("UniswapV2: INSUFFICIENT_OUTPUT_AMOUNT")
    if amount_out >= reserve_out:
        raise SwapRevertedError("UniswapV2: INSUFFICIENT_LIQUIDITY")
    if amount_in <= 0:
        raise SwapRevertedError("UniswapV2: INSUFFICIENT_INPUT_AMOUNT")
    balance_in, balance_out = reserve_in + amount_in, reserve_out - amount_out
    adjusted_in = balance_in * fee_den - amount_in * (fee_den - fee_num)
    if adjusted_in * balance_out < reserve_in * reserve_out * fee_den:
        raise SwapRevertedError("UniswapV2: K")
    if balance_in > MAX_RESERVE:
        raise SwapRevertedError("UniswapV2: OVERFLOW")
    return balance_in, balance_out


@kernel("void(int32[::1], float64[::1], float64[::1], float64[::1])")
def refresh_rates(pools: IndexArray, reserve: FloatArray, gamma: FloatArray, log_rate: FloatArray) -> None:
    """Set `log_rate[e] = ln(gamma * s / r)` for both edges of each pool in `pools`.

    `reserve[2p]`, `reserve[2p + 1]`: raw units; edge `2p` pays token0 in, edge `2p + 1` token1.
    A pool with an empty side gets -inf both ways: no cycle through it can pass the screen.
    """
    for i in range(pools.size):
        e = 2 * pools[i]
        r0, r1 = reserve[e], reserve[e + 1]
        if r0 > 0.0 and r1 > 0.0:
            log_rate[e] = math.log(gamma[pools[i]] * r1 / r0)
            log_rate[e + 1] = math.log(gamma[pools[i]] * r0 / r1)
        else:
            log_rate[e] = -np.inf
            log_rate[e + 1] = -np.inf
