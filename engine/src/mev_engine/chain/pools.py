"""Which pairs there are, what they trade, and their reserves at a named block, read in batches."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mev_engine.chain.decode import UINT112, PairCreated, as_address, words
from mev_engine.chain.errors import MissingMarketError, RpcError, StateUnavailableError
from mev_engine.chain.rpc import BATCH_SIZE, Link
from mev_engine.market.delta import PoolSpec, TokenSpec, pair_spec
from mev_engine.settings import Address, FactorySettings, MarketSettings, Section, SettingsError

log = logging.getLogger(__name__)

# first four bytes of keccak256 of the function signatures
ALL_PAIRS_LENGTH = "0x574f2ba3"
ALL_PAIRS = "0x1e3dd18b"  # allPairs(uint256)
TOKEN0, TOKEN1 = "0x0dfe1681", "0xd21220a7"
GET_RESERVES = "0x0902f1ac"
SYMBOL, DECIMALS = "0x95d89b41", "0x313ce567"
SAY_EVERY = 5.0  # seconds between lines of progress
NAMED = 10  # pools that get a line each; a market has up to hundreds of thousands


class _FileToken(Section):
    address: Address
    symbol: str
    decimals: int


class _FilePool(Section):
    model_config = Section.model_config | {"extra": "ignore"}  # a deployment's file says more
    address: Address
    token0: Address
    token1: Address
    fee_num: int = 997
    fee_den: int = 1000
    protocol: str = "uniswap_v2"


class _PoolsFile(Section):
    model_config = Section.model_config | {"extra": "ignore"}
    tokens: list[_FileToken]
    pools: list[_FilePool]


@dataclass(slots=True)
class _Factory:
    address: str
    name: str
    fee_num: int
    fee_den: int
    known: int = 0  # pairs of allPairs that were read

    @classmethod
    def of(cls, settings: FactorySettings) -> _Factory:
        kept = 10_000 - settings.fee_bps
        common = math.gcd(kept, 10_000)
        # 30 bps become 997/1000 as in the pair's own code; other fees are the same ratio in lowest terms
        scale = 1000 // (10_000 // common) if 1000 % (10_000 // common) == 0 else 1
        return cls(settings.address, settings.name, kept // common * scale, 10_000 // common * scale)


class Pools:
    """The pairs known so far, by address. Reserves are not kept here: that is the market's part."""

    def __init__(self, settings: MarketSettings, *, beat: Callable[[], None]) -> None:
        self._factories = {f.address: _Factory.of(f) for f in settings.factories}
        self._beat = beat
        self.by_address: dict[str, PoolSpec] = {}
        self.tokens: dict[str, TokenSpec] = {}
        # found, but not yet handed to the market: kept until an event with them was emitted, so
        # that a connection lost in between cannot lose a pool
        self.new_pools: dict[str, PoolSpec] = {}
        self.new_tokens: dict[str, TokenSpec] = {}
        self._extra_tokens = [*settings.base_tokens, settings.wrapped_native]
        if settings.pools_file:
            self._read_file(Path(settings.pools_file))

    @property
    def factories(self) -> Collection[str]:
        return self._factories.keys()

    def _read_file(self, path: Path) -> None:
        from pydantic import ValidationError  # noqa: PLC0415

        try:
            content = _PoolsFile.model_validate(json.loads(path.read_text()))
        except OSError as error:
            raise SettingsError(f"market.pools_file = {path}: cannot be read: {error.strerror}") from error
        except ValidationError as error:
            lines = (
                f"{path}: {'.'.join(map(str, e['loc']))} = {str(e['input'])[:100]!r}: {e['msg']}"
                for e in error.errors(include_url=False)
            )
            raise SettingsError("\n".join(lines)) from error
        except ValueError as error:
            raise SettingsError(f"market.pools_file = {path}: is not valid JSON: {error}") from error
        for token in content.tokens:
            self.tokens[token.address] = TokenSpec(token.address, token.symbol, token.decimals)
        for pool in content.pools:
            if not 0 < pool.fee_num <= pool.fee_den:
                raise SettingsError(f"{path}: pool {pool.address}: fee_num must be in 1..fee_den")
            self.by_address[pool.address] = pair_spec(
                pool.address, pool.token0, pool.token1, 0, 0, pool.fee_num, pool.fee_den, pool.protocol
            )

    def handed_over(self) -> None:
        """The market has the new pools and tokens."""
        self.new_pools.clear()
        self.new_tokens.clear()

    async def discover(self, link: Link, at: str) -> None:
        """Find the factories' pairs that are not known yet, as of block hash `at`.

        Raises StateUnavailableError.
        """
        pools: list[PoolSpec] = []
        for factory in self._factories.values():
            answer = await self._call_all(link, [(factory.address, ALL_PAIRS_LENGTH)], at, "allPairsLength")
            (count,) = _words(answer[0], 1) or (None,)
            if count is None:
                raise MissingMarketError(
                    f"market.factories: {factory.address} ({factory.name}) does not answer "
                    f"allPairsLength(): no Uniswap V2 factory at this address on this chain"
                )
            numbers = range(factory.known, count)
            calls = [(factory.address, f"{ALL_PAIRS}{n:064x}") for n in numbers]
            answers = await self._call_all(link, calls, at, f"pairs of {factory.name}")
            found = [_address(answer) for answer in answers]
            pairs = [pair for pair in found if pair is not None and pair not in self.by_address]
            for pair, token0, token1 in await self._pair_tokens(link, pairs, at):
                pools.append(self._spec(factory, pair, token0, token1))
            # a factory only ever grows, unless a reorganisation takes pairs back: those stay, empty
            factory.known = max(factory.known, count)
        await self._adopt(link, at, pools)

    async def created(self, link: Link, at: str, events: Sequence[PairCreated]) -> None:
        """Take over the pools of PairCreated events that are not known yet, and their tokens."""
        pools = []
        for event in events:
            if event.pair not in self.by_address:
                pools.append(
                    self._spec(self._factories[event.factory], event.pair, event.token0, event.token1)
                )
                self._factories[event.factory].known += 1
        await self._adopt(link, at, pools)

    async def _pair_tokens(self, link: Link, pairs: list[str], at: str) -> list[tuple[str, str, str]]:
        calls = [(pair, selector) for pair in pairs for selector in (TOKEN0, TOKEN1)]
        answers = await self._call_all(link, calls, at, "tokens of pairs")
        result = []
        for pair, first, second in zip(pairs, answers[::2], answers[1::2], strict=True):
            token0, token1 = _address(first), _address(second)
            if token0 is None or token1 is None or token0 == token1:
                log.error(
                    "pair_refused pair=%s reason='token0() and token1() do not give two addresses'", pair
                )
                continue
            result.append((pair, token0, token1))
        return result

    def _spec(self, factory: _Factory, pair: str, token0: str, token1: str) -> PoolSpec:
        return pair_spec(pair, token0, token1, 0, 0, factory.fee_num, factory.fee_den, factory.name)

    async def _adopt(self, link: Link, at: str, pools: Iterable[PoolSpec]) -> None:
        """Remember `pools`; read the tokens that are new with them (and base tokens not yet known)."""
        wanted = [token for pool in pools for token in (pool.token0, pool.token1)]
        if not self.tokens.keys() >= set(self._extra_tokens):
            wanted += self._extra_tokens
            wanted += [token for p in self.by_address.values() for token in (p.token0, p.token1)]
        addresses = [token for token in dict.fromkeys(wanted) if token not in self.tokens]
        calls = [(token, selector) for token in addresses for selector in (SYMBOL, DECIMALS)]
        answers = await self._call_all(link, calls, at, "symbols and decimals")
        new = []
        for token, symbol, decimals in zip(addresses, answers[::2], answers[1::2], strict=True):
            new.append(TokenSpec(token, text(symbol) or f"?{token[2:8]}", _decimals(token, decimals)))
        for spec in new:
            self.tokens[spec.address] = self.new_tokens[spec.address] = spec
        for pool in pools:
            self.by_address[pool.address] = self.new_pools[pool.address] = pool

    async def reserves(self, link: Link, pools: Sequence[str], at: str) -> dict[str, tuple[int, int]]:
        """getReserves() of each pool as of block hash `at`, in raw token units.

        A pool that does not answer as a pair does gets (0, 0), which takes it out of every cycle,
        and an ERROR line; of many, the first NAMED get one, and a last line counts them all. Raises
        StateUnavailableError where the node lacks that block's state.
        """
        answers = await self._call_all(link, [(p, GET_RESERVES) for p in pools], at, "reserves")
        result = {}
        quarantined = 0
        for pool, answer in zip(pools, answers, strict=True):
            values = _words(answer, 3)
            if values is None or values[0] >= UINT112 or values[1] >= UINT112:
                quarantined += 1
                if quarantined <= NAMED:
                    log.error("pool_quarantined pool=%s block=%s getReserves=%r", pool, at, str(answer)[:210])
                values = [0, 0]
            result[pool] = (values[0], values[1])
        if quarantined > NAMED:
            log.error("pools_quarantined count=%d of=%d block=%s", quarantined, len(pools), at)
        return result

    def with_reserves(self, reserves: dict[str, tuple[int, int]]) -> tuple[PoolSpec, ...]:
        specs = ((self.by_address[pool], values) for pool, values in reserves.items())
        return tuple(
            replace(spec, state=replace(spec.state, reserve0=r0, reserve1=r1)) for spec, (r0, r1) in specs
        )

    async def _call_all(self, link: Link, calls: Sequence[tuple[str, str]], at: str, what: str) -> list[Any]:
        """eth_call of (to, data) pairs at block hash `at`; a reverted call gives its RpcError."""
        results: list[Any] = []
        started = said = time.monotonic()
        for first in range(0, len(calls), BATCH_SIZE):
            part = calls[first : first + BATCH_SIZE]
            # EIP-1898: by hash, so that a reorganisation in between cannot mix two states
            results += await link.batch(
                ("eth_call", [{"to": to, "data": data}, {"blockHash": at}]) for to, data in part
            )
            self._beat()
            if time.monotonic() - said > SAY_EVERY:
                said = time.monotonic()
                log.info(
                    "loading what=%r done=%d of=%d seconds=%.0f",
                    what,
                    len(results),
                    len(calls),
                    said - started,
                )
        broken = [r for r in results if isinstance(r, RpcError) and not r.is_revert]
        if broken:
            raise StateUnavailableError(
                f"{what} at block {at}: {len(broken)} of {len(results)} calls: {broken[0]}"
            )
        return results


