"""V3 pools are found and read through nodes that limit requests and contracts that answer nonsense."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from mev_engine.amm import uniswap_v3
from mev_engine.chain import v3_pools
from mev_engine.chain.decode import POOL_CREATED
from mev_engine.chain.errors import LinkError, RpcError, StateUnavailableError
from mev_engine.chain.pools import Pools
from mev_engine.market.delta import BlockRef, PoolSpec
from mev_engine.settings import MarketSettings

FACTORY, TOKEN0, TOKEN1 = ("0x" + f"{n:02x}" * 20 for n in (0xFA, 0x10, 0x11))
HEAD = BlockRef(30_000, "0x" + "ab" * 32, "0x" + "aa" * 32, 1, 0)


def pool(number: int) -> str:
    return f"0x{number + 0xB000_0000:040x}"


def created(number: int, *, spacing: int = 60) -> dict[str, Any]:
    """The PoolCreated log of block `number`."""
    topics = [POOL_CREATED, f"0x{int(TOKEN0, 16):064x}", f"0x{int(TOKEN1, 16):064x}", f"0x{3000:064x}"]
    return {"topics": topics, "data": f"0x{spacing:064x}{int(pool(number), 16):064x}"}


class Node:
    """A link to a node that gives the logs of no more than `most` blocks at once; `codeless` tokens."""

    def __init__(self, logs: dict[int, dict[str, Any]], most: int) -> None:
        self.logs = logs
        self.most = most
        self.asked: list[tuple[int, int]] = []
        self.head_hash = HEAD.hash
        self.fails_at_tokens = False

    async def batch(self, requests: Iterable[tuple[str, Sequence[Any]]]) -> list[Any]:
        return [self._answer(method, params[0]) for method, params in requests]

    def _answer(self, method: str, request: dict[str, Any]) -> Any:
        if method == "eth_getLogs":
            first, last = int(request["fromBlock"], 16), int(request["toBlock"], 16)
            if last - first + 1 > self.most:
                return RpcError("node", method, -32005, "query returned more than 10000 results")
            self.asked.append((first, last))
            return [log for number, log in self.logs.items() if first <= number <= last]
        if request["to"] == FACTORY:
            return f"0x{60:064x}"
        if self.fails_at_tokens:
            raise LinkError("the connection has ended")
        return "0x"

    async def blocks_by_number(self, numbers: Iterable[int]) -> dict[int, BlockRef]:
        return {n: BlockRef(n, self.head_hash, "", 1, 0) for n in numbers}


async def find(node: Node, first: int = 0) -> list[str]:
    found = await v3_pools.created(node, FACTORY, first, HEAD, lambda: None)  # type: ignore[arg-type]
    return [event.pool for event in found]


@pytest.mark.parametrize("most", [1_000_000, 3000, 700])
async def test_what_is_refused_is_asked_again_by_halves(most: int) -> None:
    # Could fail: a block is left out or asked for twice between two requests, or a node's limit ends it.
    numbers = [0, 5, 2999, 3000, 9_999, 10_000, 29_999, 30_000]
    node = Node({number: created(number) for number in numbers}, most)
    assert await find(node) == [pool(number) for number in numbers]
    assert node.asked[0][0] == 0
    assert node.asked[-1][1] == HEAD.number
    assert all(after[0] == before[1] + 1 for before, after in zip(node.asked, node.asked[1:], strict=False))


async def test_a_block_that_is_refused_is_named() -> None:
    # Could fail: a node without logs gives a market without V3 pools.
    with pytest.raises(StateUnavailableError, match=f"PoolCreated of {FACTORY} in block 0: "):
        await find(Node({}, 0))


async def test_a_branch_that_went_is_noticed() -> None:
    # Could fail: logs of another branch are taken for those of the block whose state is read.
    node = Node({}, 10**6)
    node.head_hash = "0x" + "cd" * 32
    with pytest.raises(StateUnavailableError, match=r"block 30000 .* left the chain"):
        await find(node)


async def test_what_is_no_pool_is_refused_by_name(caplog: pytest.LogCaptureFixture) -> None:
    # Could fail: one malformed log ends the discovery, or goes unmentioned.
    node = Node({7: created(7, spacing=0), 8: created(8), 9: {"topics": None}}, 10**6)
    assert await find(node) == [pool(8)]
    assert caplog.text.count(f"pool_refused factory={FACTORY}") == 2
    assert "tick_spacing=0" in caplog.text


async def test_pools_found_before_a_lost_connection_are_found_again() -> None:
    # Could fail: the blocks count as looked at although their pools' tokens were never read.
    settings = MarketSettings.model_validate({
        "base_tokens": [TOKEN0], "wrapped_native": TOKEN0,
        "factories": [{"address": FACTORY, "name": "uniswap_v3", "family": "uniswap_v3"}],
    })  # fmt: skip
    node, pools = Node({7: created(7)}, 10**6), Pools(settings, beat=lambda: None)
    node.fails_at_tokens = True
    with pytest.raises(LinkError):
        await pools.discover(node, HEAD)  # type: ignore[arg-type]
    node.fails_at_tokens = False
    await pools.discover(node, HEAD)  # type: ignore[arg-type]
    assert list(pools.new_pools) == [pool(7)]
    asked = len(node.asked)
    await pools.discover(node, HEAD)  # type: ignore[arg-type]
    assert len(node.asked) == asked  # nothing is looked at twice on the same branch


class Contracts:
    """Answers eth_calls as V3 pools do: one position of `liquidity` from tick -60 to 60 in each."""

    def __init__(self, **wrong: Any) -> None:
        self.wrong = wrong

    async def all(self, calls: Sequence[tuple[str, str]], what: str) -> list[Any]:
        return [self._answer(data[:10], data[10:]) for _to, data in calls]

    def _answer(self, selector: str, argument: str) -> Any:
        words = {
            v3_pools.SLOT0: [2**96, 0], v3_pools.LIQUIDITY: [5], v3_pools.FEE: [3000],
            v3_pools.TICK_SPACING: [60],
            v3_pools.TICK_BITMAP: [{0: 1 << 1, 2**256 - 1: 1 << 255}.get(int(argument or "0", 16), 0)],
            v3_pools.TICKS: [5, 5 if argument.startswith("f") else 2**256 - 5],
        }  # fmt: skip
        answer = self.wrong.get(selector, words[selector])
        return answer if not isinstance(answer, list) else "0x" + "".join(f"{word:064x}" for word in answer)


SPEC = PoolSpec(pool(1), (TOKEN0, TOKEN1), uniswap_v3.empty(3000, 60), "uniswap_v3")


async def read(**wrong: Any) -> tuple[Any, str]:
    found, refused = await v3_pools.states(Contracts(**wrong), [SPEC])  # type: ignore[arg-type]
    return found.get(SPEC.address), refused.get(SPEC.address, "")


async def test_a_whole_state_is_read() -> None:
    # Could fail: a tick of a negative word, its sign or its gross is read wrongly.
    state, reason = await read()
    assert reason == ""
    assert (dict(state.ticks), dict(state.gross), state.liquidity) == ({-60: 5, 60: -5}, {-60: 5, 60: 5}, 5)
    for nothing in ("0x", [0, 0]):  # no contract there (any more), not initialised
        assert await read(**{v3_pools.SLOT0: nothing}) == (SPEC.state, "")


@pytest.mark.parametrize(
    ("selector", "answer", "words"),
    [
        (v3_pools.SLOT0, RpcError("node", "eth_call", 3, "execution reverted"), "slot0() = 'node: eth_call"),
        (v3_pools.FEE, "0x", "fee() = '0x'"),
        (v3_pools.FEE, [10**6], "fee_pips=1000000"),
        (v3_pools.TICK_SPACING, [2**256 - 60], "tickSpacing() = 1157"),
        (v3_pools.TICK_BITMAP, "0x", "tickBitmap(-58) = '0x'"),
        (v3_pools.TICKS, "0x01", "ticks(-60) = '0x01'"),
        (v3_pools.LIQUIDITY, [6], "liquidity=6, but ticks give 5"),
        (v3_pools.TICK_BITMAP, [0], "liquidity=5, but ticks give 0"),
    ],
)
async def test_what_answers_otherwise_is_refused_by_name(selector: str, answer: Any, words: str) -> None:
    # Could fail: a pool whose arithmetic is another takes part in cycles, or the reason is not said.
    state, reason = await read(**{selector: answer})
    assert state is None
    assert words in reason
