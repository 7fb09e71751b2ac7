"""What is held against the contracts, by family: name -> function from a state and a call to an answer.

A new implementation of a family's maths is one more entry here, and is then compared on every case.
The calls say what an answer holds. Kernels know quotes only, and may leave one to the Python integers
("not ok"), but must not answer where the contract refuses.
"""

from __future__ import annotations

import kernel_calls
from mev_engine.amm import (
    balancer_stable,
    balancer_weighted,
    curve_stable,
    uniswap_v2,
    uniswap_v3,
    uniswap_v4,
)
from mev_engine.amm.balancer_stable import StablePool
from mev_engine.amm.balancer_weighted import WeightedPool
from mev_engine.amm.concentrated import extreme_price
from mev_engine.amm.curve_stable import CurveStablePool
from mev_engine.amm.uniswap_v2 import MAX_RESERVE, V2Pair
from mev_engine.amm.uniswap_v3 import V3Pool
from mev_engine.amm.uniswap_v4 import V4Pool

from .balancer import BalancerCall
from .compare import Answer, Implementation, Reverted, answer_of
from .concentrated_cases import SwapCall
from .curve_cases import CurveCall
from .v2_cases import FEE, Reserves, V2Call


def _v2(state: Reserves, call: V2Call) -> Answer:
    def compute() -> tuple[int, ...]:
        if call.kind == "swap":
            return uniswap_v2.swap(state.reserve_in, state.reserve_out, call.x, call.y, *FEE)
        quote = uniswap_v2.get_amount_out if call.kind == "amount_out" else uniswap_v2.get_amount_in
        return (quote(call.x, state.reserve_in, state.reserve_out, *FEE),)

    return answer_of(compute)


def _v3(pool: V3Pool, call: SwapCall) -> Answer:
    def compute() -> tuple[int, ...]:
        side, limit = call.zero_for_one, call.limit or None
        if call.kind == "exact_in":
            swap = uniswap_v3.exact_in(pool, call.amount, zero_for_one=side, limit=limit)
            return swap.amount_out, swap.sqrt_price_x96
        if call.kind == "exact_out":
            swap = uniswap_v3.exact_out(pool, call.amount, zero_for_one=side, limit=limit)
            return swap.amount_in, swap.sqrt_price_x96
        swap = uniswap_v3.swap(pool, zero_for_one=side, amount=call.amount, sqrt_price_limit_x96=call.limit)
        return swap.amount_in, swap.amount_out, swap.sqrt_price_x96, swap.tick, swap.liquidity

    return answer_of(compute)


def _v4(pool: V4Pool, call: SwapCall) -> Answer:
    def compute() -> tuple[int, ...]:
        side = call.zero_for_one
        if call.kind == "exact_in":
            return (uniswap_v4.exact_in(pool, call.amount, zero_for_one=side).amount_out,)
        if call.kind == "exact_out":
            return (uniswap_v4.exact_out(pool, call.amount, zero_for_one=side).amount_in,)
        swap = uniswap_v4.swap(pool, zero_for_one=side, amount=call.amount, sqrt_price_limit_x96=call.limit)
        return swap.amount_in, swap.amount_out, swap.sqrt_price_x96, swap.tick, swap.liquidity

    return answer_of(compute)


def _weighted(pool: WeightedPool, call: BalancerCall) -> Answer:
    swap = balancer_weighted.exact_in if call.given == "in" else balancer_weighted.exact_out
    return answer_of(lambda: (swap(pool, call.token_in, call.token_out, call.amount),))


def _stable(pool: StablePool, call: BalancerCall) -> Answer:
    swap = balancer_stable.exact_in if call.given == "in" else balancer_stable.exact_out
    return answer_of(lambda: (swap(pool, call.token_in, call.token_out, call.amount),))


def _curve_stable(pool: CurveStablePool, call: CurveCall) -> Answer:
    def compute() -> tuple[int, ...]:
        if call.kind == "get_dy":
            return (curve_stable.exact_in(pool, call.i, call.j, call.dx),)
        paid, after = curve_stable.exchange(pool, call.i, call.j, call.dx)
        return paid, *after.balances

    return answer_of(compute)


def _v2_kernels(state: Reserves, call: V2Call) -> Answer | None:
    """A pair accepts x for y just where `quote` of x is y or more, and x is `least` of y or more."""
    pair = V2Pair(state.reserve_in, state.reserve_out)
    (most,) = kernel_calls.exact(pair, 0, 1, [call.x])
    if call.kind == "amount_out":
        return None if most is None else (most,)
    if call.kind == "amount_in":
        return None  # the router's may be one more than the least
    (least,) = kernel_calls.exact(pair, 0, 1, [call.y], inverse=True)
    enough = least is not None and least <= call.x <= MAX_RESERVE - state.reserve_in
    accepts = most is not None and 0 < call.y <= most
    assert enough == accepts, (state, call)
    return (state.reserve_in + call.x, state.reserve_out - call.y) if accepts else Reverted()


def _concentrated_kernels(pool: V3Pool | V4Pool, call: SwapCall) -> Answer | None:
    side = call.zero_for_one
    if call.limit != (extreme_price(zero_for_one=side) if call.kind == "swap" else 0):
        return None  # kernels know no price limit
    given, inverse = abs(call.amount), call.kind == "exact_out" or call.amount < 0
    (found,) = kernel_calls.exact(pool, 1 - side, int(side), [given], inverse=inverse)
    if found is None:
        return None
    if call.kind != "swap":
        return (found,)
    return (found, given) if inverse else (given, found)


V2: dict[str, Implementation[Reserves, V2Call]] = {"Python integers": _v2, "kernels": _v2_kernels}
V3: dict[str, Implementation[V3Pool, SwapCall]] = {"Python integers": _v3, "kernels": _concentrated_kernels}
V4: dict[str, Implementation[V4Pool, SwapCall]] = {"Python integers": _v4, "kernels": _concentrated_kernels}
BALANCER_WEIGHTED: dict[str, Implementation[WeightedPool, BalancerCall]] = {"Python integers": _weighted}
BALANCER_STABLE: dict[str, Implementation[StablePool, BalancerCall]] = {"Python integers": _stable}
CURVE_STABLE: dict[str, Implementation[CurveStablePool, CurveCall]] = {"Python integers": _curve_stable}
