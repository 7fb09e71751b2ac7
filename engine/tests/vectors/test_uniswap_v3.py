"""Uniswap V3 against what QuoterV2 answered on chain, and properties over real whole tick maps.

The recorded quotes run from 1 unit to 2**255 - 1, so they end in the first step as well as at the last
tick of the map: an edge of a bitmap word left out, or one rounding turned, changes them.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mev_engine.amm.concentrated import (
    MAX_SQRT_PRICE,
    MAX_TICK,
    MIN_SQRT_PRICE,
    MIN_TICK,
    Step,
    Swap,
    extreme_price,
    next_price_from_input,
    next_price_from_output,
    sqrt_price_at_tick,
    tick_at_sqrt_price,
    tick_factors,
)
from mev_engine.amm.errors import SwapRevertedError, UnknownStateError
from mev_engine.amm.uniswap_v3 import V3Pool, exact_in, exact_out, marginal_price, swap, swap_step

QUOTED = {
    "uniswap": (
        "tests/fixtures/chain_data/1/uniswap_v3_wbtc_weth_block_24407242.json",
        "tests/golden/data/tests/uniswap/v3/test_uniswap_v3_onchain_parity/"
        "test_cached_calculations_v3_wbtc_weth.json",
        "WBTC",
    ),
    "aerodrome": (
        "tests/fixtures/chain_data/8453/aerodrome_v3_cbeth_weth_block_46875151.json",
        "tests/golden/data/tests/aerodrome/test_aerodrome_v3_onchain_parity/"
        "test_aerodrome_v3_cbeth_weth_quote.json",
        "cbETH",
    ),
}
amounts = st.integers(0, 110).flatmap(lambda bits: st.integers(1, 2**bits))


@pytest.fixture(scope="module")
def vectors(data_dir: Path) -> dict[str, Any]:
    with gzip.open(data_dir / "vectors/degenbot/fixtures_and_golden.json.gz", "rt") as file:
        return dict(json.load(file))


@pytest.fixture(scope="module")
def maps(data_dir: Path) -> list[V3Pool]:
    """The pools whose whole tick map is given: Uniswap V3 and one of PancakeSwap."""
    with gzip.open(data_dir / "ticks/v3_full_tick_maps.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    return [from_row(row) for row in rows if row["complete"]]


def from_row(row: dict[str, Any]) -> V3Pool:
    return V3Pool(
        sqrt_price_x96=int(row["sqrt_price_x96"]),
        tick=row["tick"],
        liquidity=int(row["liquidity"]),
        tick_spacing=row["tick_spacing"],
        fee_pips=row["fee_ppm"],
        ticks={tick: int(net) for tick, net in row["ticks"]},
    )


def words(ticks: dict[int, int], spacing: int) -> tuple[int, int]:
    """The bitmap words that hold these ticks, as ticks."""
    return min(ticks) // spacing // 256 * 256 * spacing, (max(ticks) // spacing | 255) * spacing


@pytest.mark.data
@pytest.mark.parametrize("name", QUOTED)
def test_quotes_recorded_on_chain(vectors: dict[str, Any], name: str) -> None:
    fixture, golden, symbol0 = QUOTED[name]
    state, ticks = vectors[fixture]["scalars"], vectors[fixture]["tick_data"]
    nets = {int(tick): values[1] for tick, values in ticks.items()}
    # Aerodrome's fixture holds single bitmap words: what its swaps need, and nothing is guessed beyond
    known = words(nets, state["tick_spacing"]) if sum(nets.values()) else (MIN_TICK, MAX_TICK)
    pool = V3Pool(
        sqrt_price_x96=state["sqrt_price_x96"],
        tick=state["tick"],
        liquidity=state["liquidity"],
        tick_spacing=state["tick_spacing"],
        fee_pips=state["fee"],
        ticks=nets,
        known=known,
    )
    entries, reached_the_end = vectors[golden]["entries"], 0
    for key, answer in entries.items():
        _, function, pair, amount = key.split("|")
        zero_for_one = pair.startswith(f"{symbol0}->")
        if function == "quoteExactInputSingle":
            result = exact_in(pool, int(amount), zero_for_one=zero_for_one)
            assert result.amount_out == answer["value"], key
        else:
            # recorded with an explicit limit: the quoter then gives what there is
            limit = extreme_price(zero_for_one=zero_for_one)
            result = exact_out(pool, int(amount), zero_for_one=zero_for_one, limit=limit)
            assert result.amount_in == answer["value"], key
            if result.amount_out < int(amount):
                reached_the_end += 1
                with pytest.raises(SwapRevertedError, match="amountReceived"):
                    exact_out(pool, int(amount), zero_for_one=zero_for_one)
    print(f"{name}: {len(entries)} quotes equal, {reached_the_end} of them emptied the pool")
    assert entries


@pytest.mark.data
def test_a_partial_map_is_refused_by_name(data_dir: Path) -> None:
    # would pass if the sums were not checked: a swap past the missing ticks would then be answered wrongly
    with gzip.open(data_dir / "ticks/v3_full_tick_maps.jsonl.gz", "rt") as file:
        partial = [row for row in map(json.loads, file) if not row["complete"]]
    for row in partial:
        with pytest.raises(ValueError, match=r"not whole|not of one block|liquidity above tick"):
            from_row(row)
    assert partial


# the literals of TickMath.getSqrtRatioAtTick, in its order
TICK_FACTORS = """
fffcb933bd6fad37aa2d162d1a594001 fff97272373d413259a46990580e213a fff2e50f5f656932ef12357cf3c7fdcc
ffe5caca7e10e4e61c3624eaa0941cd0 ffcb9843d60f6159c9db58835c926644 ff973b41fa98c081472e6896dfb254c0
ff2ea16466c96a3843ec78b326b52861 fe5dee046a99a2a811c461f1969c3053 fcbe86c7900a88aedcffc83b479aa3a4
f987a7253ac413176f2b074cf7815e54 f3392b0822b70005940c7a398e4b70f3 e7159475a2c29b7443b29c7fa6e889d9
d097f3bdfd2022b8845ad8f792aa5825 a9f746462d870fdf8a65dc1f90e061e5 70d869a156d2a1b890bb3df62baf32f7
31be135f97d08fd981231505542fcfa6 9aa508b5b7a84e1c677de54f3e99bc9 5d6af8dedb81196699c329225ee604
2216e584f5fa1ea926041bedfe98 48a170391f7dc42444e8fa2
"""


def test_tick_math_ends_where_the_contract_does() -> None:
    # a factor's last unit hardly shows in any price, so the derived factors are held to the contract's own
    assert [f"{factor:x}" for factor in tick_factors()] == TICK_FACTORS.split()
    assert sqrt_price_at_tick(MIN_TICK) == MIN_SQRT_PRICE
    assert sqrt_price_at_tick(MAX_TICK) == MAX_SQRT_PRICE
    for price in (MIN_SQRT_PRICE - 1, MAX_SQRT_PRICE):
        with pytest.raises(SwapRevertedError, match=r"^R$"):
            tick_at_sqrt_price(price)
    with pytest.raises(SwapRevertedError, match=r"^T$"):
        sqrt_price_at_tick(MAX_TICK + 1)


@given(st.integers(MIN_TICK + 1, MAX_TICK - 1))
def test_ticks_and_prices_are_inverse_to_the_unit(tick: int) -> None:
    # the float guess is off by one near a boundary: only the exact comparison settles it
    price = sqrt_price_at_tick(tick)
    assert tick_at_sqrt_price(price) == tick
    assert tick_at_sqrt_price(price - 1) == tick - 1


Q96, Q104 = 2**96, 2**104


@pytest.mark.parametrize(
    ("move", "arguments", "zero_for_one", "price"),
    [
        (next_price_from_input, (Q96, 10**18, 10**17), True, 72025602285694852357767227579),
        (next_price_from_input, (Q96, 10**19, 2**100), True, 624999999995069620),
        (next_price_from_input, (Q96, 1, 2**255 - 1), True, 1),
        (next_price_from_output, (Q96, 10**18, 10**17), True, 71305346262837903834189555302),
        (next_price_from_output, (Q96, 10**18, 10**17), False, 88031291682515930659493278152),
        (next_price_from_output, (Q104, 1024, 262143), True, 77371252455336267181195264),
    ],
)
def test_prices_published_by_v3_core(
    move: Callable[..., int], arguments: tuple[int, int, int], zero_for_one: bool, price: int
) -> None:
    """Expectations of v3-core's own SqrtPriceMath.spec.ts. A price rounded the other way is one unit off,
    which recorded swaps rarely show; the third goes through the form for products beyond 256 bits."""
    assert move(*arguments, zero_for_one=zero_for_one) == price


@given(st.integers(2**32, 2**160 - 1), st.integers(1, 2**128 - 1), amounts)
def test_the_less_precise_price_is_taken_where_the_contract_takes_it(
    price: int, liquidity: int, amount: int
) -> None:
    """SqrtPriceMath with the wrapping arithmetic that it detects overflow by."""
    word, numerator = 2**256, liquidity << 96
    product = amount * price % word
    denominator = (numerator + product) % word
    if product // amount == price and denominator >= numerator:
        expected = -(-numerator * price // denominator)
    else:
        expected = -(-numerator // (numerator // price + amount))
    assert next_price_from_input(price, liquidity, amount, zero_for_one=True) == expected


@pytest.mark.parametrize(
    ("arguments", "step"),
    [
        ((2413, 79887613182836312, 1985041575832132834610021537970, 10, 1872), (2413, 0, 0, 10)),
        ((Q104, Q104 * 11 // 10, 1024, -4, 3000), (Q104 * 11 // 10, 26215, 0, 79)),
        ((Q104, Q104 * 9 // 10, 1024, -263000, 3000), (Q104 * 9 // 10, 1, 26214, 1)),
        (
            (2, 1, 1, 3915081100057732413702495386755767, 1),
            (1, 39614081257132168796771975168, 0, 39614120871253040049813),
        ),
        (
            (
                417332158212080721273783715441582,
                1452870262520218020823638996,
                159344665391607089467575320103,
                -1,
                1,
            ),
            (417332158212080721273783715441581, 1, 1, 1),
        ),
    ],
    ids=["all-fee", "dry-one-for-zero", "dry-zero-for-one", "price-of-1", "capped-output"],
)
def test_steps_published_by_v3_core(arguments: tuple[int, int, int, int, int], step: Step) -> None:
    """Expectations of v3-core's own SwapMath.spec.ts: the corners of one step, each once a bug."""
    assert swap_step(*arguments) == step


