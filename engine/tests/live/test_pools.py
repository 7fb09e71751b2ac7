"""Pairs are found through the real factory: those that are there, those that come, those that go."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from eth_utils.address import to_checksum_address
from mev_devchain.chain import default_node_modules
from mev_devchain.deploy import Contracts
from mev_engine.chain.errors import MissingMarketError
from mev_engine.chain.pools import text, value_of
from mev_engine.commands import check
from mev_engine.engine import Engine
from mev_engine.settings import SettingsError

from .harness import (
    PAIRS,
    SENDER,
    WETH,
    Chain,
    make_settings,
    reaches,
    running_chain,
    running_engine,
    write_pools_file,
)

pytestmark = pytest.mark.chain

UNIT = 10**18


class Exchange:
    """The real factory, WETH9 and two tokens, deployed from account 0."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._contracts = Contracts(default_node_modules())
        self.weth = self._create("WETH9")
        self.factory = self._create("Factory", to_checksum_address(SENDER))
        self.tokens = [
            self._create("Token", name, name, decimals) for name, decimals in (("USDX", 6), ("TWO", 2))
        ]
        self._send(self.weth, self._contracts.call("WETH9", "deposit"), value=1000 * UNIT)
        for token in self.tokens:
            self._send(token, self._contracts.call("Token", "mint(uint256)", 10**15))
        chain.mine()

    def _create(self, name: str, *arguments: object) -> str:
        data = self._contracts.create(name, *arguments)
        sent = self._chain.rpc("eth_sendTransaction", {"from": SENDER, "data": data, "gas": hex(6_000_000)})
        self._chain.mine()
        return str(self._chain.rpc("eth_getTransactionReceipt", sent)["contractAddress"])

    def _send(self, to: str, data: str, value: int = 0) -> None:
        transaction = {"from": SENDER, "to": to, "data": data, "gas": hex(5_000_000), "value": hex(value)}
        self._chain.rpc("eth_sendTransaction", transaction)

    def create_pair(self, token: str) -> None:
        self._send(
            self.factory,
            self._contracts.call(
                "Factory", "createPair", to_checksum_address(self.weth), to_checksum_address(token)
            ),
        )

    def pair(self, token: str) -> str:
        """The address that createPair gives or will give, by asking it."""
        call = self._contracts.call(
            "Factory", "createPair", to_checksum_address(self.weth), to_checksum_address(token)
        )
        return "0x" + str(self._chain.rpc("eth_call", {"to": self.factory, "data": call}, "latest"))[-40:]

    def add_liquidity(self, pair: str, token: str, weth: int, amount: int) -> None:
        self._send(self.weth, self._contracts.call("WETH9", "transfer", to_checksum_address(pair), weth))
        self._send(token, self._contracts.call("Token", "transfer", to_checksum_address(pair), amount))
        self._send(pair, self._contracts.call("Pair", "mint", to_checksum_address(SENDER)))


def known(engine: Engine, chain: Chain, pair: str) -> None:
    assert engine.market is not None
    assert engine.market.reserves(pair) == chain.reserves(pair)
    assert engine.market.reserves(pair)[0] > 0


async def test_pairs_come_and_go(anvil: None, tmp_path: Path) -> None:
    # fails if a pair of the factory is not found at start, or not when it is created, or with the
    # wrong tokens or reserves; or if a pair whose creation was undone keeps taking part
    with running_chain(tmp_path / "anvil.log") as chain:
        exchange = Exchange(chain)
        first, second = (exchange.pair(token) for token in exchange.tokens)
        exchange.create_pair(exchange.tokens[0])
        exchange.add_liquidity(first, exchange.tokens[0], 5 * UNIT, 10**9)
        chain.mine()
        settings = make_settings(
            tmp_path, chain.url,
            market={
                "base_tokens": [exchange.weth], "wrapped_native": exchange.weth, "pools_file": "",
                "factories": [{"address": exchange.factory, "name": "uniswap_v2", "fee_bps": 25}],
            },
        )  # fmt: skip
        async with running_engine(settings) as engine:
            market = engine.market
            assert market is not None
            known(engine, chain, first)
            assert [(t.symbol, t.decimals) for t in market.tokens if t.address == exchange.tokens[0]] == [
                ("USDX", 6)
            ]

            exchange.create_pair(exchange.tokens[1])
            exchange.add_liquidity(second, exchange.tokens[1], 7 * UNIT, 10**9)  # in the same block
            chain.mine()
            await reaches(engine, chain)
            known(engine, chain, second)
            pool = market.pools[market.pool_index[second]]
            assert {pool.token0, pool.token1} == {exchange.weth, exchange.tokens[1]}
            assert (pool.state.fee_num0, pool.state.fee_den) == (399, 400)  # 25 bps

            chain.rpc("anvil_rollback", 1)
            chain.mine()
            chain.mine()
            await reaches(engine, chain)
            assert market.reserves(second) == (0, 0)
            known(engine, chain, first)

            exchange.create_pair(exchange.tokens[1])  # the new branch has it too, a little later
            exchange.add_liquidity(second, exchange.tokens[1], 9 * UNIT, 10**9)
            chain.mine()
            await reaches(engine, chain)
            known(engine, chain, second)


