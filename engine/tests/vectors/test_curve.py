"""Curve references against the answers recorded on chain, and properties no pool may break."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st
from mev_engine.amm import curve_crypto, curve_stable
from mev_engine.amm.curve_crypto import CurveCryptoPool
from mev_engine.amm.curve_stable import CurveMetapool, CurveStablePool, Product
from mev_engine.amm.errors import SwapRevertedError

State = dict[str, Any]
FIXTURES = "tests/fixtures/chain_data/1/"
GOLDEN = "tests/golden/data/tests/curve/test_curve_onchain_parity/"


@pytest.fixture(scope="module")
def recorded(data_dir: Path) -> dict[str, Any]:
    path = data_dir / "vectors" / "degenbot" / "fixtures_and_golden.json.gz"
    content: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    return content


def compare(name: str, answers: dict[str, State], quote: Callable[[list[str]], int]) -> None:
    """Each answer equal, a recorded revert as a revert. `quote` gets the key's parts, the address first."""
    wrong = []
    for key, answer in answers.items():
        expected = "revert" if answer.get("reverted") else answer["value"]
        try:
            got: int | str = quote(key.split("|"))
        except SwapRevertedError:
            got = "revert"
        if got != expected:
            wrong.append((key, expected, got))
    print(f"{name}: {len(answers) - len(wrong)} of {len(answers)} recorded answers reproduced")
    assert answers, "the data holds no answer"
    assert not wrong


def rates(state: State) -> tuple[int, ...]:
    return tuple(10 ** (36 - token["decimals"]) for token in state["tokens"])


def amp(state: State) -> int:
    """A from the contract's two set points, as `_A()` computes it."""
    return curve_stable.ramped_amp(
        state["initial_a"],
        state["future_a"],
        state["initial_a_time"],
        state["future_a_time"],
        state["block_timestamp"],
    )


def first_generation(state: State) -> CurveStablePool:
    """3pool, alone or as a base pool: A without precision, get_dy's fee after the conversion."""
    return CurveStablePool(
        balances=tuple(state["balances"]),
        rates=rates(state),
        amp=amp(state),
        fee=state["fee"],
        admin_fee=state["admin_fee"],
        a_precision=1,
        fee_after_rate=True,
        reverts_unconverged=False,
        lp_supply=state["lp_token_total_supply"],
    )


def metapool(state: State) -> CurveMetapool:
    own = CurveStablePool(
        balances=tuple(state["balances"]),
        rates=(state["redemption_price"], state["base_virtual_price"]),
        amp=amp(state),
        fee=state["fee"],
        admin_fee=state["admin_fee"],
        lp_supply=state["lp_token_total_supply"],
    )
    return CurveMetapool(own, first_generation(state["base_pool"]), state["base_cache_updated"])


def multiblock_states(fixture: State) -> dict[str, State]:
    """The fixture's states by block, in the form of a single one."""
    states = {}
    for block, moving in fixture["states"].items():
        base = fixture["immutable"]["base_pool"] | {
            name.removeprefix("base_"): value for name, value in moving.items() if name.startswith("base_")
        }
        base["virtual_price"] = moving["base_virtual_price_own"]
        base["block_timestamp"] = moving["block_timestamp"]
        states[block] = fixture["immutable"] | moving | {"base_pool": base}
    return states


def metapool_quote(pool: CurveMetapool, state: State, function: str, pair: str, amount: int) -> int:
    underlying = function == "get_dy_underlying"
    symbols = [token["symbol"] for token in state["tokens_underlying" if underlying else "tokens"]]
    i, j = (symbols.index(symbol) for symbol in pair.split("->"))
    if underlying:
        return curve_stable.exact_in_underlying(pool, state["block_timestamp"], i, j, amount)
    return curve_stable.exact_in(pool.at(state["block_timestamp"]), i, j, amount)