def take(pool: V3Pool, amount: int, *, zero_for_one: bool) -> Swap:
    """The pool's own swap of an input: unlike the quoter it may end without taking anything."""
    limit = extreme_price(zero_for_one=zero_for_one)
    return swap(pool, zero_for_one=zero_for_one, amount=amount, sqrt_price_limit_x96=limit)


def check_laws(pool: V3Pool, amount: int, more: int, *, zero_for_one: bool) -> None:
    """Laws of the contract's rounding, always against the trader. A rounding turned breaks one of them."""
    one = take(pool, amount, zero_for_one=zero_for_one)
    both = take(pool, amount + more, zero_for_one=zero_for_one)
    assert one.amount_in <= amount
    assert one.amount_out <= both.amount_out
    rate = marginal_price(pool, zero_for_one=zero_for_one)
    assert one.amount_out <= one.amount_in * rate * (1 + 1e-9)
    if one.amount_out:
        back = exact_out(pool, one.amount_out, zero_for_one=zero_for_one)
        # the contract goes on to the stop when what it rounds down to there is just what was asked
        price, end = back.sqrt_price_x96, extreme_price(zero_for_one=zero_for_one)
        at_stop = price in (end, sqrt_price_at_tick(tick_at_sqrt_price(price)))
        assert back.amount_in <= one.amount_in or at_stop
    pool_after = pool.after(one)  # checks tick against price and liquidity against the map
    if one.amount_out:
        returned = take(pool_after, one.amount_out, zero_for_one=not zero_for_one)
        assert returned.amount_out <= one.amount_in
    if one.sqrt_price_x96 != extreme_price(zero_for_one=zero_for_one):
        rest = take(pool_after, more, zero_for_one=zero_for_one)
        assert one.amount_out + rest.amount_out <= both.amount_out


