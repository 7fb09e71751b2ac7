"""Balancer stable pools in kernels against the exact references, random and real pools."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from mev_engine.amm import balancer_stable_kernels, balancer_weighted, balancer_weighted_kernels
from mev_engine.amm.abi import topic
from mev_engine.amm.balancer_math import ONE
from mev_engine.amm.balancer_stable import AMP_PRECISION, StablePool, SurgeFee, exact_in, marginal_price
from mev_engine.amm.balancer_vault import V2, V3
from mev_engine.amm.balancer_weighted import WeightedPool
from mev_engine.amm.errors import UnknownStateError

from .probe import quoter, reference, responder, slope_and_bend

RESPOND = responder(balancer_stable_kernels.respond)
QUOTE = quoter(balancer_stable_kernels.quote)
LEAST = quoter(balancer_stable_kernels.least)
RESPOND_WEIGHTED = responder(balancer_weighted_kernels.respond)
params, words = balancer_stable_kernels.params, balancer_stable_kernels.words
POOL = StablePool(
    vault=V2, balances=(10**24,) * 3, scaling=(1,) * 3, rates=(ONE,) * 3, swap_fee=10**14, amp=200_000, bpt=1
)
SURGE = replace(POOL, vault=V3, bpt=None, surge=SurgeFee(3 * 10**17, 95 * 10**16))


@st.composite
def pools(
    draw: st.DrawFn, low: int = 10**18, high: int = 10**26, spread: int = 100, decimals: Any = (6, 8, 18)
) -> StablePool:
    """Two to four tokens of `low` to `high` with 18 decimals, within `spread` times of each other."""
    vault = draw(st.sampled_from([V2, V3]))
    n = draw(st.integers(2, 4))
    scale = draw(st.integers(low, high))
    scaling = tuple(10 ** (18 - draw(st.sampled_from(decimals))) for _ in range(n))
    balances = tuple(scale * draw(st.integers(1, spread)) // s for s in scaling)
    rounds_up = vault == V2 and draw(st.booleans())
    surge = SurgeFee(draw(st.sampled_from([0, 3 * 10**17])), draw(st.sampled_from([0, 95 * 10**16])))
    return StablePool(
        vault=vault,
        balances=tuple(min(b, 2**112 - 1) for b in balances),
        scaling=scaling,
        rates=tuple(draw(st.sampled_from([ONE, ONE + 1, 13 * ONE // 10])) for _ in range(n)),
        swap_fee=draw(st.sampled_from([0, 10**12, 3 * 10**15, 10**17])),
        amp=draw(st.sampled_from([1, 50, 200, 5000])) * AMP_PRECISION,
        rounds_invariant_up=rounds_up,
        bpt=2 if vault == V2 and n > 2 and not rounds_up else None,
        surge=surge if vault == V3 and draw(st.booleans()) else None,
        max_imbalance=draw(st.sampled_from([None, 200, 10_000])) if vault == V3 else None,
    )


def live(pool: StablePool) -> list[int]:
    return [b for k, b in enumerate(pool.live_balances()) if k != pool.bpt]


def units(pool: StablePool) -> float:
    """What the contract's integers are worth, raw units of token 1; V2 rounds to 1000 units in b and c."""
    apart = max(live(pool)) / max(min(live(pool)), 1)
    coarse = 2000 if pool.vault == V2 else 5
    return 3 + ONE / pool.factor(1) * coarse * (1 + apart)


@settings(max_examples=400, deadline=None)
@given(pool=pools(), part=st.floats(1e-9, 5.0))
def test_the_float_answer_is_the_exact_one(pool: StablePool, part: float) -> None:
    # fails if a rate, the fee, the surge or g is wrong, or the share token counts as a balance
    x = int(pool.balances[0] * part) + 1
    exact = reference(exact_in, pool, 0, 1, x)
    assume(exact is not None)
    if pool.surge:  # the fee jumps where a swap begins to leave the pool less even than it was
        beside = [reference(exact_in, pool, 0, 1, int(x * part)) or 0 for part in (1 - 1e-6, 1 + 1e-6)]
        assume(beside == pytest.approx([exact, exact], rel=1e-3, abs=5))
    y, slope, _ = RESPOND(params(pool), 0, 1, float(x))
    # amounts are rounded before the formula; a surge is a share of 18 decimals, of the whole input
    rounding = 2 * slope * (1 + ONE / pool.factor(0))
    surge = 1e-15 * y if pool.surge else 0.0
    assert y == pytest.approx(exact, rel=0.0, abs=units(pool) + rounding + surge + 2e-13 * y)


