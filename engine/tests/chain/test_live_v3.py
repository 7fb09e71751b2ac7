"""The running engine beside the real contracts of Uniswap V2 and V3: every block, every pool, to the wei.

Pools are made before and after the start, swaps, mints and burns come at random, a branch is taken back; the
states in memory are compared with the contracts' storage after every block. About half a minute.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from live.harness import make_settings, running_engine, until
from mev_devchain.chain import running_anvil
from mev_devchain.deploy import connect, rpc_call
from mev_engine.amm import uniswap_v2, uniswap_v3
from mev_engine.amm.concentrated import MAX_TICK, extreme_price, sqrt_price_at_tick
from mev_engine.amm.uniswap_v2 import V2Pair
from mev_engine.amm.uniswap_v3 import V3Pool
from mev_engine.chain.errors import MissingMarketError
from mev_engine.detect.gas import GasModel
from mev_engine.detect.opportunity import Opportunity
from mev_engine.engine import Engine
from mev_engine.market.delta import BlockDelta, StateUpdate
from mev_engine.settings import Settings
from mev_engine.sinks.queue import Batch
from needs import lacks

from .differential.evm import AGENT, GAS, TRANSFER, ZERO, Chain, Function, Sub, by_agent, callback_data

pytestmark = pytest.mark.chain

E18 = 10**18
BLOCKS = 40
CREATE_PAIR = Function("createPair(address,address)", "(address)")
SYNC = Function("sync()")
SWAP_V2 = Function("swap(uint256,uint256,address,bytes)")
RESERVES = Function("getReserves()", "(uint112,uint112,uint32)")
CREATE_POOL = Function("createPool(address,address,uint24)", "(address)")
INITIALIZE = Function("initialize(uint160)")
MINT = Function("mint(address,int24,int24,uint128,bytes)", "(uint256,uint256)")
BURN = Function("burn(int24,int24,uint128)", "(uint256,uint256)")
SWAP_V3 = Function("swap(address,bool,int256,uint160,bytes)", "(int256,int256)")
SLOT0 = Function("slot0()", "(uint160,int24,uint16,uint16,uint16,uint32,bool)")
LIQUIDITY = Function("liquidity()", "(uint128)")
BITMAP = Function("tickBitmap(int16)", "(uint256)")
TICKS = Function("ticks(int24)", "(uint128,int128,uint256,uint256,int56,uint160,uint32,bool)")
QUOTE = Function(
    "quoteExactInputSingle((address,address,uint256,uint24,uint160))", "(uint256,uint160,uint32,uint256)"
)
SPACING = {500: 10, 3000: 60, 10_000: 200}


class Exchange:
    """Both factories with their pools; the agent owns every position and makes every trade."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.tokens = chain.tokens(3)
        self.pairs: dict[str, tuple[str, str]] = {}
        self.pools: dict[str, tuple[str, str, int]] = {}
        self.positions: dict[str, list[tuple[int, int]]] = {}
        self.v2 = chain.deploy("@uniswap/v2-core/build/UniswapV2Factory.json", "(address)", ZERO)
        self.v3 = chain.deploy(
            "@uniswap/v3-core/artifacts/contracts/UniswapV3Factory.sol/UniswapV3Factory.json"
        )
        self.quoter = chain.deploy(
            "@uniswap/v3-periphery/artifacts/contracts/lens/QuoterV2.sol/QuoterV2.json",
            "(address,address)", self.v3, ZERO,
        )  # fmt: skip
        for a, b in ((0, 1), (1, 2), (0, 2)):
            self._pair(self.tokens[a], self.tokens[b])

    def _pair(self, *tokens: str) -> None:
        (pair,) = self.chain.read(self.v2, CREATE_PAIR, *tokens)
        self.chain.send(self.v2, CREATE_PAIR(*tokens))
        self.chain.transact([*(self.pay(pair, token, 10**6 * E18) for token in tokens), Sub(pair, SYNC())])
        self.pairs[pair] = (tokens[0], tokens[1])

    def named(self, a: int, b: int, fee: int) -> str:
        """The address of the V3 pool that is or will be made."""
        (pool,) = self.chain.read(self.v3, CREATE_POOL, self.tokens[a], self.tokens[b], fee)
        self.pools[pool] = (self.tokens[a], self.tokens[b], fee)
        self.positions[pool] = []
        return str(pool)

    def create(self, pool: str) -> Sub:
        return Sub(self.v3, CREATE_POOL(*self.pools[pool]))

    def begin(self, pool: str, tick: int = 0) -> list[Sub]:
        """Its first price, and liquidity far and near."""
        spacing = SPACING[self.pools[pool][2]]
        wide, near = MAX_TICK // spacing * spacing, 20 * spacing
        self.positions[pool] = [(-wide, wide), (-near, near)]
        return [
            Sub(pool, INITIALIZE(sqrt_price_at_tick(tick) + 12345)),
            *(self.mint(pool, *position, 10**6 * E18) for position in self.positions[pool]),
        ]

    def pay(self, to: str, token: str, amount: int) -> Sub:
        return by_agent(token, TRANSFER(to, amount))

    def mint(self, pool: str, lower: int, upper: int, liquidity: int) -> Sub:
        return by_agent(pool, MINT(AGENT, lower, upper, liquidity, callback_data(*self.pools[pool][:2])))

    def swap_v3(self, pool: str, amount: int, *, zero_for_one: bool) -> Sub:
        limit = extreme_price(zero_for_one=zero_for_one)
        return by_agent(
            pool, SWAP_V3(AGENT, zero_for_one, amount, limit, callback_data(*self.pools[pool][:2]))
        )

    def swap_v2(self, pair: str, side: int, amount_in: int, amount_out: int) -> list[Sub]:
        """Pays token `side` in."""
        out = (0, amount_out) if side == 0 else (amount_out, 0)
        return [
            self.pay(pair, self.pairs[pair][side], amount_in),
            by_agent(pair, SWAP_V2(*out, AGENT, b"")),
        ]

    def some_traffic(self, random: Random, engine: Engine, pools: list[str]) -> list[Sub]:
        """Swaps in one pair and several pools, mints, burns (whole positions too), in one block."""
        pair = random.choice(list(self.pairs))
        side, amount = random.randrange(2), int(10 ** random.uniform(18, 22))
        state = engine.state_of(pair)
        subs = self.swap_v2(pair, side, amount, uniswap_v2.FAMILY.exact_in(state, side, 1 - side, amount))
        for _ in range(random.randrange(1, 5)):
            pool = random.choice(pools)
            spacing, kind = SPACING[self.pools[pool][2]], random.random()
            if kind < 0.5:
                amount = int(10 ** random.uniform(3, 22))
                subs.append(self.swap_v3(pool, amount, zero_for_one=random.random() < 0.5))
            elif kind < 0.75 or not self.positions[pool][2:]:
                at = engine.state_of(pool).tick // spacing + random.randrange(-12, 12)
                lower, upper = at * spacing, (at + random.randrange(1, 9)) * spacing
                if (lower, upper) not in self.positions[pool]:
                    self.positions[pool].append((lower, upper))
                    subs.append(self.mint(pool, lower, upper, 10**5 * E18))
            else:  # all of a position, or nothing of one that stays
                gone = self.positions[pool].pop(random.randrange(2, len(self.positions[pool])))
                subs.append(by_agent(pool, BURN(*gone, 10**5 * E18)))
                subs.append(by_agent(pool, BURN(*self.positions[pool][0], 0)))
        return subs

    def state(self, pool: str) -> V3Pool:
        """What the contract's storage says, all of it; a pool that is not begun is empty."""
        fee = self.pools[pool][2]
        spacing = SPACING[fee]
        top = MAX_TICK // spacing
        words = range(-top >> 8, (top >> 8) + 1)
        slot0, liquidity, *bitmap = self.chain.call(
            [Sub(pool, SLOT0()), Sub(pool, LIQUIDITY()), *(Sub(pool, BITMAP(word)) for word in words)]
        )
        if not slot0.data or not SLOT0.decode(slot0.data)[0]:
            return uniswap_v3.empty(fee, spacing)
        order = [
            (256 * word + bit) * spacing
            for word, bits in zip(words, (BITMAP.decode(result.data)[0] for result in bitmap), strict=True)
            for bit in range(256)
            if bits >> bit & 1
        ]
        ticks = [TICKS.decode(result.data) for result in self.chain.call(Sub(pool, TICKS(t)) for t in order)]
        price, tick = SLOT0.decode(slot0.data)[:2]
        return V3Pool(
            sqrt_price_x96=price, tick=tick, liquidity=LIQUIDITY.decode(liquidity.data)[0],
            tick_spacing=spacing, fee_pips=fee,
            ticks={t: net for t, (_gross, net, *_) in zip(order, ticks, strict=True)},
            gross={t: gross for t, (gross, *_) in zip(order, ticks, strict=True)},
        )  # fmt: skip

    async def check(self, engine: Engine) -> None:
        """The engine has seen the newest block, and holds of every pool what the chain says."""
        head = rpc_call(self.chain.web3, "eth_getBlockByNumber", "latest", False)["hash"]
        await until(lambda: engine.follower.recent.last.hash == head, f"head {head}")
        for pair in self.pairs:
            state = engine.state_of(pair)
            assert (state.reserve0, state.reserve1) == self.chain.read(pair, RESERVES)[:2], pair
        for pool in self.pools:
            assert engine.market is not None
            if pool in engine.market.pool_index:
                assert engine.state_of(pool) == self.state(pool), self.pools[pool]

    def execute(self, found: Opportunity) -> None:
        """The hops in the real contracts, one after another, pay what was said, and a pair not a wei more."""
        subs: list[Sub] = []
        expected: list[tuple[str, int]] = []  # of each sub
        for pool, token, paid, got in zip(
            found.pools, found.tokens, found.amounts, found.amounts[1:], strict=False
        ):
            if pool in self.pairs:
                side = self.pairs[pool].index(token)
                transfer, swap = self.swap_v2(pool, side, paid, got)
                too_much = self.swap_v2(pool, side, paid, got + 1)[1]
                subs += [transfer, too_much, swap]
                expected += [("pays", 0), ("refuses", 0), ("pays", 0)]
            else:
                side = self.pools[pool].index(token)
                other, fee = self.pools[pool][1 - side], self.pools[pool][2]
                subs += [
                    Sub(self.quoter, QUOTE((token, other, paid, fee, 0))),
                    self.swap_v3(pool, paid, zero_for_one=side == 0),
                ]
                expected += [("quotes", got), ("swaps", got)]
        for (what, amount), result in zip(expected, self.chain.call(subs), strict=True):
            assert result.success == (what != "refuses"), (what, found)
            if what == "quotes":
                assert QUOTE.decode(result.data)[0] == amount, found
            elif what == "swaps":
                assert -min(SWAP_V3.decode(result.data)) == amount, found


