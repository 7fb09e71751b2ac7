"""Curve tricrypto in kernels against the exact reference."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mev_engine.amm import curve_crypto_kernels
from mev_engine.amm.abi import topic
from mev_engine.amm.curve_crypto import CurveCryptoPool, exact_in, marginal_price, normalised
from mev_engine.amm.errors import UnknownStateError

from .probe import reference, responder, slope_and_bend

RESPOND = responder(curve_crypto_kernels.respond)
params = curve_crypto_kernels.params
ONE = 10**18
POOL = CurveCryptoPool(
    balances=(10**7 * 10**6, 300 * 10**8, 5_000 * 10**18),
    precisions=(10**12, 10**10, 1),
    price_scale=(30_000 * ONE, 2_000 * ONE),
    ann=1_707_629,
    gamma=11_809_167_828_997,
    d=1,
    mid_fee=3_000_000,
    out_fee=30_000_000,
    fee_gamma=500_000_000_000_000,
)


def with_d(pool: CurveCryptoPool) -> CurveCryptoPool:
    """The pool with the D of its balances, from the invariant in 60 digits."""
    with localcontext() as context:
        context.prec = 60
        x = [Decimal(value) for value in normalised(pool, pool.balances)]
        product, total, gamma = x[0] * x[1] * x[2], sum(x), Decimal(pool.gamma) / ONE
        a = Decimal(pool.ann) / pool.a_multiplier / 27
        low, high = 3 * product ** (Decimal(1) / 3), Decimal(total)
        for _ in range(120):
            d = (low + high) / 2
            k0 = 27 * product / d**3
            k = a * k0 * gamma**2 / (gamma + 1 - k0) ** 2
            above = k * d**2 * (total - d) + product - (d / 3) ** 3 > 0
            low, high = (d, high) if above else (low, d)
        return replace(pool, d=int(low))


@st.composite
def pools(draw: st.DrawFn, apart: int = 30, digits: bool = False) -> CurveCryptoPool:
    """Pools with coins worth within `apart` times of each other; `digits`: all with 18 decimals."""
    value = 10 ** draw(st.integers(22, 27))
    scales = (ONE, draw(st.integers(10**17, 10**23)), draw(st.integers(10**17, 10**23)))
    precisions = (1, 1, 1) if digits else (10**12, 10**10, 1)
    balances = [
        value * draw(st.integers(100, 100 * apart)) // 100 * ONE // s // p
        for s, p in zip(scales, precisions, strict=True)
    ]
    assume(min(balances) > 10**6)
    mid = draw(st.integers(0, 10**7))
    return with_d(
        CurveCryptoPool(
            balances=(balances[0], balances[1], balances[2]),
            precisions=precisions,
            price_scale=(scales[1], scales[2]),
            ann=27 * draw(st.sampled_from([200, 20_000, 63_245, 10**6])),
            gamma=draw(st.sampled_from([10**13, 11_809_167_828_997, 10**15, 4 * 10**16])),
            d=1,
            mid_fee=mid,
            out_fee=mid + draw(st.integers(0, 5 * 10**7)),
            fee_gamma=draw(st.sampled_from([0, 5 * 10**14, 10**16])),
        )
    )


def unit(pool: CurveCryptoPool, k: int) -> float:
    """Raw units of coin k in 1 unit of `normalised`."""
    return ONE / (pool.precisions[k] * (ONE, *pool.price_scale)[k])


coins = st.permutations(range(3)).map(lambda order: order[:2])


@settings(max_examples=400, deadline=None)
@given(pool=pools(), part=st.floats(1e-7, 3.0), pair=coins)
def test_the_float_answer_is_the_exact_one(pool: CurveCryptoPool, part: float, pair: list[int]) -> None:
    # fails if a scale, the fee or a derivative of Newton's method is wrong, or it ends elsewhere
    i, j = pair
    x = int(pool.balances[i] * part) + 1
    exact = reference(exact_in, pool, i, j, x)
    assume(exact is not None)
    y, slope, _ = RESPOND(params(pool), i, j, float(x))
    # the contract ends within 1e-14 of D, and its K0 has 18 decimals, which gamma magnifies
    ends = (3e-14 * max(pool.d, *normalised(pool, pool.balances)) + 200) * unit(pool, j)
    apart = 3 * ONE / pool.gamma * 1e-18 * pool.d * unit(pool, j)
    fee = 1e-10 * y if pool.out_fee else 0.0  # it has ten decimals
    assert exact is not None
    assert y == pytest.approx(exact, rel=0.0, abs=2 + 2 * slope + ends + apart + fee + 1e-12 * y)


@settings(max_examples=300, deadline=None)
@given(pool=pools(apart=10, digits=True), part=st.floats(1e-2, 2.0), pair=coins)
def test_slope_and_bend_are_the_exact_curves(pool: CurveCryptoPool, part: float, pair: list[int]) -> None:
    # fails if a derivative, also of the fee, is wrong: by the reference's price at 0, by differences beyond
    i, j = pair
    nothing, price, _ = RESPOND(params(pool), i, j, 0.0)
    assert nothing == 0.0
    assert price == pytest.approx(marginal_price(pool, i, j), rel=1e-8)
    x = int(pool.balances[i] * part)
    h = x // 100
    around = [reference(exact_in, pool, i, j, v) for v in (x - h, x, x + h)]
    assume(None not in around)

    def out(value: int) -> int:
        return int(RESPOND(params(pool), i, j, float(value))[0])

    _, slope, bend = RESPOND(params(pool), i, j, float(x))
    slope_seen, _ = slope_and_bend(lambda v: exact_in(pool, i, j, v), x, h)
    fine = (
        x // 3000
    )  # the curve turns within gamma of even balances, where the contract's 1e-14 is too coarse
    slope_fine, bend_fine = slope_and_bend(out, x, fine)
    assert slope == pytest.approx(slope_seen, rel=2e-2)
    assert slope == pytest.approx(slope_fine, rel=1e-4)
    y = float(out(x))
    noise = 4e-14 * y / fine**2 / slope
    assert bend == pytest.approx(max(bend_fine, 0.0), rel=1e-2, abs=noise + 1e-6 / x)


def test_what_a_pool_cannot_take() -> None:
    # fails if an answer is NaN or goes on where the contract's balances are unsafe
    pool = with_d(POOL)
    far = [RESPOND(params(pool), 0, 1, 10.0**power) for power in range(13, 40)]
    most = max(y for y, _, _ in far)
    assert far[-1][0] == pytest.approx(most, rel=1e-9)
    assert far[-1][1:] == (0.0, 0.0)
    taken = [
        exact
        for part in range(1, 400)
        if (exact := reference(exact_in, pool, 0, 1, pool.balances[0] * part // 8)) is not None
    ]
    assert 0 < len(taken) < 399
    assert max(taken) <= most * (1 + 1e-9)
    assert most <= max(taken) * 1.02
    for dead in (replace(pool, balances=(0, *pool.balances[1:])), replace(pool, d=10**34)):
        assert RESPOND(params(dead), 0, 1, 1e12) == (0.0, 0.0, 0.0)
    thin = with_d(replace(pool, balances=(*pool.balances[:2], pool.balances[2] // 10**5)))
    assert RESPOND(params(thin), 0, 1, 1e12) == (0.0, 0.0, 0.0)
    assert reference(exact_in, thin, 0, 1, 10**12) is None


@settings(max_examples=500, deadline=None)
@given(pool=pools(apart=10**6), bits=st.integers(0, 256), pair=coins)
def test_any_amount_has_an_answer(pool: CurveCryptoPool, bits: int, pair: list[int]) -> None:
    # fails on a NaN, an exception or a negative number
    i, j = pair
    RESPOND(params(pool), i, j, 2.0**bits)


def test_another_pools_d_is_refused() -> None:
    # fails if balances and D of two blocks pass for one state: every answer would be off by as much
    pool = with_d(POOL)
    with pytest.raises(ValueError, match=f"d is {pool.d * 2}: .*read both at one block"):
        params(replace(pool, d=pool.d * 2))


@pytest.mark.data
def test_the_real_pool(data_dir: Path) -> None:
    # fails if real parameters (gamma 1e-5, a first-generation A) bring out what random ones hide
    path = data_dir / "vectors" / "degenbot" / "fixtures_and_golden.json.gz"
    fixtures: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    state = fixtures["tests/fixtures/chain_data/1/curve_tricrypto_block_24407242.json"]
    b, p = state["balances"], state["price_scale"]
    d0, d1, d2 = (10 ** (18 - token["decimals"]) for token in state["tokens"])
    pool = CurveCryptoPool(
        balances=(b[0], b[1], b[2]),
        precisions=(d0, d1, d2),
        price_scale=(p[0], p[1]),
        ann=state["a_coefficient"] * 100,
        gamma=state["gamma"],
        d=state["d"],
        mid_fee=state["mid_fee"],
        out_fee=state["out_fee"],
        fee_gamma=state["fee_gamma"],
        a_multiplier=100,
    )
    for i, j in ((0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)):
        for part in (1e-5, 1e-3, 0.1, 1.0):
            x = int(pool.balances[i] * part) + 1
            y, slope, _ = RESPOND(params(pool), i, j, float(x))
            error = 1e-12 * pool.d * unit(pool, j)  # D itself is right to about as much
            assert y == pytest.approx(exact_in(pool, i, j, x), rel=1e-10, abs=2 + 2 * slope + error)


def test_no_log_tells_the_state() -> None:
    # fails if an exchange is followed without the price scale that it moves
    follow = curve_crypto_kernels.FAMILY.events
    for event, why in (
        ("TokenExchange(address,uint256,uint256,uint256,uint256)", "price scale"),
        ("RemoveLiquidity(address,uint256[3],uint256)", "D falls"),
        ("StopRampA(uint256,uint256,uint256)", "computed anew"),
    ):
        with pytest.raises(UnknownStateError, match=f"{why}.*read the pool anew"):
            follow[topic(event)](POOL, ([topic(event)], b""))
