"""Solidly volatile pairs in kernels: x*y kept, fees in and out of the pool as `solidly.swap` books them.

Float: relative error of y and slope below 1e-15 before rounding to raw units; the contract's fee is
rounded down, which is worth up to one raw unit of input. Exact: `quote` and `least` are
`solidly_pair.exact_in` and `exact_out` for volatile pairs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mev_engine.amm import solidly_pair
from mev_engine.amm import words as checked
from mev_engine.amm.family import Family
from mev_engine.amm.solidly import SolidlyPool, SolidlyVariant
from mev_engine.amm.solidly_pair import VolatilePair
from mev_engine.jit import helper
from mev_engine.types import FloatArray, WordArray
from mev_engine.wide import div64, load, u256
from mev_engine.wide import mul_div as scale

_CAMELOT_MOST = 2**112 - 1


def most_in(pool: SolidlyPool, reserve: int, fee: int) -> float:
    """The largest input, raw units: Camelot's reserves have 112 bits; infinite where there is no limit."""
    if pool.variant is not SolidlyVariant.CAMELOT:
        return np.inf
    leaves = pool.owner_fee_share * fee / pool.fee_den**2 if pool.stable else 0.0
    return (_CAMELOT_MOST - reserve) / (1.0 - leaves)


def kept(pool: SolidlyPool, fee: int) -> float:
    """The share of an input that counts."""
    return (pool.fee_den - fee) / pool.fee_den


def params(pool: VolatilePair) -> FloatArray:
    """For token 0, then token 1: reserve (raw), share of it kept when paid in, largest input (raw)."""
    sides = ((pool.reserve0, pool.fee0), (pool.reserve1, pool.fee1))
    return np.array(
        [(r, kept(pool, fee), most_in(pool, r, fee)) for r, fee in sides],
        dtype=np.float64,
    ).ravel()


@helper
def respond(params: FloatArray, at: int, i: int, j: int, x: float) -> tuple[float, float, float]:
    """`y = s*g*x / (r + g*x)`; see `family`."""
    reserve_in, share_in, most = params[at + 3 * i], params[at + 3 * i + 1], params[at + 3 * i + 2]
    reserve_out = params[at + 3 * j]
    if not (reserve_in > 0.0 and reserve_out > 0.0):
        return 0.0, 0.0, 0.0
    paid = share_in * min(x, most)
    share = 1.0 / (reserve_in + paid)
    y = reserve_out * (paid * share)
    if x > most:
        return y, 0.0, 0.0
    return y, share_in * (reserve_in * share) * (reserve_out * share), share_in * share


def words(pool: VolatilePair) -> WordArray:
    """U256 each: reserves 0 and 1, fees 0 and 1, fee_den, whether it is Camelot's."""
    camelot = int(pool.variant is SolidlyVariant.CAMELOT)
    return checked.pack(pool.reserve0, pool.reserve1, pool.fee0, pool.fee1, pool.fee_den, camelot)


@helper
def _pays(words: WordArray, at: int, i: int, j: int, x: Any, y: Any) -> Any:
    """Whether the pair's swap of x for y goes through, y above 0."""
    reserve_in, reserve_out = load(words, at + 4 * i), load(words, at + 4 * j)
    fee, ok = _fee(words, at, i, x)
    k, k_fits = checked.mul(reserve_in, reserve_out)
    balance, fits = checked.add(reserve_in, x - fee)
    after, after_fits = checked.mul(balance, reserve_out - y)
    if load(words, at + 20) != 0:  # Camelot: all of the fee stays in the pair
        whole, whole_fits = checked.add(reserve_in, x)
        fits = fits and whole_fits and (whole >> 112) == 0
    return ok and k_fits and fits and after_fits and y < reserve_out and x != 0 and after >= k


@helper
def _fee(words: WordArray, at: int, i: int, x: Any) -> Any:
    """`(fee on x, ok)`."""
    product, fits = checked.mul(x, load(words, at + 8 + 4 * i))
    return div64(product, words[at + 16])[0], fits  # fee_den is 1 to 1e18


@helper
def quote(words: WordArray, at: int, i: int, j: int, x: Any) -> Any:
    """The most that swap pays for x; see `family`."""
    if x == 0:
        return u256(0), False
    reserve_in, reserve_out = load(words, at + 4 * i), load(words, at + 4 * j)
    fee, ok = _fee(words, at, i, x)
    k, k_fits = checked.mul(reserve_in, reserve_out)
    balance, fits = checked.add(reserve_in, x - fee)
    if not (ok and k_fits and fits and balance != 0):
        return u256(0), False
    spare, _ = checked.div_up(k, balance)
    if spare == 0:
        spare = u256(1)
    if spare >= reserve_out:
        return u256(0), True
    y = reserve_out - spare
    return y, _pays(words, at, i, j, x, y)


@helper
def least(words: WordArray, at: int, i: int, j: int, y: Any) -> Any:
    """The least input for which swap pays y; see `family`."""
    reserve_in, reserve_out = load(words, at + 4 * i), load(words, at + 4 * j)
    if y == 0 or y >= reserve_out:
        return u256(0), False
    k, k_fits = checked.mul(reserve_in, reserve_out)
    needed, _ = checked.div_up(k, reserve_out - y)
    x, fits = input_of(needed, reserve_in, load(words, at + 8 + 4 * i), load(words, at + 16))
    return x, k_fits and fits and _pays(words, at, i, j, x, y)


@helper
def input_of(balance: Any, reserve: Any, fee: Any, fee_den: Any) -> Any:
    """`(x, ok)`: the least x above 0 that raises `reserve` to `balance` after its fee, rounded down."""
    net = u256(1)
    if balance > reserve:
        net = balance - reserve
    x, fits = scale(net - 1, fee_den, fee_den - fee)
    x = x + 1
    return x, fits and x != 0


FAMILY = Family(
    name="solidly_volatile",
    code=8,
    state=VolatilePair,
    coins=solidly_pair.coins,
    exact_in=solidly_pair.exact_in,
    exact_out=solidly_pair.exact_out,
    params=params,
    words=words,
    events=solidly_pair.EVENTS,
)
