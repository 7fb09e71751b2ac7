"""Uniswap V4 against what V4Quoter answered on chain, and real multi-hop paths through V2, V3 and V4.

The recorded paths go through pools with a protocol fee on top of the LP fee; the recorded quotes empty
the pool in both directions and revert where it does not hold the amount.
"""

from __future__ import annotations

import gzip
import json
from bisect import bisect_right
from pathlib import Path
from typing import Any

import pytest
from eth_utils.crypto import keccak
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mev_engine.amm import uniswap_v2, uniswap_v3, uniswap_v4
from mev_engine.amm.concentrated import MAX_TICK, Swap, extreme_price, sqrt_price_at_tick, tick_at_sqrt_price
from mev_engine.amm.errors import SwapRevertedError
from mev_engine.amm.uniswap_v3 import V3Pool
from mev_engine.amm.uniswap_v4 import V4Pool, exact_in, exact_out, marginal_price, swap, swap_fee

amounts = st.integers(0, 110).flatmap(lambda bits: st.integers(1, 2**bits))


@pytest.fixture(scope="module")
def vectors(data_dir: Path) -> dict[str, Any]:
    with gzip.open(data_dir / "vectors/degenbot/fixtures_and_golden.json.gz", "rt") as file:
        return dict(json.load(file))


@pytest.fixture(scope="module")
def eth_usdc(vectors: dict[str, Any]) -> V4Pool:
    fixture = vectors["tests/fixtures/chain_data/1/uniswap_v4_eth_usdc_block_24407242.json"]
    state = fixture["scalars"]
    return V4Pool(
        sqrt_price_x96=state["sqrt_price_x96"],
        tick=state["tick"],
        liquidity=state["liquidity"],
        tick_spacing=state["tick_spacing"],
        lp_fee=state["lp_fee"],
        protocol_fee=state["protocol_fee_one_for_zero"] << 12 | state["protocol_fee_zero_for_one"],
        ticks={int(tick): values[1] for tick, values in fixture["tick_data"].items()},
    )


@pytest.mark.data
def test_quotes_recorded_on_chain(vectors: dict[str, Any], eth_usdc: V4Pool) -> None:
    folder = "tests/golden/data/tests/uniswap/v4/test_uniswap_v4_onchain_parity/"
    entries = vectors[folder + "test_cached_calculations_v4_eth_usdc.json"]["entries"]
    selector = keccak(text="NotEnoughLiquidity(bytes32)")[:4].hex()
    reverted = 0
    for key, answer in entries.items():
        _, function, pair, amount = key.split("|")
        exact_input = function == "quoteExactInputSingle"
        quote = exact_in if exact_input else exact_out
        zero_for_one = pair.startswith("ETH->")
        if answer.get("reverted"):
            reverted += 1
            assert selector in answer["message"]
            with pytest.raises(SwapRevertedError, match=r"^NotEnoughLiquidity$"):
                quote(eth_usdc, int(amount), zero_for_one=zero_for_one)
        else:
            result = quote(eth_usdc, int(amount), zero_for_one=zero_for_one)
            assert (result.amount_out if exact_input else result.amount_in) == answer["value"], key
    print(f"V4: {len(entries)} quotes equal, {reverted} of them reverts")
    assert reverted
    assert len(entries) > reverted


def concentrated(state: dict[str, Any]) -> V3Pool | V4Pool:
    """A leg's pool. Where ticks and liquidity are of different blocks (it names both), only the range
    around the price is taken, which the liquidity itself vouches for; to leave it is an error."""
    ticks = {int(tick): int(values["liquidity_net"]) for tick, values in state["tick_data"].items()}
    order = sorted(ticks)
    above = bisect_right(order, state["tick"])
    shared: dict[str, Any] = {
        "sqrt_price_x96": int(state["sqrt_price_x96"]),
        "tick": state["tick"],
        "liquidity": int(state["liquidity"]),
        "tick_spacing": state["tick_spacing"],
        "ticks": ticks,
    }
    if sum(ticks[t] for t in order[:above]) != shared["liquidity"]:
        shared["known"] = order[above - 1], order[above]
        shared["ticks"] = {t: ticks[t] for t in shared["known"]}
    if state["family"] == "uniswap_v4":
        return V4Pool(lp_fee=state["fee_currency0"], protocol_fee=state["protocol_fee"], **shared)
    return V3Pool(fee_pips=state["fee_token0"], **shared)


def reserves(state: dict[str, Any], *, zero_for_one: bool) -> tuple[int, int]:
    pair = int(state["reserve0"]), int(state["reserve1"])
    return pair if zero_for_one else pair[::-1]


def leg(state: dict[str, Any], amount: int, *, zero_for_one: bool) -> int:
    if "reserve0" in state:
        return uniswap_v2.get_amount_out(amount, *reserves(state, zero_for_one=zero_for_one), 997, 1000)
    pool = concentrated(state)
    if isinstance(pool, V4Pool):
        return exact_in(pool, amount, zero_for_one=zero_for_one).amount_out
    return uniswap_v3.exact_in(pool, amount, zero_for_one=zero_for_one).amount_out


