"""Uniswap V3's and PancakeSwap V3's own pools, and QuoterV2, against `uniswap_v3`.

Pools: @uniswap/v3-core, @pancakeswap/v3-core; quoter: @uniswap/v3-periphery. A case that differs by a
wei, a tick, a unit of liquidity or a revert fails. About half a minute on one slow core.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from random import Random

import pytest
from mev_devchain.deploy import rpc_call
from mev_engine.amm import uniswap_v3
from mev_engine.amm.concentrated import MAX_TICK, Swap, extreme_price
from mev_engine.amm.uniswap_v3 import V3Pool

from .compare import Answer, Case, Reverted, compare
from .concentrated_cases import Scenario, SwapCall, scenarios, successive_swaps, swaps
from .evm import AGENT, SENDER, ZERO, Chain, Function, Result, Sub, by_agent, callback_data, pool_maker_code
from .implementations import V3

pytestmark = pytest.mark.chain

UNISWAP_TIERS = ((100, 1), (500, 10), (3000, 60), (10_000, 200), (0, 1), (999_999, 16_383))
PANCAKE_TIERS = ((100, 1), (2500, 50))
CHAINS, DEPTH = 30, 4
QUOTES = 40

_CORE = "@uniswap/v3-core/artifacts/contracts/"
ENABLE = Function("enableFeeAmount(uint24,int24)")
CREATE_POOL = Function("createPool(address,address,uint24)", "(address)")
INITIALIZE = Function("initialize(uint160)")
MINT = Function("mint(address,int24,int24,uint128,bytes)", "(uint256,uint256)")
SWAP = Function("swap(address,bool,int256,uint160,bytes)", "(int256,int256)")
SLOT0 = Function("slot0()", "(uint160,int24,uint16,uint16,uint16,uint32,bool)")
LIQUIDITY = Function("liquidity()", "(uint128)")
TICKS = Function("ticks(int24)", "(uint128,int128,uint256,uint256,int56,uint160,uint32,bool)")
SET_FEE_PROTOCOL = Function("setFeeProtocol(uint8,uint8)")
_SINGLE = "Single((address,address,uint256,uint24,uint160))"
QUOTE = {
    "exact_in": Function("quoteExactInput" + _SINGLE, "(uint256,uint160,uint32,uint256)"),
    "exact_out": Function("quoteExactOutput" + _SINGLE, "(uint256,uint160,uint32,uint256)"),
}


@dataclass(frozen=True, slots=True)
class Deployed:
    """A real pool and its state as the contract tells it."""

    name: str
    address: str
    token0: str
    token1: str
    state: V3Pool


def _swap(pool: V3Pool, zero_for_one: bool, amount: int, limit: int) -> Swap:
    return uniswap_v3.swap(pool, zero_for_one=zero_for_one, amount=amount, sqrt_price_limit_x96=limit)


@dataclass(frozen=True, slots=True)
class Market:
    """Uniswap's pools and their quoter, and Pancake's pools, for which there is no quoter."""

    uniswap: list[Deployed]
    pancake: list[Deployed]
    quoter: str


@pytest.fixture(scope="module")
def market(chain: Chain) -> Market:
    random = Random(3)
    factory = chain.deploy(_CORE + "UniswapV3Factory.sol/UniswapV3Factory.json")
    quoter = chain.deploy(
        "@uniswap/v3-periphery/artifacts/contracts/lens/QuoterV2.sol/QuoterV2.json",
        "(address,address)", factory, ZERO,
    )  # fmt: skip
    tokens = chain.tokens(5)
    pairs = list(combinations(tokens, 2))  # a pool of its own for each scenario of a tier
    return Market(
        list(_uniswap_pools(chain, random, factory, pairs)),
        list(_pancake_pools(chain, random, pairs)),
        quoter,
    )


def test_pools_swap_as_we_compute(chain: Chain, market: Market) -> None:
    # fails if a rounding, a stop, a fee or a crossing differed: 4 swaps follow one another on each state
    random = Random(31)
    cases: list[Case[V3Pool, SwapCall]] = []
    for pool in [*market.uniswap, *market.pancake]:
        for _ in range(CHAINS):
            cases += _swap_chain(chain, random, pool)
    tally = compare(cases, V3)
    print(f"\nUniswap and PancakeSwap V3, pools: {tally}")
    assert tally.paid >= 5000


def test_quoter_quotes_as_we_compute(chain: Chain, market: Market) -> None:
    # fails as above, or if a quote that the quoter refuses (short of the output, too large) were given
    random = Random(32)
    cases: list[Case[V3Pool, SwapCall]] = []
    for pool in market.uniswap:
        calls = [
            _as_quote(random, call)
            for call in swaps(random, pool.state, _swap, QUOTES, long_walks=pool.state.tick_spacing > 1)
        ] + [SwapCall("exact_in", True, 2**255, 0), SwapCall("exact_out", True, 2**255, 0)]
        quotes = [_quote(market.quoter, pool, call) for call in calls]
        for call, result in zip(calls, chain.call(quotes), strict=True):
            cases.append(Case(pool.state, call, _quoted(call, result)))
    tally = compare(cases, V3)
    print(f"\nUniswap V3, QuoterV2: {tally}")
    assert tally.paid >= 1500


def _swap_chain(chain: Chain, random: Random, pool: Deployed) -> Iterator[Case[V3Pool, SwapCall]]:
    """Swaps on one another's states, which are the contract's own."""
    long_walks = pool.state.tick_spacing > 1
    calls = successive_swaps(random, pool.state, _swap, DEPTH, long_walks=long_walks)
    data = callback_data(pool.token0, pool.token1)
    subs = []
    for call in calls:
        subs += [
            by_agent(pool.address, SWAP(AGENT, call.zero_for_one, call.amount, call.limit, data)),
            Sub(pool.address, SLOT0()),
            Sub(pool.address, LIQUIDITY()),
        ]
    results = iter(chain.call(subs))
    state = pool.state
    for call, swapped, slot0, liquidity in zip(calls, results, results, results, strict=True):
        after = _state(state, slot0, liquidity)
        yield Case(state, call, _answer(call, swapped, after))
        state = after


def _state(state: V3Pool, slot0: Result, liquidity: Result) -> V3Pool:
    price, tick = SLOT0.decode(slot0.data)[:2]
    return replace(state, sqrt_price_x96=price, tick=tick, liquidity=LIQUIDITY.decode(liquidity.data)[0])


def _answer(call: SwapCall, swapped: Result, after: V3Pool) -> Answer:
    if not swapped.success:
        return swapped.revert({})
    amounts = SWAP.decode(swapped.data)
    paid, got = amounts if call.zero_for_one else reversed(amounts)
    return paid, -got, after.sqrt_price_x96, after.tick, after.liquidity


def _as_quote(random: Random, call: SwapCall) -> SwapCall:
    limit = random.choice([call.limit, 0])
    if call.limit == extreme_price(zero_for_one=call.zero_for_one):
        limit = 0
    return SwapCall(
        "exact_in" if call.amount > 0 else "exact_out", call.zero_for_one, abs(call.amount), limit
    )


def _quote(quoter: str, pool: Deployed, call: SwapCall) -> Sub:
    token_in, token_out = (pool.token0, pool.token1) if call.zero_for_one else (pool.token1, pool.token0)
    arguments = (token_in, token_out, call.amount, pool.state.fee_pips, call.limit)
    return Sub(quoter, QUOTE[call.kind](arguments))


def _quoted(call: SwapCall, result: Result) -> Answer:
    if result.success:
        return QUOTE[call.kind].decode(result.data)[:2]
    revert = result.revert({})
    # the quoter's word for an inner revert that has no reason
    return Reverted() if revert.reason == "Unexpected error" else revert


def _most(spacing: int) -> int:
    """Tick.tickSpacingToMaxLiquidityPerTick."""
    return (2**128 - 1) // (2 * (MAX_TICK // spacing) + 1)


def _uniswap_pools(
    chain: Chain, random: Random, factory: str, pairs: Sequence[tuple[str, str]]
) -> Iterator[Deployed]:
    """Every scenario in every tier, some with a protocol fee (which must change no amount)."""
    for fee, spacing in UNISWAP_TIERS:
        if fee not in (500, 3000, 10_000):  # enabled by the factory itself
            chain.send(factory, ENABLE(fee, spacing))
        for scenario, tokens in zip(scenarios(random, spacing, _most(spacing)), pairs, strict=False):
            address = chain.read(factory, CREATE_POOL, *tokens, fee)[0]
            chain.send(factory, CREATE_POOL(*tokens, fee))
            chain.send(address, INITIALIZE(scenario.sqrt_price_x96))
            if random.random() < 0.3:
                chain.send(address, SET_FEE_PROTOCOL(random.randrange(4, 11), 0))
            yield _filled(chain, scenario, address, tokens, (fee, spacing))


def _pancake_pools(chain: Chain, random: Random, pairs: Sequence[tuple[str, str]]) -> Iterator[Deployed]:
    """The package has no bytecode of Pancake's pool deployer: its pool asks our maker for its parameters."""
    code = chain.code("@pancakeswap/v3-core/artifacts/contracts/PancakeV3Pool.sol/PancakeV3Pool.json")
    maker = "0x" + "ca" * 20
    for fee, spacing in PANCAKE_TIERS:
        for scenario, tokens in zip(scenarios(random, spacing, _most(spacing)), pairs, strict=False):
            words = [int(SENDER, 16), *(int(token, 16) for token in tokens), fee, spacing]
            rpc_call(chain.web3, "anvil_setCode", maker, "0x" + pool_maker_code(words).hex())
            (made,) = chain.call([Sub(maker, code)])
            address = "0x" + made.data[-20:].hex()
            chain.send(maker, code)
            chain.send(address, INITIALIZE(scenario.sqrt_price_x96))
            yield _filled(chain, scenario, address, tokens, (fee, spacing))


def _filled(
    chain: Chain, scenario: Scenario, address: str, tokens: tuple[str, str], tier: tuple[int, int]
) -> Deployed:
    """Liquidity added by real mints; the state, its tick map included, as the contract then tells it."""
    data = callback_data(*tokens)
    chain.transact(
        by_agent(address, MINT(AGENT, p.lower, p.upper, p.liquidity, data)) for p in scenario.positions
    )
    order = sorted(scenario.ticks())
    slot0, liquidity, *ticks = chain.call(
        [Sub(address, SLOT0()), Sub(address, LIQUIDITY()), *(Sub(address, TICKS(tick)) for tick in order)]
    )
    price, tick = SLOT0.decode(slot0.data)[:2]
    state = V3Pool(
        sqrt_price_x96=price,
        tick=tick,
        liquidity=LIQUIDITY.decode(liquidity.data)[0],
        tick_spacing=tier[1],
        ticks={t: TICKS.decode(result.data)[1] for t, result in zip(order, ticks, strict=True)},
        fee_pips=tier[0],
    )
    assert dict(state.ticks) == scenario.ticks()
    return Deployed(f"{scenario.name} {tier}", address, *tokens, state)
