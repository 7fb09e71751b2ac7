"""Which pools there are, what they trade, and their states at a named block, read in batches."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mev_engine.amm import uniswap_v3
from mev_engine.amm.uniswap_v3 import V3Pool
from mev_engine.chain import v3_pools
from mev_engine.chain.calls import Caller, address_of, first_words
from mev_engine.chain.decode import (
    PAIR_CREATED,
    POOL_CREATED,
    SYNC,
    UINT112,
    V3_EVENTS,
    PairCreated,
    PoolCreated,
)
from mev_engine.chain.errors import MissingMarketError
from mev_engine.chain.rpc import Link
from mev_engine.market.delta import BlockRef, PoolSpec, TokenSpec, pair_spec
from mev_engine.settings import Address, FactorySettings, MarketSettings, Section, SettingsError

log = logging.getLogger(__name__)

# first four bytes of keccak256 of the function signatures
ALL_PAIRS_LENGTH = "0x574f2ba3"
ALL_PAIRS = "0x1e3dd18b"  # allPairs(uint256)
TOKEN0, TOKEN1 = "0x0dfe1681", "0xd21220a7"
GET_RESERVES = "0x0902f1ac"
SYMBOL, DECIMALS = "0x95d89b41", "0x313ce567"
NAMED = 10  # pools that get a line each; a market has up to hundreds of thousands

Value = tuple[int, int] | V3Pool
"""A pool's state between chain and market: the reserves of a pair (raw token units), else all of it."""


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
    family: str
    known: int = 0  # pairs of allPairs that were read
    looked_at: BlockRef | None = None  # up to here PoolCreated was looked for

    @classmethod
    def of(cls, settings: FactorySettings) -> _Factory:
        kept = 10_000 - settings.fee_bps
        common = math.gcd(kept, 10_000)
        # 30 bps become 997/1000 as in the pair's own code; other fees are the same ratio in lowest terms
        scale = 1000 // (10_000 // common) if 1000 % (10_000 // common) == 0 else 1
        return cls(
            settings.address, settings.name, kept // common * scale, 10_000 // common * scale, settings.family
        )


