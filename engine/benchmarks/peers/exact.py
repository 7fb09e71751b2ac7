"""A cycle of the peers' format as our pool states, evaluated with the contracts' exact integers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from mev_engine.amm import balancer_weighted, curve_stable, registry, uniswap_v2, uniswap_v3, uniswap_v4
from mev_engine.amm.solidly import SolidlyVariant
from mev_engine.amm.solidly_pair import StablePair, VolatilePair
from mev_engine.market.book import Book

from peers.protocol import Cycle, Hop, decimals_pair

ONE = 10**18
A_PRECISION = 100
PoolState = (
    uniswap_v2.V2Pair
    | VolatilePair
    | StablePair
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


def _solidly(hop: Hop) -> VolatilePair | StablePair:
    decimals0, decimals1 = decimals_pair(hop)
    stable = hop["family"] == "solidly_stable"
    fee = hop["fee_den"] - hop["fee_num"]
    kind = StablePair if stable else VolatilePair
    return kind(
        reserve0=int(hop["reserve0"]),
        reserve1=int(hop["reserve1"]),
        scale0=10**decimals0,
        scale1=10**decimals1,
        fee0=fee,
        fee1=fee,
        fee_den=hop["fee_den"],
        stable=stable,
        variant=SolidlyVariant.VELODROME_V2,
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
    pool = state(hop)
    coins = (0, 1) if hop["zero_for_one"] else (1, 0)
    return partial(registry.family_of(pool).exact_in, pool, *coins)


def marginal_price(hop: Hop) -> float:
    """Output for each unit of the first input, raw units, after the fee."""
    book = Book()
    book.add([state(hop)])
    return float(book.slope[0 if hop["zero_for_one"] else 1])


def profit(cycle: Cycle, amount_in: int) -> int:
    """What the cycle gives back beyond `amount_in`, raw units of its first token; negative for a loss.

    SwapRevertedError where a hop reverts, or would take only a part of what it is given.
    """
    amount = amount_in
    for hop in cycle["hops"]:
        amount = quoter(hop)(amount)
    return amount - amount_in