@pytest.fixture(scope="module")
def chain(anvil_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """As for the differential tests, but it keeps the states of its blocks, which the engine asks for."""
    modules = Path(__file__).resolve().parents[1] / "contracts" / "node_modules"
    if not (modules / "@uniswap" / "v3-periphery").is_dir():
        lacks("CHAIN", f"{modules} is not there or not whole; run `npm ci --ignore-scripts` beside it")
    folder, devchain = tmp_path_factory.mktemp("v3"), anvil_binary.parents[3]
    options = ("--hardfork", "cancun", "--gas-limit", str(2 * GAS), "--base-fee", "0", "--gas-price", "0")
    more = ("--no-mining", "--no-request-size-limit", "--cache-path", str(folder / "states"))
    with running_anvil(*options, *more, log=folder / "anvil.log", node_modules=devchain) as anvil:
        yield Chain(connect(anvil.http), (devchain, modules))


def settings(folder: Path, chain: Chain, exchange: Exchange, **factory: str) -> Settings:
    endpoint = str(chain.web3.provider.endpoint_uri).replace("http", "ws")  # type: ignore[attr-defined]
    v3 = {"address": exchange.v3, "name": "uniswap_v3", "family": "uniswap_v3"} | factory
    return make_settings(
        folder, endpoint,
        market={
            "base_tokens": [exchange.tokens[0]], "wrapped_native": exchange.tokens[0],
            "factories": [{"address": exchange.v2, "name": "uniswap_v2"}, v3],
        },
        detect={"priority_fee_wei": 10**9},
    )  # fmt: skip


async def test_every_pool_is_followed_to_the_wei(
    chain: Chain, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Could fail: a pool is not found, before or after the start; a log is missed, taken twice or in the wrong
    # order; a tick or its gross is wrong; a branch that was taken back stays; an amount is a wei off; or the
    # audit sees differences that are not there, or not the one that is.
    caplog.set_level(logging.INFO)
    rows: dict[str, tuple[Opportunity, ...]] = {}
    monkeypatch.setattr(Engine, "_put", lambda _self, batch: _keep(rows, batch))
    exchange, random = Exchange(chain), Random(33)
    early = [exchange.named(0, 1, 3000), exchange.named(1, 2, 500)]
    silent = exchange.named(0, 2, 500)  # made, but without a price
    for pool in early:
        chain.transact([exchange.create(pool), *exchange.begin(pool)])
    chain.transact([exchange.create(silent)])

    async with running_engine(settings(tmp_path, chain, exchange)) as engine:
        assert engine.market is not None
        assert engine.market.n_pools == 6
        pools = list(early)
        await exchange.check(engine)
        for number in range(BLOCKS):
            chain.transact(exchange.some_traffic(random, engine, pools))
            await exchange.check(engine)
            if number == 10:  # in three blocks
                late = exchange.named(0, 2, 10_000)
                for subs in ([exchange.create(late)], *([sub] for sub in exchange.begin(late, -50))):
                    chain.transact(subs)
                    await exchange.check(engine)
                pools.append(late)
            if number == 20:
                chain.transact(exchange.begin(silent, 70))
                pools.append(silent)
        assert sum(len(engine.state_of(pool).ticks) for pool in pools) > 20

        await _taken_back(exchange, engine, random, pools)
        _planted(exchange, engine, rows, await _plant(exchange, engine))
        assert "state_lost" not in caplog.text
        assert "resynchronising" not in caplog.text
        await _damaged(exchange, engine, early[0], caplog)


def _keep(rows: dict[str, tuple[Opportunity, ...]], batch: Batch) -> None:
    rows[batch.block.hash] = batch.rows


async def _taken_back(exchange: Exchange, engine: Engine, random: Random, pools: list[str]) -> None:
    """Blocks with a new pool and traffic leave the chain; the pool comes again on the other branch."""
    chain = exchange.chain
    pool = exchange.named(1, 2, 3000)
    chain.transact([exchange.create(pool), *exchange.begin(pool)])
    positions = {name: list(ends) for name, ends in exchange.positions.items()}
    await exchange.check(engine)
    for _ in range(2):
        chain.transact(exchange.some_traffic(random, engine, [*pools, pool]))
        await exchange.check(engine)
    rpc_call(chain.web3, "anvil_rollback", 3)
    exchange.positions = positions
    rpc_call(chain.web3, "evm_increaseTime", 5)  # else the other branch may have the same blocks
    chain.transact([exchange.swap_v3(pools[0], E18, zero_for_one=True)])
    await exchange.check(engine)
    assert engine.state_of(pool) == uniswap_v3.empty(3000, 60)
    chain.transact([exchange.create(pool), *exchange.begin(pool, 30)])
    await exchange.check(engine)
    assert engine.state_of(pool).liquidity > 0


async def _plant(exchange: Exchange, engine: Engine) -> str:
    """A trade that leaves a pair's price 5 % away from the pools'; the block's hash."""
    pair, amount = next(iter(exchange.pairs)), 25_000 * E18
    state: V2Pair = engine.state_of(pair)
    exchange.chain.transact(
        exchange.swap_v2(pair, 0, amount, uniswap_v2.FAMILY.exact_in(state, 0, 1, amount))
    )
    await exchange.check(engine)
    return engine.follower.recent.last.hash


def _planted(
    exchange: Exchange, engine: Engine, rows: dict[str, tuple[Opportunity, ...]], block: str
) -> None:
    found, gas = rows[block], GasModel()
    mixed = [o for o in found if any(p in exchange.pools for p in o.pools)]
    between = [o for o in mixed if len(o.pools) == 2 and any(p in exchange.pairs for p in o.pools)]
    print(f"\n{len(found)} opportunities, {len(mixed)} with V3 pools, {len(between)} between V2 and V3")
    assert between
    assert between[0].gross_profit > E18
    for opportunity in found:
        exchange.execute(opportunity)
        hops = sum(gas.hop("uniswap_v3" if p in exchange.pools else "uniswap_v2") for p in opportunity.pools)
        assert opportunity.gas_units == gas.per_cycle + hops


async def _damaged(exchange: Exchange, engine: Engine, pool: str, caplog: pytest.LogCaptureFixture) -> None:
    """A state that no log gave is seen by the audit, named, and read anew."""
    assert engine.market is not None
    wrong = replace(engine.state_of(pool), sqrt_price_x96=engine.state_of(pool).sqrt_price_x96 + 1)
    engine.market.apply(BlockDelta(engine.follower.recent.last, (StateUpdate(pool, wrong),)))
    await until(lambda: engine.state_of(pool) != wrong, "the audit sees it", 30)
    assert f"state_differs pool={pool}" in caplog.text
    assert "audited pools differ" in caplog.text
    await exchange.check(engine)


async def test_no_factory_at_the_address(chain: Chain, tmp_path: Path) -> None:
    # Could fail: a mistyped factory gives an engine without V3 pools that says nothing.
    exchange = Exchange(chain)
    wrong = settings(tmp_path, chain, exchange, address=exchange.tokens[0])
    with pytest.raises(MissingMarketError, match=r"uniswap_v3.* does not answer feeAmountTickSpacing"):
        async with running_engine(wrong):
            await asyncio.sleep(0)
