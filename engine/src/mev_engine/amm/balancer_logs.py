"""The logs by which Balancer pools follow their vault, V2 and V3.

V2's vault books exactly what its events say. V3's takes the protocol's share of each fee out of the pool
(Vault.sol, _computeAndChargeAggregateSwapFees), so a pool's state must hold `aggregate_fee`; and it takes a
fee on the yield of tokens with a rate, which no log of the pool tells: such pools are read anew.
Logs name tokens by address, so a state that follows them holds `tokens`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from mev_engine.amm.abi import topic
from mev_engine.amm.balancer_math import ONE, mul_down
from mev_engine.amm.balancer_vault import V2, V3, VaultPool
from mev_engine.amm.errors import UnknownStateError
from mev_engine.amm.family import Log
from mev_engine.amm.logs import Follow, data, indexed

Pool = TypeVar("Pool", bound=VaultPool)


def token_index(pool: VaultPool, address: str) -> int:
    """The position of a token. UnknownStateError where the state has no addresses, or not this one."""
    if address.lower() not in pool.tokens:
        raise UnknownStateError(
            f"tokens is {pool.tokens}, the log names {address}: read the pool anew with it"
        )
    return pool.tokens.index(address.lower())


def moved(pool: Pool, changes: Mapping[int, int]) -> Pool:
    """The pool with raw amounts added to balances by index. UnknownStateError where one can't be."""
    balances = list(pool.balances)
    for token, change in changes.items():
        balances[token] += change
        if balances[token] < 0:
            raise UnknownStateError(f"balance {token} would be {balances[token]}: read the pool anew")
    return replace(pool, balances=tuple(balances))


def _swap_v2(pool: Pool, log: Log) -> Pool:
    """Swap(bytes32 indexed poolId, address indexed tokenIn, address indexed tokenOut, in, out)."""
    amount_in, amount_out = data(log, "uint256", "uint256")
    i, j = (token_index(pool, indexed(log, position, "address")) for position in (2, 3))
    return moved(pool, {i: amount_in, j: -amount_out})


def _balances_changed(pool: Pool, log: Log) -> Pool:
    """PoolBalanceChanged: a join or an exit; the protocol's fees leave the pool besides."""
    tokens, deltas, fees = data(log, "address[]", "int256[]", "uint256[]")
    changes = {token_index(pool, t): d - f for t, d, f in zip(tokens, deltas, fees, strict=True)}
    return moved(pool, changes)


def _balance_managed(pool: Pool, log: Log) -> Pool:
    """PoolBalanceManaged: an asset manager's gain or loss; cash and managed count alike for swaps."""
    cash, managed = data(log, "int256", "int256")
    return moved(pool, {token_index(pool, indexed(log, 3, "address")): cash + managed})


def _aggregate(pool: VaultPool, fee: int) -> int:
    """What of a V3 swap fee (raw units) leaves the pool."""
    if any(rate != ONE for rate in pool.rates):
        raise UnknownStateError(
            f"rates is {pool.rates}: the vault takes a fee on the yield, read the pool anew"
        )
    if fee == 0:
        return 0
    if pool.aggregate_fee is None:
        raise UnknownStateError(
            "aggregate_fee is None: the protocol's share isn't in the log, read the pool anew"
        )
    return mul_down(fee, pool.aggregate_fee)


def _swap_v3(pool: Pool, log: Log) -> Pool:
    """Swap(address indexed pool, address indexed tokenIn, address indexed tokenOut, in, out, rate, fee)."""
    amount_in, amount_out, _percentage, fee = data(log, "uint256", "uint256", "uint256", "uint256")
    i, j = (token_index(pool, indexed(log, position, "address")) for position in (2, 3))
    return moved(pool, {i: amount_in - _aggregate(pool, fee), j: -amount_out})


def _liquidity(sign: int) -> Follow:
    def follow(pool: Pool, log: Log) -> Pool:
        amounts: Sequence[int]
        _supply, amounts, fees = data(log, "uint256", "uint256[]", "uint256[]")
        pairs = zip(amounts, fees, strict=True)
        return moved(pool, {k: sign * a - _aggregate(pool, f) for k, (a, f) in enumerate(pairs)})

    return follow


def _fee(vault: int) -> Follow:
    def follow(pool: Pool, log: Log) -> Pool:
        if pool.vault != vault:
            raise ValueError(f"vault is {pool.vault}: the log is one of vault {vault}")
        return replace(pool, swap_fee=data(log, "uint256")[0])

    return follow


def _aggregate_fee(pool: Pool, log: Log) -> Pool:
    return replace(pool, aggregate_fee=data(log, "uint256")[0])


def with_rate(pool: Pool, token: int, rate: int) -> Pool:
    """The pool with another rate (18 decimals) of one token."""
    return replace(pool, rates=tuple(rate if k == token else r for k, r in enumerate(pool.rates)))


EVENTS: Mapping[str, Follow] = {
    topic("Swap(bytes32,address,address,uint256,uint256)"): _swap_v2,
    topic("PoolBalanceChanged(bytes32,address,address[],int256[],uint256[])"): _balances_changed,
    topic("PoolBalanceManaged(bytes32,address,address,int256,int256)"): _balance_managed,
    topic("SwapFeePercentageChanged(uint256)"): _fee(V2),
    topic("Swap(address,address,address,uint256,uint256,uint256,uint256)"): _swap_v3,
    topic("LiquidityAdded(address,address,uint8,uint256,uint256[],uint256[])"): _liquidity(1),
    topic("LiquidityRemoved(address,address,uint8,uint256,uint256[],uint256[])"): _liquidity(-1),
    topic("SwapFeePercentageChanged(address,uint256)"): _fee(V3),
    topic("AggregateSwapFeePercentageChanged(address,uint256)"): _aggregate_fee,
}
