"""Balancer weighted pools of the V2 and V3 vaults: value `prod(balance_i ** weight_i)` kept.

Sources: WeightedMath.sol of balancer-v2-monorepo (pkg/pool-weighted: _calculateInvariant,
_calcOutGivenIn, _calcInGivenOut) and of balancer-v3-monorepo (pkg/solidity-utils:
computeOutGivenExactIn, computeInGivenExactOut), whose arithmetic is the same; WeightedPool.sol.
Amounts out are at most, amounts in at least, what the real-valued formula gives: `pow_up` rounds
against the trader by the bound on its own error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mev_engine.amm.balancer_math import (
    ONE,
    add,
    complement,
    div_down,
    div_up,
    mul_down,
    mul_up,
    pow_down,
    pow_up,
    sub,
)
from mev_engine.amm.balancer_vault import (
    V3,
    VaultPool,
    check_tokens,
    reverts_of,
    swap_given_in,
    swap_given_out,
)
from mev_engine.amm.errors import SwapRevertedError

MAX_IN_RATIO = MAX_OUT_RATIO = 3 * ONE // 10
"""The largest input and output, of the balance of their token, 18 decimals."""
MIN_WEIGHT = ONE // 100


@dataclass(frozen=True, kw_only=True)
class WeightedPool(VaultPool):
    """A weighted pool's state: that of `VaultPool`, and

    `weights`: 18 decimals, 0.01 or more each, 1 in sum. `exact_powers`: whether the pool's code
    multiplies for powers of 1, 2 and 4 (see `pow_down`); false for the V2 pools of 2021 only.
    """

    weights: tuple[int, ...]
    exact_powers: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.weights) != len(self.balances):
            raise ValueError(f"weights has {len(self.weights)} entries, balances has {len(self.balances)}")
        if min(self.weights) < MIN_WEIGHT:
            raise ValueError(f"weights has {min(self.weights)}: the least is {MIN_WEIGHT}, one hundredth")
        if sum(self.weights) != ONE:
            raise ValueError(f"weights sum to {sum(self.weights)}: they must sum to {ONE}")
        if self.vault == V3 and not self.exact_powers:
            raise ValueError("exact_powers is False: all weighted pools of vault 3 multiply small powers")


def exact_in(pool: WeightedPool, token_in: int, token_out: int, amount_in: int) -> int:
    """Raw amount out of a swap with exact input; tokens by index. Reverts: `SwapRevertedError`."""
    with reverts_of(pool.vault):
        check_tokens(pool, token_in, token_out)
        live, weights = pool.live_balances(), pool.weights

        def on_swap(given: int) -> int:
            return out_given_in(
                live[token_in], weights[token_in], live[token_out], weights[token_out], given,
                exact_powers=pool.exact_powers,
            )  # fmt: skip

        return swap_given_in(pool, amount_in, token_in, token_out, pool.swap_fee, on_swap)


def exact_out(pool: WeightedPool, token_in: int, token_out: int, amount_out: int) -> int:
    """Raw amount in of a swap with exact output; tokens by index. Reverts: `SwapRevertedError`."""
    with reverts_of(pool.vault):
        check_tokens(pool, token_in, token_out)
        live, weights = pool.live_balances(), pool.weights

        def on_swap(given: int) -> int:
            return in_given_out(
                live[token_in], weights[token_in], live[token_out], weights[token_out], given,
                exact_powers=pool.exact_powers,
            )  # fmt: skip

        return swap_given_out(pool, amount_out, token_in, token_out, pool.swap_fee, on_swap)


def marginal_price(pool: WeightedPool, token_in: int, token_out: int) -> float:
    """Raw units out for one raw unit in, of an infinitely small swap, after the fee."""
    check_tokens(pool, token_in, token_out)
    live, weights = pool.live_balances(), pool.weights
    if live[token_in] == 0 or live[token_out] == 0:
        return 0.0  # no input is small enough for the ratio limits
    price = (live[token_out] * weights[token_in]) / (live[token_in] * weights[token_out])
    return price * (pool.factor(token_in) / pool.factor(token_out)) * (1 - pool.swap_fee / ONE)


def out_given_in(
    balance_in: int, weight_in: int, balance_out: int, weight_out: int, amount_in: int, *, exact_powers: bool
) -> int:
    """WeightedMath._calcOutGivenIn: `bo * (1 - (bi / (bi + x)) ** (wi / wo))`; all with 18 decimals."""
    if amount_in > mul_down(balance_in, MAX_IN_RATIO):
        raise SwapRevertedError("MAX_IN_RATIO")
    base = div_up(balance_in, add(balance_in, amount_in))
    ratio = pow_up(base, div_down(weight_in, weight_out), exact_powers=exact_powers)
    return mul_down(balance_out, complement(ratio))


def in_given_out(
    balance_in: int, weight_in: int, balance_out: int, weight_out: int, amount_out: int, *, exact_powers: bool
) -> int:
    """WeightedMath._calcInGivenOut: `bi * ((bo / (bo - y)) ** (wo / wi) - 1)`; all with 18 decimals."""
    if amount_out > mul_down(balance_out, MAX_OUT_RATIO):
        raise SwapRevertedError("MAX_OUT_RATIO")
    base = div_up(balance_out, sub(balance_out, amount_out))
    ratio = pow_up(base, div_up(weight_out, weight_in), exact_powers=exact_powers)
    return mul_up(balance_in, sub(ratio, ONE))


def invariant(weights: Sequence[int], balances: Sequence[int], *, exact_powers: bool) -> int:
    """WeightedMath._calculateInvariant, rounded down; all with 18 decimals."""
    value = ONE
    for weight, balance in zip(weights, balances, strict=True):
        value = mul_down(value, pow_down(balance, weight, exact_powers=exact_powers))
    if value == 0:
        raise SwapRevertedError("ZERO_INVARIANT")
    return value
