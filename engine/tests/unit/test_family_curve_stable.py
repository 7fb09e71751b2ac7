"""Curve stableswap in kernels against the exact references, random and real pools, and the pools' logs."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import encode
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from mev_engine.amm import curve_logs, curve_stable, curve_stable_kernels
from mev_engine.amm.abi import topic
from mev_engine.amm.curve_stable import CurveStablePool, Product, exact_in, exact_out
from mev_engine.amm.errors import UnknownStateError

from .probe import quoter, reference, responder, slope_and_bend

RESPOND = responder(curve_stable_kernels.respond)
QUOTE = quoter(curve_stable_kernels.quote)
LEAST = quoter(curve_stable_kernels.least)
params, words = curve_stable_kernels.params, curve_stable_kernels.words
POOL = CurveStablePool((10**24, 10**12), (10**18, 10**30), amp=20_000, fee=4 * 10**6, lp_supply=10**24)


@st.composite
def pools(
    draw: st.DrawFn, low: int = 10**6, high: int = 10**10, decimals: Any = (6, 8, 18)
) -> CurveStablePool:
    """Two to four coins with `low` to `high` thousandths of a token each."""
    precision = draw(st.sampled_from([1, 100]))
    n = draw(st.integers(2, 4))
    digits = [draw(st.sampled_from(decimals)) for _ in range(n)]
    return CurveStablePool(
        balances=tuple(draw(st.integers(low, high)) * 10**d // 1000 for d in digits),
        rates=tuple(10 ** (36 - d) * draw(st.integers(900, 3000)) // 1000 for d in digits),
        amp=precision * draw(st.sampled_from([1, 10, 85, 200, 2000, 5000])),
        fee=draw(st.integers(0, 10**8)),
        a_precision=precision,
        fee_after_rate=precision == 1,
        kept=draw(st.sampled_from([0, 1])),
        reverts_unconverged=precision == 100,
        product=Product.EACH if n > 2 else draw(st.sampled_from(Product)),
    )


def units(pool: CurveStablePool) -> float:
    """What the contract's integers are worth, raw units of coin 1.

    D is right to a unit of 1e-18, which counts as often as the coins are apart; so is y, and fee and
    conversion round once each.
    """
    xp = curve_stable.normalised(pool)
    return 3 + 10**18 / pool.rates[1] * (5 + 2 * max(xp) / min(xp))


@settings(max_examples=400, deadline=None)
@given(pool=pools(), part=st.floats(1e-9, 10.0))
def test_the_float_answer_is_the_exact_one(pool: CurveStablePool, part: float) -> None:
    # fails if a rate, the fee or g is wrong, or the closed form loses digits in small trades or at the cliff
    x = int(pool.balances[0] * part) + 1
    exact = reference(exact_in, pool, 0, 1, x)
    assume(exact is not None)
    y, slope, _ = RESPOND(params(pool), 0, 1, float(x))
    assert y == pytest.approx(exact, rel=0.0, abs=units(pool) + 2 * slope + 1e-13 * y)


@settings(max_examples=200, deadline=None)
@given(pool=pools(low=10**9, high=10**12, decimals=(18,)), part=st.floats(1e-2, 3.0))
def test_slope_and_bend_are_the_exact_curves(pool: CurveStablePool, part: float) -> None:
    # fails if a derivative is wrong: by the reference's price at 0, by finite differences beyond
    assume(reference(exact_in, pool, 0, 1, pool.balances[0] // 100) is not None)  # D may not converge
    nothing, price, _ = RESPOND(params(pool), 0, 1, 0.0)
    assert nothing == 0.0
    assert price == pytest.approx(curve_stable.marginal_price(pool, 0, 1), rel=1e-12)
    x = int(pool.balances[0] * part)
    _, slope, bend = RESPOND(params(pool), 0, 1, float(x))
    # at the cliff the curve bends on the scale of the whole pool over A: h has to be far below it
    total = sum(curve_stable.normalised(pool)) / pool.rates[0] * 10**18
    h = int(min(x, total) / 1000 / (1 + pool.amp / pool.a_precision / 10))
    assume(None not in [reference(exact_in, pool, 0, 1, v) for v in (x - h, x, x + h)])
    slope_seen, bend_seen = slope_and_bend(lambda v: exact_in(pool, 0, 1, v), x, h)
    noise = units(pool)
    assert slope == pytest.approx(slope_seen, rel=1e-3, abs=noise / h)
    assert bend == pytest.approx(bend_seen, rel=1e-2, abs=4 * noise / h**2 / slope)


def test_what_a_pool_cannot_pay() -> None:
    # fails if an answer is NaN in an empty or unusable pool, or above the balance at any input
    for balances in ((0, 10**12), (10**24, 0), (0, 0)):
        assert RESPOND(params(replace(POOL, balances=balances)), 0, 1, 1e20) == (0.0, 0.0, 0.0)
    for power in range(20, 78):
        y, slope, _ = RESPOND(params(POOL), 0, 1, 10.0**power)
        assert y <= POOL.balances[1] * (1 + 1e-15)
    assert slope < 1e-60


amounts = st.one_of(
    st.integers(0, 10),
    st.integers(0, 256).flatmap(lambda bits: st.integers(max(2**bits - 3, 0), min(2**bits + 3, 2**256 - 1))),
)


@settings(max_examples=1500, deadline=None)
@given(pool=pools(low=0, high=10**30), amount=amounts)
@example(replace(POOL, rates=(2**255, 10**18)), 10**24)
@example(replace(POOL, balances=(2**256 - 1, 1)), 1)
@example(replace(POOL, balances=(0, 0), kept=0), 1)
def test_the_kernel_is_the_contract_at_any_amount(pool: CurveStablePool, amount: int) -> None:
    # fails on a rounding, an overflow or a Newton step that the kernel treats otherwise than the contract
    assert QUOTE(words(pool), 0, 1, amount) == reference(exact_in, pool, 0, 1, amount)
    LEAST(words(pool), 0, 1, amount)  # fails on a division by zero, as the next does, or on a NaN
    RESPOND(params(pool), 0, 1, float(amount))


@settings(max_examples=2000, deadline=None)
@given(pool=pools(), part=st.floats(0, 3.0))
def test_the_kernel_is_the_contract_at_usual_amounts(pool: CurveStablePool, part: float) -> None:
    # fails as above; and where the least input isn't one that buys the output, or one less does too
    y = check(pool, int(pool.balances[0] * part) + 1, 0, 1)
    if y:
        least = LEAST(words(pool), 0, 1, y)
        assert least is not None
        assert exact_in(pool, 0, 1, least) >= y
        assert least == 1 or (reference(exact_in, pool, 0, 1, least - 1) or 0) < y


def check(pool: CurveStablePool, x: int, i: int, j: int) -> int | None:
    y = QUOTE(words(pool), i, j, x)
    assert y == reference(exact_in, pool, i, j, x)
    return y


def real_pools(data_dir: Path) -> list[CurveStablePool]:
    """Plain pools and metapools of the snapshots. The data doesn't say A's precision: 100 for all here."""
    path = data_dir / "pools" / "curve_eth_2023-09_10_three_snapshots.jsonl.gz"
    pools = []
    for line in gzip.decompress(path.read_bytes()).decode().splitlines():
        state = json.loads(line)
        if "offpeg_fee_multiplier" in state or "underlying_coins" in state or state["name"] == "pax":
            continue  # a fee by the balances, and lending rates that the data gives in parts or not at all
        coins, admin = state["coins"], state.get("admin_balances", [0] * 4)
        rates = [10 ** (36 - coin["decimals"]) for coin in coins]
        if "base_virtual_price" in state:
            rates[-1] = int(state["base_virtual_price"])
        held = state.get("balances") or [
            int(coin["pool_balance"]) - int(a) for coin, a in zip(coins, admin, strict=False)
        ]
        amp = curve_stable.ramped_amp(
            state["initial_A"],
            state["future_A"],
            state["initial_A_time"],
            state["future_A_time"],
            state["timestamp"],
        )
        balances = tuple(int(balance) for balance in held)
        pools.append(CurveStablePool(balances, tuple(rates), max(amp, 100), state["fee_1e10"]))
    return pools


@pytest.mark.data
def test_real_pools(data_dir: Path) -> None:
    # fails if real scales (1e3 to 1e8 tokens, three coins, A of 10 to 2000) bring out what random ones hide
    pools = real_pools(data_dir)
    answers = 0
    for pool in pools:
        for j in range(1, len(pool.balances)):
            for part in (1e-6, 1e-3, 0.1, 1.0):
                x = int(pool.balances[0] * part) + 1
                exact = check(pool, x, 0, j)
                assert exact is not None
                y, slope, _ = RESPOND(params(pool), 0, j, float(x))
                assert y == pytest.approx(exact, rel=1e-12, abs=2 * slope + 100)
                answers += 1
    print(f"{answers} answers of {len(pools)} real pools")
    assert answers >= 250


# --- Logs


def log(signature: str, types: str, values: tuple[Any, ...]) -> tuple[list[str], bytes]:
    return [topic(signature), "0x" + "00" * 32], encode(types.split(","), values)


EXCHANGE = "TokenExchange(address,int128,uint256,int128,uint256)"
TWO = "address,uint256[2],uint256[2]"


def follow(pool: CurveStablePool, entry: tuple[list[str], bytes]) -> CurveStablePool:
    after: CurveStablePool = curve_logs.EVENTS[entry[0][0]](pool, entry)
    return after


def test_a_pool_follows_its_logs() -> None:
    # fails if a topic is wrong, the admin's share stays in the pool, or D isn't compared
    dy, after = curve_stable.exchange(POOL, 0, 1, 10**21)
    sold = log(EXCHANGE, "int128,uint256,int128,uint256", (0, 10**21, 1, dy))
    assert follow(POOL, sold) == after
    admin = replace(POOL, admin_fee=5 * 10**9)
    deposit = (10**22, 10**10)
    d = curve_stable.get_d(
        curve_stable.normalised(replace(POOL, balances=(101 * 10**22, 101 * 10**10))), POOL.amp, 100
    )
    types = "uint256[2],uint256[2],uint256,uint256"
    added = log(f"AddLiquidity({TWO},uint256,uint256)", types, (deposit, (2000, 30), d, 7))
    state = follow(admin, added)
    assert state.balances == (101 * 10**22 - 1000, 101 * 10**10 - 15)
    assert state.lp_supply == 7
    taken = log(f"RemoveLiquidityImbalance({TWO},uint256,uint256)", types, (deposit, (2000, 30), 1, 7))
    with pytest.raises(UnknownStateError, match="invariant is 1, the state gives"):
        follow(admin, taken)
    even = log(f"RemoveLiquidity({TWO},uint256)", "uint256[2],uint256[2],uint256", (deposit, (0, 0), 9))
    assert follow(admin, even) == replace(admin, balances=(99 * 10**22, 99 * 10**10), lp_supply=9)
    fee = log("NewFee(uint256,uint256)", "uint256,uint256", (10**7, 10**9))
    assert follow(POOL, fee) == replace(POOL, fee=10**7, admin_fee=10**9)
    stop = log("StopRampA(uint256,uint256)", "uint256,uint256", (15_000, 1))
    assert follow(POOL, stop).amp == 15_000


@pytest.mark.parametrize(
    ("pool", "entry", "why"),
    [
        (POOL, log(EXCHANGE, "int128,uint256,int128,uint256", (0, 10**21, 1, 5)), "tokens_bought is 5"),
        (
            replace(POOL, kept=0),
            log(EXCHANGE, "int128,uint256,int128,uint256", (0, 10**21, 1, 5)),
            "tokens_bought is 5",
        ),
        (POOL, log("RampA(uint256,uint256,uint256,uint256)", "uint256", (1,)), "A moves"),
        (POOL, log("RemoveLiquidityOne(address,uint256,uint256)", "uint256", (1,)), "neither the coin"),
        (
            POOL,
            log("TokenExchangeUnderlying(address,int128,uint256,int128,uint256)", "uint256", (1,)),
            "own coin amounts",
        ),
    ],
)
def test_logs_that_do_not_tell_the_state(
    pool: CurveStablePool, entry: tuple[list[str], bytes], why: str
) -> None:
    # fails if a state is guessed where a rate moved or the log is silent
    with pytest.raises(UnknownStateError, match=why + ".*read the pool anew"):
        follow(pool, entry)


def test_the_least_input_is_the_references() -> None:
    # fails if the search starts on the wrong side of a cliff, or its estimate has the wrong coin
    for part in (10**-6, 0.01, 0.5, 0.9, 0.99, 0.999):
        y = int(POOL.balances[1] * part)
        assert LEAST(words(POOL), 0, 1, y) == exact_out(POOL, 0, 1, y)
    assert LEAST(words(POOL), 0, 1, POOL.balances[1]) is None
