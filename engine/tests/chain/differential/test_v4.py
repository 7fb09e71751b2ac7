"""Uniswap V4's own PoolManager and V4Quoter against `uniswap_v4`.

All from @uniswap/v4-periphery: PoolManager, PoolSwapTest and PoolModifyLiquidityTest (which call it and
settle), StateView and V4Quoter. About half a minute on one slow core.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random

import pytest
from eth_abi.abi import decode, encode
from eth_utils.crypto import keccak
from mev_engine.amm import uniswap_v4
from mev_engine.amm.concentrated import MAX_TICK, MIN_TICK, Swap
from mev_engine.amm.uniswap_v4 import MAX_PROTOCOL_FEE, V4Pool

from .compare import Answer, Case, Reverted, compare
from .concentrated_cases import Scenario, SwapCall, scenarios, successive_swaps, swaps
from .evm import APPROVE, SENDER, ZERO, Chain, Function, Result, Sub, selectors
from .implementations import V4

pytestmark = pytest.mark.chain

TIERS = ((100, 1), (500, 10), (3000, 60), (10_000, 200), (0, 1), (999_999, 60), (1_000_000, 32_767))
CHAINS, DEPTH = 30, 4
QUOTES = 40

_OUT = "@uniswap/v4-periphery/foundry-out/"
_KEY = "(address,address,uint24,int24,address)"
INITIALIZE = Function(f"initialize({_KEY},uint160)", "(int24)")
MODIFY = Function(f"modifyLiquidity({_KEY},(int24,int24,int256,bytes32),bytes)", "(int256)")
SWAP = Function(f"swap({_KEY},(bool,int256,uint160),(bool,bool),bytes)", "(int256)")
SET_CONTROLLER = Function("setProtocolFeeController(address)")
SET_PROTOCOL_FEE = Function(f"setProtocolFee({_KEY},uint24)")
SLOT0 = Function("getSlot0(bytes32)", "(uint160,int24,uint24,uint24)")
LIQUIDITY = Function("getLiquidity(bytes32)", "(uint128)")
TICK = Function("getTickLiquidity(bytes32,int24)", "(uint128,int128)")
QUOTE = {
    "exact_in": Function(f"quoteExactInputSingle(({_KEY},bool,uint128,bytes))", "(uint256,uint256)"),
    "exact_out": Function(f"quoteExactOutputSingle(({_KEY},bool,uint128,bytes))", "(uint256,uint256)"),
}
ERRORS = selectors(
    "SwapAmountCannotBeZero()",
    "InvalidFeeForExactOut()",
    "PriceLimitAlreadyExceeded(uint160,uint160)",
    "PriceLimitOutOfBounds(uint160)",
    "SafeCastOverflow()",
    "NotEnoughLiquidity(bytes32)",  # the quoter's
    "NotEnoughLiquidity()",  # SqrtPriceMath's
    "InvalidPriceOrLiquidity()",
    "InvalidPrice()",
    "PriceOverflow()",
    "UnexpectedRevertBytes(bytes)",
)


@dataclass(frozen=True, slots=True)
class Contracts:
    """Addresses."""

    manager: str
    swapper: str
    provider: str
    view: str
    quoter: str


Key = tuple[str, str, int, int, str]


@dataclass(frozen=True, slots=True)
class Deployed:
    """A real pool and its state as the contract tells it."""

    key: Key
    state: V4Pool

    @property
    def id(self) -> bytes:
        return _id(self.key)


@pytest.fixture(scope="module")
def contracts(chain: Chain) -> Contracts:
    manager = chain.deploy(_OUT + "PoolManager.sol/PoolManager.default.json", "(address)", SENDER)
    chain.send(manager, SET_CONTROLLER(SENDER))
    names = (
        "PoolSwapTest.sol/PoolSwapTest.default.json",
        "PoolModifyLiquidityTest.sol/PoolModifyLiquidityTest.default.json",
        "StateView.sol/StateView.json",
        "V4Quoter.sol/V4Quoter.json",
    )
    return Contracts(manager, *(chain.deploy(_OUT + name, "(address)", manager) for name in names))


@pytest.fixture(scope="module")
def pools(chain: Chain, contracts: Contracts) -> list[Deployed]:
    """Every scenario in every tier, most with a protocol fee."""
    random = Random(4)
    tokens = chain.tokens(2)
    spenders = (contracts.swapper, contracts.provider)
    chain.transact(Sub(t, APPROVE(spender, 2**256 - 1)) for t in tokens for spender in spenders)
    made = []
    for fee, spacing in TIERS:
        for number, scenario in enumerate(scenarios(random, spacing, _most(spacing))):
            # a pool of its own for each scenario: the fee, part of the key, differs by up to 7 pips
            lp_fee = fee + number if fee < 999_000 else fee - number
            key = (tokens[0], tokens[1], lp_fee, spacing, ZERO)
            made.append(_filled(chain, contracts, random, scenario, key))
    return made


def _most(spacing: int) -> int:
    """Pool.tickSpacingToMaxLiquidityPerTick; unlike V3's it rounds the lowest tick down."""
    return (2**128 - 1) // (MAX_TICK // spacing - MIN_TICK // spacing + 1)


def _id(key: Key) -> bytes:
    return keccak(encode([_KEY], [key]))


