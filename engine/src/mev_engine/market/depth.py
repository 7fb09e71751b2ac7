"""How deep each leg is, in the native coin: what pruning by liquidity goes by.

An edge's marginal answer has the curve of a constant product whose reserve of the token paid out is
`slope / curve`, real or virtual. Prices spread from the native coin, from token to token through
the deepest leg: a token's price is that of its deepest priced neighbour times the pool's own.
"""

from __future__ import annotations

import numpy as np

from mev_engine.types import FloatArray, IndexArray

ROUNDS = 3
"""Tokens further from the native coin than this many pools have no price, and their legs no depth."""


def leg_depths(
    edge_token: IndexArray, slope: FloatArray, curve: FloatArray, n_tokens: int, native: int
) -> FloatArray:
    """Native wei on one side of each leg (float64, one a leg); 0 for a pool that can't trade."""
    tail, head = edge_token, edge_token[np.arange(len(edge_token)) ^ 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        reserve = np.where(curve > 0.0, slope / curve, 0.0)  # of the head, raw units
        price_ratio = np.sqrt(slope / slope[np.arange(len(slope)) ^ 1])  # head for a unit of tail, no fee
    price_ratio[~np.isfinite(price_ratio)] = 0.0
    price = np.zeros(n_tokens)
    price[native] = 1.0
    for _ in range(ROUNDS):
        worth = reserve * price[head]
        order = np.argsort(worth, kind="stable")  # the deepest is written last, and stays
        usable = order[(worth[order] > 0.0) & (price[tail[order]] == 0.0)]
        price[tail[usable]] = price[head[usable]] * price_ratio[usable]
    worth = reserve * price[head]
    depth: FloatArray = np.maximum(worth[0::2], worth[1::2])
    return depth
