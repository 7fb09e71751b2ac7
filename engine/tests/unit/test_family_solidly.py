"""Solidly pairs in kernels against the exact references."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from mev_engine.amm import solidly, solidly_pair, solidly_stable_kernels, solidly_volatile_kernels
from mev_engine.amm.abi import topic
from mev_engine.amm.errors import SwapRevertedError, UnknownStateError
from mev_engine.amm.solidly import SolidlyPool, SolidlyVariant
from mev_engine.amm.solidly_pair import StablePair, VolatilePair

from .probe import quoter, reference, responder, slope_and_bend

VELODROME, CAMELOT = SolidlyVariant.VELODROME_V2, SolidlyVariant.CAMELOT
UNIT = 10**18
KERNELS: dict[type, Any] = {VolatilePair: solidly_volatile_kernels, StablePair: solidly_stable_kernels}
RESPOND = {kind: responder(kernels.respond) for kind, kernels in KERNELS.items()}
QUOTE = {kind: quoter(kernels.quote) for kind, kernels in KERNELS.items()}
LEAST = {kind: quoter(kernels.least) for kind, kernels in KERNELS.items()}


@st.composite
def pairs(draw: st.DrawFn, low: int = 10**3, high: int = 10**11, decimals: Any = (6, 8, 18)) -> SolidlyPool:
    """Pairs with `low` to `high` thousandths of a token a side."""
    variant = draw(st.sampled_from(SolidlyVariant))
    camelot = variant is CAMELOT
    scales = [10 ** draw(st.sampled_from(decimals)) for _ in range(2)]
    top = 2**112 - 1 if camelot else 2**256 - 1
    reserves = [min(draw(st.integers(low, high)) * scale // 1000, top) for scale in scales]
    den = 100_000 if camelot else 10_000
    fee0 = draw(st.integers(0, den // 50))
    fee1 = draw(st.integers(0, den // 50)) if camelot else fee0
    share = draw(st.integers(0, den)) if camelot else 0
    kind = draw(st.sampled_from(list(KERNELS)))
    stable = kind is StablePair
    pair: SolidlyPool = kind(*reserves, *scales, fee0, fee1, den, stable, variant, share)
    return pair


def respond(pair: SolidlyPool, i: int, x: float) -> tuple[float, float, float]:
    return RESPOND[type(pair)](KERNELS[type(pair)].params(pair), i, 1 - i, x)


def reserve(pair: SolidlyPool, i: int) -> int:
    return (pair.reserve0, pair.reserve1)[i]


@settings(max_examples=400, deadline=None)
@given(pair=pairs(), part=st.floats(1e-9, 10.0), i=st.integers(0, 1))
def test_the_float_answer_is_the_exact_one(pair: SolidlyPool, part: float, i: int) -> None:
    # fails if a scale, a fee or a side is wrong, or Newton's method ends too early
    x = int(reserve(pair, i) * part) + 1
    exact = reference(solidly_pair.exact_in, pair, i, 1 - i, x)
    assume(exact is not None)
    y, slope, _ = respond(pair, i, float(x))
    scale = (pair.scale0, pair.scale1)[1 - i]
    # the output is rounded, the fee too (worth one unit of input); k has 18 decimals of a token^4
    small = min(pair.reserve0 / pair.scale0, pair.reserve1 / pair.scale1)
    units = 1 + 2 * slope + (scale / UNIT * (2 + 20 / small**3) if pair.stable else 0.0)
    assert y == pytest.approx(exact, rel=0.0, abs=units + 1e-13 * y)


@settings(max_examples=200, deadline=None)
@given(pair=pairs(low=10**8, decimals=(18,)), part=st.floats(1e-2, 10.0), i=st.integers(0, 1))
def test_slope_and_bend_are_the_exact_curves(pair: SolidlyPool, part: float, i: int) -> None:
    # fails if a derivative is wrong: by the reference's price at 0, by finite differences beyond
    nothing, price, _ = respond(pair, i, 0.0)
    assert nothing == 0.0
    assert price == pytest.approx(solidly.marginal_price(pair, i == 0), rel=1e-12)
    x = int(reserve(pair, i) * part)
    h = x // 1000
    _, slope, bend = respond(pair, i, float(x))
    slope_seen, bend_seen = slope_and_bend(lambda v: solidly_pair.exact_in(pair, i, 1 - i, v), x, h)
    assert slope == pytest.approx(slope_seen, rel=1e-4, abs=4 / h)
    assert bend == pytest.approx(bend_seen, rel=1e-3, abs=1e-3 * bend + 1e-5 / x + 8 / h**2 / slope_seen)


@pytest.mark.parametrize("kind", list(KERNELS))
def test_what_a_pair_cannot_take(kind: type) -> None:
    # fails if an answer is NaN, or still grows beyond Camelot's 112 bits or in an empty pair
    pair = kind(10**24, 10**24, UNIT, UNIT, 5, 5, 10_000, kind is StablePair, VELODROME)
    assert respond(replace(pair, reserve0=0), 0, 1e20) == (0.0, 0.0, 0.0)
    assert respond(replace(pair, reserve1=0), 0, 1e20) == (0.0, 0.0, 0.0)
    y, slope, _ = respond(pair, 0, 2.0**256)
    assert y == pytest.approx(10**24)
    assert slope < 1e-20
    camelot = replace(pair, variant=CAMELOT, owner_fee_share=4_000)
    most = 2**112 - 1 - 10**24
    y, slope, _ = respond(camelot, 0, most * 0.999)
    assert slope > 0
    more, none, _ = respond(camelot, 0, most * 1.5)
    assert more >= y
    assert none == 0.0
    assert reference(solidly_pair.exact_in, camelot, 0, 1, most * 3 // 2) is None


boundaries = st.one_of(
    st.integers(0, 10),
    st.integers(1, 2**256 - 1),
    st.integers(0, 256).flatmap(lambda bits: st.integers(max(2**bits - 3, 0), min(2**bits + 3, 2**256 - 1))),
)


@settings(max_examples=2000, deadline=None)
@given(pair=pairs(low=1, high=10**30, decimals=(0, 6, 18, 24)), amount=boundaries, i=st.integers(0, 1))
@example(VolatilePair(2**255, 2**255, 1, 1, 0, 0, 10_000, False, VELODROME), 2**255, 0)
@example(StablePair(10**18, 10**18, UNIT, UNIT, 5, 5, 10_000, True, CAMELOT), 1, 0)
@example(StablePair(1, 1, 10**24, 10**24, 5, 5, 10_000, True, VELODROME), 1, 0)
def test_the_kernel_pays_what_swap_pays(pair: SolidlyPool, amount: int, i: int) -> None:
    # fails on any rounding or overflow that the kernel treats otherwise than the contract, and on a NaN
    check_quotes(pair, amount, i)
    respond(pair, i, float(amount))


@settings(max_examples=1500, deadline=None)
@given(pair=pairs(), part=st.floats(0.0, 3.0), i=st.integers(0, 1))
def test_the_kernel_pays_what_swap_pays_of_usual_amounts(pair: SolidlyPool, part: float, i: int) -> None:
    # fails as above; and where the least input isn't the least, or `exact_in` isn't the most
    x = int(reserve(pair, i) * part) + 1
    check_quotes(pair, x, i)
    y = solidly_pair.exact_in(pair, i, 1 - i, x)
    assume(y > 0)
    with pytest.raises(SwapRevertedError, match=r"K$|(?i:liquidity)"):
        solidly.swap(pair, i == 0, x, y + 1)
    least = solidly_pair.exact_out(pair, i, 1 - i, y)
    assert least <= x
    assert solidly_pair.exact_in(pair, i, 1 - i, least) >= y


def check_quotes(pair: SolidlyPool, amount: int, i: int) -> None:
    words = KERNELS[type(pair)].words(pair)
    expected = reference(solidly_pair.exact_in, pair, i, 1 - i, amount)
    assert QUOTE[type(pair)](words, i, 1 - i, amount) == expected
    try:
        least = solidly_pair.exact_out(pair, i, 1 - i, amount)
    except SwapRevertedError as reverted:
        if str(reverted) == "division by zero":
            return  # Newton's method of the reference, in a pair of a few units
        least = -1
    except ValueError:  # 0 is no output
        least = -1
    assert LEAST[type(pair)](words, i, 1 - i, amount) == (None if least == -1 else least)


def test_pairs_follow_their_logs() -> None:
    # fails if a topic, a type or a side is wrong, or Velodrome's wide reserves are cut
    pair = StablePair(1, 2, UNIT, 10**6, 5, 5, 10_000, True, VELODROME)
    follow = solidly_stable_kernels.FAMILY.events
    sync = topic("Sync(uint256,uint256)")
    after = follow[sync](pair, ([sync], pack_be(2**112, 7)))
    assert (after.reserve0, after.reserve1) == (2**112, 7)
    camelot = VolatilePair(1, 2, 1, 1, 300, 300, 100_000, False, CAMELOT)
    narrow = topic("Sync(uint112,uint112)")
    # keccak of Uniswap V2's own event, as the project's decoder has it
    assert narrow == "0x1c411e9a96e071241c2f21f7726b17ae89e3cab4c78be50e062b03a9fffbbad1"
    assert follow[narrow](camelot, ([narrow], pack_be(5, 6))) == replace(camelot, reserve0=5, reserve1=6)
    with pytest.raises(ValueError, match="uint112"):
        follow[narrow](camelot, ([narrow], pack_be(2**112, 6)))
    fees = topic("FeePercentUpdated(uint16,uint16)")
    assert follow[fees](camelot, ([fees], pack_be(200, 400))) == replace(camelot, fee0=200, fee1=400)
    kind = topic("SetStableSwap(bool,bool)")
    with pytest.raises(UnknownStateError, match="read the pool anew"):
        follow[kind](camelot, ([kind], pack_be(0, 1)))


def pack_be(*values: int) -> bytes:
    return b"".join(value.to_bytes(32) for value in values)


def test_words_are_of_one_kind() -> None:
    # fails if a stable pair passes for a volatile one: it would be quoted by the wrong curve
    with pytest.raises(ValueError, match="VolatilePair"):
        StablePair(1, 2, UNIT, 10**6, 5, 5, 10_000, False, VELODROME)
    with pytest.raises(ValueError, match="StablePair"):
        VolatilePair(1, 2, UNIT, 10**6, 5, 5, 10_000, True, VELODROME)
