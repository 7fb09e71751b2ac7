"""What Balancer's V2 and V3 vaults do around a pool's own formula: scaling, rates, fees, limits.

Both vaults bring amounts to 18 decimals times the token's rate, ask the pool, and bring the answer
back, each step rounded against the trader; they differ in where the fee is taken and in the rounding
of rates. Sources:
- V2: Vault Swaps.sol and BalanceAllocation.sol; BaseMinimalSwapInfoPool.sol and BaseGeneralPool.sol
  (onSwap, _swapGivenIn, _swapGivenOut), BasePool.sol (_upscale, _downscaleDown, _downscaleUp,
  _subtractSwapFeeAmount, _addSwapFeeAmount).
- V3: Vault.sol (swap, _swap, _computeAmountGivenScaled18, _ensureValidSwapAmount), ScalingHelpers.sol
  (toScaled18ApplyRateRound*, toRawUndoRateRound*, computeRateRoundUp), PackedTokenBalance.sol.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mev_engine.amm.balancer_math import ONE, add, complement, div_down, div_up, mul_down, mul_up, sub, word
from mev_engine.amm.errors import SwapRevertedError

V2, V3 = 2, 3
MAX_BALANCE = {V2: 2**112 - 1, V3: 2**128 - 1}
MINIMUM_TRADE_AMOUNT = 10**6
"""V3, 18 decimals: the vault refuses less (an immutable of VaultAdmin, as deployed on mainnet)."""
MAX_SCALING = 10**18

PoolMath = Callable[[int], int]
"""The pool's own formula: amount given to amount calculated, both with 18 decimals and rate."""

_POOL_TYPES = {
    "WEIGHTED": "weighted",
    "STABLE": "stable",
    "METASTABLE": "stable",
    "COMPOSABLESTABLE": "stable",
}
_STABLE_HOOKS = {"STABLE_SURGE"}

_V3_REASONS = {
    "ADD_OVERFLOW": "Panic(0x11)",
    "SUB_OVERFLOW": "Panic(0x11)",
    "MUL_OVERFLOW": "Panic(0x11)",
    "DIV_INTERNAL": "Panic(0x11)",
    "ZERO_DIVISION": "ZeroDivision() or Panic(0x12)",
    "X_OUT_OF_BOUNDS": "XOutOfBounds()",
    "Y_OUT_OF_BOUNDS": "YOutOfBounds()",
    "PRODUCT_OUT_OF_BOUNDS": "ProductOutOfBounds()",
    "MAX_IN_RATIO": "MaxInRatio()",
    "MAX_OUT_RATIO": "MaxOutRatio()",
    "STABLE_INVARIANT_DIDNT_CONVERGE": "StableInvariantDidNotConverge()",
    "STABLE_GET_BALANCE_DIDNT_CONVERGE": "StableComputeBalanceDidNotConverge()",
    "UNKNOWN_AMOUNT_IN_FIRST_SWAP": "AmountGivenZero()",
    "CANNOT_SWAP_SAME_TOKEN": "CannotSwapSameToken()",
    "BALANCE_TOTAL_OVERFLOW": "BalanceOverflow()",
}


@dataclass(frozen=True, kw_only=True)
class VaultPool:
    """State that every pool of a vault has; tuples have one entry for each registered token.

    `vault`: 2 or 3. `balances`: raw units; in V3 after the yield fees due have been taken.
    `scaling`: 10**(18 - decimals). `rates`: 18 decimals, 1e18 where the token has no rate provider,
    else what the pool would use at that block (V2: its cached rate). `swap_fee`: 18 decimals, of the
    input. To follow logs only, never for quotes: `tokens`, their addresses, lower-case, empty where not
    known; `aggregate_fee`: V3's share of the swap fee that leaves the pool, 18 decimals, None where not
    known. Errors: ValueError naming the field and its value.
    """

    vault: int
    balances: tuple[int, ...]
    scaling: tuple[int, ...]
    rates: tuple[int, ...]
    swap_fee: int
    tokens: tuple[str, ...] = ()
    aggregate_fee: int | None = None

    def __post_init__(self) -> None:
        if self.vault not in MAX_BALANCE:
            raise ValueError(f"vault is {self.vault}: Balancer's vaults are 2 and 3")
        if len(self.balances) < 2:
            raise ValueError(f"balances has {len(self.balances)} entries: a pool has two tokens or more")
        for name in ("scaling", "rates"):
            if len(getattr(self, name)) != len(self.balances):
                raise ValueError(
                    f"{name} has {len(getattr(self, name))} entries, balances has {len(self.balances)}"
                )
        for balance in self.balances:
            if not 0 <= balance <= MAX_BALANCE[self.vault]:
                raise ValueError(f"balances has {balance}: 0 to {MAX_BALANCE[self.vault]} fit the vault")
        for scaling in self.scaling:
            if not 1 <= scaling <= MAX_SCALING or str(scaling).strip("0") != "1":
                raise ValueError(f"scaling has {scaling}: it is 10**(18 - decimals), 0 to 18 decimals")
        for rate in self.rates:
            if rate <= 0:
                raise ValueError(f"rates has {rate}: a rate is above zero, 1e18 is one")
        if self.tokens and len(set(self.tokens)) != len(self.balances):
            raise ValueError(
                f"tokens is {self.tokens}: one address for each of {len(self.balances)} balances"
            )
        if self.aggregate_fee is not None and not 0 <= self.aggregate_fee <= ONE:
            raise ValueError(f"aggregate_fee is {self.aggregate_fee}: 0 to 1e18, which is one")
        self._check_fees_and_tokens()

    def _check_fees_and_tokens(self) -> None:
        if not 0 <= self.swap_fee < ONE:
            raise ValueError(f"swap_fee is {self.swap_fee}: 0 to below 1e18, which is one")
        if self.tokens and len(set(self.tokens)) != len(self.balances):
            raise ValueError(f"tokens is {self.tokens}: one address for each of {len(self.balances)} tokens")
        if self.aggregate_fee is not None and not 0 <= self.aggregate_fee <= ONE:
            raise ValueError(f"aggregate_fee is {self.aggregate_fee}: 0 to 1e18, which is one")

    def live_balances(self) -> list[int]:
        """Balances with 18 decimals and rate, rounded down, as the pool's formula sees them."""
        with reverts_of(self.vault):
            return [
                mul_down(balance, scaling * rate)
                for balance, scaling, rate in zip(self.balances, self.scaling, self.rates, strict=True)
            ]

    def factor(self, token: int) -> int:
        """Scaling times rate: raw to 18 decimals and rate, itself with 18 decimals."""
        return self.scaling[token] * self.rates[token]