async def test_no_factory_at_the_address(chain: Chain, tmp_path: Path) -> None:
    # fails if a mistyped factory gives an engine without pools that says nothing
    settings = make_settings(
        tmp_path, chain.url,
        market={
            "base_tokens": [WETH], "wrapped_native": WETH,
            "factories": [{"address": WETH, "name": "uniswap_v2"}],
        },
    )  # fmt: skip
    with pytest.raises(MissingMarketError, match=f"{WETH} .uniswap_v2. does not answer allPairsLength"):
        async with running_engine(settings):
            pass


async def test_pools_file_with_a_stranger(
    chain: Chain, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # fails if an address that is no pair stops the engine, or takes part in cycles
    chain.rpc("anvil_setCode", PAIRS[2], "0x")
    caplog.set_level(logging.INFO)
    async with running_engine(make_settings(tmp_path, chain.url)) as engine:
        assert value_of(engine.state_of(PAIRS[2])) == (0, 0)
    assert f"pool_quarantined pool={PAIRS[2]}" in caplog.text


@pytest.mark.parametrize(
    ("answer", "symbol"),
    [
        (f"{32:064x}{4:064x}" + b"USDC".hex().ljust(64, "0"), "USDC"),
        (b"MKR".hex().ljust(64, "0"), "MKR"),  # bytes32, as older tokens have it
        (f"{32:064x}{2**255:064x}" + b"A\x00\n\x1b[31mB".hex().ljust(64, "0"), "A[31mB"),  # hostile
        ("", ""),
        (f"{32:064x}{2:064x}" + "ff" * 32, "\ufffd\ufffd"),
    ],
)
def test_symbols(answer: str, symbol: str) -> None:
    # fails if a strange symbol raises, or carries control characters to the database or a terminal
    assert text("0x" + answer) == symbol


async def test_many_silent_pools_are_counted(
    chain: Chain, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # fails if a market full of dead pools fills the journal at each start, or they go unmentioned
    content = json.loads(write_pools_file(tmp_path / "pools.json").read_text())
    dead = [content["pools"][0] | {"address": f"0x{n:040x}"} for n in range(0xD0, 0xD0 + 15)]
    file = tmp_path / "more.json"
    file.write_text(json.dumps(content | {"pools": content["pools"] + dead}))
    settings = make_settings(
        tmp_path, chain.url, market={"base_tokens": [WETH], "wrapped_native": WETH, "pools_file": str(file)}
    )
    async with running_engine(settings):
        pass
    assert caplog.text.count("pool_quarantined pool=") == 10
    assert "pools_quarantined count=15 of=19" in caplog.text


async def test_check_asks_for_the_contracts(anvil: None, tmp_path: Path) -> None:
    # fails if `check` passes a market whose factory or token is not on the chain, or refuses a good one
    stranger = "0x" + "5c" * 20

    async def ask(chain: Chain, factory: str, token: str, **market: str) -> str:
        values = {"base_tokens": [token], "factories": [{"address": factory, "name": "uniswap_v2"}], **market}
        settings = make_settings(tmp_path, chain.url, market=values)
        if market:
            return await check._pools_file(settings.market)
        return await check._endpoint_check(settings, chain.url)[1]()

    with running_chain(tmp_path / "anvil.log") as chain:
        exchange = Exchange(chain)
        chain.rpc("anvil_setCode", WETH, "0x00")
        assert "has the market's contracts" in await ask(chain, exchange.factory, exchange.weth)
        with pytest.raises(SettingsError, match=f"factory {stranger} .uniswap_v2. does not answer"):
            await ask(chain, stranger, exchange.weth)
        with pytest.raises(SettingsError, match=f"token {stranger} has no code"):
            await ask(chain, exchange.factory, stranger)
        with pytest.raises(SettingsError, match=r"nowhere\.json: cannot be read"):
            await ask(chain, exchange.factory, exchange.weth, pools_file=str(tmp_path / "nowhere.json"))
