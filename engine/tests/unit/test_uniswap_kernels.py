"""Uniswap V2, V3 and V4 in kernels against their references in Python integers."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import kernel_calls
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mev_engine.amm import registry, uniswap_v2, uniswap_v3, uniswap_v4
from mev_engine.amm.concentrated import MAX_TICK, sqrt_price_at_tick, tick_at_sqrt_price
from mev_engine.amm.errors import SwapRevertedError, UnknownStateError
from mev_engine.amm.uniswap_v2 import MAX_RESERVE, V2Pair
from mev_engine.amm.uniswap_v3 import V3Pool
from mev_engine.amm.uniswap_v4 import V4Pool

PROTOCOL_FEE = 1000 << 12 | 500  # the highest for token1 in, half of it for token0

amounts = st.one_of(
    st.integers(0, 255).flatmap(lambda bits: st.integers(0, 2**bits)),
    st.sampled_from([0, 1, 2**112 - 1, 2**127 - 1, 2**127, 2**255 - 1, 2**255, 2**256 - 1]),
)
reserves = st.integers(0, 112).flatmap(lambda bits: st.integers(0, 2**bits - 1))


@st.composite
def pairs(draw: st.DrawFn) -> V2Pair:
    fees = st.sampled_from([(997, 997, 1000), (9975, 9970, 10_000), (999_999, 1, 10**6), (1, 1, 1)])
    return V2Pair(draw(reserves), draw(reserves), *draw(fees))


@st.composite
def concentrated(draw: st.DrawFn, kind: type[V3Pool] | type[V4Pool]) -> Any:
    """Up to five positions anywhere, up to the greatest liquidity; the price may be outside all of them."""
    spacing = draw(st.sampled_from([1, 10, 60, 200, 16_383]))
    bound = MAX_TICK // spacing
    # near one another, so that swaps cross ticks; a word edge is 256 spacings away
    centre = draw(st.integers(-bound, bound))
    near = st.integers(max(-bound, centre - 400), min(bound, centre + 400))
    ticks: dict[int, int] = {}
    spans = []
    for _ in range(draw(st.integers(1, 5))):
        lower, upper = sorted((draw(near), draw(near)))
        if lower == upper:
            continue
        liquidity = min(2 ** draw(st.integers(0, 127)), (2**128 - 1) // (10 * bound + 5))
        spans.append((lower * spacing, upper * spacing, liquidity))
        ticks[lower * spacing] = ticks.get(lower * spacing, 0) + liquidity
        ticks[upper * spacing] = ticks.get(upper * spacing, 0) - liquidity
    low, high = (sqrt_price_at_tick(max(-MAX_TICK, min(MAX_TICK - 1, t * spacing))) for t in (-bound, bound))
    inside: bool = draw(st.booleans())
    if spans and inside:
        low, high = (sqrt_price_at_tick(t) for t in spans[0][:2])
    price = draw(st.integers(low, max(low, high - 1)))
    tick = tick_at_sqrt_price(price)
    return kind(
        sqrt_price_x96=price,
        tick=tick,
        liquidity=sum(there for lower, upper, there in spans if lower <= tick < upper),
        tick_spacing=spacing,
        ticks=ticks,
        **draw(fee_fields(kind)),
    )


def fee_fields(kind: type) -> st.SearchStrategy[dict[str, Any]]:
    fees = st.sampled_from([0, 100, 3000, 999_999])
    if kind is V3Pool:
        return st.builds(lambda fee: {"fee_pips": fee}, fees)
    return st.builds(
        lambda fee, own: {"lp_fee": fee, "protocol_fee": own}, fees, st.sampled_from([0, 4_096_500])
    )


def agree(state: Any, i: int, given: list[int], *, inverse: bool) -> int:
    """Kernel and reference give the same, and the kernel refuses at least what the contract reverts.
    Returns how many the kernel left to the reference."""
    family = registry.family_of(state)
    call = family.exact_out if inverse else family.exact_in
    refused = 0
    for amount, found in zip(given, kernel_calls.exact(state, i, 1 - i, given, inverse=inverse), strict=True):
        try:
            wanted = call(state, i, 1 - i, amount)
        except (SwapRevertedError, UnknownStateError):
            assert found is None, (amount, found)
            continue
        if found is None:
            refused += 1
        else:
            assert found == wanted, amount
    return refused


@settings(max_examples=400, deadline=None)
@given(pairs(), st.integers(0, 1), st.lists(amounts, min_size=5, max_size=10), st.booleans())
def test_pairs(pair: V2Pair, i: int, given: list[int], inverse: bool) -> None:
    # fails on a reserve taken from the wrong side, a fee of the other direction, or a missing OVERFLOW
    assert agree(pair, i, given, inverse=inverse) == 0


@pytest.mark.parametrize("kind", [V3Pool, V4Pool])
@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_concentrated_pools(kind: type[V3Pool] | type[V4Pool], data: st.DataObject) -> None:
    # fails on a word edge left out, one rounding turned, or an overflow that wraps
    pool = data.draw(concentrated(kind))
    given = data.draw(st.lists(amounts, min_size=5, max_size=10))
    agree(pool, data.draw(st.integers(0, 1)), given, inverse=data.draw(st.booleans()))


@pytest.fixture(scope="module")
def rows(data_dir: Path) -> list[dict[str, Any]]:
    with gzip.open(data_dir / "ticks/v3_full_tick_maps.jsonl.gz", "rt") as file:
        return [row for row in map(json.loads, file) if row["complete"]]


def real_pool(row: dict[str, Any], kind: type[V3Pool] | type[V4Pool]) -> Any:
    fees = (
        {"fee_pips": row["fee_ppm"]}
        if kind is V3Pool
        else {"lp_fee": row["fee_ppm"], "protocol_fee": 4_096_500}
    )
    return kind(
        sqrt_price_x96=int(row["sqrt_price_x96"]),
        tick=row["tick"],
        liquidity=int(row["liquidity"]),
        tick_spacing=row["tick_spacing"],
        ticks={tick: int(net) for tick, net in row["ticks"]},
        **fees,
    )


@pytest.mark.data
@pytest.mark.parametrize("kind", [V3Pool, V4Pool])
def test_real_tick_maps(rows: list[dict[str, Any]], kind: type[V3Pool] | type[V4Pool]) -> None:
    # on real pools the kernel must answer everything that the chain does: none may be left to the reference
    given = [max(1, 3**k) for k in range(0, 75, 2)]
    compared = 0
    for row in rows:
        pool = real_pool(row, kind)
        for i in (0, 1):
            for inverse in (False, True):
                assert agree(pool, i, given, inverse=inverse) == 0
                compared += len(given)
    print(f"{kind.__name__}: {compared} quotes and inverses on {len(rows)} real tick maps equal")


def check_floats(
    state: Any, i: int, given: list[float], exact_in: Callable[[int], int], price: float, *, smooth: bool
) -> None:
    given = [float(int(x)) for x in given if x >= 1.0]
    found = kernel_calls.respond(state, i, 1 - i, [0.0, *given])
    assert found[0, 1] == pytest.approx(price, rel=1e-9)
    for x, (y, slope, curve) in zip(given, found[1:], strict=True):
        try:
            wanted = exact_in(int(x))
        except SwapRevertedError:
            continue
        # the contract rounds input and output of each step by a unit, and these pools have hundreds
        assert y == pytest.approx(wanted, rel=1e-9, abs=500 * (1.0 + price))
        step = x * 1e-3
        ahead, behind = kernel_calls.respond(state, i, 1 - i, [x + step, x - step])[:, 0]
        if smooth and slope > 0.0:
            assert slope == pytest.approx((ahead - behind) / (2 * step), rel=1e-5)
            assert ahead == pytest.approx(y + slope * step / (1 + curve * step), rel=1e-9)
        assert ahead <= y + slope * step * (1 + 1e-9)  # concave
        assert behind <= y - slope * step * (1 - 1e-9)


@settings(max_examples=100, deadline=None)
@given(pairs(), st.integers(0, 1))
def test_floats_of_pairs(pair: V2Pair, i: int) -> None:
    # fails if slope or curvature belong to the other side, or leave out the fee
    r, s, num, den = pair.side(i)
    if min(r, s) == 0:
        assert (kernel_calls.respond(pair, i, 1 - i, [0.0, 1e18]) == 0.0).all()
        return
    given = [float(r) * part for part in (1e-3, 0.1, 1.0, 10.0)]
    price = num / den * s / r
    check_floats(pair, i, given, lambda x: uniswap_v2.get_amount_out(x, r, s, num, den), price, smooth=True)


@pytest.mark.data
def test_floats_of_real_tick_maps(rows: list[dict[str, Any]]) -> None:
    # fails if a range is skipped, walked the wrong way, or has its neighbour's liquidity
    for row in rows:
        pool: V3Pool = real_pool(row, V3Pool)
        root = pool.sqrt_price_x96 / 2**96
        for i, unit in ((0, pool.liquidity / root), (1, pool.liquidity * root)):
            price = uniswap_v3.marginal_price(pool, zero_for_one=i == 0)
            given = [unit * part for part in (1e-4, 1e-2, 0.3, 3.0)]
            exact_in = partial(uniswap_v3.FAMILY.exact_in, pool, i, 1 - i)
            check_floats(pool, i, given, exact_in, price, smooth=False)


def test_events_move_a_pool_as_the_swaps_do(rows: list[dict[str, Any]]) -> None:
    # fails if a word of a log is taken for another, or a swap is taken over that does not fit the ticks
    def word(value: int) -> bytes:
        return (value % 2**256).to_bytes(32, "big")

    cases: list[tuple[Any, Any]] = [(V3Pool, uniswap_v3), (V4Pool, uniswap_v4)]
    for kind, family in cases:
        pool = real_pool(rows[0], kind)
        after = pool.after(family.exact_in(pool, 10**13, zero_for_one=True))
        names = {topic: apply.__name__ for topic, apply in family.FAMILY.events.items()}
        swap = next(topic for topic, name in names.items() if name == "_swap_event")
        state = after.sqrt_price_x96, after.liquidity, after.tick
        data = b"".join(map(word, (1, -1, *state, 0)))
        apply = family.FAMILY.events[swap]
        assert apply(pool, ([swap], data)) == after
        missed = b"".join(map(word, (1, -1, state[0], state[1] + 1, state[2], 0)))
        with pytest.raises(UnknownStateError, match="read the pool anew"):
            apply(pool, ([swap], missed))
    assert MAX_RESERVE == 2**112 - 1


def test_liquidity_comes_and_goes_with_its_ticks() -> None:
    # fails if a tick outlives its last position, which adds a step to a swap and may cost it a unit
    empty = V3Pool(
        sqrt_price_x96=2**96, tick=0, liquidity=0, tick_spacing=60, fee_pips=3000, ticks={}, gross={}
    )
    one = empty.changed(-60, 60, 1000)
    two = one.changed(60, 120, 1000)
    assert (one.liquidity, dict(one.ticks)) == (1000, {-60: 1000, 60: -1000})
    assert dict(two.ticks) == {-60: 1000, 60: 0, 120: -1000}
    assert two.changed(60, 120, -1000) == one
    assert one.changed(-60, 60, -1000) == empty
    unsure = V3Pool(
        sqrt_price_x96=2**96, tick=0, liquidity=1000, tick_spacing=60, fee_pips=3000, ticks=one.ticks
    )
    with pytest.raises(UnknownStateError, match="liquidityGross is unknown"):
        unsure.changed(60, 120, 1000).changed(60, 120, -1000).changed(-60, 60, -1000)
