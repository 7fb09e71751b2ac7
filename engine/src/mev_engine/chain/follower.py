"""Follows a chain: from heads and logs to complete, ordered blocks, through everything that nodes do.

A block counts once its logs were fetched by its hash. Heads only say that there is something to do:
whatever they skip, repeat or contradict is settled by walking parent links from the newest head
back to a block that was processed. So a gap, a reorganisation and a restart are one and the same
code. The subscription's logs are compared with what was fetched, and tell of removed logs.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable
from typing import Any

from mev_engine.chain.blocks import delta_of, read_block, updates
from mev_engine.chain.checkpoint import Remembered
from mev_engine.chain.continuity import genesis_hash, is_other_chain, resume_point
from mev_engine.chain.decode import block_ref, quantity
from mev_engine.chain.endpoints import Endpoints
from mev_engine.chain.errors import LinkError, RpcError, StateUnavailableError
from mev_engine.chain.events import BlockId, Event, Loaded, NewBlock, Reorganised, Resynchronised
from mev_engine.chain.pools import Pools, head, value_of
from mev_engine.chain.recent import Processed, Recent
from mev_engine.chain.rpc import Link
from mev_engine.chain.silence import Silence
from mev_engine.market.delta import BlockDelta, BlockRef
from mev_engine.settings import ChainSettings

log = logging.getLogger(__name__)

LOGS_RETRIES = 6  # a node may announce a block shortly before it can answer for its logs
CATCHUP_BATCH = 32  # blocks whose logs are asked for in one message
AUDITED = 64  # pools compared with the chain at each health check


class Follower:
    """`follow` runs until it is cancelled and calls `emit` for each event, in order.

    `state_of` gives the state that the market holds of a pool: what a pool's logs change, and what the
    audit compares. `beat` is called whenever
    there was progress, at least every health interval while all is well.
    """

    def __init__(
        self,
        settings: ChainSettings,
        pools: Pools,
        endpoints: Endpoints,
        *,
        resume: Remembered,
        emit: Callable[[Event], None],
        state_of: Callable[[str], Any],
        beat: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._pools = pools
        self._endpoints = endpoints
        self._resume = resume.blocks
        self.genesis = resume.genesis
        self._emit = emit
        self._state_of = state_of
        self._beat = beat
        self.recent = Recent()
        self.link_name = ""
        self._early_logs: dict[str, set[int]] = {}  # log indices by block hash, not yet fetched
        self._audit_from = 0
        self._behind_at: str | None = None  # the head, where it was behind us at the last health check

    async def follow(self) -> None:
        """Raises WrongChainError when no endpoint is left; every other trouble is met by retrying."""
        link: Link | None = None
        try:
            while True:
                link = link or await self._endpoints.connect()
                try:
                    link = await self._follow_link(link)
                except (LinkError, RpcError, StateUnavailableError) as error:
                    pause = self._endpoints.failed()
                    log.warning("link_lost endpoint=%s reason=%r pause=%.1f", link.name, str(error), pause)
                    await link.close()
                    link = None
        finally:
            if link is not None:
                await link.close()

    async def _follow_link(self, link: Link) -> Link:
        """Follow one link; returns a link to a better endpoint when one has come back."""
        await link.subscribe("newHeads")
        await link.subscribe("logs", {"topics": self._pools.topics})
        self.link_name = link.name
        log.info("connected endpoint=%s", link.name)
        self._early_logs.clear()
        self._behind_at = None
        if not self.recent:
            await self._load(link)
        await self._advance(link, await link.head())
        checked = time.monotonic()
        silence = Silence(self._settings.max_silence, self.recent.last.hash)
        while True:
            until = min(checked + self._settings.health_interval, silence.due)
            wait = max(0.0, until - time.monotonic())
            try:
                async with asyncio.timeout(wait):
                    first = await link.notifications.get()
            except TimeoutError:
                first = {}
            await self._take(link, [first, *_waiting(link)])
            self._beat()
            if time.monotonic() - checked >= self._settings.health_interval:
                checked = time.monotonic()
                better = await self._check_health(link)
                if better is not None:
                    await link.close()
                    return better
            if (seconds := silence.too_long(self.recent.last.hash)) is not None:
                self._hear_nothing(link, seconds)

    def _hear_nothing(self, link: Link, seconds: float) -> None:
        """No new block for too long: LinkError where another endpoint may know more."""
        last = self.recent.last.number
        if self._endpoints.has_other():
            raise LinkError(f"no new block after {last} for {seconds:.0f} s")
        # the only endpoint: the chain itself may stand still, as a local one does when it is told to
        log.warning("chain_silent endpoint=%s last=%d seconds=%.0f", link.name, last, seconds)

    async def _take(self, link: Link, messages: list[dict[str, Any] | None]) -> None:
        """Work off what has arrived: only the newest head matters, the others are its ancestors."""
        newest: BlockRef | None = None
        removed = False
        for message in messages:
            if message is None:
                raise LinkError("the connection has ended")
            content = message.get("result")
            if not isinstance(content, dict):
                continue
            if "parentHash" in content:
                try:
                    newest = block_ref(content)
                except ValueError as error:
                    raise LinkError(f"malformed header in newHeads: {error}") from error
            else:
                removed |= await self._hear_log(link, content)
        if removed:
            newest = await link.head()
        if newest is not None:
            await self._advance(link, newest, rolled_back=removed)
            self._endpoints.worked()

    async def _hear_log(self, link: Link, content: dict[str, Any]) -> bool:
        """A log of the subscription: a cross-check. Returns whether it says that it was removed."""
        try:
            index = quantity(content.get("logIndex"), "logIndex")
        except ValueError as error:
            log.error("malformed_notification reason=%r log=%r", str(error), str(content)[:300])
            return False
        block_hash = str(content.get("blockHash")).lower()
        if content.get("removed"):
            return block_hash in self.recent
        processed = self.recent.get(block_hash)
        if processed is None:
            if len(self._early_logs) > 64:  # blocks that never became ours
                self._early_logs.pop(next(iter(self._early_logs)))
            self._early_logs.setdefault(block_hash, set()).add(index)
        elif processed.log_indices is not None and index not in processed.log_indices:
            await self._resynchronise(
                link, self.recent.last,
                f"log {index} of block {processed.block.number} was announced but not among its logs",
            )  # fmt: skip
        return False

    async def _load(self, link: Link) -> None:
        """First state: as of the checkpoint where that is possible, else as of the head."""
        head = await link.head()
        at, orphaned = await resume_point(link, self._resume)
        genesis = await genesis_hash(link)
        other_chain = at is None and is_other_chain(self.genesis, genesis)
        if at is not None and head.number - at.number <= self._settings.max_catchup_blocks:
            try:
                await self._load_at(link, at, orphaned, None)
                self.genesis = genesis or self.genesis
                return
            except StateUnavailableError as error:
                log.warning("resume_impossible block=%d reason=%r start=head", at.number, str(error))
        elif self._resume:
            log.warning("resume_impossible block=%d head=%d start=head", self._resume[-1].number, head.number)
        first = head.number + 1
        if at is not None:
            first = at.number + 1
        elif orphaned:  # the branches part somewhere before the oldest block that we remember
            first = orphaned[0].number
        await self._load_at(link, head, orphaned, _range(first, head.number), other_chain=other_chain)
        self.genesis = genesis or self.genesis

    async def _load_at(
        self,
        link: Link,
        at: BlockRef,
        orphaned: tuple[BlockId, ...],
        skipped: tuple[int, int] | None,
        *,
        other_chain: bool = False,
    ) -> None:
        await self._pools.discover(link, at)
        values = await self._pools.values(link, self._pools.by_address, at.hash)
        self.recent.restart(at)
        tokens = tuple(self._pools.tokens.values())
        pools = self._pools.with_values(values)
        self._emit(Loaded(at, tokens, pools, orphaned, skipped, other_chain))
        self._pools.handed_over()

    async def _advance(self, link: Link, head: BlockRef, *, rolled_back: bool = False) -> None:
        """Process everything between the last block and `head`."""
        last = self.recent.last
        if head.hash == last.hash or (head.hash in self.recent and not rolled_back):
            return  # known; a node that lags behind another one says nothing new
        branch = await self._branch(link, head)
        if branch is None:
            reason = f"no parent link from block {head.number} to block {last.number} within reach"
            await self._resynchronise(link, head, reason)
            return
        try:
            await self._take_branch(link, head, branch)
        except StateUnavailableError as error:  # reconnecting would meet the same
            await self._resynchronise(link, head, str(error))

    async def _take_branch(self, link: Link, head: BlockRef, branch: list[BlockRef]) -> None:
        ancestor = branch[0].parent_hash if branch else head.hash
        if ancestor != self.recent.last.hash:
            await self._undo(link, ancestor)
        for start in range(0, len(branch), CATCHUP_BATCH):
            blocks = branch[start : start + CATCHUP_BATCH]
            for block, logs in zip(blocks, await self._fetch_logs(link, blocks), strict=True):
                await self._process(link, block, logs)
                self._beat()

    async def _branch(self, link: Link, head: BlockRef) -> list[BlockRef] | None:
        """The blocks up to `head` that follow a processed one, oldest first; None: out of reach."""
        if head.hash in self.recent:
            return []
        last, reach = self.recent.last.number, self._settings.max_catchup_blocks
        if head.number - last > reach:
            return None
        ahead = await link.blocks_by_number(range(last + 1, head.number)) if head.number > last + 1 else {}
        branch = [head]
        while branch[0].parent_hash not in self.recent:
            parent_hash, number = branch[0].parent_hash, branch[0].number - 1
            if number < self.recent.oldest.number or number < 0:
                return None
            parent = ahead.get(number)
            if parent is None or parent.hash != parent_hash:
                parent = await link.block_by_hash(parent_hash)
            if parent.hash != parent_hash or parent.number != number:
                raise LinkError(f"block {parent_hash} was answered with block {parent.number} {parent.hash}")
            branch.insert(0, parent)
        return branch

    async def _undo(self, link: Link, ancestor_hash: str) -> None:
        """Go back to a common ancestor: the pools that later blocks changed are read as of it."""
        gone = self.recent.after(ancestor_hash)
        ancestor = self.recent.get(ancestor_hash)
        if ancestor is None:
            raise LookupError(f"ancestor {ancestor_hash} is not among the processed blocks")
        touched = sorted(set().union(*(processed.touched for processed in gone)))
        values = await self._pools.values(link, touched, ancestor_hash)
        orphaned = tuple(BlockId(p.block.number, p.block.hash) for p in gone)
        self.recent.cut(ancestor_hash)
        self._emit(Reorganised(orphaned, BlockDelta(ancestor.block, updates(values))))

    async def _fetch_logs(self, link: Link, blocks: list[BlockRef]) -> list[list[Any]]:
        """The logs of each block, by hash. Raises LinkError where the node keeps on refusing."""
        result: dict[str, list[Any]] = {}
        topics = self._pools.topics
        for attempt in range(LOGS_RETRIES):
            missing = [block for block in blocks if block.hash not in result]
            answers = await link.batch(
                ("eth_getLogs", [{"blockHash": block.hash, "topics": topics}]) for block in missing
            )
            for block, answer in zip(missing, answers, strict=True):
                if isinstance(answer, list) and self._has_announced(block, answer):
                    result[block.hash] = answer
            if len(result) == len(blocks):
                return [result[block.hash] for block in blocks]
            await asyncio.sleep(0.05 * 2**attempt)
        first = next(block for block in blocks if block.hash not in result)
        raise LinkError(f"no complete logs of block {first.number} {first.hash}: {str(answers[0])[:200]}")

    def _has_announced(self, block: BlockRef, answer: list[Any]) -> bool:
        """Whether the fetched logs hold all that the subscription has announced for this block."""
        announced = self._early_logs.get(block.hash, set())
        if len(announced) > len(answer):
            log.warning(
                "logs_incomplete block=%d announced=%d fetched=%d", block.number, len(announced), len(answer)
            )
            return False
        return True

    async def _process(self, link: Link, block: BlockRef, raw: Iterable[Any]) -> None:
        content = await read_block(link, self._pools, self._state_of, block, raw)
        self._early_logs.pop(block.hash, None)
        self.recent.push(Processed(block, content.touched, content.log_indices))
        self._emit(NewBlock(content.delta))
        self._pools.handed_over()

    async def _resynchronise(self, link: Link, at: BlockRef, reason: str) -> None:
        """Read everything anew as of `at`, and say so; blocks in between are skipped and named."""
        log.error("resynchronising block=%d reason=%r", at.number, reason)
        await self._pools.discover(link, at)
        values = await self._pools.values(link, self._pools.by_address, at.hash)
        on_chain, orphaned = await resume_point(link, self.recent.ids())
        genesis = await genesis_hash(link) if on_chain is None else None
        other_chain = is_other_chain(self.genesis, genesis)
        self.genesis = genesis or self.genesis
        skipped = _range(self.recent.last.number + 1, at.number - 1)
        self.recent.restart(at)
        delta = delta_of(self._pools, at, values)
        self._emit(Resynchronised(reason, delta, orphaned, skipped, other_chain))
        self._pools.handed_over()

    async def _check_health(self, link: Link) -> Link | None:
        """Is the node there, did a head escape us, does our state equal the chain's, is the primary back?"""
        head = await link.head()
        last = self.recent.last
        rolled_back = False
        if head.number > last.number + 1:
            log.warning("heads_missed head=%d last=%d", head.number, last.number)
        elif head.number < last.number:
            # a node that lags moves on; one that has lost blocks stays until the next one is mined
            rolled_back = head.hash == self._behind_at
            log.warning("node_behind head=%d last=%d taken_as=%s", head.number, last.number,
                        "rolled_back" if rolled_back else "lagging")  # fmt: skip
        self._behind_at = head.hash if head.number < last.number else None
        await self._advance(link, head, rolled_back=rolled_back)
        if self._behind_at is None:
            await self._audit(link)
        late = self._settings.max_silence / 2 or math.inf
        return await self._endpoints.better(self.recent.last.timestamp - late)

    async def _audit(self, link: Link) -> None:
        """Compare some pools, in turn, with the chain at the last block."""
        last = self.recent.last
        names = list(self._pools.by_address)
        sample = names[self._audit_from : self._audit_from + AUDITED]
        self._audit_from = self._audit_from + AUDITED if self._audit_from + AUDITED < len(names) else 0
        on_chain = await self._pools.heads(link, sample, last.hash)
        ours = {pool: head(value_of(self._state_of(pool))) for pool in on_chain}
        wrong = [pool for pool in on_chain if on_chain[pool] != ours[pool]]
        for pool in wrong:
            log.error(
                "state_differs pool=%s block=%d ours=%s chain=%s",
                pool, last.number, ours[pool], on_chain[pool],
            )  # fmt: skip
        if wrong:
            await self._resynchronise(link, last, f"{len(wrong)} of {len(sample)} audited pools differ")


def _waiting(link: Link) -> list[dict[str, Any] | None]:
    """Everything that is in the queue already."""
    return [link.notifications.get_nowait() for _ in range(link.notifications.qsize())]


def _range(first: int, last: int) -> tuple[int, int] | None:
    return (first, last) if first <= last else None
