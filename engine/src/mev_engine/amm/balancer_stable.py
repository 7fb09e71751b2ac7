"""Balancer stable pools of the V2 and V3 vaults: `A n^n S + D = A n^n D + D^(n+1) / (n^n P)` kept.

Sources: StableMath.sol of balancer-v2-monorepo (pkg/pool-stable: _calculateInvariant, _calcOutGivenIn,
_calcInGivenOut, _getTokenBalanceGivenInvariantAndAllOtherBalances) and of balancer-v3-monorepo
(pkg/solidity-utils: computeInvariant, computeBalance and others, the same arithmetic); MetaStablePool.sol,
ComposableStablePool.sol; V3's StablePool.sol, StableSurgeHook.sol and StableSurgeMedianMath.sol.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mev_engine.amm.balancer_math import (
    ONE,
    add,
    complement,
    div_down,
    div_up_raw,
    mul_down,
    sub,
    word,
)
from mev_engine.amm.balancer_vault import (
    V2,
    V3,
    VaultPool,
    check_tokens,
    reverts_of,
    scaled_given,
    swap_given_in,
    swap_given_out,
)
from mev_engine.amm.errors import SwapRevertedError

AMP_PRECISION = 1000
MAX_AMP = {V2: 5_000 * AMP_PRECISION, V3: 50_000 * AMP_PRECISION}
MAX_DYNAMIC_FEE = 999_999 * 10**12
"""V3, 18 decimals: the vault refuses a hook's fee above 99.9999 %."""
_MAX_ITERATIONS = 255


@dataclass(frozen=True)
class SurgeFee:
    """V3's StableSurge hook; both with 18 decimals.

    `threshold`: the imbalance above which a swap that adds to it pays more. `max_fee`: the fee at
    full imbalance.
    """

    threshold: int
    max_fee: int

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < ONE:
            raise ValueError(f"threshold is {self.threshold}: 0 to below 1e18, which is one")
        if not 0 <= self.max_fee <= MAX_DYNAMIC_FEE:
            raise ValueError(f"max_fee is {self.max_fee}: 0 to {MAX_DYNAMIC_FEE}, which is 99.9999 %")


@dataclass(frozen=True, kw_only=True)
class StablePool(VaultPool):
    """A stable pool's state: that of `VaultPool`, and

    `amp`: the amplification A n^(n-1) times 1000, at that block. `rounds_invariant_up`: the code of
    V2's StablePool and MetaStablePool of 2021, which rounds D up; the StablePool of 2022 (factory
    "stable-pool-v2"), composable pools and V3 truncate. `bpt`: index of the pool's own share token
    among the tokens of a composable pool; swaps against it are joins and exits, and refused. `surge`:
    V3's StableSurge hook, where the pool has it. `max_imbalance`: V3 pools whose code has it (10,000)
    revert where a swap leaves the largest live balance at that many times the least or more.
    """

    amp: int
    rounds_invariant_up: bool = False
    bpt: int | None = None
    surge: SurgeFee | None = None
    max_imbalance: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not AMP_PRECISION <= self.amp <= MAX_AMP[self.vault]:
            raise ValueError(f"amp is {self.amp}: {AMP_PRECISION} to {MAX_AMP[self.vault]}, 1000 is one")
        if self.bpt is not None and not 0 <= self.bpt < len(self.balances):
            raise ValueError(f"bpt is {self.bpt}: the pool has tokens 0 to {len(self.balances) - 1}")
        if self.bpt is not None and len(self.balances) < 3:
            raise ValueError(f"bpt is {self.bpt}: a pool with it has three tokens, not {len(self.balances)}")
        if self.max_imbalance is not None and self.max_imbalance < 1:
            raise ValueError(f"max_imbalance is {self.max_imbalance}: a ratio is 1 or more")
        v2_only = self.rounds_invariant_up or self.bpt is not None
        v3_only = self.surge is not None or self.max_imbalance is not None
        if (self.vault == V3 and v2_only) or (self.vault == V2 and v3_only):
            raise ValueError(
                f"vault is {self.vault}: rounds_invariant_up and bpt are of vault 2, "
                "surge and max_imbalance of vault 3"
            )


def exact_in(pool: StablePool, token_in: int, token_out: int, amount_in: int) -> int:
    """Raw amount out of a swap with exact input; tokens by index. Reverts: `SwapRevertedError`."""
    with reverts_of(pool.vault):
        live, i, j = _pair(pool, token_in, token_out)

        def on_swap(given: int) -> int:
            calculated = out_given_in(
                pool.amp, live, i, j, given, _swap_invariant(pool, live), vault=pool.vault
            )
            _check_imbalance(pool, _after(live, i, j, given, calculated))
            return calculated

        fee = pool.swap_fee
        if pool.surge is not None and amount_in > 0:
            given = scaled_given(pool, amount_in, token_in, exact_in=True)
            fee = surge_fee(pool.surge, fee, live, _after(live, i, j, given, on_swap(given)))
        return swap_given_in(pool, amount_in, token_in, token_out, fee, on_swap)