def _filled(chain: Chain, contracts: Contracts, random: Random, scenario: Scenario, key: Key) -> Deployed:
    """Liquidity as far as its amounts fit V4's int128; the state as the contract then tells it."""
    fee0, fee1 = random.choice([0, MAX_PROTOCOL_FEE, 250]), random.choice([0, MAX_PROTOCOL_FEE, 17])
    chain.send(contracts.manager, INITIALIZE(key, scenario.sqrt_price_x96))
    chain.send(contracts.manager, SET_PROTOCOL_FEE(key, fee0 | fee1 << 12))
    mints = [
        Sub(contracts.provider, MODIFY(key, (p.lower, p.upper, p.liquidity, bytes(32)), b""))
        for p in scenario.positions
    ]
    fits = [result.success for result in chain.call(mints)]
    chain.transact(mint for mint, fit in zip(mints, fits, strict=True) if fit)
    kept = replace(
        scenario, positions=tuple(p for p, fit in zip(scenario.positions, fits, strict=True) if fit)
    )
    order = sorted(kept.ticks())
    slot0, liquidity, *ticks = chain.call(
        [
            Sub(contracts.view, SLOT0(_id(key))),
            Sub(contracts.view, LIQUIDITY(_id(key))),
            *(Sub(contracts.view, TICK(_id(key), tick)) for tick in order),
        ]
    )
    price, tick, protocol_fee, lp_fee = SLOT0.decode(slot0.data)
    state = V4Pool(
        sqrt_price_x96=price,
        tick=tick,
        liquidity=LIQUIDITY.decode(liquidity.data)[0],
        tick_spacing=key[3],
        ticks={t: TICK.decode(result.data)[1] for t, result in zip(order, ticks, strict=True)},
        lp_fee=lp_fee,
        protocol_fee=protocol_fee,
    )
    assert dict(state.ticks) == kept.ticks()
    assert (protocol_fee, lp_fee) == (fee0 | fee1 << 12, key[2])
    return Deployed(key, state)


def _swap(pool: V4Pool, zero_for_one: bool, amount: int, limit: int) -> Swap:
    return uniswap_v4.swap(pool, zero_for_one=zero_for_one, amount=amount, sqrt_price_limit_x96=limit)


def test_manager_swaps_as_we_compute(chain: Chain, contracts: Contracts, pools: list[Deployed]) -> None:
    # fails if a rounding, a stop, either fee or a crossing differed: 4 swaps follow one another on each state
    random = Random(41)
    cases: list[Case[V4Pool, SwapCall]] = []
    for pool in pools:
        for _ in range(CHAINS):
            cases += _swap_chain(chain, contracts, random, pool)
    tally = compare(cases, V4)
    print(f"\nUniswap V4, PoolManager: {tally}")
    assert tally.paid >= 5000


def test_quoter_quotes_as_we_compute(chain: Chain, contracts: Contracts, pools: list[Deployed]) -> None:
    # fails as above, or if we quoted an amount that the pool's liquidity does not cover
    random = Random(42)
    cases: list[Case[V4Pool, SwapCall]] = []
    for pool in pools:
        calls = []
        for swap in swaps(random, pool.state, _swap, QUOTES, long_walks=pool.state.tick_spacing > 1):
            # inputs from 2**127 on make the quoter's cast wrap: see `uniswap_v4.exact_in`
            if swap.amount > 0:
                call = replace(swap, kind="exact_in", amount=min(swap.amount, 2**127 - 1), limit=0)
            else:
                call = replace(swap, kind="exact_out", amount=min(-swap.amount, 2**128 - 1), limit=0)
            calls.append(call)
        quotes = [
            Sub(contracts.quoter, QUOTE[call.kind]((pool.key, call.zero_for_one, call.amount, b"")))
            for call in calls
        ]
        for call, result in zip(calls, chain.call(quotes), strict=True):
            answer = QUOTE[call.kind].decode(result.data)[:1] if result.success else _revert(result)
            cases.append(Case(pool.state, call, answer))
    tally = compare(cases, V4)
    print(f"\nUniswap V4, V4Quoter: {tally}")
    assert tally.paid >= 1000


def _swap_chain(
    chain: Chain, contracts: Contracts, random: Random, pool: Deployed
) -> Iterator[Case[V4Pool, SwapCall]]:
    """Swaps on one another's states, which are the contract's own."""
    long_walks = pool.state.tick_spacing > 1
    calls = successive_swaps(random, pool.state, _swap, DEPTH, long_walks=long_walks)
    subs = []
    for call in calls:
        params = (call.zero_for_one, -call.amount, call.limit)  # V4's sign is the opposite of V3's
        subs += [
            Sub(contracts.swapper, SWAP(pool.key, params, (False, False), b"")),
            Sub(contracts.view, SLOT0(pool.id)),
            Sub(contracts.view, LIQUIDITY(pool.id)),
        ]
    results = iter(chain.call(subs))
    state = pool.state
    for call, swapped, slot0, liquidity in zip(calls, results, results, results, strict=True):
        price, tick = SLOT0.decode(slot0.data)[:2]
        after = replace(state, sqrt_price_x96=price, tick=tick, liquidity=LIQUIDITY.decode(liquidity.data)[0])
        yield Case(state, call, _answer(call, swapped, after))
        state = after


def _answer(call: SwapCall, swapped: Result, after: V4Pool) -> Answer:
    if not swapped.success:
        return _revert(swapped)
    # BalanceDelta: two int128, what the swapper is owed of each token
    delta0, delta1 = decode(["int256", "int256"], _widened(swapped.data))
    paid, got = (-delta0, delta1) if call.zero_for_one else (-delta1, delta0)
    return paid, got, after.sqrt_price_x96, after.tick, after.liquidity


def _widened(pair: bytes) -> bytes:
    """Two int128 in a word as two int256."""
    return b"".join((b"\xff" if half[0] & 0x80 else b"\x00") * 16 + half for half in (pair[:16], pair[16:]))


def _revert(result: Result) -> Reverted:
    """The quoter wraps what the manager reverted with."""
    revert = result.revert(ERRORS)
    if revert.reason == "UnexpectedRevertBytes":
        return Result(False, decode(["bytes"], result.data[4:])[0]).revert(ERRORS)
    return revert
