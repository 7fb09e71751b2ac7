"""Balancer weighted pools in kernels against the exact references, and the logs of Balancer's vaults."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from eth_abi.abi import encode
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from mev_engine.amm import balancer_weighted, balancer_weighted_kernels
from mev_engine.amm.abi import topic
from mev_engine.amm.balancer_math import MAX_POW_RELATIVE_ERROR, ONE
from mev_engine.amm.balancer_vault import V2, V3
from mev_engine.amm.balancer_weighted import WeightedPool, exact_in, marginal_price
from mev_engine.amm.errors import UnknownStateError

from .probe import quoter, reference, responder, slope_and_bend

RESPOND = responder(balancer_weighted_kernels.respond)
QUOTE = quoter(balancer_weighted_kernels.quote)
LEAST = quoter(balancer_weighted_kernels.least)
params, words = balancer_weighted_kernels.params, balancer_weighted_kernels.words

POOL = WeightedPool(
    vault=V2,
    balances=(10**24, 2 * 10**12),
    scaling=(1, 10**12),
    rates=(ONE, ONE),
    swap_fee=3 * 10**15,
    weights=(8 * ONE // 10, 2 * ONE // 10),
)


@st.composite
def pools(draw: st.DrawFn, low: int = 10**15, high: int = 10**27, decimals: Any = (6, 8, 18)) -> WeightedPool:
    """Two to four tokens with live balances of `low` to `high`."""
    n = draw(st.integers(2, 4))
    vault = draw(st.sampled_from([V2, V3]))
    scaling = tuple(10 ** (18 - draw(st.sampled_from(decimals))) for _ in range(n))
    shares = [draw(st.sampled_from([10, 20, 25, 40, 80]) | st.integers(10, 300)) for _ in range(n)]
    weights = [share * ONE // sum(shares) for share in shares]
    weights[0] += ONE - sum(weights)
    assume(min(weights) >= balancer_weighted.MIN_WEIGHT)
    top = 2**112 - 1 if vault == V2 else 2**128 - 1
    return WeightedPool(
        vault=vault,
        balances=tuple(min(draw(st.integers(low, high)) // s, top) for s in scaling),
        scaling=scaling,
        rates=tuple(draw(st.sampled_from([ONE, ONE + 1, 13 * ONE // 10])) for _ in range(n)),
        swap_fee=draw(st.sampled_from([0, 10**12, 3 * 10**15, 10**17])),
        weights=tuple(weights),
        exact_powers=vault == V3 or draw(st.booleans()),
    )


@settings(max_examples=400, deadline=None)
@given(pool=pools(low=10**18), part=st.floats(1e-9, 0.29))
def test_the_float_answer_is_the_exact_one(pool: WeightedPool, part: float) -> None:
    # fails if the fee, a weight or a side is wrong, or digits are lost in small amounts
    x = int(pool.balances[0] * part) + 1
    exact = reference(exact_in, pool, 0, 1, x)
    assume(exact is not None)
    y, slope, _ = RESPOND(params(pool), 0, 1, float(x))
    out = pool.balances[1]
    # the contract raises the power by its error bound and rounds the share at 18 decimals, times the
    # exponent; then amounts to raw units, an input before the fee
    exponent = pool.weights[0] / pool.weights[1]
    error = out * (2.1 * MAX_POW_RELATIVE_ERROR + 3 * exponent) / ONE + 2 + 2 * slope
    live_unit = pool.rates[0] * pool.scaling[0] / ONE
    assert y == pytest.approx(exact, rel=0.0, abs=error + 2 * slope / live_unit + 1e-13 * y)


@settings(max_examples=200, deadline=None)
@given(pool=pools(low=10**26, decimals=(18,)), part=st.floats(1e-2, 0.28))
def test_slope_and_bend_are_the_exact_curves(pool: WeightedPool, part: float) -> None:
    # fails if a derivative is wrong: by the reference's price at 0, by finite differences beyond
    nothing, price, _ = RESPOND(params(pool), 0, 1, 0.0)
    assert nothing == 0.0
    assert price == pytest.approx(marginal_price(pool, 0, 1), rel=1e-12)
    x = int(pool.balances[0] * part)
    h = int(x / 50 / (1 + pool.weights[0] / pool.weights[1]))
    _, slope, bend = RESPOND(params(pool), 0, 1, float(x))
    slope_seen, bend_seen = slope_and_bend(lambda v: exact_in(pool, 0, 1, v), x, h)
    assert slope == pytest.approx(slope_seen, rel=1e-3)
    noise = pool.balances[1] * 4e-14 / h**2 / slope
    assert bend == pytest.approx(bend_seen, rel=1e-2, abs=noise)


def test_beyond_a_pools_limits() -> None:
    # fails if an answer grows beyond 30 % of the balance, or an empty pool gives NaN
    most = POOL.balances[0] * 3 / 10 / (1 - POOL.swap_fee / ONE)
    at_most, slope, _ = RESPOND(params(POOL), 0, 1, most * (1 - 1e-12))
    assert slope > 0
    beyond, none, _ = RESPOND(params(POOL), 0, 1, 1e60)
    assert beyond == pytest.approx(at_most)
    assert none == 0.0
    assert reference(exact_in, POOL, 0, 1, int(most * (1 + 1e-12))) is None
    assert reference(exact_in, POOL, 0, 1, int(most * (1 - 1e-12))) == pytest.approx(at_most)
    for balances in ((0, 10**12), (10**24, 0)):
        assert RESPOND(params(replace(POOL, balances=balances)), 0, 1, 1e18) == (0.0, 0.0, 0.0)
    full = replace(POOL, balances=(2**112 - 10, 10**12))
    assert RESPOND(params(full), 0, 1, 20.0)[1] == 0.0


amounts = st.one_of(
    st.integers(0, 10),
    st.integers(0, 256).flatmap(lambda bits: st.integers(max(2**bits - 3, 0), min(2**bits + 3, 2**256 - 1))),
)


@settings(max_examples=1500, deadline=None)
@given(pool=pools(low=0, high=10**40), amount=amounts)
@example(replace(POOL, rates=(10**60, ONE)), 10**20)
@example(replace(POOL, rates=(2**256 - 1, ONE)), 1)
@example(replace(POOL, balances=(0, 0)), 1)
def test_the_kernel_is_the_contract_at_any_amount(pool: WeightedPool, amount: int) -> None:
    # fails on a rounding, a limit or an overflow that the kernel treats otherwise than the contract
    assert QUOTE(words(pool), 0, 1, amount) == reference(exact_in, pool, 0, 1, amount)
    LEAST(words(pool), 0, 1, amount)  # fails on a division by zero, as the next does, or on a NaN
    RESPOND(params(pool), 0, 1, float(amount))


@settings(max_examples=2500, deadline=None)
@given(pool=pools(), part=st.floats(0, 0.31))
def test_the_kernel_is_the_contract_at_usual_amounts(pool: WeightedPool, part: float) -> None:
    # fails as above, in the digits of the power; 0.9 and 0.3 are the logarithm's and the pool's borders
    x = int(pool.balances[0] * part) + 1
    y = QUOTE(words(pool), 0, 1, x)
    assert y == reference(exact_in, pool, 0, 1, x)
    if y:
        least = LEAST(words(pool), 0, 1, y)
        assert least is not None
        assert exact_in(pool, 0, 1, least) >= y
        assert (reference(exact_in, pool, 0, 1, least - pool.balances[0] // ONE - 1) or 0) < y


@settings(max_examples=300, deadline=None)
@given(weight=st.integers(ONE // 100, 99 * ONE // 100), share=st.integers(0, 10**6))
def test_the_power_has_every_digit(weight: int, share: int) -> None:
    # fails in a digit of the series that a quote would round away: the balance has 1e38 units
    pool = replace(POOL, vault=V3, balances=(2**127, 2**127), scaling=(1, 1), swap_fee=0)
    pool = replace(pool, weights=(weight, ONE - weight))
    x = pool.balances[0] * 3 // 10 * share // 10**6
    assert QUOTE(words(pool), 0, 1, x) == reference(exact_in, pool, 0, 1, x)


# --- Logs


TOKENS = ("0x" + "11" * 20, "0x" + "22" * 20)


def log(signature: str, *indexed: str, types: str, values: tuple[Any, ...]) -> tuple[list[str], bytes]:
    topics = [topic(signature), *("0x" + part.removeprefix("0x").rjust(64, "0") for part in indexed)]
    return topics, encode(types.split(","), values)


def follow(pool: WeightedPool, entry: tuple[list[str], bytes]) -> WeightedPool:
    after: WeightedPool = balancer_weighted_kernels.FAMILY.events[entry[0][0]](pool, entry)
    return after


def test_a_pool_follows_vault_2() -> None:
    # fails if a topic, a side or a sign is wrong, or a protocol fee stays in the pool
    pool = replace(POOL, tokens=TOKENS)
    b0, b1 = pool.balances
    swap = log(
        "Swap(bytes32,address,address,uint256,uint256)", "aa", TOKENS[1], TOKENS[0],
        types="uint256,uint256", values=(7, 5),
    )  # fmt: skip
    assert follow(pool, swap).balances == (b0 - 5, b1 + 7)
    changed = log(
        "PoolBalanceChanged(bytes32,address,address[],int256[],uint256[])", "aa", "bb",
        types="address[],int256[],uint256[]", values=(TOKENS, (-100, 50), (3, 0)),
    )  # fmt: skip
    assert follow(pool, changed).balances == (b0 - 103, b1 + 50)
    managed = log(
        "PoolBalanceManaged(bytes32,address,address,int256,int256)", "aa", "bb", TOKENS[0],
        types="int256,int256", values=(-40, 41),
    )  # fmt: skip
    assert follow(pool, managed).balances == (b0 + 1, b1)
    fee = log("SwapFeePercentageChanged(uint256)", types="uint256", values=(10**15,))
    assert follow(pool, fee).swap_fee == 10**15
    with pytest.raises(UnknownStateError, match="tokens is"):
        follow(POOL, swap)
    with pytest.raises(UnknownStateError, match="read the pool anew"):
        follow(replace(pool, balances=(1, 1)), swap)
    with pytest.raises(ValueError, match="data is not"):
        follow(pool, (swap[0], b"\0" * 40))


def test_a_pool_follows_vault_3() -> None:
    # fails if the protocol's share of the fee stays in the pool, or is guessed where it isn't known
    pool = replace(POOL, vault=V3, tokens=TOKENS, aggregate_fee=ONE // 2)
    b0, b1 = pool.balances
    swap = log(
        "Swap(address,address,address,uint256,uint256,uint256,uint256)", "aa", *TOKENS,
        types="uint256,uint256,uint256,uint256", values=(1000, 7, 10**16, 11),
    )  # fmt: skip
    assert follow(pool, swap).balances == (b0 + 1000 - 5, b1 - 7)
    kinds = {1: "LiquidityAdded", -1: "LiquidityRemoved"}
    for sign, name in kinds.items():
        entry = log(
            f"{name}(address,address,uint8,uint256,uint256[],uint256[])", "aa", "bb", "01",
            types="uint256,uint256[],uint256[]", values=(1, (500, 600), (0, 9)),
        )  # fmt: skip
        assert follow(pool, entry).balances == (b0 + sign * 500, b1 + sign * 600 - 4)
    with pytest.raises(UnknownStateError, match="aggregate_fee is None"):
        follow(replace(pool, aggregate_fee=None), swap)
    with pytest.raises(UnknownStateError, match="rates is"):
        follow(replace(pool, rates=(ONE, ONE + 1)), swap)
    share = log("AggregateSwapFeePercentageChanged(address,uint256)", "aa", types="uint256", values=(ONE,))
    assert follow(pool, share).aggregate_fee == ONE