@contextmanager
def reverts_of(vault: int) -> Iterator[None]:
    """Puts V3's name of a revert in the place of V2's; for V2 changes nothing."""
    try:
        yield
    except SwapRevertedError as error:
        reason = str(error)
        if vault == V2 or reason not in _V3_REASONS:
            raise
        raise SwapRevertedError(_V3_REASONS[reason]) from error


def pool_family(pool_type: str, hook: str | None = None) -> str:
    """ "weighted" or "stable" for Balancer's own name of a pool type; ValueError names any other.

    `hook`: the type of the pool's V3 hook. A hook can change fee and amounts, so only the surge fee
    of stable pools, which `balancer_stable` repeats, is taken.
    """
    family = _POOL_TYPES.get(pool_type.upper().replace("_", ""))
    if family is None:
        raise ValueError(f"Balancer pool type {pool_type!r} is not supported: weighted and stable pools are")
    if hook is not None and not (family == "stable" and hook in _STABLE_HOOKS):
        raise ValueError(
            f"hook {hook!r} of a Balancer {family} pool is not supported: STABLE_SURGE of stable is"
        )
    return family


def check_tokens(pool: VaultPool, token_in: int, token_out: int) -> None:
    """ValueError for an index that the pool doesn't have; a revert where both are the same token."""
    for name, token in (("token_in", token_in), ("token_out", token_out)):
        if not 0 <= token < len(pool.balances):
            raise ValueError(f"{name} is {token}: the pool has tokens 0 to {len(pool.balances) - 1}")
    if token_in == token_out:
        raise SwapRevertedError("CANNOT_SWAP_SAME_TOKEN")


def swap_given_in(
    pool: VaultPool, amount_in: int, token_in: int, token_out: int, fee: int, on_swap: PoolMath
) -> int:
    """Raw amount out for a raw amount in; `on_swap` is the pool's formula for an exact input."""
    if amount_in <= 0:
        raise SwapRevertedError("UNKNOWN_AMOUNT_IN_FIRST_SWAP")
    if pool.vault == V2:
        after_fee = sub(amount_in, mul_up(amount_in, fee))  # before scaling
        amount_out = div_down(on_swap(mul_down(after_fee, pool.factor(token_in))), pool.factor(token_out))
    else:
        given = scaled_given(pool, amount_in, token_in, exact_in=True)
        given = _valid_trade(sub(given, mul_up(given, fee)))  # after scaling
        calculated = _valid_trade(on_swap(given))
        amount_out = div_down(calculated, pool.scaling[token_out] * rate_up(pool.rates[token_out]))
    _check_balances(pool, amount_in, amount_out, token_in, token_out)
    return amount_out


def swap_given_out(
    pool: VaultPool, amount_out: int, token_in: int, token_out: int, fee: int, on_swap: PoolMath
) -> int:
    """Raw amount in for a raw amount out; `on_swap` is the pool's formula for an exact output."""
    if amount_out <= 0:
        raise SwapRevertedError("UNKNOWN_AMOUNT_IN_FIRST_SWAP")
    if pool.vault == V2:
        calculated = on_swap(mul_down(amount_out, pool.factor(token_out)))
        amount_in = div_up(div_up(calculated, pool.factor(token_in)), complement(fee))
    else:
        given = _valid_trade(scaled_given(pool, amount_out, token_out, exact_in=False))
        calculated = _valid_trade(on_swap(given))
        fee_amount = -(-word(calculated * fee) // complement(fee))
        amount_in = div_up(add(calculated, fee_amount), pool.factor(token_in))
    _check_balances(pool, amount_in, amount_out, token_in, token_out)
    return amount_in


def scaled_given(pool: VaultPool, amount: int, token: int, *, exact_in: bool) -> int:
    """V3: the raw amount given with 18 decimals and rate, before any fee, as hooks see it too.

    An input is rounded down, an output up.
    """
    scaled = word(amount * pool.scaling[token])
    if exact_in:
        return mul_down(scaled, pool.rates[token])
    return mul_up(scaled, rate_up(pool.rates[token]))


def rate_up(rate: int) -> int:
    """ScalingHelpers.computeRateRoundUp: one more, but for whole rates, which have no error."""
    return rate if rate % ONE == 0 else rate + 1


def _valid_trade(amount: int) -> int:
    if amount < MINIMUM_TRADE_AMOUNT:
        raise SwapRevertedError("TradeAmountTooSmall()")
    return amount


def _check_balances(pool: VaultPool, amount_in: int, amount_out: int, token_in: int, token_out: int) -> None:
    """The vault's books: balances fit their bits and never fall below zero."""
    if pool.balances[token_in] + amount_in > MAX_BALANCE[pool.vault]:
        raise SwapRevertedError("BALANCE_TOTAL_OVERFLOW")
    sub(pool.balances[token_out], amount_out)
