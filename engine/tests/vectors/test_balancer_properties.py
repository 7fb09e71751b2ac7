"""Balancer's weighted and stable pools: properties, limits, reverts and refusals."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from mev_engine.amm import balancer_math as fp
from mev_engine.amm import balancer_stable as stable
from mev_engine.amm import balancer_weighted as weighted
from mev_engine.amm.balancer_vault import V2, V3, pool_family, scaled_given
from mev_engine.amm.errors import SwapRevertedError

Pool = weighted.WeightedPool | stable.StablePool
ONE = fp.ONE

WEIGHTED = weighted.WeightedPool(
    vault=V2,
    balances=(10**21, 10**24),
    scaling=(1, 1),
    rates=(ONE, ONE),
    swap_fee=0,
    weights=(8 * ONE // 10, 2 * ONE // 10),
)
STABLE = stable.StablePool(
    vault=V2, balances=(10**24,) * 3, scaling=(1,) * 3, rates=(ONE,) * 3, swap_fee=10**14, amp=200_000, bpt=1
)
SURGE = replace(STABLE, vault=V3, bpt=None, surge=stable.SurgeFee(3 * 10**17, 95 * 10**16))


def exact_in(pool: Pool, i: int, j: int, amount: int) -> int:
    if isinstance(pool, weighted.WeightedPool):
        return weighted.exact_in(pool, i, j, amount)
    return stable.exact_in(pool, i, j, amount)


def exact_out(pool: Pool, i: int, j: int, amount: int) -> int:
    if isinstance(pool, weighted.WeightedPool):
        return weighted.exact_out(pool, i, j, amount)
    return stable.exact_out(pool, i, j, amount)


def price(pool: Pool, i: int, j: int) -> float:
    if isinstance(pool, weighted.WeightedPool):
        return weighted.marginal_price(pool, i, j)
    return stable.marginal_price(pool, i, j)


@given(
    st.one_of(st.integers(10**12, 10**24), st.integers(10**12, 2**255 - 1)),
    st.integers(10**16, 20 * ONE),
    st.booleans(),
)
@example(10**75, ONE // 2, False)  # e^128 divided out
@example(6 * ONE, 715 * ONE // 10, True)  # e^128 multiplied in
def test_pow_keeps_within_its_bound_of_the_real_power(x: int, y: int, exact_powers: bool) -> None:
    # fails if a series, a constant or the bound is wrong in any digit that matters to a trader
    with localcontext() as context:
        context.prec = 100
        real = (Decimal(x) / ONE) ** (Decimal(y) / ONE) * ONE
    assume(Decimal(10) <= real < Decimal(10) ** 74)
    bound = real * fp.MAX_POW_RELATIVE_ERROR / ONE + 1
    assert abs(fp.power(x, y) - real) <= bound
    assume(real < Decimal(10) ** 73)  # above, the product for the error itself overflows
    low, high = (f(x, y, exact_powers=exact_powers) for f in (fp.pow_down, fp.pow_up))
    assert real - 2 * bound - 3 <= low <= real <= high <= real + 2 * bound + 3


@pytest.mark.parametrize("exponent", [2**k * ONE for k in range(8)] + [ONE // 2, ONE // 4])
def test_powers_of_e_have_every_digit_that_the_contract_has(exponent: int) -> None:
    # fails if a digit of a constant is wrong, where the bound of pow would still hide it
    with localcontext() as context:
        context.prec = 80
        real = (Decimal(exponent) / ONE).exp() * ONE
    assert abs(fp.exp(exponent) - real) <= real / ONE + 1


LARGEST_EXPONENT = 2**254 // 10**20 - 1  # LogExpMath's MILD_EXPONENT_BOUND, less one


@pytest.mark.parametrize(
    ("x", "y", "reason"),
    [
        (2**255, 1, "X_OUT_OF_BOUNDS"),
        (ONE, LARGEST_EXPONENT + 1, "Y_OUT_OF_BOUNDS"),
        (2**255 - 1, ONE, "PRODUCT_OUT_OF_BOUNDS"),
        (1, 2 * ONE, "PRODUCT_OUT_OF_BOUNDS"),
    ],
)
def test_pow_reverts_beyond_its_domain(x: int, y: int, reason: str) -> None:
    # fails if a bound is one off or missing: the number would be wrong, not refused
    with pytest.raises(SwapRevertedError, match=reason):
        fp.power(x, y)
    assert fp.power(2**255 - 1, 1) > fp.power(ONE, LARGEST_EXPONENT) == ONE


@given(
    st.integers(10**15, 10**30),
    st.integers(10**15, 10**30),
    st.integers(1, 99),
    st.integers(1, 3 * 10**11),
    st.booleans(),
)
def test_a_weighted_swap_never_beats_the_real_curve(
    b_in: int, b_out: int, percent: int, part: int, exact_powers: bool
) -> None:
    # fails if any rounding of base, exponent, power or product favours the trader
    w_in, w_out = percent * ONE // 100, ONE - percent * ONE // 100
    x, y = b_in * part // 10**12, b_out * part // 10**12
    got = weighted.out_given_in(b_in, w_in, b_out, w_out, x, exact_powers=exact_powers)
    paid = weighted.in_given_out(b_in, w_in, b_out, w_out, y, exact_powers=exact_powers)
    with localcontext() as context:
        context.prec = 80
        bi, bo = Decimal(b_in), Decimal(b_out)
        assert got <= bo * (1 - (bi / (bi + x)) ** (Decimal(w_in) / w_out))
        assert paid >= bi * ((bo / (bo - y)) ** (Decimal(w_out) / w_in) - 1)


decimals = st.sampled_from([6, 8, 18])
live_balances = st.integers(10**18, 10**27)


@st.composite
def pools(draw: st.DrawFn) -> Pool:
    """Two to four tokens of different decimals, live balances within 100 times of each other."""
    n = draw(st.integers(2, 4))
    vault = draw(st.sampled_from([V2, V3]))
    scaling = [10 ** (18 - draw(decimals)) for _ in range(n)]
    scale = draw(live_balances)
    is_stable = draw(st.booleans())
    rates = [draw(st.integers(ONE, 2 * ONE)) if is_stable else ONE for _ in range(n)]
    balances = [
        scale * draw(st.integers(1, 100)) * ONE // (s * r) for s, r in zip(scaling, rates, strict=True)
    ]
    common: dict[str, Any] = {
        "vault": vault,
        "balances": tuple(balances),
        "scaling": tuple(scaling),
        "rates": tuple(rates),
        "swap_fee": draw(st.sampled_from([0, 10**12, 3 * 10**15, 10**17])),
    }
    if is_stable:
        return stable.StablePool(
            **common,
            amp=draw(st.sampled_from([1, 50, 200, 5000])) * stable.AMP_PRECISION,
            rounds_invariant_up=vault == V2 and draw(st.booleans()),
        )
    shares = [draw(st.integers(10, 300)) for _ in range(n)]
    weights = [share * ONE // sum(shares) for share in shares]
    weights[0] += ONE - sum(weights)
    assume(min(weights) >= weighted.MIN_WEIGHT)
    return weighted.WeightedPool(
        **common, weights=tuple(weights), exact_powers=vault == V3 or draw(st.booleans())
    )


@given(st.integers(1, 2**128 - 1), st.sampled_from([1, 10**12]), st.integers(1, 10**20), st.booleans())
def test_v3_rounds_what_is_given_against_the_trader(
    amount: int, scaling: int, rate: int, given_in: bool
) -> None:
    # fails if an input counts for more, or an output for less, than it is, or by more than two units of it
    pool = replace(WEIGHTED, vault=V3, scaling=(scaling, 1), rates=(rate, ONE))
    real = Fraction(amount * scaling * rate, ONE)
    scaled = scaled_given(pool, amount, 0, exact_in=given_in)
    if given_in:
        assert real - 1 < scaled <= real
    else:
        assert real <= scaled < real + Fraction(amount * scaling, ONE) + 1


fractions = st.integers(10**3, 25 * 10**10).map(lambda part: Fraction(part, 10**12))  # 1e-9 to 1/4


def after(pool: Pool, paid: int, got: int, i: int, j: int) -> Pool:
    balances = list(pool.balances)
    balances[i] += paid
    balances[j] -= got
    return replace(pool, balances=tuple(balances))


def amount_of(pool: Pool, token: int, fraction: Fraction) -> int:
    return max(int(pool.balances[token] * fraction), 1)


@given(pools(), fractions, st.booleans())
def test_going_there_and_back_never_gains(pool: Pool, fraction: Fraction, given_out: bool) -> None:
    # fails if one step rounds towards the trader
    try:
        if given_out:
            got = amount_of(pool, 1, fraction)
            paid = exact_out(pool, 0, 1, got)
        else:
            paid = amount_of(pool, 0, fraction)
            got = exact_in(pool, 0, 1, paid)
        back = exact_in(after(pool, paid, got, 0, 1), 1, 0, got)
    except SwapRevertedError:
        assume(False)
    assert back <= paid


def slack(pool: Pool, token: int) -> Fraction:
    """What the contract's own approximations are worth, raw units of `token`.

    Weighted: the error bound of pow, of the balance. Stable: Newton's method stops within one unit;
    and V2 rounds two terms of the balance formula to amp's precision, 1000 units of 18 decimals,
    which counts more the further the balances are apart.
    """
    if isinstance(pool, weighted.WeightedPool):
        return pool.balances[token] * Fraction(3 * fp.MAX_POW_RELATIVE_ERROR, ONE) + 10
    return pool.balances[token] * Fraction(1, ONE) + Fraction(10**6, pool.scaling[token]) + 10


@given(pools(), fractions)
def test_splitting_a_swap_never_gains(pool: Pool, fraction: Fraction) -> None:
    # fails if the first half leaves the pool with less than the formula keeps
    paid = 2 * amount_of(pool, 0, fraction / 2)
    try:
        whole = exact_in(pool, 0, 1, paid)
        first = exact_in(pool, 0, 1, paid // 2)
        second = exact_in(after(pool, paid // 2, first, 0, 1), 0, 1, paid // 2)
    except SwapRevertedError:
        assume(False)
    assert first + second <= whole + slack(pool, 1)


@given(pools(), fractions)
def test_more_in_gives_more_out(pool: Pool, fraction: Fraction) -> None:
    # fails if a branch (the two logarithms, the exact powers) doesn't join the other
    paid = amount_of(pool, 0, fraction)
    try:
        assert exact_in(pool, 0, 1, paid) <= exact_in(pool, 0, 1, paid + paid // 100 + 1)
        got = amount_of(pool, 1, fraction)
        assert exact_out(pool, 0, 1, got) <= exact_out(pool, 0, 1, got + got // 100 + 1)
    except SwapRevertedError:
        assume(False)


@given(pools(), fractions)
def test_asking_for_the_output_costs_the_input(pool: Pool, fraction: Fraction) -> None:
    # fails if exact-out isn't the inverse of exact-in: a fee on the wrong side, a scale on the wrong token
    paid = amount_of(pool, 0, fraction)
    try:
        got = exact_in(pool, 0, 1, paid)
        assume(got > 10**4)
        again = exact_out(pool, 0, 1, got)
    except SwapRevertedError:
        assume(False)
    assert again <= paid + slack(pool, 0)
    lost = slack(pool, 1) / pool.balances[1]  # by the first swap, as a share: less was asked for
    assert again >= paid * (1 - Fraction(2, got)) - pool.balances[0] * 100 * lost - slack(pool, 0)


@given(pools())
def test_the_marginal_price_is_that_of_small_swaps(pool: Pool) -> None:
    # fails if weights, rates or decimals are upside down, or the derivative of the invariant is wrong
    wide = replace(pool, scaling=(1,) * len(pool.scaling), balances=tuple(live_like(pool)))
    paid = wide.balances[0] // 10**7
    try:
        got = exact_in(wide, 0, 1, paid)
    except SwapRevertedError:
        assume(False)
    assert got / paid == pytest.approx(price(wide, 0, 1), rel=1e-4)


def live_like(pool: Pool) -> list[int]:
    """Balances of 18-decimal tokens with the same live balances."""
    return [balance * scaling for balance, scaling in zip(pool.balances, pool.scaling, strict=True)]


# ---- reverts and refusals


@pytest.mark.parametrize(
    ("vault", "reasons"), [(V2, ("MAX_IN_RATIO", "MAX_OUT_RATIO")), (V3, ("MaxIn", "MaxOut"))]
)
def test_a_weighted_swap_above_the_ratio_reverts(vault: int, reasons: tuple[str, str]) -> None:
    # fails if the limit is one unit off, of the wrong token, or has the other vault's name
    pool = replace(WEIGHTED, vault=vault)
    most_in, most_out = (balance * 3 // 10 for balance in pool.balances)
    assert weighted.exact_in(pool, 0, 1, most_in) > 0
    assert weighted.exact_out(pool, 0, 1, most_out) > 0
    with pytest.raises(SwapRevertedError, match=reasons[0]):
        weighted.exact_in(pool, 0, 1, most_in + 1)
    with pytest.raises(SwapRevertedError, match=reasons[1]):
        weighted.exact_out(pool, 0, 1, most_out + 1)


@pytest.mark.parametrize(
    ("pool", "amount", "reason"),
    [
        (STABLE, 0, "UNKNOWN_AMOUNT_IN_FIRST_SWAP"),
        (SURGE, 0, "AmountGivenZero"),
        (SURGE, 10**6, "TradeAmountTooSmall"),  # the fee takes it below the least
        (replace(SURGE, max_imbalance=10_000), 10**28, "MaxImbalanceRatioExceeded"),
        (STABLE, 2**112, "BALANCE_TOTAL_OVERFLOW"),
        (replace(STABLE, balances=(0,) * 3), 1, "ZERO_DIVISION"),
        (replace(WEIGHTED, balances=(2**112 - 1, 10**24)), 1, "BALANCE_TOTAL_OVERFLOW"),
    ],
)
def test_what_the_vault_refuses_reverts(pool: Pool, amount: int, reason: str) -> None:
    # fails if we quote a swap that the chain would not make
    with pytest.raises(SwapRevertedError, match=reason):
        exact_in(pool, 0, len(pool.balances) - 1, amount)


def test_a_swap_that_unbalances_pays_the_surge_fee() -> None:
    # fails if the surge is charged below its threshold, or on the swap that restores the balance
    plain = replace(SURGE, surge=None)
    small, large = 10**20, 9 * 10**23
    assert exact_in(SURGE, 0, 1, small) == exact_in(plain, 0, 1, small)
    got = exact_in(SURGE, 0, 1, large)
    assert got < exact_in(plain, 0, 1, large)
    tilted, tilted_plain = (after(pool, large, got, 0, 1) for pool in (SURGE, plain))
    assert exact_in(tilted, 1, 0, small) == exact_in(tilted_plain, 1, 0, small)
    assert price(tilted, 0, 1) == pytest.approx(exact_in(tilted, 0, 1, 10**17) / 10**17, rel=1e-4)
    assert price(tilted, 1, 0) == pytest.approx(exact_in(tilted, 1, 0, 10**17) / 10**17, rel=1e-4)


@pytest.mark.parametrize(
    ("pool", "change", "message"),
    [
        (WEIGHTED, {"vault": 4}, "vault is 4"),
        (WEIGHTED, {"balances": (1, -1)}, "balances has -1"),
        (WEIGHTED, {"balances": (1, 2**112)}, f"balances has {2**112}"),
        (WEIGHTED, {"scaling": (1, 20)}, "scaling has 20"),
        (WEIGHTED, {"rates": (ONE, 0)}, "rates has 0"),
        (WEIGHTED, {"rates": (ONE,)}, "rates has 1 entries"),
        (WEIGHTED, {"swap_fee": ONE}, f"swap_fee is {ONE}"),
        (WEIGHTED, {"weights": (ONE, ONE)}, f"weights sum to {2 * ONE}"),
        (WEIGHTED, {"weights": (ONE, 0)}, "weights has 0"),
        (WEIGHTED, {"vault": V3, "exact_powers": False}, "exact_powers is False"),
        (STABLE, {"amp": 0}, "amp is 0"),
        (STABLE, {"bpt": 3}, "bpt is 3"),
        (STABLE, {"vault": V3}, "vault is 3"),
        (STABLE, {"max_imbalance": 10_000}, "vault is 2"),
    ],
)
def test_a_malformed_pool_is_refused_by_field_and_value(
    pool: Pool, change: dict[str, Any], message: str
) -> None:
    # fails if bad data becomes a pool: every quote of it would be wrong
    with pytest.raises(ValueError, match=message):
        replace(pool, **change)


def test_swaps_that_are_not_swaps_are_refused() -> None:
    # fails if a join is quoted as a swap, or an unknown hook as the pool without it
    with pytest.raises(ValueError, match="token 1 is the pool's own share"):
        stable.exact_in(STABLE, 0, 1, ONE)
    with pytest.raises(ValueError, match="token_out is 3"):
        stable.exact_in(STABLE, 0, 3, ONE)
    with pytest.raises(ValueError, match="hook 'STABLE_SURGE' of a Balancer weighted pool"):
        pool_family("Weighted", "STABLE_SURGE")
    with pytest.raises(ValueError, match="hook 'MEV_TAX'"):
        pool_family("STABLE", "MEV_TAX")
