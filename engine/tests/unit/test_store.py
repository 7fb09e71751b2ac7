"""Markets saved and loaded: every family, the index of cycles, and what is wrong with a broken file."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mev_engine.amm.balancer_stable import StablePool, SurgeFee
from mev_engine.amm.balancer_weighted import WeightedPool
from mev_engine.amm.curve_crypto import CurveCryptoPool
from mev_engine.amm.curve_stable import CurveStablePool, Product
from mev_engine.amm.registry import FAMILIES, family_of
from mev_engine.amm.solidly import SolidlyVariant
from mev_engine.amm.solidly_pair import StablePair, VolatilePair
from mev_engine.amm.uniswap_v2 import MAX_RESERVE, V2Pair
from mev_engine.amm.uniswap_v3 import V3Pool
from mev_engine.amm.uniswap_v4 import V4Pool
from mev_engine.detect import GasModel, Scanner
from mev_engine.market import BlockDelta, Market, PoolSpec, ReserveUpdate, TokenSpec, archive, codec, store
from mev_engine.market.archive import ArchiveError
from mev_engine.market.columns import pack, pack_hex, pack_states, unpack, unpack_hex, unpack_states

from .markets import BLOCK, address, random_market

ONE = 10**18
AMOUNTS = st.integers(1, 2**96)
RANGE: dict[str, Any] = {"sqrt_price_x96": 2**96, "tick": 0, "liquidity": 10**21, "tick_spacing": 60}
VAULT: dict[str, Any] = {
    "vault": 2,
    "scaling": (1, 10**12),
    "rates": (ONE, 11 * ONE // 10),
    "swap_fee": 3 * 10**15,
}
PAIR: dict[str, Any] = {"scale0": ONE, "scale1": 10**6, "fee0": 30, "fee1": 30, "fee_den": 10_000}
CRYPTO = CurveCryptoPool((1, 1, 1), (1, 1, 1), (ONE, ONE), 540_000, 10**13, 3, 10**6, 10**9, 10**15)


def a_state(family: str, a: int, b: int) -> Any:
    """A state of the family that a and b decide; each has what its family alone has."""
    ticks = {-60: a, 0: b, 60: -a - b}
    range_ = RANGE | {"liquidity": a + b, "ticks": ticks, "gross": {-60: a, 0: b, 60: a + b}}
    velodrome = PAIR | {"reserve0": a, "reserve1": b, "variant": SolidlyVariant.VELODROME_V2}
    states: dict[str, Any] = {
        "uniswap_v2": lambda: V2Pair(min(a, MAX_RESERVE), b, 9975, 998, 10000),
        "uniswap_v3": lambda: V3Pool(**range_, fee_pips=500),
        "uniswap_v4": lambda: V4Pool(**range_ | {"gross": None}, lp_fee=3000, protocol_fee=5 << 12),
        "curve_stable": lambda: CurveStablePool(
            (a, b), (ONE, 10**30), 20_000, 4 * 10**6, product=Product.PAIR
        ),
        "curve_crypto": lambda: replace(CRYPTO, balances=(a, a, a), d=3 * a, mid_fee=b % 10**9),
        "balancer_weighted": lambda: WeightedPool(
            **VAULT, balances=(a, b), weights=(ONE // 5, ONE - ONE // 5), tokens=(address(1), address(2))
        ),
        "balancer_stable": lambda: StablePool(
            **VAULT | {"vault": 3}, balances=(a, b), amp=10**5, surge=SurgeFee(ONE // 3, ONE // 2)
        ),
        "solidly_volatile": lambda: VolatilePair(**velodrome, stable=False),
        "solidly_stable": lambda: StablePair(
            **velodrome | {"variant": SolidlyVariant.CAMELOT, "fee1": 7}, stable=True, owner_fee_share=40
        ),
    }
    return states[family]()


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=40, deadline=None)
@given(amounts=st.lists(st.tuples(AMOUNTS, AMOUNTS), min_size=1, max_size=4))
def test_states_of_every_family_come_back(family: str, amounts: list[tuple[int, int]]) -> None:
    # fails if a field, a sign, a limb or the type of a field is lost; and for a new family not named above
    states = [a_state(family, a, b) for a, b in amounts]
    assert all(family_of(state).name == family for state in states)
    loaded = unpack_states(family, pack_states(family, states))
    assert loaded == states
    assert [codec.decode(type(s), codec.encode(s)) for s in states] == states


@given(values=st.lists(st.integers(-(2**127), 2**127 - 1)), texts=st.lists(st.binary(max_size=255)))
def test_integers_and_addresses_come_back(values: list[int], texts: list[bytes]) -> None:
    # fails on a wrong limb, sign or offset
    assert unpack(pack(values, 2, signed=True), signed=True) == values
    names = [f"0x{text.hex()}" for text in texts]
    assert unpack_hex(pack_hex(names)) == names


def mixed_market() -> Market:
    """Random pairs, and one pool of each family between the first two tokens."""
    tokens, pools = random_market(random.Random(5), 6, 18)
    first, second, third = (token.address for token in tokens[:3])
    for k, family in enumerate(FAMILIES):
        state = a_state(family, 10**20 + k, 10**20)
        sides = (first, second, third)[: family_of(state).coins(state)]
        pools.append(PoolSpec(f"0x{k + 1:064x}", sides, state, f"of {family}"))
    tokens.append(TokenSpec(address(99), "TAX ✂", 9, "fee_on_transfer"))
    pools.append(PoolSpec(address(5000), (first, address(99)), V2Pair(10**20, 10**20), "taxed"))
    return Market.build(tokens, pools, base_tokens=[first, second], wrapped_native=first, max_hops=3)


def test_a_market_comes_back_whole(tmp_path: Path) -> None:
    # fails if a table, a state or a cycle is lost, or if the loaded market follows blocks otherwise
    market = mixed_market()
    pair = next(pool for pool in market.pools if isinstance(pool.state, V2Pair))
    market.apply(BlockDelta(BLOCK, (ReserveUpdate(pair.address, 10**22, 10**21),)))
    store.save(tmp_path / "m", market, 31337, 17)
    loaded, chain_id, block = store.load(tmp_path / "m")
    assert (chain_id, block) == (31337, 17)
    for name in (
        "tokens",
        "token_index",
        "pool_index",
        "excluded",
        "base_tokens",
        "wrapped_native",
        "max_hops",
    ):
        assert getattr(loaded, name) == getattr(market, name), name
    assert loaded.excluded[address(5000)].endswith("is fee_on_transfer")
    assert loaded.book.states == market.book.states
    assert [(p.address, p.tokens, p.protocol) for p in loaded.pools] == [
        (p.address, p.tokens, p.protocol) for p in market.pools
    ]
    for name, array in market.book.to_arrays().items():
        np.testing.assert_array_equal(loaded.book.to_arrays()[name], array, name)
    blocks = [
        BlockDelta(BLOCK, (ReserveUpdate(pair.address, 10**21, 10**22),)),
        BlockDelta(BLOCK, new_pools=(replace(pair, address=address(7777)),)),
    ]
    for delta in blocks:
        found = []
        for one in (market, loaded):
            scanner = Scanner(one, chain_id=1, gas=GasModel(), min_profit=-(10**30))
            result = scanner.scan(BLOCK, one.apply(delta))
            found.append((result.cycles_screened, [(o.pools, o.amounts) for o in result.opportunities]))
        assert found[0] == found[1]
        assert found[0][1]
    assert loaded.n_cycles == market.n_cycles


def test_a_file_that_is_no_market_is_named(tmp_path: Path) -> None:
    # fails if a foreign or inconsistent file is loaded, ends in a traceback, or isn't named
    path = tmp_path / "m"
    store.save(path, mixed_market(), 1, 2)
    arrays, meta = archive.load(path)
    raw = path.read_bytes()

    def broken(change: dict[str, Any], **meta_change: Any) -> None:
        archive.save(path, {k: v for k, v in (arrays | change).items() if v is not None}, meta | meta_change)

    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: broken({}, kind="cycles"), "it holds kind 'cycles'"),
        (lambda: broken({}, version=2), "version 2"),
        (lambda: broken({"book/slope": arrays["book/slope"][:-1]}), "slope has"),
        (lambda: broken({"edge_token": None}), "'edge_token' is missing"),
        (lambda: broken({"book/params": arrays["book/params"] + 1}), "params of .* another engine's layout"),
        (lambda: broken({"edge_token": arrays["edge_token"][2:]}), "cycles is of other pools"),
        (lambda: broken({}, base_tokens=[address(123)]), "not among the tokens"),
        (
            lambda: broken({"states/uniswap_v2/reserve0": arrays["states/uniswap_v2/reserve0"] | 2**63}),
            "reserve0 of a pair is above",
        ),
        (lambda: broken({"tokens/address/bytes": arrays["tokens/address/bytes"][1:]}), "bytes of addresses"),
        (lambda: path.write_bytes(raw[:-1]), "cut off"),
        (lambda: path.write_bytes(raw[:5000] + b"?" + raw[5001:]), "checksum|zeros"),
    ]
    for damage, message in cases:
        damage()
        with pytest.raises(ArchiveError, match=rf"m can't be loaded: .*{message}.*; "):
            store.load(path)
    with pytest.raises(ValueError, match="'0xAB' is no lower-case 0x hex"):
        pack_hex(["0xAB"])


def test_a_bad_state_in_json_is_named() -> None:
    # fails if a wrong type, an unknown or a missing field is taken, or the message hides which it was
    good = codec.encode(a_state("curve_stable", 5, 6))
    for change, message in [
        ({"balances": ["1", "x"]}, r"balances\[1\] = 'x': not an integer"),
        ({"balances": 7}, "balances = 7: must be a list"),
        ({"amp": 2.5}, "amp = 2.5"),
        ({"product": "none"}, "product = 'none': must be one of each"),
        ({"fee_after_rate": 1}, "fee_after_rate = 1: must be of type bool"),
        ({"gamma": 1}, "has no field gamma"),
    ]:
        with pytest.raises(ValueError, match=message):
            codec.decode(CurveStablePool, good | change)
    with pytest.raises(ValueError, match="lacks rates"):
        codec.decode(CurveStablePool, {k: v for k, v in good.items() if k != "rates"})
