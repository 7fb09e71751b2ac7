"""A chain, pairs and an engine that a test can do things to."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from mev_devchain.chain import find_anvil
from mev_engine import engine as engine_module
from mev_engine.chain.decode import SYNC
from mev_engine.engine import Engine
from mev_engine.settings import Settings
from mev_engine.sinks.metrics import Metrics

WETH = "0x" + "c0" * 20
TOKENS = ["0x" + f"{n:02x}" * 20 for n in (0xA1, 0xA2, 0xA3)]
PAIRS = ["0x" + f"{n:02x}" * 20 for n in (0xB1, 0xB2, 0xB3, 0xB4)]
SIDES = [(TOKENS[0], WETH), (TOKENS[0], WETH), (TOKENS[0], TOKENS[1]), (TOKENS[1], WETH)]
SENDER = "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266"  # anvil's account 0


def _pair_code() -> str:
    """Runtime code of a pair reduced to what the engine sees of it, by the size of the calldata:

    - 4 bytes (any selector): returns (slot 0, slot 1, 0), as getReserves() does
    - 32 bytes: emits Sync with only 32 bytes of data, a malformed log on a real chain
    - 64 bytes: stores both words as the reserves and emits a right Sync
    """
    push_sync = "7f" + SYNC[2:]
    # for i in 0, 1: calldataload(32 i), dup, sstore(i), mstore(32 i); then log1(0, 64, SYNC), stop
    good = "6000358060005560005260203580600155602052" + push_sync + "60406000a100"
    bad = "5b" + push_sync + "60206000a100"
    read = "5b60005460005260015460205260606000f3"
    jumps = "3660041460{:02x}57" + "3660201460{:02x}57"  # if calldatasize == 4, == 32
    at_bad = len(jumps.format(0, 0)) // 2 + len(good) // 2
    at_read = at_bad + len(bad) // 2
    return "0x" + jumps.format(at_read, at_bad) + good + bad + read


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Chain:
    """anvil on a port that stays the same over restarts; blocks are mined only when a test says so."""

    def __init__(self, log: Path, *options: str, port: int | None = None) -> None:
        self.port = port or free_port()
        self._log = log
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def start(self, *options: str) -> None:
        command = [str(find_anvil()), "--port", str(self.port), "--no-mining", *self._options, *options]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while True:
            try:
                self.rpc("eth_chainId")
                return
            except OSError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise AssertionError(f"anvil did not start: {self._log.read_text()[-500:]}") from None
                time.sleep(0.02)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def rpc(self, method: str, *params: Any) -> Any:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            content = json.load(answer)
        assert "error" not in content, (method, params, content["error"])
        return content["result"]

    def place_pairs(self) -> None:
        for pair in PAIRS:
            self.rpc("anvil_setCode", pair, _pair_code())
        self.rpc("anvil_setCode", WETH, "0x00")  # a token that answers nothing

    def send(self, to: str, data: str) -> None:
        self.rpc("eth_sendTransaction", {"from": SENDER, "to": to, "data": data, "gas": hex(300_000)})

    def mine(self, reserves: dict[str, tuple[int, int]] | None = None) -> int:
        """A block in which each pair gets these reserves, with its Sync; returns its number."""
        for pair, (r0, r1) in (reserves or {}).items():
            self.send(pair, f"0x{r0:064x}{r1:064x}")
        self.rpc("evm_mine")
        return self.height()

    def height(self) -> int:
        return int(self.rpc("eth_blockNumber"), 16)

    def block_hash(self, number: int) -> str:
        return str(self.rpc("eth_getBlockByNumber", hex(number), False)["hash"])

    def reserves(self, pair: str) -> tuple[int, int]:
        answer = self.rpc("eth_call", {"to": pair, "data": "0x0902f1ac"}, "latest")
        return int(answer[2:66], 16), int(answer[66:130], 16)


@contextmanager
def running_chain(log: Path, *options: str, port: int | None = None) -> Iterator[Chain]:
    chain = Chain(log, *options, port=port)
    chain.start()
    try:
        yield chain
    finally:
        chain.kill()


def write_pools_file(path: Path) -> Path:
    tokens = [{"address": t, "symbol": f"T{i}", "decimals": 18} for i, t in enumerate([WETH, *TOKENS])]
    pools = [
        {"address": pair, "token0": sides[0], "token1": sides[1]}
        for pair, sides in zip(PAIRS, SIDES, strict=True)
    ]
    path.write_text(json.dumps({"tokens": tokens, "pools": pools}))
    return path


def make_settings(directory: Path, *endpoints: str, **sections: dict[str, Any]) -> Settings:
    """Settings of a test engine. Database and Redis are not there unless a test names them."""
    values: dict[str, dict[str, Any]] = {
        "chain": {
            "name": "ethereum", "chain_id": 31337, "endpoints": list(endpoints), "health_interval": 1,
        },
        "market": {"base_tokens": [WETH], "wrapped_native": WETH, "pools_file": ""},
        "detect": {"priority_fee_wei": 0},
        "database": {"port": 1, "host": "127.0.0.1"},
        "redis": {"port": 1, "host": "127.0.0.1"},
        "metrics": {"port": free_port()},
        "state": {"directory": str(directory / "state")},
    }  # fmt: skip
    for name, section in sections.items():
        values[name] = values[name] | section
    if not values["market"]["pools_file"] and not values["market"].get("factories"):
        values["market"]["pools_file"] = str(write_pools_file(directory / "pools.json"))
    return Settings.model_validate(values)


@asynccontextmanager
async def running_engine(settings: Settings, *, flush: float = 0.1) -> AsyncIterator[Engine]:
    """The whole engine in the test's loop, from loaded state to clean stop."""
    before, engine_module.FLUSH_SECONDS = engine_module.FLUSH_SECONDS, flush
    engine = Engine(settings, Metrics(settings.chain.name), None)
    stop = asyncio.Event()
    running = asyncio.create_task(engine.until(stop))
    ready = asyncio.create_task(engine.ready.wait())
    try:
        await asyncio.wait({running, ready}, timeout=60, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
        assert engine.ready.is_set(), "the engine was not ready within 60 s"
        yield engine
    finally:
        ready.cancel()
        stop.set()
        engine_module.FLUSH_SECONDS = before if running.done() else flush
        await asyncio.wait({running}, timeout=30)
        engine_module.FLUSH_SECONDS = before
    running.result()


async def until(condition: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        await asyncio.sleep(0.02)


async def reaches(engine: Engine, chain: Chain, seconds: float = 20.0) -> None:
    """Until the engine's last block is the chain's newest one, by hash."""
    head = chain.block_hash(chain.height())
    await until(lambda: engine.follower.recent.last.hash == head, f"head {head}", seconds)


def assert_same_state(engine: Engine, chain: Chain) -> None:
    """Every pair: the market's reserves are the chain's."""
    assert engine.market is not None
    ours = {pair: engine.market.reserves(pair) for pair in PAIRS}
    assert ours == {pair: chain.reserves(pair) for pair in PAIRS}
