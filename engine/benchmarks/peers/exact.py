"""A cycle of the peers' format as our pool states, evaluated with the contracts' exact integers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mev_engine.amm import balancer_weighted, curve_stable, solidly, uniswap_v2, uniswap_v3, uniswap_v4
from mev_engine.amm.errors import SwapRevertedError

from peers.protocol import Cycle, Hop, decimals_pair

ONE = 10**18
A_PRECISION = 100
PoolState = (
    uniswap_v2.V2Pair
    | solidly.SolidlyPool
    | curve_stable.CurveStablePool
    | balancer_weighted.WeightedPool
    | uniswap_v3.V3Pool
    | uniswap_v4.V4Pool
)


def _v2(hop: Hop) -> uniswap_v2.V2Pair:
    fee = hop["fee_num"], hop["fee_num"], hop["fee_den"]
    return uniswap_v2.V2Pair(int(hop["reserve0"]), int(hop["reserve1"]), *fee)


def _concentrated(hop: Hop) -> dict[str, Any]:
    return {
        "sqrt_price_x96": int(hop["sqrt_price_x96"]),
        "tick": hop["tick"],
        "liquidity": int(hop["liquidity"]),
        "tick_spacing": hop["tick_spacing"],
        "ticks": {tick: int(net) for tick, net, _gross in hop["ticks"]},
    }


def _solidly(hop: Hop) -> solidly.SolidlyPool:
    decimals0, decimals1 = decimals_pair(hop)
    fee = hop["fee_den"] - hop["fee_num"]
    return solidly.SolidlyPool(
        reserve0=int(hop["reserve0"]),
        reserve1=int(hop["reserve1"]),
        scale0=10**decimals0,
        scale1=10**decimals1,
        fee0=fee,
        fee1=fee,
        fee_den=hop["fee_den"],
        stable=hop["family"] == "solidly_stable",
        variant=solidly.SolidlyVariant.VELODROME_V2,
    )


def _curve(hop: Hop) -> curve_stable.CurveStablePool:
    return curve_stable.CurveStablePool(
        balances=tuple(int(balance) for balance in hop["balances"]),
        rates=tuple(10 ** (36 - decimals) for decimals in decimals_pair(hop)),
        amp=hop["amp"] * A_PRECISION,
        a_precision=A_PRECISION,
        fee=int(hop["fee"]),
        admin_fee=0,
        product=curve_stable.Product.EACH,
        fee_after_rate=False,
        kept=1,
        reverts_unconverged=True,
    )


def _weighted(hop: Hop) -> balancer_weighted.WeightedPool:
    return balancer_weighted.WeightedPool(
        vault=2,
        balances=tuple(int(balance) for balance in hop["balances"]),
        weights=tuple(int(weight) for weight in hop["weights"]),
        scaling=tuple(10 ** (18 - decimals) for decimals in decimals_pair(hop)),
        rates=(ONE, ONE),
        swap_fee=int(hop["swap_fee"]),
    )


def state(hop: Hop) -> PoolState:
    """The hop's pool as our state; ValueError where that is not one a pool can have."""
    match hop["family"]:
        case "uniswap_v2":
            return _v2(hop)
        case "uniswap_v3":
            return uniswap_v3.V3Pool(fee_pips=hop["fee_pips"], **_concentrated(hop))
        case "uniswap_v4":
            return uniswap_v4.V4Pool(lp_fee=hop["lp_fee"], **_concentrated(hop))
        case "solidly_volatile" | "solidly_stable":
            return _solidly(hop)
        case "curve_stable":
            return _curve(hop)
        case "balancer_weighted":
            return _weighted(hop)
    raise ValueError(f"family={hop['family']}: see peers/__init__.py for those there are")


def quoter(hop: Hop) -> Callable[[int], int]:
    """Output of an exact input, raw units. SwapRevertedError where it reverts, or is taken in part only."""
    zero_for_one = hop["zero_for_one"]
    coins = (0, 1) if zero_for_one else (1, 0)

    def all_of(swap: Any, amount_in: int) -> int:
        if swap.amount_in != amount_in:
            raise SwapRevertedError(f"the pool takes {swap.amount_in} of {amount_in}")
        return int(swap.amount_out)

    match state(hop):
        case uniswap_v2.V2Pair() as v2:
            return lambda x: uniswap_v2.exact_in(v2, *coins, x)
        case uniswap_v3.V3Pool() as v3:
            return lambda x: all_of(uniswap_v3.exact_in(v3, x, zero_for_one=zero_for_one), x)
        case uniswap_v4.V4Pool() as v4:
            return lambda x: all_of(uniswap_v4.exact_in(v4, x, zero_for_one=zero_for_one), x)
        case solidly.SolidlyPool() as pair:
            return lambda x: solidly.exact_in(pair, zero_for_one, x)
        case curve_stable.CurveStablePool() as curve:
            return lambda x: curve_stable.exact_in(curve, *coins, x)
        case balancer_weighted.WeightedPool() as weighted:
            return lambda x: balancer_weighted.exact_in(weighted, *coins, x)


def marginal_price(hop: Hop) -> float:
    """Output for each unit of the first input, raw units, after the fee."""
    zero_for_one = hop["zero_for_one"]
    coins = (0, 1) if zero_for_one else (1, 0)
    match state(hop):
        case uniswap_v2.V2Pair() as v2:
            reserve_in, reserve_out, fee_num, fee_den = v2.side(coins[0])
            return fee_num * reserve_out / (fee_den * reserve_in)
        case uniswap_v3.V3Pool() as v3:
            return uniswap_v3.marginal_price(v3, zero_for_one=zero_for_one)
        case uniswap_v4.V4Pool() as v4:
            return uniswap_v4.marginal_price(v4, zero_for_one=zero_for_one)
        case solidly.SolidlyPool() as pair:
            return solidly.marginal_price(pair, zero_for_one)
        case curve_stable.CurveStablePool() as curve:
            return curve_stable.marginal_price(curve, *coins)
        case balancer_weighted.WeightedPool() as weighted:
            return balancer_weighted.marginal_price(weighted, *coins)


def profit(cycle: Cycle, amount_in: int) -> int:
    """What the cycle gives back beyond `amount_in`, raw units of its first token; negative for a loss.

    SwapRevertedError where a hop reverts, or would take only a part of what it is given.
    """
    amount = amount_in
    for hop in cycle["hops"]:
        amount = quoter(hop)(amount)
    return amount - amount_in
