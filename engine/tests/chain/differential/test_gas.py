"""Gas of swaps in the real contracts of V2 and V3, against the model that takes it off profits.

A model that says less than a swap costs would let the engine trade at a loss, so what is measured must be
below it; more than twice as much, and it would throw away what can be earned. About 12 s.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pytest
from mev_engine.amm.concentrated import sqrt_price_at_tick
from mev_engine.detect.gas import NEW_TICK_GAS, TICK_GAS, GasModel

from .evm import AGENT, TRANSFER, ZERO, Chain, Function, Sub, by_agent, callback_data

pytestmark = pytest.mark.chain

MODEL = GasModel()
E18 = 10**18
SPACING, FEE = 60, 3000
EDGES = range(2, 12)
"""Positions end at these multiples of the spacing on both sides of price 1, so that swaps cross ticks."""

CREATE_PAIR = Function("createPair(address,address)", "(address)")
SYNC = Function("sync()")
SWAP_V2 = Function("swap(uint256,uint256,address,bytes)")
CREATE_POOL = Function("createPool(address,address,uint24)", "(address)")
INITIALIZE = Function("initialize(uint160)")
MINT = Function("mint(address,int24,int24,uint128,bytes)", "(uint256,uint256)")
SWAP_V3 = Function("swap(address,bool,int256,uint160,bytes)", "(int256,int256)")


@dataclass
class Pools:
    """Two pairs and a V3 pool of the same two tokens, all at price 1; the agent is the executor."""

    chain: Chain
    tokens: list[str]
    pairs: list[str]
    pool: str

    @property
    def data(self) -> bytes:
        return callback_data(*self.tokens)

    def pay(self, to: str, token: int, amount: int) -> Sub:
        return by_agent(self.tokens[token], TRANSFER(to, amount))

    def swap_v2(self, pair: int, token_in: int, amount_out: int, to: str) -> Sub:
        amounts = (0, amount_out) if token_in == 0 else (amount_out, 0)
        return by_agent(self.pairs[pair], SWAP_V2(*amounts, to, b""))

    def swap_v3(self, tick: int, *, zero_for_one: bool, amount: int = 10**30) -> Sub:
        """Up to `amount` in, but no further than the price of a tick."""
        limit = sqrt_price_at_tick(tick)
        return by_agent(self.pool, SWAP_V3(AGENT, zero_for_one, amount, limit, self.data))

    def gas(self, sub: Sub) -> int:
        """Gas units of one call in a transaction of its own, without what every transaction costs: its base
        and its call data."""
        return self.chain.gas(sub.to, sub.data) - 21_000 - sum(16 if byte else 4 for byte in sub.data)

    def cycle_gas(self, subs: Iterable[Sub]) -> int:
        """Gas units of a transaction in which the executor makes these calls, all in all."""
        return self.chain.bundle_gas(list(subs))


@pytest.fixture(scope="module")
def pools(chain: Chain) -> Pools:
    """What has been traded before: fees have grown, the executor holds both tokens."""
    tokens = chain.tokens(2)
    pairs = []
    for _ in range(2):
        factory = chain.deploy("@uniswap/v2-core/build/UniswapV2Factory.json", "(address)", ZERO)
        pairs.append(chain.read(factory, CREATE_PAIR, *tokens)[0])
        chain.send(factory, CREATE_PAIR(*tokens))
    core = "@uniswap/v3-core/artifacts/contracts/UniswapV3Factory.sol/UniswapV3Factory.json"
    factory = chain.deploy(core)
    pool = chain.read(factory, CREATE_POOL, *tokens, FEE)[0]
    chain.send(factory, CREATE_POOL(*tokens, FEE))
    made = Pools(chain, tokens, pairs, pool)
    for pair in pairs:
        chain.transact([*(made.pay(pair, token, 10**6 * E18) for token in (0, 1)), Sub(pair, SYNC())])
        chain.transact([Sub(pair, SYNC())])  # fills its prices over time, which costs more the first time
    chain.send(pool, INITIALIZE(2**96))
    positions = [(1000 * SPACING, 10**6 * E18), *((n * SPACING, 10**4 * E18) for n in EDGES)]
    chain.transact(by_agent(pool, MINT(AGENT, -edge, edge, size, made.data)) for edge, size in positions)
    for zero_for_one, tick in ((True, -10), (False, 10)):
        chain.transact([made.swap_v3(tick, zero_for_one=zero_for_one)])
    return made


def test_a_hop_costs_what_the_model_says_or_less(pools: Pools) -> None:
    # fails if a family's figure is too low for its swap, or more than twice what it takes
    for token_in in (0, 1):
        pools.chain.transact([pools.pay(pools.pairs[0], token_in, 100 * E18)])
        paid_in = pools.gas(pools.pay(pools.pairs[0], token_in, 1))
        pair = pools.gas(pools.swap_v2(0, token_in, 99 * E18, AGENT))
        print(
            f"\nV2: swap {pair}, with its input's transfer {pair + paid_in}; model {MODEL.hop('uniswap_v2')}"
        )
        assert pair + paid_in <= MODEL.hop("uniswap_v2") <= 2 * pair
    inside = [pools.gas(pools.swap_v3(t, zero_for_one=t < 0)) for t in (-10, 10, -10, 10)]
    crossing = [pools.gas(pools.swap_v3(t, zero_for_one=t < 0)) for t in (-130, 10, -130, 10)]
    print(f"V3: no tick {inside}, one tick {crossing}; model {MODEL.hop('uniswap_v3')}")
    assert max(inside + crossing[1:]) <= MODEL.hop("uniswap_v3") <= 2 * min(inside)
    assert crossing[0] <= MODEL.hop("uniswap_v3") - TICK_GAS + NEW_TICK_GAS


def test_each_further_tick_costs_what_is_said_or_less(pools: Pools) -> None:
    # fails if a crossed tick costs more, when first crossed or later, or less than two thirds of it
    for zero_for_one in (True, False):
        side = -1 if zero_for_one else 1
        one, many = EDGES[0] * SPACING, EDGES[-1] * SPACING
        further = len(EDGES) - 1
        pools.gas(pools.swap_v3(side * (one + 10), zero_for_one=zero_for_one))
        pools.gas(pools.swap_v3(0, zero_for_one=not zero_for_one))
        base = pools.gas(pools.swap_v3(side * (one + 10), zero_for_one=zero_for_one))
        pools.gas(pools.swap_v3(0, zero_for_one=not zero_for_one))
        for name, figure in (("new", NEW_TICK_GAS), ("again", TICK_GAS)):
            whole = pools.gas(pools.swap_v3(side * (many + 10), zero_for_one=zero_for_one))
            pools.gas(pools.swap_v3(0, zero_for_one=not zero_for_one))
            tick = (whole - base) / further
            print(f"\nV3: a tick crossed {name}: {tick:.0f}; model {figure}")
            assert tick <= figure <= 1.5 * tick
            assert whole <= MODEL.hop("uniswap_v3") + further * figure


def test_a_whole_cycle_costs_what_the_model_says_or_less(pools: Pools) -> None:
    # fails if hops cost more one after the other, or if `per_cycle` does not cover what surrounds them
    two_pairs = [
        pools.pay(pools.pairs[0], 0, E18),
        pools.swap_v2(0, 0, 99 * E18 // 100, pools.pairs[1]),
        pools.swap_v2(1, 1, 98 * E18 // 100, AGENT),
    ]
    mixed = [
        pools.swap_v3(-10_000, zero_for_one=True, amount=E18),
        pools.pay(pools.pairs[0], 1, E18),
        pools.swap_v2(0, 1, 98 * E18 // 100, AGENT),
    ]
    for families, subs in ((["uniswap_v2"] * 2, two_pairs), (["uniswap_v3", "uniswap_v2"], mixed)):
        used = pools.cycle_gas(subs)
        units = MODEL.per_cycle + sum(MODEL.hop(family) for family in families)
        print(f"\n{' and '.join(families)}: {used} gas; model {units}")
        assert used <= units <= 2 * used