@settings(max_examples=300, deadline=None)
@given(
    pool=pools(low=10**24, high=10**26, spread=5, decimals=(18,)),
    part=st.floats(1e-2, 3.0),
    surge=st.booleans(),
)
def test_slope_and_bend_are_the_exact_curves(pool: StablePool, part: float, surge: bool) -> None:
    # fails if a derivative is wrong: by the reference's price at 0, by finite differences beyond
    pool = replace(pool, surge=pool.surge if surge else None)
    assume(reference(exact_in, pool, 0, 1, pool.balances[0] // 100) is not None)  # D may not converge
    nothing, price, _ = RESPOND(params(pool), 0, 1, 0.0)
    assert nothing == 0.0
    if surge:  # whether it applies can hang on the curve's bend: ask the contract about a small swap
        small = pool.balances[0] // 10**6
        assert price == pytest.approx((reference(exact_in, pool, 0, 1, small) or 0) / small, rel=2e-2)
    else:
        assert price == pytest.approx(marginal_price(pool, 0, 1), rel=1e-9)
    x = int(pool.balances[0] * part)
    h = int(min(x, sum(pool.balances)) / 1000 / (1 + pool.amp / AMP_PRECISION / 10))
    around = [reference(exact_in, pool, 0, 1, v) for v in (x - 8 * h, x - h, x, x + h, x + 8 * h)]
    assume(None not in around)
    _, slope, bend = RESPOND(params(pool), 0, 1, float(x))
    slope_seen, bend_seen = slope_and_bend(lambda v: exact_in(pool, 0, 1, v), x, h)
    assume(slope_seen > 1e-6)
    wide_slope, wide_bend = slope_and_bend(lambda v: exact_in(pool, 0, 1, v), x, 8 * h)
    assume(wide_slope == pytest.approx(slope_seen, rel=1e-2))  # no kink of the surge in between
    assume(wide_bend == pytest.approx(bend_seen, rel=0.1, abs=units(pool) / h**2 / slope_seen))
    noise = units(pool) + (1e-17 * x if surge else 0.0)  # the surge has 18 decimals
    assert slope == pytest.approx(slope_seen, rel=1e-3, abs=noise / h)
    assert bend == pytest.approx(max(bend_seen, 0.0), rel=2e-2, abs=8 * noise / h**2 / slope_seen)


def test_what_a_pool_cannot_take() -> None:
    # fails if an answer is NaN, above the balance, or goes on beyond the limit of the imbalance
    for dead in (replace(POOL, balances=(0, 1, 10**24)), replace(POOL, balances=(0, 0, 0))):
        assert RESPOND(params(dead), 0, 2, 1e20) == (0.0, 0.0, 0.0)
    assert RESPOND(params(POOL), 0, 1, 1e20) == (0.0, 0.0, 0.0)  # token 1 is the pool's share
    assert RESPOND(params(POOL), 1, 0, 1e20) == (0.0, 0.0, 0.0)
    y, slope, _ = RESPOND(params(POOL), 0, 2, 2.0**113)
    assert 0.999e24 < y <= 1e24
    assert slope == 0.0
    limited = replace(SURGE, surge=None, max_imbalance=50)
    most = int(RESPOND(params(limited), 0, 1, 1e28)[0])
    assert RESPOND(params(limited), 0, 1, 1e28)[1] == 0.0
    paid = np.linspace(0.5e24, 1.2e24, 400)
    taken = [exact for x in paid if (exact := reference(exact_in, limited, 0, 1, int(x))) is not None]
    assert 0 < len(taken) < 400
    assert max(taken) <= most * (1 + 1e-12)
    assert most <= max(taken) * 1.01


amounts = st.one_of(
    st.integers(0, 10),
    st.integers(0, 256).flatmap(lambda bits: st.integers(max(2**bits - 3, 0), min(2**bits + 3, 2**256 - 1))),
)


@settings(max_examples=1500, deadline=None)
@given(pool=pools(low=0, high=10**40, spread=10**4), amount=amounts)
@example(replace(POOL, rates=(2**256 - 1, ONE, ONE)), 10**24)
@example(replace(SURGE, balances=(0, 0, 0)), 1)
@example(replace(SURGE, balances=(1, 1, 1)), 10**7)
def test_the_kernel_is_the_contract_at_any_amount(pool: StablePool, amount: int) -> None:
    # fails on a rounding, an overflow or a limit that the kernel treats otherwise than the contract
    assert QUOTE(words(pool), 0, 1, amount) == reference(exact_in, pool, 0, 1, amount)
    LEAST(words(pool), 0, 1, amount)  # fails on a division by zero, as the next does, or on a NaN
    RESPOND(params(pool), 0, 1, float(amount))


@settings(max_examples=2000, deadline=None)
@given(pool=pools(), part=st.floats(0, 3.0))
def test_the_kernel_is_the_contract_at_usual_amounts(pool: StablePool, part: float) -> None:
    # fails as above; and where the least input doesn't buy the output, or one less does too
    x = int(pool.balances[0] * part) + 1
    y = QUOTE(words(pool), 0, 1, x)
    assert y == reference(exact_in, pool, 0, 1, x)
    if y:
        least = LEAST(words(pool), 0, 1, y)
        assert least is not None
        assert exact_in(pool, 0, 1, least) >= y
        assert least == 1 or (reference(exact_in, pool, 0, 1, least - 1) or 0) < y


def test_the_pools_own_share_is_no_side() -> None:
    # fails if a join is quoted as a swap
    for i, j in ((0, 1), (1, 2)):
        assert QUOTE(words(POOL), i, j, 10**20) is None
        assert LEAST(words(POOL), i, j, 10**20) is None
    assert QUOTE(words(POOL), 0, 2, 10**20) == exact_in(POOL, 0, 2, 10**20)


# --- Real pools


def raw(decimal: str, decimals: int) -> int:
    return int(Decimal(decimal) * 10**decimals)


def real_pools(data_dir: Path) -> list[WeightedPool | StablePool]:
    """Weighted and stable pools of the recorded states, by the SDK's decimal strings."""
    path = data_dir / "pools" / "balancer_b_sdk_states.json.gz"
    content = json.loads(gzip.decompress(path.read_bytes()))
    pools: list[WeightedPool | StablePool] = []
    for state in (pool for file in content.values() for pool in file["pools"]):
        tokens = sorted(state["tokens"], key=lambda token: token["index"])
        common: dict[str, Any] = {
            "vault": V2,
            "balances": tuple(raw(token["balance"], token["decimals"]) for token in tokens),
            "scaling": tuple(10 ** (18 - token["decimals"]) for token in tokens),
            "rates": tuple(raw(token.get("priceRate") or "1", 18) for token in tokens),
            "swap_fee": raw(state["swapFee"], 18),
        }
        if state["poolType"] == "Weighted":
            weights = tuple(raw(token["weight"], 18) for token in tokens)
            pools.append(WeightedPool(**common, weights=weights, exact_powers=False))
        elif state["poolType"] in {"ComposableStable", "MetaStable", "Stable"}:
            own = [k for k, token in enumerate(tokens) if token["address"] == state["address"]]
            amp = int(state["amp"]) * AMP_PRECISION
            pools.append(StablePool(**common, amp=amp, bpt=own[0] if own else None))
    return pools


@pytest.mark.data
def test_real_pools(data_dir: Path) -> None:
    # fails if real scales and rates bring out what random ones hide
    counts = {WeightedPool: 0, StablePool: 0}
    for pool in real_pools(data_dir):
        sides = [k for k in range(len(pool.balances)) if k != getattr(pool, "bpt", None)]
        for j in sides[1:]:
            for part in (1e-6, 1e-3, 0.1, 0.25):
                x = int(pool.balances[sides[0]] * part) + 1
                if isinstance(pool, StablePool):
                    exact = reference(exact_in, pool, sides[0], j, x)
                    assert QUOTE(words(pool), sides[0], j, x) == exact
                    y, slope, _ = RESPOND(params(pool), sides[0], j, float(x))
                else:
                    exact = reference(balancer_weighted.exact_in, pool, sides[0], j, x)
                    state = balancer_weighted_kernels.params(pool)
                    y, slope, _ = RESPOND_WEIGHTED(state, sides[0], j, float(x))
                if exact is None:
                    continue
                # V2's rounding to 1000 units of 18 decimals; the power's error bound of the balance
                error = 10**5 / pool.scaling[j] + 5e-14 * pool.balances[j] + 2 * slope + 2
                assert y == pytest.approx(exact, rel=1e-12, abs=error)
                counts[type(pool)] += 1
    print(counts)
    assert min(counts.values()) >= 8  # two pairs of stable tokens, three of weighted


# --- Logs


def test_a_stable_pool_follows_its_rates_and_amp() -> None:
    # fails if a rate lands on another token, or amp is taken without its precision
    pool = replace(POOL, tokens=("0x" + "11" * 20, "0x" + "22" * 20, "0x" + "33" * 20))
    follow = balancer_stable_kernels.FAMILY.events
    by_index = topic("TokenRateCacheUpdated(uint256,uint256)")
    rate = (ONE + 5).to_bytes(32)
    after = follow[by_index](pool, ([by_index, "0x" + f"{2:064x}"], rate))
    assert after.rates == (ONE, ONE, ONE + 5)
    for event in ("TokenRateCacheUpdated(address,uint256)", "PriceRateCacheUpdated(address,uint256)"):
        entry = ([topic(event), "0x" + ("11" * 20).rjust(64, "0")], rate)
        assert follow[topic(event)](pool, entry).rates == (ONE + 5, ONE, ONE)
    stopped = topic("AmpUpdateStopped(uint256)")
    assert follow[stopped](pool, ([stopped], (300_000).to_bytes(32))).amp == 300_000
    started = topic("AmpUpdateStarted(uint256,uint256,uint256,uint256)")
    with pytest.raises(UnknownStateError, match="amp moves"):
        follow[started](pool, ([started], b""))
    with pytest.raises(ValueError, match="token 3"):
        follow[by_index](pool, ([by_index, "0x" + f"{3:064x}"], rate))