def exact_out(pool: StablePool, token_in: int, token_out: int, amount_out: int) -> int:
    """Raw amount in of a swap with exact output; tokens by index. Reverts: `SwapRevertedError`."""
    with reverts_of(pool.vault):
        live, i, j = _pair(pool, token_in, token_out)

        def on_swap(given: int) -> int:
            calculated = in_given_out(
                pool.amp, live, i, j, given, _swap_invariant(pool, live), vault=pool.vault
            )
            _check_imbalance(pool, _after(live, i, j, calculated, given))
            return calculated

        fee = pool.swap_fee
        if pool.surge is not None and amount_out > 0:
            given = scaled_given(pool, amount_out, token_out, exact_in=False)
            fee = surge_fee(pool.surge, fee, live, _after(live, i, j, on_swap(given), given))
        return swap_given_out(pool, amount_out, token_in, token_out, fee, on_swap)


def marginal_price(pool: StablePool, token_in: int, token_out: int) -> float:
    """Raw units out for one raw unit in, of an infinitely small swap, after the fee.

    With `Ann` = amp * n and `Q` = D^(n+1) / (n^n P) the derivative of the invariant by a balance x is
    `Ann + Q / x`. 0.0 for a pool with an empty side.
    """
    live, i, j = _pair(pool, token_in, token_out)
    if min(live) == 0:
        return 0.0
    n, d = len(live), float(_swap_invariant(pool, live))
    ann = pool.amp * n / AMP_PRECISION
    q = d
    for balance in live:
        q *= d / (balance * n)
    price = (ann + q / live[i]) / (ann + q / live[j])
    fee = pool.swap_fee
    if pool.surge is not None:
        fee = _marginal_surge_fee(pool.surge, fee, live, i, j, price)
    return price * (pool.factor(token_in) / pool.factor(token_out)) * (1 - fee / ONE)