class Pools:
    """The pools known so far, by address. States are not kept here: that is the market's part."""

    def __init__(self, settings: MarketSettings, *, beat: Callable[[], None]) -> None:
        self._factories = {f.address: _Factory.of(f) for f in settings.factories}
        self._beat = beat
        self.by_address: dict[str, PoolSpec] = {}
        self.followed: set[str] = set()  # those of them that are V3 pools
        self.refused: set[str] = set()  # those of these that could not be read last time: kept empty
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

    @property
    def topics(self) -> list[list[str]]:
        """The events to ask for, as eth_getLogs takes them."""
        wanted = [SYNC, PAIR_CREATED]
        if any(factory.family == "uniswap_v3" for factory in self._factories.values()):
            wanted += [POOL_CREATED, *sorted(V3_EVENTS)]
        return [wanted]

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

    async def discover(self, link: Link, at: BlockRef) -> None:
        """Find the factories' pools that are not known yet, as of block `at`.

        Raises StateUnavailableError.
        """
        caller = Caller(link, at.hash, self._beat)
        pools: list[PoolSpec] = []
        looked_at: dict[str, _Factory] = {}
        for factory in self._factories.values():
            find = self._new_v3_pools if factory.family == "uniswap_v3" else self._new_pairs
            found, looked_at[factory.address] = await find(link, caller, at, factory)
            pools += found
        await self._adopt(caller, pools)
        # only now: a connection lost before this has them looked for again
        self._factories |= looked_at

    async def _new_pairs(
        self, link: Link, caller: Caller, at: BlockRef, factory: _Factory
    ) -> tuple[list[PoolSpec], _Factory]:
        """Its pairs that are not known yet, and the factory as looked at until there."""
        answer = await caller.all([(factory.address, ALL_PAIRS_LENGTH)], "allPairsLength")
        (count,) = first_words(answer[0], 1) or (None,)
        if count is None:
            raise MissingMarketError(
                f"market.factories: {factory.address} ({factory.name}) does not answer "
                f"allPairsLength(): no Uniswap V2 factory at this address on this chain"
            )
        numbers = range(factory.known, count)
        calls = [(factory.address, f"{ALL_PAIRS}{n:064x}") for n in numbers]
        answers = await caller.all(calls, f"pairs of {factory.name}")
        found = [address_of(answer) for answer in answers]
        pairs = [pair for pair in found if pair is not None and pair not in self.by_address]
        specs = [
            self._spec(factory, pair, token0, token1)
            for pair, token0, token1 in await self._pair_tokens(caller, pairs)
        ]
        # a factory only ever grows, unless a reorganisation takes pairs back: those stay, empty
        return specs, replace(factory, known=max(factory.known, count))

    async def _new_v3_pools(
        self, link: Link, caller: Caller, at: BlockRef, factory: _Factory
    ) -> tuple[list[PoolSpec], _Factory]:
        """As `_new_pairs`."""
        if not await v3_pools.is_factory(link, factory.address, {"blockHash": at.hash}):
            raise MissingMarketError(
                f"market.factories: {factory.address} ({factory.name}) does not answer "
                f"feeAmountTickSpacing(): no Uniswap V3 factory at this address on this chain"
            )
        first = 0
        if (before := factory.looked_at) is not None:
            now = (await link.blocks_by_number([before.number])).get(before.number)
            if now is not None and now.hash == before.hash:  # else another branch may have made other pools
                first = before.number + 1
        events = await v3_pools.created(link, factory.address, first, at, self._beat)
        specs = [self._v3_spec(event) for event in events if event.pool not in self.by_address]
        return specs, replace(factory, looked_at=at)

    async def created(self, link: Link, at: BlockRef, events: Sequence[PairCreated | PoolCreated]) -> None:
        """Take over the pools of a block's events that are not known yet, and their tokens."""
        pools = []
        for event in events:
            if isinstance(event, PoolCreated):
                if event.pool not in self.by_address:
                    pools.append(self._v3_spec(event))
            elif event.pair not in self.by_address:
                pools.append(
                    self._spec(self._factories[event.factory], event.pair, event.token0, event.token1)
                )
                self._factories[event.factory].known += 1
        await self._adopt(Caller(link, at.hash, self._beat), pools)

    async def _pair_tokens(self, caller: Caller, pairs: list[str]) -> list[tuple[str, str, str]]:
        calls = [(pair, selector) for pair in pairs for selector in (TOKEN0, TOKEN1)]
        answers = await caller.all(calls, "tokens of pairs")
        result = []
        for pair, first, second in zip(pairs, answers[::2], answers[1::2], strict=True):
            token0, token1 = address_of(first), address_of(second)
            if token0 is None or token1 is None or token0 == token1:
                log.error(
                    "pair_refused pair=%s reason='token0() and token1() do not give two addresses'", pair
                )
                continue
            result.append((pair, token0, token1))
        return result

    def _spec(self, factory: _Factory, pair: str, token0: str, token1: str) -> PoolSpec:
        return pair_spec(pair, token0, token1, 0, 0, factory.fee_num, factory.fee_den, factory.name)

    def _v3_spec(self, event: PoolCreated) -> PoolSpec:
        state = uniswap_v3.empty(event.fee_pips, event.tick_spacing)
        name = self._factories[event.factory].name
        return PoolSpec(event.pool, (event.token0, event.token1), state, name)

    async def _adopt(self, caller: Caller, pools: Iterable[PoolSpec]) -> None:
        """Remember `pools`; read the tokens that are new with them (and base tokens not yet known)."""
        wanted = [token for pool in pools for token in (pool.token0, pool.token1)]
        if not self.tokens.keys() >= set(self._extra_tokens):
            wanted += self._extra_tokens
            wanted += [token for p in self.by_address.values() for token in (p.token0, p.token1)]
        addresses = [token for token in dict.fromkeys(wanted) if token not in self.tokens]
        calls = [(token, selector) for token in addresses for selector in (SYMBOL, DECIMALS)]
        answers = await caller.all(calls, "symbols and decimals")
        new = []
        for token, symbol, decimals in zip(addresses, answers[::2], answers[1::2], strict=True):
            new.append(TokenSpec(token, text(symbol) or f"?{token[2:8]}", _decimals(token, decimals)))
        for spec in new:
            self.tokens[spec.address] = self.new_tokens[spec.address] = spec
        for pool in pools:
            self.by_address[pool.address] = self.new_pools[pool.address] = pool
            if isinstance(pool.state, V3Pool):
                self.followed.add(pool.address)

    async def values(self, link: Link, pools: Collection[str], at: str) -> dict[str, Value]:
        """The states of these pools as of block hash `at`.

        A pool that does not answer as its kind does is made empty, which takes it out of every cycle,
        and gets an ERROR line; of many, the first NAMED get one, and a last line counts them all. Raises
        StateUnavailableError where the node lacks that block's state.
        """
        caller = Caller(link, at, self._beat)
        pairs, others = self._by_kind(pools)
        result: dict[str, Value] = dict(await self._reserves(caller, pairs))
        specs = [self.by_address[pool] for pool in others]
        found, refused = await v3_pools.states(caller, specs) if specs else ({}, {})
        for number, (pool, reason) in enumerate(refused.items()):
            if number < NAMED:
                log.error("pool_quarantined pool=%s block=%s reason=%r", pool, at, reason)
            result[pool] = self.by_address[pool].state
        if len(refused) > NAMED:
            log.error("pools_quarantined count=%d of=%d block=%s", len(refused), len(specs), at)
        self.refused = (self.refused - found.keys()) | refused.keys()
        return result | found

    async def heads(self, link: Link, pools: Collection[str], at: str) -> dict[str, tuple[int, ...]]:
        """What an audit compares as of block hash `at`: the `head` of each pool but those refused."""
        caller = Caller(link, at, self._beat)
        pairs, others = self._by_kind(pool for pool in pools if pool not in self.refused)
        found: dict[str, tuple[int, ...]] = dict(await self._reserves(caller, pairs))
        return found | (await v3_pools.heads(caller, others) if others else {})

    def _by_kind(self, pools: Iterable[str]) -> tuple[list[str], list[str]]:
        """Pairs, and V3 pools."""
        kinds: tuple[list[str], list[str]] = ([], [])
        for pool in pools:
            kinds[pool in self.followed].append(pool)
        return kinds

    async def _reserves(self, caller: Caller, pools: Sequence[str]) -> dict[str, tuple[int, int]]:
        """getReserves() of each pair, in raw token units."""
        answers = await caller.all([(p, GET_RESERVES) for p in pools], "reserves")
        result = {}
        quarantined = 0
        for pool, answer in zip(pools, answers, strict=True):
            values = first_words(answer, 3)
            if values is None or values[0] >= UINT112 or values[1] >= UINT112:
                quarantined += 1
                if quarantined <= NAMED:
                    log.error(
                        "pool_quarantined pool=%s block=%s getReserves=%r", pool, caller.at, str(answer)[:210]
                    )
                values = [0, 0]
            result[pool] = (values[0], values[1])
        if quarantined > NAMED:
            log.error("pools_quarantined count=%d of=%d block=%s", quarantined, len(pools), caller.at)
        return result

    def with_values(self, values: Mapping[str, Value]) -> tuple[PoolSpec, ...]:
        """The specs of these pools, with these states."""
        return tuple(
            replace(spec, state=_with(spec.state, value))
            for spec, value in ((self.by_address[pool], value) for pool, value in values.items())
        )


def value_of(state: Any) -> Value:
    """The state of a pair or of a V3 pool in short."""
    return state if isinstance(state, V3Pool) else (state.reserve0, state.reserve1)


def head(value: Value) -> tuple[int, ...]:
    """What an audit compares: reserves, or price, tick and liquidity."""
    return v3_pools.head(value) if isinstance(value, V3Pool) else value


def _with(state: Any, value: Value) -> Any:
    return value if isinstance(value, V3Pool) else replace(state, reserve0=value[0], reserve1=value[1])


def _decimals(token: str, answer: Any) -> int:
    """decimals() is optional in ERC-20 and only for people here: 0 (raw units) where it is missing."""
    word = first_words(answer, 1)
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