def legs(case: dict[str, Any]) -> list[tuple[dict[str, Any], bool]]:
    return [(case["pools"][hop["pool"]], hop["zero_for_one"]) for hop in case["path"]]


@pytest.mark.data
def test_path_v4_v4_v2(vectors: dict[str, Any]) -> None:
    """Two pools with different protocol fees, then a V2 pair asked for one step more than it is paid."""
    case = vectors["tests/fixtures/path182449_v4v4v2_block25731019.json"]
    recorded = case["recorded_solve"]
    amount = int(recorded["optimal_input"])
    *v4_legs, (v2_state, v2_side) = legs(case)
    for (state, zero_for_one), expected in zip(v4_legs, recorded["hop_outputs"], strict=False):
        amount = leg(state, amount, zero_for_one=zero_for_one)
        assert amount == int(expected)
    assert leg(v2_state, amount, zero_for_one=v2_side) == int(recorded["v2_actual"])
    with pytest.raises(ValueError, match=f"^{recorded['sim_bucket']}$"):
        uniswap_v2.swap(
            *reserves(v2_state, zero_for_one=v2_side), amount, int(recorded["v2_predicted"]), 997, 1000
        )
    print("path v4-v4-v2: 3 hops equal, and the recorded revert")


@pytest.mark.data
def test_path_v2_v4_v3_runs_dry(vectors: dict[str, Any]) -> None:
    """On chain the V4 pool ran out of liquidity; the recorded prediction was what it had, for less input."""
    case = vectors["tests/fixtures/path5000_v2v4v3_block25704509.json"]
    recorded = case["recorded_solve"]
    first, (v4_state, v4_side), last = legs(case)
    outputs = [int(amount) for amount in recorded["hop_outputs"]]
    assert leg(first[0], int(recorded["optimal_input"]), zero_for_one=first[1]) == outputs[0]
    with pytest.raises(SwapRevertedError, match=r"^NotEnoughLiquidity$"):
        leg(v4_state, outputs[0], zero_for_one=v4_side)
    pool = concentrated(v4_state)
    assert isinstance(pool, V4Pool)
    partial = swap(
        pool,
        zero_for_one=v4_side,
        amount=outputs[0],
        sqrt_price_limit_x96=extreme_price(zero_for_one=v4_side),
    )
    assert partial.amount_in < outputs[0]
    assert partial.amount_out == outputs[1]
    assert leg(last[0], outputs[1], zero_for_one=last[1]) == outputs[2]
    print(f"path v2-v4-v3: V2 and V3 hops equal, V4 took {partial.amount_in} of {outputs[0]} and is empty")


@pytest.mark.data
def test_v4_hop_with_protocol_fee(vectors: dict[str, Any]) -> None:
    # 500 pips of protocol fee on 3000 of LP fee: without it the output is another
    case = vectors["tests/fixtures/v4_crossing_9a5c1d2f_block25673381.json"]
    hop = case["v4_hop"]
    state, _ = legs(case)[hop["hop_index"]]
    assert leg(state, int(hop["input"]), zero_for_one=hop["zero_for_one"]) == int(hop["onchain_actual"])
    state = {**state, "protocol_fee": 0}
    assert leg(state, int(hop["input"]), zero_for_one=hop["zero_for_one"]) != int(hop["onchain_actual"])
    print("V4 hop with protocol fee: equal")


