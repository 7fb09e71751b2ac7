"""Uniswap V3 pools on the chain: which ones a factory has made, and their whole states at one block."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mev_engine.amm import uniswap_v3
from mev_engine.amm.concentrated import MAX_TICK
from mev_engine.amm.uniswap_v3 import V3Pool
from mev_engine.chain.calls import Caller, first_words
from mev_engine.chain.decode import POOL_CREATED, PoolCreated, pool_created
from mev_engine.chain.errors import RpcError, StateUnavailableError
from mev_engine.chain.rpc import Link
from mev_engine.market.delta import BlockRef, PoolSpec

log = logging.getLogger(__name__)

# first four bytes of keccak256 of the function signatures
FEE_AMOUNT_TICK_SPACING = "0x22afcccb"  # feeAmountTickSpacing(uint24)
SLOT0, LIQUIDITY = "0x3850c7bd", "0x1a686502"
FEE, TICK_SPACING = "0xddca3f43", "0xd0c93a7c"
TICK_BITMAP = "0x5339c296"  # tickBitmap(int16)
TICKS = "0xf30dba93"  # ticks(int24)

FIRST_SPAN, WIDEST_SPAN = 10_000, 1_000_000  # blocks in one eth_getLogs
QUICK = 1.0  # seconds; after a quicker answer the next span is twice as wide
MANY_WORDS = 20_000  # bitmap words asked for together: bounds the memory that reading a market takes

Head = tuple[int, int, int]
"""sqrtPriceX96, tick and liquidity: what every swap changes."""


# --- Discovery ---------------------------------------------------------------------------------------


async def created(
    link: Link, factory: str, first: int, at: BlockRef, beat: Callable[[], None]
) -> list[PoolCreated]:
    """The pools that a factory has made from block `first` to `at`, in their order.

    Providers limit the blocks, the logs or the time of a request: what is refused is asked again by halves.
    Raises StateUnavailableError where a single block is refused, or `at` has left the chain meanwhile.
    """
    found: dict[str, PoolCreated] = {}
    span, widest = FIRST_SPAN, WIDEST_SPAN
    while first <= at.number:
        last = min(first + span - 1, at.number)
        blocks = {"fromBlock": hex(first), "toBlock": hex(last)}
        started = time.monotonic()
        (answer,) = await link.batch(
            [("eth_getLogs", [{"address": factory, "topics": [[POOL_CREATED]], **blocks}])]
        )
        beat()
        if not isinstance(answer, list):
            if first == last:
                raise StateUnavailableError(f"PoolCreated of {factory} in block {first}: {answer}")
            span = widest = (last - first + 1) // 2
            continue
        found |= {event.pool: event for event in _events(factory, answer)}
        first = last + 1
        if time.monotonic() - started < QUICK:
            span = min(2 * span, widest)
    # the logs were asked for by number: they are those of `at` only if it is still there
    header = await link.blocks_by_number([at.number])
    if at.number not in header or header[at.number].hash != at.hash:
        raise StateUnavailableError(f"block {at.number} {at.hash} left the chain while pools were looked for")
    return list(found.values())


def _events(factory: str, answer: list[Any]) -> Iterator[PoolCreated]:
    for entry in answer:
        content = entry if isinstance(entry, dict) else {}
        try:
            event = pool_created(factory, content.get("topics") or [], content.get("data"))
        except (TypeError, ValueError) as error:
            log.error("pool_refused factory=%s reason=%r log=%r", factory, str(error), str(entry)[:300])
            continue
        yield event


# --- State -------------------------------------------------------------------------------------------


async def heads(caller: Caller, pools: Sequence[str]) -> dict[str, Head]:
    """What the audit compares. A pool that gives no answer, or is not initialised, has that of `empty`."""
    answers = await caller.all([(p, s) for p in pools for s in (SLOT0, LIQUIDITY)], "heads of V3 pools")
    result = {}
    for pool, slot0, liquidity in zip(pools, answers[::2], answers[1::2], strict=True):
        price_and_tick, in_range = first_words(slot0, 2), first_words(liquidity, 1)
        if price_and_tick is None or in_range is None or price_and_tick[0] == 0:
            result[pool] = head(uniswap_v3.empty(0, 1))
        else:
            result[pool] = price_and_tick[0], _signed(price_and_tick[1]), in_range[0]
    return result


def head(pool: V3Pool) -> Head:
    return pool.sqrt_price_x96, pool.tick, pool.liquidity


class _RefusedError(Exception):
    """Why a pool cannot be taken over."""


async def states(caller: Caller, specs: Sequence[PoolSpec]) -> tuple[dict[str, V3Pool], dict[str, str]]:
    """The whole states of V3 pools, and of those that do not answer as one does the reasons.

    A pool without code (its creation was undone) or without a price (not initialised) is `empty`. Raises
    StateUnavailableError where the node lacks the block's state.
    """
    found: dict[str, V3Pool] = {}
    refused: dict[str, str] = {}
    selectors = (SLOT0, LIQUIDITY, FEE, TICK_SPACING)
    answers = await caller.all([(s.address, x) for s in specs for x in selectors], "heads of V3 pools")
    begun: list[_Begun] = []
    n_words = 0
    for number, spec in enumerate(specs):
        try:
            pool = _begin(spec, answers[4 * number : 4 * number + 4])
        except _RefusedError as reason:
            refused[spec.address] = str(reason)
            continue
        if pool is None:
            found[spec.address] = uniswap_v3.empty(spec.state.fee_pips, spec.state.tick_spacing)
            continue
        begun.append(pool)
        n_words += len(pool.words())
        if n_words >= MANY_WORDS:
            await _finish(caller, begun, found, refused)
            begun, n_words = [], 0
    await _finish(caller, begun, found, refused)
    return found, refused


class _Begun:
    """A pool whose head is known, and whose ticks are not."""

    def __init__(self, address: str, head: Head, fee_pips: int, tick_spacing: int) -> None:
        self.address = address
        self.head = head
        self.fee_pips = fee_pips
        self.tick_spacing = tick_spacing

    def words(self) -> range:
        """Every word of the bitmap that can have a tick."""
        top = MAX_TICK // self.tick_spacing
        return range(-top >> 8, (top >> 8) + 1)

    def ticks(self, answers: Sequence[Any]) -> list[int]:
        """The initialised ticks that the words of the bitmap name, ascending."""
        result = []
        for word, answer in zip(self.words(), answers, strict=True):
            bits = first_words(answer, 1)
            if bits is None:
                raise _RefusedError(f"tickBitmap({word}) = {str(answer)[:100]!r}")
            result += [(256 * word + i) * self.tick_spacing for i in range(256) if bits[0] >> i & 1]
        return result

    def state(self, ticks: Sequence[int], answers: Sequence[Any]) -> V3Pool:
        gross, net = {}, {}
        for tick, answer in zip(ticks, answers, strict=True):
            values = first_words(answer, 2)
            if values is None:
                raise _RefusedError(f"ticks({tick}) = {str(answer)[:100]!r}")
            gross[tick], net[tick] = values[0], _signed(values[1])
        price, at, liquidity = self.head
        try:
            return V3Pool(
                sqrt_price_x96=price, tick=at, liquidity=liquidity, tick_spacing=self.tick_spacing,
                ticks=net, gross=gross, fee_pips=self.fee_pips,
            )  # fmt: skip
        except ValueError as error:
            raise _RefusedError(str(error)) from error


def _begin(spec: PoolSpec, answers: Sequence[Any]) -> _Begun | None:
    """None for a pool that is not there or not initialised."""
    if answers[0] == "0x":
        return None
    names = ("slot0()", "liquidity()", "fee()", "tickSpacing()")
    values = []
    for name, answer in zip(names, answers, strict=True):
        found = first_words(answer, 2 if name == "slot0()" else 1)
        if found is None:
            raise _RefusedError(f"{name} = {str(answer)[:100]!r}")
        values.append(found)
    (price, tick), (liquidity,), (fee,), (spacing,) = values
    if price == 0:
        return None
    if not 1 <= spacing <= V3Pool.MAX_TICK_SPACING:
        raise _RefusedError(f"tickSpacing() = {spacing}")
    return _Begun(spec.address, (price, _signed(tick), liquidity), fee, spacing)


async def _finish(
    caller: Caller, begun: Sequence[_Begun], found: dict[str, V3Pool], refused: dict[str, str]
) -> None:
    """Read the bitmaps of these pools, then the ticks that they name."""
    asked = [(pool.address, TICK_BITMAP + _argument(word)) for pool in begun for word in pool.words()]
    answers = iter(await caller.all(asked, "tick bitmaps of V3 pools"))
    named: list[tuple[_Begun, list[int]]] = []
    for pool in begun:
        bitmap = [next(answers) for _ in pool.words()]
        try:
            named.append((pool, pool.ticks(bitmap)))
        except _RefusedError as reason:
            refused[pool.address] = str(reason)
    asked = [(pool.address, TICKS + _argument(tick)) for pool, ticks in named for tick in ticks]
    answers = iter(await caller.all(asked, "ticks of V3 pools"))
    for pool, ticks in named:
        nets = [next(answers) for _ in ticks]
        try:
            found[pool.address] = pool.state(ticks, nets)
        except _RefusedError as reason:
            refused[pool.address] = str(reason)


def _argument(value: int) -> str:
    """A signed integer as an ABI word."""
    return f"{value % 2**256:064x}"


def _signed(word: int) -> int:
    return word - 2**256 if word >> 255 else word


async def is_factory(link: Link, address: str, at: Any) -> bool:
    """Whether this contract answers as a V3 factory does; `at`: a block as eth_call takes it."""
    call = {"to": address, "data": FEE_AMOUNT_TICK_SPACING + _argument(3000)}
    (answer,) = await link.batch([("eth_call", [call, at])])
    if isinstance(answer, RpcError) and not answer.is_revert:
        raise StateUnavailableError(f"feeAmountTickSpacing() of {address}: {answer}")
    return first_words(answer, 1) is not None
