"""The gas model, and Arbitrum's fee for data on L1. Measured against contracts in chain/differential."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mev_engine.amm.registry import FAMILIES
from mev_engine.detect.gas import (
    CallData,
    GasModel,
    arbitrum_l1_fee,
    arbitrum_l1_gas,
    arbitrum_units,
    on_arbitrum,
)

sizes = st.integers(0, 100_000)
prices = st.integers(1, 10**12)  # wei: L1's base fee, and Arbitrum's gas price


def test_a_family_costs_what_is_set_for_it_else_its_share_of_a_pairs_hop() -> None:
    # fails if a set figure is scaled, if a family is read at another's code, or if free is not free
    model = GasModel(1, 1001, 0, {"uniswap_v4": 7})
    units = model.by_code()
    assert {name: int(units[family.code]) for name, family in FAMILIES.items() if family.code < 4} == {
        "uniswap_v2": 1001,
        "uniswap_v3": 1502,
        "uniswap_v4": 7,
    }
    assert not GasModel(0, 0, 0).by_code().any()


def test_l1_fee_by_hand() -> None:
    # fails if a byte is not 16 units, or if the padding of an estimate is left out or put in another order
    gwei = 10**9
    assert arbitrum_l1_fee(200, 30 * gwei, estimate=False) == 200 * 16 * 30 * gwei
    assert arbitrum_units(200) == 3490  # (3200 + 256) * 1.01 = 3490.56
    assert arbitrum_l1_fee(200, 30 * gwei) == 104_700 * gwei
    assert arbitrum_l1_gas(200, 30 * gwei, gwei // 10) == 1_047_000  # at the floor of 0.1 gwei


@given(sizes, prices, prices)
def test_the_gas_that_is_bought_pays_the_fee_and_no_unit_more(size: int, l1: int, l2: int) -> None:
    # fails if the published identity, buffer * price = fee, is rounded down or by more than a unit
    fee, gas = arbitrum_l1_fee(size, l1), arbitrum_l1_gas(size, l1, l2)
    assert fee <= gas * l2 < fee + l2


@given(st.integers(0, 2000), st.integers(0, 2000), st.integers(0, 6), prices, prices)
def test_a_cycle_is_charged_for_all_its_bytes(whole: int, hop: int, hops: int, l1: int, l2: int) -> None:
    # fails if a cycle's parts come to less than the fee of its bytes, or to much more than that
    plain = GasModel()
    model = on_arbitrum(plain, CallData(whole, hop), l1, l2)
    extra = model.per_cycle - plain.per_cycle
    for family in ("uniswap_v2", "uniswap_v3"):
        added = extra + hops * (model.hop(family) - plain.hop(family))
        needed = arbitrum_l1_gas(whole + hops * hop, l1, l2)
        assert needed <= added <= needed + hops * (2 * l1 // l2 + 2)
    assert model.priority_fee == plain.priority_fee


def test_prices_that_make_no_sense_are_named() -> None:
    # fails if a division by zero, or a negative fee, comes out instead
    with pytest.raises(ValueError, match="l2_gas_price is 0 wei"):
        arbitrum_l1_gas(1, 1, 0)
    with pytest.raises(ValueError, match="l1_base_fee is -1 wei"):
        arbitrum_l1_fee(1, -1)
    with pytest.raises(ValueError, match="compressed_bytes is -1"):
        arbitrum_units(-1)
