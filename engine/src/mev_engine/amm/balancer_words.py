"""Balancer's vaults in kernels: the layout of a pool's words, scaling, fees and limits in 256 bits.

What `balancer_vault.swap_given_in` does around a pool's formula, in two halves: `given` before it and
`paid` after it. Each returns its value and whether the vault goes on.

Words, four uint64 each: vault, swap_fee, whether the live balances fit, and nine of the family's own; then
for each token balance, scaling, rate, factor, factor with the rate rounded up, live balance and one of the
family's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mev_engine.amm import words as checked
from mev_engine.amm.balancer_math import ONE
from mev_engine.amm.balancer_vault import MAX_BALANCE, MINIMUM_TRADE_AMOUNT, V2, V3, VaultPool, rate_up
from mev_engine.amm.errors import SwapRevertedError
from mev_engine.jit import helper
from mev_engine.types import WordArray
from mev_engine.wide import load, u256

OWN = 3
"""Position of the first of the family's own numbers, in U256."""
BALANCE, SCALING, RATE, FACTOR, FACTOR_UP, LIVE, OF_TOKEN = range(7)
"""Fields of a token."""
_OWN_NUMBERS, _TOKEN = 9, 7
_HEAD = OWN + _OWN_NUMBERS
_BITS_V2, _BITS_V3 = MAX_BALANCE[V2].bit_length(), MAX_BALANCE[V3].bit_length()


def layout(pool: VaultPool, own: Sequence[int], of_token: Sequence[int]) -> WordArray:
    """The words of a pool; `own` up to nine numbers of the family, `of_token` one for each token."""
    count = len(pool.balances)
    factors = [(pool.factor(k), pool.scaling[k] * rate_up(pool.rates[k])) for k in range(count)]
    try:
        live, fits = pool.live_balances(), 1
    except SwapRevertedError:
        live, fits = [0] * count, 0
    if max(up for _, up in factors) >= 2**256:  # a rate that no contract can multiply with
        factors, fits = [(0, 0)] * count, 0
    numbers = [pool.vault, pool.swap_fee, fits, *own, *[0] * (_OWN_NUMBERS - len(own))]
    for k, balance in enumerate(pool.balances):
        numbers += [balance, pool.scaling[k], pool.rates[k], *factors[k], live[k], of_token[k]]
    return checked.pack(*numbers)


@helper
def own(words: WordArray, at: int, number: int) -> Any:
    """One of the family's own numbers."""
    return load(words, at + 4 * (OWN + number))


@helper
def token(words: WordArray, at: int, k: int, field: int) -> Any:
    """A number of token k, by its field."""
    return load(words, at + 4 * (_HEAD + _TOKEN * k + field))


@helper
def given(words: WordArray, at: int, i: int, fee: Any, x: Any) -> Any:
    """`(what the pool's formula gets for x of token i, ok)`: 18 decimals and rate, after the fee."""
    if load(words, at) == V2:
        taken, ok = checked.mul_one_up(x, fee)
        net, ok_net = checked.sub(x, taken)
        amount, fits = checked.mul_one(net, token(words, at, i, FACTOR))
        return amount, ok and ok_net and fits
    amount, ok = scaled(words, at, i, x)
    taken, fits = checked.mul_one_up(amount, fee)
    net, ok_net = checked.sub(amount, taken)
    return net, ok and fits and ok_net and net >= MINIMUM_TRADE_AMOUNT


@helper
def scaled(words: WordArray, at: int, i: int, x: Any) -> Any:
    """`(balancer_vault.scaled_given for an exact input, ok)`, V3."""
    whole, ok = checked.mul(x, token(words, at, i, SCALING))
    amount, fits = checked.mul_one(whole, token(words, at, i, RATE))
    return amount, ok and fits


@helper
def paid(words: WordArray, at: int, i: int, j: int, x: Any, calculated: Any) -> Any:
    """`(raw units of token j for what the formula gave, ok)`, with the vault's books checked for x."""
    v2 = load(words, at) == V2
    factor = token(words, at, j, FACTOR if v2 else FACTOR_UP)
    y, ok = checked.mul_div(calculated, u256(ONE), factor)
    balance, fits = checked.add(token(words, at, i, BALANCE), x)
    fits = fits and (balance >> (_BITS_V2 if v2 else _BITS_V3)) == 0
    enough = v2 or calculated >= MINIMUM_TRADE_AMOUNT
    return y, ok and fits and enough and y <= token(words, at, j, BALANCE)