@pytest.mark.data
def test_tripool(recorded: dict[str, Any]) -> None:
    # fails if the fee is taken before the conversion, or A multiplied by the later pools' precision
    state = recorded[f"{FIXTURES}curve_tripool_block_24407242.json"]
    pool = first_generation(state)
    symbols = [token["symbol"] for token in state["tokens"]]

    def swap(key: list[str]) -> int:
        i, j = (symbols.index(symbol) for symbol in key[2].split("->"))
        return curve_stable.exact_in(pool, i, j, int(key[3]))

    def lp_token(key: list[str]) -> int:
        i, amount = int(key[-2].removeprefix("i=")), int(key[-1])
        if key[1] == "calc_withdraw_one_coin":
            return curve_stable.calc_withdraw_one_coin(pool, amount, i)
        amounts = [amount if k == i else 0 for k in range(len(symbols))]
        return curve_stable.calc_token_amount(pool, amounts, key[2] == "deposit")

    compare("3pool get_dy", recorded[f"{GOLDEN}test_curve_tripool_get_dy.json"]["entries"], swap)
    lp_answers = recorded[f"{GOLDEN}test_curve_tripool_calc_withdraw_and_token_amount.json"]["entries"]
    compare("3pool LP tokens", lp_answers, lp_token)
    assert curve_stable.virtual_price(pool) == state["virtual_price"]


@pytest.mark.data
def test_metapool(recorded: dict[str, Any]) -> None:
    # at this block the metapool still uses its copy of the base pool's virtual price: fails if it is renewed
    state = recorded[f"{FIXTURES}curve_metapool_rai_3crv_block_25144000.json"]
    pool = metapool(state)
    assert curve_stable.virtual_price(pool.base) == state["base_pool"]["virtual_price"]
    assert pool.own.rates[-1] != state["base_pool"]["virtual_price"]
    compare(
        "metapool get_dy and get_dy_underlying",
        recorded[f"{GOLDEN}test_curve_metapool_get_dy.json"]["entries"],
        lambda key: metapool_quote(pool, state, key[1], key[2], int(key[3])),
    )


@pytest.mark.data
def test_metapool_over_blocks(recorded: dict[str, Any]) -> None:
    # here the copy has expired: fails if the old virtual price is used, or one state for another block
    fixture = recorded[f"{FIXTURES}curve_metapool_rai_3crv_multiblock_18850030_18850480.json"]
    states = multiblock_states(fixture)
    pools = {block: metapool(state) for block, state in states.items()}
    for block, state in states.items():
        assert curve_stable.virtual_price(pools[block].base) == state["base_virtual_price_own"]
    compare(
        f"metapool over {len(states)} blocks",
        recorded[f"{GOLDEN}test_curve_metapool_multiblock_get_dy.json"]["entries"],
        lambda key: metapool_quote(
            pools[key[3].removeprefix("blk")], states[key[3].removeprefix("blk")], key[1], key[2], int(key[4])
        ),
    )


