"""From one block's logs to what the block changed: pairs by their last Sync, V3 pools by all their logs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mev_engine.amm import registry
from mev_engine.chain.decode import BlockLogs, block_logs
from mev_engine.chain.pools import Pools, Value, value_of
from mev_engine.chain.rpc import Link
from mev_engine.market.delta import BlockDelta, BlockRef, PoolLog, ReserveUpdate, StateUpdate

log = logging.getLogger(__name__)

StateOf = Callable[[str], Any]
"""The state that the market holds of a pool that was handed to it."""


@dataclass(frozen=True, slots=True)
class BlockContent:
    """What a block changed, in which pools, and the indices of the logs that said so."""

    delta: BlockDelta
    touched: frozenset[str]
    log_indices: frozenset[int]


async def read_block(
    link: Link, pools: Pools, state_of: StateOf, block: BlockRef, raw: Iterable[Any]
) -> BlockContent:
    """Take over the pools that the block created, and find each touched pool's state after it.

    What a malformed log hides, or what does not follow from the state before, is named and read from the
    chain. Raises StateUnavailableError where the node lacks the block's state.
    """
    logs = _sorted(raw, block, pools)
    unread = await _find_pools(link, pools, block, logs)
    if pools.new_pools:  # a pool's first logs may be in the block that creates it
        logs = _sorted(raw, block, pools)
    for error in [*logs.suspects.values(), *logs.unattributed]:
        log.error("%s", error)
    suspects = [address for address in logs.suspects if address in pools.by_address]
    if logs.unattributed:
        suspects = list(pools.by_address)
    if suspects:
        log.error("rereading pools=%d block=%d reason='malformed logs'", len(suspects), block.number)
    unread |= set(suspects)
    values: dict[str, Value] = dict(logs.reserves)
    for pool, entries in logs.followed.items():
        if pool in unread or pool in pools.refused:
            continue
        new = pools.new_pools.get(pool)
        try:
            values[pool] = _after(state_of(pool) if new is None else new.state, entries)
        except (ValueError, LookupError) as error:  # LookupError: the log does not follow from the state
            log.error("state_lost pool=%s block=%d reason=%r", pool, block.number, str(error))
            unread.add(pool)
    if unread:
        values |= await pools.values(link, sorted(unread), block.hash)
    for pool, spec in pools.new_pools.items():
        values.setdefault(pool, value_of(spec.state))
    return BlockContent(delta_of(pools, block, values), frozenset(values), frozenset(logs.indices))


def _sorted(raw: Iterable[Any], block: BlockRef, pools: Pools) -> BlockLogs:
    return block_logs(raw, block, pools.by_address.keys(), pools.factories, pools.followed)


async def _find_pools(link: Link, pools: Pools, block: BlockRef, logs: BlockLogs) -> set[str]:
    """Take over new pools; returns those of them whose state the block's logs may not tell."""
    if any(address in pools.factories for address in logs.suspects):
        await pools.discover(link, block)  # what the log hid, the factory lists
        return pools.followed & pools.new_pools.keys()
    if logs.created:
        await pools.created(link, block, logs.created)
    return set()


def _after(state: Any, entries: Iterable[PoolLog]) -> Value:
    """A pool's state after its logs. ValueError or LookupError where they do not follow from it."""
    events = registry.family_of(state).events
    for entry in entries:
        state = events[entry.topics[0]](state, (entry.topics, entry.data))
    return value_of(state)


def delta_of(pools: Pools, block: BlockRef, values: Mapping[str, Value]) -> BlockDelta:
    """`values` as updates of pools that the market has, and as new pools."""
    new = pools.new_pools
    return BlockDelta(
        block,
        updates({pool: value for pool, value in values.items() if pool not in new}),
        tuple(pools.new_tokens.values()),
        pools.with_values({pool: value for pool, value in values.items() if pool in new}),
    )


def updates(values: Mapping[str, Value]) -> tuple[ReserveUpdate | StateUpdate, ...]:
    """As the market takes them, by pool."""
    return tuple(
        ReserveUpdate(pool, *value) if isinstance(value, tuple) else StateUpdate(pool, value)
        for pool, value in sorted(values.items(), key=lambda entry: entry[0])
    )