def _words(answer: Any, least: int) -> list[int] | None:
    """The first `least` words of an eth_call's answer; None where it is an error or too short."""
    if not isinstance(answer, str) or len(answer) < 2 + 64 * least:
        return None
    try:
        return words(answer[: 2 + 64 * least], least)
    except ValueError:
        return None


def _address(answer: Any) -> str | None:
    word = _words(answer, 1)
    try:
        return as_address(word[0]) if word else None
    except ValueError:
        return None


def _decimals(token: str, answer: Any) -> int:
    """decimals() is optional in ERC-20 and only for people here: 0 (raw units) where it is missing."""
    word = _words(answer, 1)
    if word is None or word[0] > 255:
        log.warning("token_without_decimals token=%s answer=%r shown_in=raw_units", token, str(answer)[:70])
        return 0
    return word[0]


def text(answer: Any) -> str:
    """symbol() as an ABI string, or as the bytes32 of older tokens (MKR, SAI). '' where it is neither.

    Control characters are dropped: they would break a terminal, and PostgreSQL refuses NUL.
    """
    if not isinstance(answer, str):
        return ""
    try:
        data = bytes.fromhex(answer.removeprefix("0x"))
    except ValueError:
        return ""
    if len(data) >= 64 and int.from_bytes(data[:32]) == 32:
        length = int.from_bytes(data[32:64])
        raw = data[64 : 64 + min(length, 64)]
    else:
        raw = data[:32].split(b"\0")[0]
    symbol = raw.decode("utf-8", "replace")
    return "".join(c for c in symbol if c.isprintable()).strip()[:32]