@pytest.mark.data
@settings(deadline=None, max_examples=100)
@given(index=st.integers(0, 10**6), amount=amounts, more=amounts, zero_for_one=st.booleans())
def test_laws_on_real_maps(
    maps: list[V3Pool], index: int, amount: int, more: int, zero_for_one: bool
) -> None:
    check_laws(maps[index % len(maps)], amount, more, zero_for_one=zero_for_one)


@settings(deadline=None, max_examples=100)
@given(data=st.data(), amount=amounts, more=amounts, zero_for_one=st.booleans())
def test_laws_at_the_ends(data: st.DataObject, amount: int, more: int, zero_for_one: bool) -> None:
    """One position anywhere, up to the contract's greatest liquidity: products overflow 256 bits here."""
    spacing = data.draw(st.sampled_from([50, 200, 16383]))
    bound = MAX_TICK // spacing
    lower = data.draw(st.integers(-bound, bound - 1)) * spacing
    upper = data.draw(st.integers(lower // spacing + 1, bound)) * spacing
    liquidity = data.draw(st.integers(1, (2**128 - 1) // (2 * bound + 1)))
    price = data.draw(st.integers(sqrt_price_at_tick(lower), sqrt_price_at_tick(upper) - 1))
    pool = V3Pool(
        sqrt_price_x96=price,
        tick=tick_at_sqrt_price(price),
        liquidity=liquidity,
        tick_spacing=spacing,
        fee_pips=data.draw(st.sampled_from([0, 100, 3000, 999_999])),
        ticks={lower: liquidity, upper: -liquidity},
    )
    check_laws(pool, amount, more, zero_for_one=zero_for_one)


@pytest.mark.data
@settings(deadline=None, max_examples=100)
@given(index=st.integers(0, 10**6), amount=amounts, zero_for_one=st.booleans(), reach=st.integers(1, 2000))
def test_a_window_answers_as_the_whole_map_or_not_at_all(
    maps: list[V3Pool], index: int, amount: int, zero_for_one: bool, reach: int
) -> None:
    # a window clamped silently would end early, or step at its own edge and round once more
    whole = maps[index % len(maps)]
    known = max(whole.tick - reach, MIN_TICK), min(whole.tick + reach, MAX_TICK)
    window = V3Pool(
        sqrt_price_x96=whole.sqrt_price_x96,
        tick=whole.tick,
        liquidity=whole.liquidity,
        tick_spacing=whole.tick_spacing,
        fee_pips=whole.fee_pips,
        ticks={t: net for t, net in whole.ticks.items() if known[0] <= t <= known[1]},
        known=known,
    )
    expected = take(whole, amount, zero_for_one=zero_for_one)
    try:
        assert take(window, amount, zero_for_one=zero_for_one) == expected
    except UnknownStateError:
        end = sqrt_price_at_tick(known[0] if zero_for_one else known[1])
        assert expected.sqrt_price_x96 <= end if zero_for_one else expected.sqrt_price_x96 >= end


@pytest.mark.data
def test_reverts_carry_the_contracts_reason(maps: list[V3Pool]) -> None:
    # each require of UniswapV3Pool.swap: without it the walk would run the wrong way or not at all
    pool = maps[0]
    for amount, zero_for_one, limit, reason in (
        (0, True, MIN_SQRT_PRICE + 1, "AS"),
        (1, True, pool.sqrt_price_x96, "SPL"),
        (1, True, MIN_SQRT_PRICE, "SPL"),
        (1, False, pool.sqrt_price_x96, "SPL"),
        (1, False, MAX_SQRT_PRICE, "SPL"),
    ):
        with pytest.raises(SwapRevertedError, match=f"^{reason}$"):
            swap(pool, zero_for_one=zero_for_one, amount=amount, sqrt_price_limit_x96=limit)
    with pytest.raises(SwapRevertedError, match="toInt256"):
        exact_in(pool, 2**255, zero_for_one=True)
