"""The pair's arithmetic: against its defining inequalities, and against the chain's own record."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from mev_engine.amm.errors import SwapRevertedError
from mev_engine.amm.uniswap_v2 import (
    MAX_RESERVE,
    get_amount_in,
    get_amount_out,
    least_input,
    swap,
)

reserves = st.one_of(st.integers(1, 1000), st.integers(1, MAX_RESERVE), st.just(MAX_RESERVE))
FORK_OF_25_BPS = "0x7515be43d16f871588adc135d58a9c30a71eb34f"  # its swap is exact at this fee alone

fees = st.sampled_from([(997, 1000), (9975, 10000), (998, 1000), (1, 1)])


@given(reserves, reserves, st.integers(1, MAX_RESERVE), fees)
def test_output_is_the_most_that_the_pair_lets_go(r: int, s: int, x: int, fee: tuple[int, int]) -> None:
    # fails if the output is one unit off either way: the pair's own K check is the judge
    assume(r + x <= MAX_RESERVE)
    y = get_amount_out(x, r, s, *fee)
    if y:
        assert swap(r, s, x, y, *fee) == (r + x, s - y)
    if y + 1 < s:
        with pytest.raises(SwapRevertedError, match="UniswapV2: K"):
            swap(r, s, x, y + 1, *fee)


@given(reserves, reserves, st.integers(1, MAX_RESERVE), fees)
def test_least_input_is_the_edge_of_the_stair(r: int, s: int, y: int, fee: tuple[int, int]) -> None:
    # fails if the inverse is one too high (as the router's may be) or one too low
    assume(y < s)
    x = least_input(y, r, s, *fee)
    assume(x * fee[0] * s < 2**256)
    assert get_amount_out(x, r, s, *fee) >= y
    assert x == 1 or get_amount_out(x - 1, r, s, *fee) < y
    assert x <= get_amount_in(y, r, s, *fee) <= x + 1


def test_reverts_carry_the_contract_s_reason() -> None:
    # fails if a case that the contract refuses is answered with a number
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: get_amount_out(0, 1, 1, 997, 1000), "UniswapV2Library: INSUFFICIENT_INPUT_AMOUNT"),
        (lambda: get_amount_out(1, 0, 1, 997, 1000), "UniswapV2Library: INSUFFICIENT_LIQUIDITY"),
        (lambda: get_amount_out(2**250, 1, 1, 997, 1000), "ds-math-mul-overflow"),
        (lambda: get_amount_in(0, 1, 1, 997, 1000), "UniswapV2Library: INSUFFICIENT_OUTPUT_AMOUNT"),
        (lambda: get_amount_in(6, 5, 5, 997, 1000), "ds-math-sub-underflow"),
        (lambda: swap(10, 10, 5, 0, 997, 1000), "UniswapV2: INSUFFICIENT_OUTPUT_AMOUNT"),
        (lambda: swap(10, 10, 5, 10, 997, 1000), "UniswapV2: INSUFFICIENT_LIQUIDITY"),
        (lambda: swap(10, 10, 0, 1, 997, 1000), "UniswapV2: INSUFFICIENT_INPUT_AMOUNT"),
        (lambda: swap(1000, 1000, 10, 10, 997, 1000), "UniswapV2: K"),
        (lambda: swap(MAX_RESERVE, 10, MAX_RESERVE, 1, 997, 1000), "UniswapV2: OVERFLOW"),
    ]
    for call, reason in cases:
        with pytest.raises(SwapRevertedError, match=reason):
            call()


@pytest.mark.data
def test_outputs_of_real_swaps(data_dir: Path) -> None:
    """Real swaps on mainnet, with the reserves before and after each: what the pair accepted."""
    # fails if the arithmetic or the pair's checks differ from the chain's in a single unit
    exact = swaps = 0
    with gzip.open(data_dir / "events" / "mev_inspect_v2_sync.csv.gz", "rt") as file:
        for row in csv.DictReader(file):
            in0, in1, out0, out1 = (
                int(row[name] or 0) for name in ("amount0_in", "amount1_in", "amount0_out", "amount1_out")
            )
            if row["kind"] != "swap" or bool(in0) == bool(in1) or bool(in0) != bool(out1) or (out0 and out1):
                continue  # a mint or burn, or both tokens moved in: not a plain swap
            a, b, x, y = ("0", "1", in0, out1) if in0 else ("1", "0", in1, out0)
            r, s = int(row["pre_reserve" + a]), int(row["pre_reserve" + b])
            fee = (9975, 10000) if row["pool"] == FORK_OF_25_BPS else (997, 1000)
            after = swap(r, s, x, y, *fee)  # must not raise: the chain accepted it
            assert after == (int(row["reserve" + a]), int(row["reserve" + b]))
            best = get_amount_out(x, r, s, *fee)
            assert y <= best
            swaps += 1
            exact += y == best
    assert swaps > 200
    assert exact / swaps > 0.9, "traders ask for the full output nearly always"
