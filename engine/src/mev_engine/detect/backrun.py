"""Back-runs: what a pending transaction leaves to be earned, right after it.

The scan is the same, on the state after the transaction's swaps. Its results hold behind that transaction
and in no other place: nothing here computes what could be had before it, at its sender's cost.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Any

from mev_engine.amm import curve_stable, solidly, uniswap_v2, uniswap_v3, uniswap_v4
from mev_engine.amm.errors import SwapRevertedError, UnknownStateError
from mev_engine.detect.opportunity import opportunity_id
from mev_engine.detect.scanner import Scanner, ScanResult
from mev_engine.market.delta import BlockDelta, BlockRef, StateUpdate
from mev_engine.market.market import Market

STRATEGY = "back_run"


def scan_after(scanner: Scanner, block: BlockRef, delta: BlockDelta, transaction: str) -> ScanResult:
    """Opportunities behind a pending transaction (its hash, lower-case 0x hex) that `delta` tells of.

    `block`: the last one, which the market stands at and where it is again afterwards, to the bit, also
    where something was raised. Only cycles through pools that the delta touches are looked at. The strategy
    is "back_run", and ids are others than those of cycles without the transaction. Errors: those of
    `Market.supposing`.
    """
    with scanner.market.supposing(delta) as touched:
        result = scanner.scan(block, touched)
    place = f"{block.hash}>{transaction}"
    ids = {o.id: opportunity_id(scanner.chain_id, place, o.tokens, o.pools) for o in result.opportunities}
    named = (
        replace(o, id=ids[o.id], strategy=STRATEGY, conflicts_with=o.conflicts_with and ids[o.conflicts_with])
        for o in result.opportunities
    )
    return replace(result, opportunities=tuple(named))


@dataclass(frozen=True, slots=True)
class PendingSwap:
    """A swap of a decoded pending transaction: token `i` of a pool for token `j`.

    `amount_in`: raw units; None for what the swap before it paid out. `least_out`: what the transaction
    insists on, raw units.
    """

    pool: str
    i: int
    j: int
    amount_in: int | None
    least_out: int = 0


def pending_delta(market: Market, block: BlockRef, swaps: Iterable[PendingSwap]) -> BlockDelta:
    """What the swaps of one pending transaction, in order, make of the market's states, in exact integers.

    KeyError for a pool that the market does not have; SwapRevertedError where the transaction would revert,
    so that there is nothing behind it; UnknownStateError where a family or a state does not tell.
    """
    states: dict[str, Any] = {}
    paid: int | None = None
    for swap in swaps:
        state = states.get(swap.pool) or market.state(swap.pool)
        amount_in = paid if swap.amount_in is None else swap.amount_in
        if amount_in is None:
            raise ValueError(f"amount_in of the first swap, in pool {swap.pool}, is None: say how much")
        states[swap.pool], paid = after_swap(state, swap.i, swap.j, amount_in)
        if paid < swap.least_out:
            raise SwapRevertedError(f"pool {swap.pool} pays {paid}, less than the {swap.least_out} asked for")
    return BlockDelta(block, tuple(StateUpdate(pool, state) for pool, state in states.items()))


@singledispatch
def after_swap(state: Any, i: int, j: int, amount_in: int) -> tuple[Any, int]:
    """The state after a swap of exactly `amount_in` of token i for token j, and what it paid (raw units)."""
    raise UnknownStateError(f"what a swap makes of a {type(state).__name__} is not computed: await its logs")


@after_swap.register
def _v2(pair: uniswap_v2.V2Pair, i: int, j: int, amount_in: int) -> tuple[uniswap_v2.V2Pair, int]:
    reserve_in, reserve_out, fee_num, fee_den = pair.side(i)
    paid = uniswap_v2.exact_in(pair, i, j, amount_in)
    after = uniswap_v2.swap(reserve_in, reserve_out, amount_in, paid, fee_num, fee_den)
    reserve0, reserve1 = after if i == 0 else reversed(after)
    return replace(pair, reserve0=reserve0, reserve1=reserve1), paid


@after_swap.register
def _v3(pool: uniswap_v3.V3Pool, i: int, j: int, amount_in: int) -> tuple[uniswap_v3.V3Pool, int]:
    swap = uniswap_v3.exact_in(pool, amount_in, zero_for_one=i == 0)
    return pool.moved(swap.sqrt_price_x96, swap.tick, swap.liquidity), swap.amount_out


@after_swap.register
def _v4(pool: uniswap_v4.V4Pool, i: int, j: int, amount_in: int) -> tuple[uniswap_v4.V4Pool, int]:
    swap = uniswap_v4.exact_in(pool, amount_in, zero_for_one=i == 0)
    return pool.moved(swap.sqrt_price_x96, swap.tick, swap.liquidity), swap.amount_out


@after_swap.register
def _solidly(pool: solidly.SolidlyPool, i: int, j: int, amount_in: int) -> tuple[solidly.SolidlyPool, int]:
    """As the router swaps: it asks for what getAmountOut says."""
    paid = solidly.exact_in(pool, i == 0, amount_in)
    return solidly.swap(pool, i == 0, amount_in, paid), paid


@after_swap.register
def _curve(
    pool: curve_stable.CurveStablePool, i: int, j: int, amount_in: int
) -> tuple[curve_stable.CurveStablePool, int]:
    paid, after = curve_stable.exchange(pool, i, j, amount_in)
    return after, paid