def tricrypto(state: State) -> CurveCryptoPool:
    b, p = state["balances"], state["price_scale"]
    d0, d1, d2 = (10 ** (18 - token["decimals"]) for token in state["tokens"])
    return CurveCryptoPool(
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


@pytest.mark.data
def test_tricrypto(recorded: dict[str, Any]) -> None:
    # fails on any other order of rounding in newton_y, and on a fee from the balances before the swap
    state = recorded[f"{FIXTURES}curve_tricrypto_block_24407242.json"]
    pool = tricrypto(state)
    symbols = [token["symbol"] for token in state["tokens"]]

    def quote(key: list[str]) -> int:
        i, j = (symbols.index(symbol) for symbol in key[2].split("->"))
        return curve_crypto.exact_in(pool, i, j, int(key[3]))

    answers = recorded[f"{GOLDEN}test_curve_tricrypto_get_dy.json"]["entries"]
    compare("tricrypto get_dy", answers, quote)
    # the fee of the pool as it stands is recorded too
    assert curve_crypto.fee_rate(pool, curve_crypto.normalised(pool, pool.balances)) == state["fee"]
    for i, j, dx, reason in [
        (0, 0, 1, "out of range"),
        (0, 1, 0, "0 coins"),
        (0, 1, 10**24, "unsafe values x"),
    ]:
        with pytest.raises(SwapRevertedError, match=reason):
            curve_crypto.exact_in(pool, i, j, dx)


@pytest.mark.data
@settings(max_examples=60, deadline=None)
@given(coins=st.permutations(range(3)), part=st.floats(1e-4, 3.0))
def test_tricrypto_inverse_and_price(recorded: dict[str, Any], coins: list[int], part: float) -> None:
    # fails if the inverse ends beside the step, or the price's derivative, scale or fee is wrong
    pool = tricrypto(recorded[f"{FIXTURES}curve_tricrypto_block_24407242.json"])
    i, j, _ = coins
    dx = int(pool.balances[i] * part) + 1
    out = curve_crypto.exact_in(pool, i, j, dx)
    back = curve_crypto.exact_out(pool, i, j, out)
    assert curve_crypto.exact_in(pool, i, j, back) >= out
    assert refused(lambda: curve_crypto.exact_in(pool, i, j, back - 1)) < out
    price = curve_crypto.marginal_price(pool, i, j)
    # newton_y ends within 1e-14 of D and WBTC has 8 decimals: 1e-4 of a balance is right to 1e-4
    assert out <= dx * price * (1 + 1e-4)
    small = pool.balances[i] // 10**4
    assert curve_crypto.exact_in(pool, i, j, small) == pytest.approx(small * price, rel=1e-3)


D_VARIANTS = {1: (Product.EACH, True), 2: (Product.EACH, False), 6: (Product.PAIR, True)}
"""The snapshot's variants of get_D: how the product is computed, and whether A has a precision."""


def snapshot_answer(function: str, args: list[Any]) -> int:
    if function == "get_d":
        _, xp, a, _, precision, variant = args
        product, precise = D_VARIANTS[variant]
        return curve_stable.get_d(xp, a, precision if precise else 1, product)
    if function == "get_y":
        _, i, j, x, xp, a, _, precision, y_variant, d_variant = args
        product, precise = D_VARIANTS[d_variant]
        d = curve_stable.get_d(xp, a, precision if precise else 1, product)
        moved = [x if k == i else value for k, value in enumerate(xp)]
        return curve_stable.solve_balance(j, moved, a, precision if y_variant == 1 else 1, d)
    if function == "get_y_d":
        _, a, i, xp, d, _, precision, variant = args
        return curve_stable.solve_balance(i, xp, a, precision if variant == 2 else 1, d)
    if function == "newton_y":  # its other arguments are fixed where the snapshot was made
        return curve_crypto.newton_y(2_700_000, 10**14, args[0], 4 * 10**20, 0, 100)
    if function == "reduction":
        return curve_crypto.reduction_coefficient(args[0], args[1])
    raise AssertionError(f"the snapshot has a function unknown here: {function}")


@pytest.mark.data
def test_snapshot_of_the_maths(data_dir: Path) -> None:
    # fails on another rounding in get_D, get_y, get_y_D, newton_y or the fee's coefficient
    path = data_dir / "vectors" / "degenbot" / "oracle_curve_snapshot.txt.gz"
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    answers = {}
    for line in lines:
        call, _, value = line.partition(" = ")
        answers[call.replace(" ", "|")] = {"value": int(value)} if value.isdigit() else {"reverted": True}

    def quote(parts: list[str]) -> int:
        args = [
            json.loads(part) if part[0] in "[0123456789" and "-" not in part else part for part in parts[1:]
        ]
        return snapshot_answer(parts[0], args)

    compare("Curve maths snapshot", answers, quote)


def unless_stuck(call: Callable[[], int]) -> int:
    """The output; not the cases in which Newton's method swings between two values, so that pools revert."""
    try:
        return call()
    except SwapRevertedError as reverted:
        if not str(reverted).endswith("did not converge"):
            raise
        reject()


def refused(call: Callable[[], int]) -> int:
    """The output, or -1 where the contract reverts."""
    try:
        return call()
    except SwapRevertedError:
        return -1


@st.composite
def stable_pools(draw: st.DrawFn) -> CurveStablePool:
    precision = draw(st.sampled_from([1, 100]))
    n = draw(st.integers(2, 4))
    decimals = draw(st.lists(st.sampled_from([6, 8, 18]), min_size=n, max_size=n))
    tokens = draw(st.lists(st.integers(10**6, 10**10), min_size=n, max_size=n))  # in thousandths
    return CurveStablePool(
        balances=tuple(t * 10**d // 1000 for t, d in zip(tokens, decimals, strict=True)),
        rates=tuple(10 ** (36 - d) * draw(st.integers(900, 3000)) // 1000 for d in decimals),
        amp=precision * draw(st.integers(1, 5000)),
        fee=draw(st.integers(0, 10**8)),
        admin_fee=draw(st.sampled_from([0, 5 * 10**9])),
        a_precision=precision,
        fee_after_rate=precision == 1,
        reverts_unconverged=precision == 100,
        product=Product.EACH if n > 2 else draw(st.sampled_from(Product)),
    )


@settings(max_examples=150, deadline=None)
@given(pool=stable_pools(), part=st.floats(1e-6, 2.0))
def test_stable_inverse_and_price(pool: CurveStablePool, part: float) -> None:
    # fails if the inverse ends beside the step, or the price has coins, rates or fee the wrong way round
    dx = int(pool.balances[0] * part) + 1
    out = unless_stuck(lambda: curve_stable.exact_in(pool, 0, 1, dx))
    assume(out > 0)
    back = curve_stable.exact_out(pool, 0, 1, out)
    assert back <= dx
    assert curve_stable.exact_in(pool, 0, 1, back) >= out
    assert refused(lambda: curve_stable.exact_in(pool, 0, 1, back - 1)) < out
    more = curve_stable.exact_in(pool, 0, 1, 2 * dx)
    assert out <= more <= 2 * out + 2  # monotonic and concave
    assert out <= dx * curve_stable.marginal_price(pool, 0, 1) * (1 + 1e-9) + 1


@settings(max_examples=150, deadline=None)
@given(pool=stable_pools(), part=st.floats(1e-4, 2.0))
def test_stable_exchange_gives_nothing_away(pool: CurveStablePool, part: float) -> None:
    # fails if exchange books less in or more out than it should, so that going back and forth would pay,
    # or another share for the admin
    dx = int(pool.balances[0] * part) + 1
    view = unless_stuck(lambda: curve_stable.exact_in(pool, 0, 1, dx))
    dy, after = curve_stable.exchange(pool, 0, 1, dx)
    assert abs(dy - view) <= 1
    assume(dy > 0)
    _, without_admin = curve_stable.exchange(replace(pool, admin_fee=0), 0, 1, dx)
    admin = without_admin.balances[1] - after.balances[1]
    assert abs(admin - dy * pool.fee * pool.admin_fee // ((10**10 - pool.fee) * 10**10)) <= 2
    d_before, d_after = (
        curve_stable.get_d(curve_stable.normalised(state), pool.amp, pool.a_precision, pool.product, False)
        for state in (pool, after)
    )
    assert d_after >= d_before - 2
    assert refused(lambda: curve_stable.exchange(after, 1, 0, dy)[0]) <= dx


def test_reverts_and_bad_states() -> None:
    # what the contracts assert, and states no contract can have
    pool = CurveStablePool((10**24, 10**12), (10**18, 10**30), amp=20_000, fee=4 * 10**6)
    for i, j, dx in [(0, 0, 1), (0, 2, 1), (0, 1, 2**255)]:
        with pytest.raises(SwapRevertedError):
            curve_stable.exact_in(pool, i, j, dx)
    with pytest.raises(SwapRevertedError, match="more than the pool has"):
        curve_stable.exact_out(pool, 0, 1, 10**12 - 1)
    with pytest.raises(SwapRevertedError, match="division by zero"):
        curve_stable.exact_in(CurveStablePool((0, 10), (10**18, 10**18), amp=100, fee=0), 1, 0, 5)
    with pytest.raises(ValueError, match=r"balances\[1\] is -1"):
        CurveStablePool((1, -1), (1, 1), amp=100, fee=0)
    with pytest.raises(ValueError, match="amp is 99"):
        CurveStablePool((1, 1), (1, 1), amp=99, fee=0)