@st.composite
def positions(draw: st.DrawFn) -> dict[str, Any]:
    """Two nested positions of any size anywhere, the price inside, at a tick, or at an edge of a word."""
    spacing = draw(st.sampled_from([50, 60, 200]))
    bound = MAX_TICK // spacing
    outer = sorted(draw(st.lists(st.integers(-bound, bound), min_size=2, max_size=2, unique=True)))
    inner = sorted(draw(st.lists(st.integers(*outer), min_size=2, max_size=2, unique=True)))
    nets: dict[int, int] = {}
    for lower, upper in (outer, inner):
        liquidity = draw(st.integers(1, (2**127 - 1) // (2 * bound + 1)))
        nets[lower * spacing] = nets.get(lower * spacing, 0) + liquidity
        nets[upper * spacing] = nets.get(upper * spacing, 0) - liquidity
    lowest, highest = outer[0] * spacing, outer[1] * spacing
    edge = min(
        max(draw(st.integers(lowest, highest - 1)) // (256 * spacing) * 256 * spacing, lowest), highest - 1
    )
    price = draw(
        st.one_of(
            st.integers(sqrt_price_at_tick(lowest), sqrt_price_at_tick(highest) - 1),
            st.sampled_from([sqrt_price_at_tick(inner[0] * spacing), sqrt_price_at_tick(edge)]),
        )
    )
    tick = tick_at_sqrt_price(price)
    return {
        "sqrt_price_x96": price,
        "tick": tick,
        "liquidity": sum(net for t, net in nets.items() if t <= tick),
        "tick_spacing": spacing,
        "ticks": nets,
    }


@settings(deadline=None, max_examples=200)
@given(
    state=positions(),
    amount=amounts,
    output=st.booleans(),
    zero_for_one=st.booleans(),
    lp_fee=st.integers(0, 900_000),
    protocol=st.integers(0, 1000),
)
def test_a_v4_swap_is_a_v3_swap_at_the_summed_fee(
    state: dict[str, Any], amount: int, output: bool, zero_for_one: bool, lp_fee: int, protocol: int
) -> None:
    """Two step functions written apart, after two contracts: a slip in one shows as a difference."""
    pool = V4Pool(lp_fee=lp_fee, protocol_fee=protocol if zero_for_one else protocol << 12, **state)
    combined = swap_fee(pool, zero_for_one=zero_for_one)
    # rounded up, and in full one fee after the other: the protocol's share is not charged its own fee
    assert combined == -(-(10**6 * (lp_fee + protocol) - lp_fee * protocol) // 10**6)
    twin = V3Pool(fee_pips=combined, **state)
    limit = extreme_price(zero_for_one=zero_for_one)
    signed = -amount if output else amount

    def run(module: Any, of: V3Pool | V4Pool) -> Swap | str:
        try:
            result: Swap = module.swap(
                of, zero_for_one=zero_for_one, amount=signed, sqrt_price_limit_x96=limit
            )
        except SwapRevertedError as error:
            return str(error)
        return result

    v4, v3 = run(uniswap_v4, pool), run(uniswap_v3, twin)
    assume(v3 != "SPL")  # the price lies at the limit
    if v4 == "SafeCastOverflow":
        assert isinstance(v3, Swap)
        assert max(v3.amount_in, v3.amount_out) >= 2**127
    else:
        assert v4 == v3


@pytest.mark.data
@settings(deadline=None, max_examples=50)
@given(amount=amounts, zero_for_one=st.booleans())
def test_laws_on_the_real_map(eth_usdc: V4Pool, amount: int, zero_for_one: bool) -> None:
    # rounding goes against the trader: turned anywhere, a round trip pays or the inverse asks for more
    there = exact_in(eth_usdc, amount, zero_for_one=zero_for_one)
    assert there.amount_out <= amount * marginal_price(eth_usdc, zero_for_one=zero_for_one) * (1 + 1e-9)
    after = eth_usdc.after(there)  # checks tick against price and liquidity against the map
    if there.amount_out:
        back = exact_out(eth_usdc, there.amount_out, zero_for_one=zero_for_one)
        # exact output goes on to the stop when what it rounds down to there is just what was asked
        at_stop = sqrt_price_at_tick(tick_at_sqrt_price(back.sqrt_price_x96)) == back.sqrt_price_x96
        assert back.amount_in <= amount or at_stop
        assert exact_in(after, there.amount_out, zero_for_one=not zero_for_one).amount_out <= amount


@pytest.mark.data
def test_what_the_manager_refuses(vectors: dict[str, Any], eth_usdc: V4Pool) -> None:
    # each check stands alone in Pool.swap; without it the walk would give a number
    price, low = eth_usdc.sqrt_price_x96, extreme_price(zero_for_one=True)
    for amount, zero_for_one, limit, reason in (
        (0, True, low, "SwapAmountCannotBeZero"),
        (1, True, price, "PriceLimitAlreadyExceeded"),
        (1, False, price, "PriceLimitAlreadyExceeded"),
        (1, True, low - 1, "PriceLimitOutOfBounds"),
        (1, False, extreme_price(zero_for_one=False) + 1, "PriceLimitOutOfBounds"),
    ):
        with pytest.raises(SwapRevertedError, match=f"^{reason}$"):
            swap(eth_usdc, zero_for_one=zero_for_one, amount=amount, sqrt_price_limit_x96=limit)


def build(**changes: Any) -> V4Pool:
    state = {"sqrt_price_x96": 2**96, "tick": 0, "liquidity": 10**18, "tick_spacing": 60}
    return V4Pool(**{"lp_fee": 3000, "ticks": {-60: 10**18, 60: -(10**18)}, **state, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"hooks": "0x" + "0" * 36 + "00c0"},
        {"lp_fee": 0x800000},
        {"protocol_fee": 1001},
        {"protocol_fee": 1001 << 12},
        {"ticks": {-60: 10**18, 60: 1 - 10**18}},
        {"ticks": {-61: 10**18, 60: -(10**18)}},
        {"tick": 1},
        {"sqrt_price_x96": 0},
        {"liquidity": -1},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_pool_that_cannot_be_answered_is_refused_by_name(changes: dict[str, Any]) -> None:
    # a pool with hooks would otherwise be quoted as if it had none
    build()
    with pytest.raises(ValueError, match=next(iter(changes)).removesuffix("_x96")):
        build(**changes)


def test_a_fee_of_the_whole_input() -> None:
    # exact output would divide by zero; exact input is all fee and moves nothing
    pool = build(lp_fee=10**6)
    eaten = exact_in(pool, 10**6, zero_for_one=True)
    assert (eaten.amount_in, eaten.amount_out, eaten.sqrt_price_x96) == (10**6, 0, pool.sqrt_price_x96)
    with pytest.raises(SwapRevertedError, match=r"^InvalidFeeForExactOut$"):
        exact_out(pool, 1, zero_for_one=True)