def invariant_truncated(amp: int, balances: Sequence[int]) -> int:
    """D by Newton's method, each division truncated: V3's computeInvariant, V2's pools since 2022.

    `amp` with its precision of 1000, `balances` with 18 decimals.
    """
    n, total = len(balances), word(sum(balances), "ADD_OVERFLOW")
    if total == 0:
        return 0
    ann, d = amp * n, total
    for _ in range(_MAX_ITERATIONS):
        d_p = d
        for balance in balances:
            product = word(d_p * d)
            if balance == 0:
                raise SwapRevertedError("ZERO_DIVISION")
            d_p = product // word(balance * n)
        previous = d
        numerator = word((word(ann * total) // AMP_PRECISION + word(d_p * n)) * d)
        d = numerator // (word((ann - AMP_PRECISION) * d) // AMP_PRECISION + word((n + 1) * d_p))
        if abs(d - previous) <= 1:
            return d
    raise SwapRevertedError("STABLE_INVARIANT_DIDNT_CONVERGE")


def invariant_rounded(amp: int, balances: Sequence[int], *, up: bool) -> int:
    """D by Newton's method with a direction of rounding: V2's StablePool and MetaStablePool of 2021.

    Arguments as in `invariant_truncated`. It iterates on n^n P / D^(n-1) instead of its inverse.
    """

    def div(a: int, b: int, round_up: bool) -> int:
        if b == 0:
            raise SwapRevertedError("ZERO_DIVISION")
        return -(-a // b) if round_up else a // b

    n, total = len(balances), word(sum(balances), "ADD_OVERFLOW")
    if total == 0:
        return 0
    ann, d = amp * n, total
    for _ in range(_MAX_ITERATIONS):
        p_d = word(balances[0] * n)
        for balance in balances[1:]:
            p_d = div(word(word(p_d * balance) * n), d, up)
        previous = d
        numerator = word(word(n * d) * d) + div(word(word(ann * total) * p_d), AMP_PRECISION, up)
        denominator = word((n + 1) * d) + div(word((ann - AMP_PRECISION) * p_d), AMP_PRECISION, not up)
        d = div(word(numerator, "ADD_OVERFLOW"), word(denominator, "ADD_OVERFLOW"), up)
        if abs(d - previous) <= 1:
            return d
    raise SwapRevertedError("STABLE_GET_BALANCE_DIDNT_CONVERGE")  # that code has one name for both loops


def token_balance(amp: int, balances: Sequence[int], d: int, token: int, *, vault: int) -> int:
    """The balance of `token` that keeps the invariant `d` with all the others as given, rounded up.

    V2 divides by `ann` before it multiplies by amp's precision, V3 after.
    """
    n, total = len(balances), balances[0]
    ann, p_d = amp * n, word(balances[0] * n)
    if d == 0:
        raise SwapRevertedError("ZERO_DIVISION")
    for balance in balances[1:]:
        p_d = word(word(p_d * balance) * n) // d
        total = add(total, balance)
    total -= balances[token]
    d_squared = word(d * d)
    if vault == V2:
        c = word(word(div_up_raw(d_squared, word(ann * p_d)) * AMP_PRECISION) * balances[token])
        b = add(total, word(d // ann * AMP_PRECISION))
    else:
        c = word(div_up_raw(word(d_squared * AMP_PRECISION), word(ann * p_d)) * balances[token])
        b = add(total, word(d * AMP_PRECISION) // ann)
    y = div_up_raw(add(d_squared, c), add(d, b))
    for _ in range(_MAX_ITERATIONS):
        previous = y
        y = div_up_raw(add(word(y * y), c), sub(add(word(2 * y), b), d))
        if abs(y - previous) <= 1:
            return y
    raise SwapRevertedError("STABLE_GET_BALANCE_DIDNT_CONVERGE")


def out_given_in(
    amp: int, balances: Sequence[int], i: int, j: int, amount_in: int, d: int, *, vault: int
) -> int:
    """StableMath._calcOutGivenIn: output of token `j` for input of token `i`; all with 18 decimals."""
    after = list(balances)
    after[i] = add(after[i], amount_in)
    return sub(sub(balances[j], token_balance(amp, after, d, j, vault=vault)), 1)


def in_given_out(
    amp: int, balances: Sequence[int], i: int, j: int, amount_out: int, d: int, *, vault: int
) -> int:
    """StableMath._calcInGivenOut: input of token `i` for output of token `j`; all with 18 decimals."""
    after = list(balances)
    after[j] = sub(after[j], amount_out)
    return add(sub(token_balance(amp, after, d, i, vault=vault), balances[i]), 1)


def imbalance(balances: Sequence[int]) -> int:
    """StableSurgeMedianMath.calculateImbalance: sum of distances to the median, of the total."""
    ordered, middle = sorted(balances), len(balances) // 2
    median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) // 2
    return div_down(sum(abs(balance - median) for balance in balances), sum(balances))


def surge_fee(surge: SurgeFee, static_fee: int, before: Sequence[int], after: Sequence[int]) -> int:
    """StableSurgeHook.getSurgeFeePercentage: more than the static fee for a swap that unbalances."""
    new = imbalance(after)
    if surge.max_fee < static_fee or new <= imbalance(before) or new <= surge.threshold:
        return static_fee
    share = div_down(new - surge.threshold, complement(surge.threshold))
    return static_fee + mul_down(surge.max_fee - static_fee, share)


def _marginal_surge_fee(
    surge: SurgeFee, static_fee: int, live: Sequence[int], i: int, j: int, price: float
) -> int:
    """The limit of `surge_fee` for small swaps: by whether a small one, at `price`, adds to the imbalance."""
    small = max(int(min(live) / max(price, 1.0)) // 10**9, 1)
    now = imbalance(live)
    if imbalance(_after(live, i, j, small, int(small * price))) <= now or now <= surge.threshold:
        return static_fee
    share = div_down(now - surge.threshold, complement(surge.threshold))
    return static_fee + mul_down(max(surge.max_fee - static_fee, 0), share)


def _pair(pool: StablePool, token_in: int, token_out: int) -> tuple[list[int], int, int]:
    """Live balances without the pool's own share token, and both indices among them."""
    check_tokens(pool, token_in, token_out)
    live = pool.live_balances()
    if pool.bpt is None:
        return live, token_in, token_out
    if pool.bpt in (token_in, token_out):
        raise ValueError(f"token {pool.bpt} is the pool's own share: swaps against it are joins and exits")
    del live[pool.bpt]
    return live, token_in - (token_in > pool.bpt), token_out - (token_out > pool.bpt)


def _swap_invariant(pool: StablePool, live: Sequence[int]) -> int:
    if pool.rounds_invariant_up:
        return invariant_rounded(pool.amp, live, up=True)
    return invariant_truncated(pool.amp, live)


def _after(live: Sequence[int], i: int, j: int, amount_in: int, amount_out: int) -> list[int]:
    after = list(live)
    after[i] += amount_in
    after[j] = sub(after[j], amount_out)
    return after


def _check_imbalance(pool: StablePool, after: Sequence[int]) -> None:
    if pool.max_imbalance is None:
        return
    if min(after) == 0:
        raise SwapRevertedError("ZERO_DIVISION")
    if max(after) // min(after) >= pool.max_imbalance:
        raise SwapRevertedError("MaxImbalanceRatioExceeded()")
