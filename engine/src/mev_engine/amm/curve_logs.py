"""The logs by which a Curve stableswap pool follows its contract.

Sources: the events and functions exchange, add_liquidity, remove_liquidity and remove_liquidity_imbalance
of the contracts that `curve_stable` names. An exchange is computed again and must give what the log says;
deposits and uneven withdrawals log the invariant D before fees, which must be that of the new balances. So a
rate or an A that has moved since the state was read shows, and the state is never wrong in silence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from mev_engine.amm.abi import topic
from mev_engine.amm.curve_stable import FEE_DENOMINATOR, CurveStablePool, exchange, get_d, normalised
from mev_engine.amm.errors import SwapRevertedError, UnknownStateError
from mev_engine.amm.family import Log
from mev_engine.amm.logs import Follow, data, unknown

_COINS = range(2, 9)


def _exchange(pool: CurveStablePool, log: Log) -> CurveStablePool:
    """TokenExchange: the buyer is indexed; data sold_id, tokens_sold, bought_id, tokens_bought."""
    i, sold, j, bought = data(log, "int128", "uint256", "int128", "uint256")
    try:
        dy, after = exchange(pool, i, j, sold)
    except (SwapRevertedError, ValueError) as error:
        raise UnknownStateError(f"the exchange can't be followed ({error}): read the pool anew") from error
    if dy != bought:
        raise UnknownStateError(
            f"tokens_bought is {bought}, the state gives {dy}: rates or A moved, read the pool anew"
        )
    return after


def _uneven(n: int, sign: int) -> Follow:
    """AddLiquidity and RemoveLiquidityImbalance: amounts, fees, D before the fees, and the LP supply."""

    def follow(pool: CurveStablePool, log: Log) -> CurveStablePool:
        amounts, fees, invariant, supply = data(log, f"uint256[{n}]", f"uint256[{n}]", "uint256", "uint256")
        before_fees = _changed(pool, amounts, sign, supply)
        d = get_d(normalised(before_fees), pool.amp, pool.a_precision, pool.product, strict=False)
        if d != invariant:
            raise UnknownStateError(
                f"invariant is {invariant}, the state gives {d}: rates or A moved, read the pool anew"
            )
        return _changed(before_fees, [fee * pool.admin_fee // FEE_DENOMINATOR for fee in fees], -1, supply)

    return follow


def _even(n: int) -> Follow:
    """RemoveLiquidity: amounts, fees (none) and the LP supply."""

    def follow(pool: CurveStablePool, log: Log) -> CurveStablePool:
        amounts, _fees, supply = data(log, f"uint256[{n}]", f"uint256[{n}]", "uint256")
        return _changed(pool, amounts, -1, supply)

    return follow


def _changed(pool: CurveStablePool, amounts: Sequence[int], sign: int, supply: int) -> CurveStablePool:
    if len(amounts) != len(pool.balances):
        raise ValueError(f"the log has {len(amounts)} coins, the pool {len(pool.balances)}")
    balances = tuple(b + sign * a for b, a in zip(pool.balances, amounts, strict=True))
    if min(balances) < 0:
        raise UnknownStateError(f"balances would be {balances}: read the pool anew")
    return replace(pool, balances=balances, lp_supply=supply)


def _fee(pool: CurveStablePool, log: Log) -> CurveStablePool:
    fee, admin_fee = data(log, "uint256", "uint256")
    return replace(pool, fee=fee, admin_fee=admin_fee)


def _amp(pool: CurveStablePool, log: Log) -> CurveStablePool:
    """StopRampA(uint256 A, uint256 t): A with its precision, as `amp` is."""
    return replace(pool, amp=data(log, "uint256", "uint256")[0])


def _arrays(n: int) -> str:
    return f"address,uint256[{n}],uint256[{n}]"


EVENTS: Mapping[str, Follow] = {
    topic("TokenExchange(address,int128,uint256,int128,uint256)"): _exchange,
    topic("NewFee(uint256,uint256)"): _fee,
    topic("StopRampA(uint256,uint256)"): _amp,
    **{topic(f"AddLiquidity({_arrays(n)},uint256,uint256)"): _uneven(n, 1) for n in _COINS},
    **{topic(f"RemoveLiquidityImbalance({_arrays(n)},uint256,uint256)"): _uneven(n, -1) for n in _COINS},
    **{topic(f"RemoveLiquidity({_arrays(n)},uint256)"): _even(n) for n in _COINS},
    **unknown(
        "TokenExchangeUnderlying(address,int128,uint256,int128,uint256)",
        why="the pool's own coin amounts are not in the log",
    ),
    **unknown(
        "RemoveLiquidityOne(address,uint256,uint256)",
        "RemoveLiquidityOne(address,uint256,uint256,uint256)",
        why="neither the coin nor its fee is in the log",
    ),
    **unknown("RampA(uint256,uint256,uint256,uint256)", why="A moves with every block"),
}
