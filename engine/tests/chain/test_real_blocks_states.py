"""Real mainnet blocks, mined by anvil: the pools' states, followed from logs alone, against storage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from eth_utils.crypto import keccak
from live.harness import Chain
from mev_engine.amm import registry
from mev_engine.amm.abi import signed, topic
from mev_engine.amm.uniswap_v2 import V2Pair
from mev_engine.amm.uniswap_v3 import V3Pool, exact_in, exact_out
from mev_engine.chain.decode import block_ref
from mev_engine.market import BlockDelta, Market, PoolLog, PoolSpec, TokenSpec
from real_blocks import NUMBERS, RealBlock, reserves_in_storage, slot

pytestmark = [pytest.mark.chain, pytest.mark.data]

WETH = "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2"
SYNC, SWAP_V2 = topic("Sync(uint112,uint112)"), topic("Swap(address,uint256,uint256,uint256,uint256,address)")
SWAP_V3 = topic("Swap(address,address,int256,int256,uint160,uint128,int24)")
NO_POOLS = {  # what else these blocks log
    topic("Transfer(address,address,uint256)"),
    topic("Approval(address,address,uint256)"),
    topic("Deposit(address,uint256)"),  # of WETH
    topic("Withdrawal(address,uint256)"),
    topic("SafeReceived(address,uint256)"),  # of a Safe
    SWAP_V2,  # the Sync before it has the state
}
FAMILY_TOUCHES = {19807080: {"uniswap_v2": 3, "uniswap_v3": 1}, 20612842: {"uniswap_v3": 1}}
TICKS = {19807080: 1, 20612842: 0}  # initialised ones whose slots the block touched


def call(chain: Chain, address: str, signature: str) -> int:
    data = "0x" + keccak(text=signature)[:4].hex()
    return int(chain.rpc("eth_call", {"to": address, "data": data}, "latest"), 16)


def twos_complement(value: int, bits: int) -> int:
    return value - 2**bits if value >> (bits - 1) & 1 else value


# --- V3's storage -----------------------------------------------------------------------------------


def mapped(chain: Chain, pool: str, key: int, mapping: int) -> int:
    """First slot of `mapping[key]`, a mapping that lies at slot number `mapping`."""
    words = (key % 2**256).to_bytes(32) + mapping.to_bytes(32)
    return slot(chain, pool, int.from_bytes(keccak(words)))


def slot0(chain: Chain, pool: str) -> tuple[int, int]:
    """sqrtPriceX96 (uint160) and tick (int24), packed from the low end."""
    packed = slot(chain, pool, 0)
    return packed % 2**160, twos_complement(packed >> 160 & 2**24 - 1, 24)


def tick_info(chain: Chain, pool: str, tick: int) -> tuple[int, int]:
    """liquidityGross (uint128) and liquidityNet (int128): `ticks` is at slot 5."""
    packed = mapped(chain, pool, tick, 5)
    return packed % 2**128, twos_complement(packed >> 128, 128)


def bitmap(chain: Chain, pool: str, word: int) -> int:
    """`tickBitmap` is at slot 6."""
    return mapped(chain, pool, word, 6)


def v3_in_storage(chain: Chain, pool: str) -> V3Pool:
    """The pool with those ticks around its price that the pre-state holds.

    A slot that the block did not touch reads 0: a word of the bitmap that is 0, or an initialised tick
    without liquidityGross, ends what is known.
    """
    price, tick = slot0(chain, pool)
    spacing = call(chain, pool, "tickSpacing()")
    gross, net = {}, {}
    known = []
    for step in (-1, 1):
        n = tick // spacing + (step > 0)
        while word := bitmap(chain, pool, n >> 8):
            if word >> (n & 255) & 1:
                info = tick_info(chain, pool, n * spacing)
                if not info[0]:
                    known.append(n * spacing - step)
                    break
                gross[n * spacing], net[n * spacing] = info
            n += step
        else:
            known.append((n - step) * spacing)
    return V3Pool(
        sqrt_price_x96=price,
        tick=tick,
        liquidity=slot(chain, pool, 4) % 2**128,
        tick_spacing=spacing,
        fee_pips=call(chain, pool, "fee()"),
        ticks=net,
        gross=gross,
        known=(known[0], known[1]),
    )


def assert_equals_storage(chain: Chain, address: str, state: Any) -> int:
    """Every field of the state; returns how many initialised ticks were compared."""
    if isinstance(state, V2Pair):
        assert (state.reserve0, state.reserve1) == reserves_in_storage(chain, address)
        return 0
    assert isinstance(state, V3Pool)
    assert (state.sqrt_price_x96, state.tick) == slot0(chain, address)
    assert state.liquidity == slot(chain, address, 4)
    assert state.fee_pips == call(chain, address, "fee()")
    spacing = state.tick_spacing
    assert state.gross is not None
    for n in range(-(-state.known[0] // spacing), state.known[1] // spacing + 1):
        initialised = bool(bitmap(chain, address, n >> 8) >> (n & 255) & 1)
        assert initialised == (n * spacing in state.ticks)
        expected = state.gross.get(n * spacing, 0), state.ticks.get(n * spacing, 0)
        assert tick_info(chain, address, n * spacing) == expected
    return len(state.ticks)


# --- The blocks -------------------------------------------------------------------------------------


class Mined(NamedTuple):
    """A mined block: the states before it by pool, its logs, and the chain after it."""

    real: RealBlock
    before: dict[str, PoolSpec]
    logs: list[dict[str, Any]]
    chain: Chain


def touched_pools(chain: Chain, number: int) -> dict[str, str]:
    """Pool -> name of its family, by topic, for all logs that some family knows; no other log is unknown.

    Forks share a topic with the family that comes first, as Camelot's pairs do Sync with Uniswap V2's.
    """
    families = reversed(registry.FAMILIES.items())
    names = {topic0: name for name, family in families for topic0 in family.events}
    logs = chain.rpc("eth_getLogs", {"fromBlock": hex(number), "toBlock": hex(number)})
    assert {log["topics"][0] for log in logs} <= names.keys() | NO_POOLS
    return {log["address"]: names[log["topics"][0]] for log in logs if log["topics"][0] in names}


def spec(chain: Chain, address: str, family: str) -> PoolSpec:
    """The pool as its storage has it now."""
    state: Any
    if family == "uniswap_v2":
        state = V2Pair(*reserves_in_storage(chain, address))
    else:
        assert family == "uniswap_v3", f"no reader of {family}'s storage"
        state = v3_in_storage(chain, address)
    tokens = tuple(f"0x{call(chain, address, name):040x}" for name in ("token0()", "token1()"))
    return PoolSpec(address, tokens, state, family)


@pytest.fixture(params=NUMBERS)
def mined(
    request: pytest.FixtureRequest, anvil_binary: Path, data_dir: Path, tmp_path: Path
) -> Iterator[Mined]:
    real = RealBlock.load(data_dir, request.param)
    with real.chain_before(tmp_path) as chain:
        snapshot = chain.rpc("evm_snapshot")
        real.mine(chain)
        pools = touched_pools(chain, real.number)
        assert chain.rpc("evm_revert", snapshot)
        before = {address: spec(chain, address, family) for address, family in pools.items()}
        real.mine(chain)
        real.assert_real(chain.rpc("eth_getBlockByNumber", hex(real.number), False))
        logs = chain.rpc("eth_getLogs", {"fromBlock": hex(real.number), "toBlock": hex(real.number)})
        yield Mined(real, before, logs, chain)


def pool_log(log: dict[str, Any]) -> PoolLog:
    return PoolLog(log["address"], tuple(log["topics"]), bytes.fromhex(log["data"][2:]))


def test_states_followed_from_logs_equal_storage(mined: Mined) -> None:
    # fails if one log is misread or taken in the wrong order, if a crossed tick (19807080 crosses one)
    # gives another liquidity than the chain's, or if a touched pool is overlooked
    real, before, logs, chain = mined
    assert before.keys() == {swap["pool"] for swap in real.swaps}
    tokens = sorted({token for pool in before.values() for token in pool.tokens} | {WETH})
    market = Market.build(
        [TokenSpec(token, token[:6], 18) for token in tokens],
        before.values(),
        base_tokens=[WETH],
        wrapped_native=WETH,
    )
    block = block_ref(chain.rpc("eth_getBlockByNumber", hex(real.number), False))
    touched = market.apply(BlockDelta(block, logs=tuple(pool_log(log) for log in logs)))
    assert len(touched) == len(before)
    ticks = 0
    for address, pool in before.items():
        assert market.state(address) != pool.state
        ticks += assert_equals_storage(chain, address, market.state(address))
    assert ticks == TICKS[real.number]
    counts = Counter(pool.protocol for pool in before.values())
    assert counts == FAMILY_TOUCHES[real.number]
    print(
        f"block {real.number}: states equal to storage: {dict(counts)}, {ticks} ticks; other families: none"
    )


def test_real_swaps_requoted_to_the_wei(mined: Mined) -> None:
    # fails if our integers give another amount, price, tick or liquidity than the chain's swap did
    real, before, logs, _chain = mined
    states = {address: pool.state for address, pool in before.items()}
    expected = [(swap["pool"], int(swap["delta0"]), int(swap["delta1"])) for swap in real.swaps]
    counts: Counter[str] = Counter()
    for log in map(pool_log, logs):
        if log.topics[0] not in (SYNC, SWAP_V3):
            continue
        old = states[log.pool]
        new = registry.family_of(old).events[log.topics[0]](old, (log.topics, log.data))
        if isinstance(old, V2Pair):
            deltas = new.reserve0 - old.reserve0, new.reserve1 - old.reserve1
        else:
            deltas = signed(log.data, 0), signed(log.data, 1)
        i = 0 if deltas[0] > 0 else 1
        paid_in, paid_out = deltas[i], -deltas[1 - i]
        assert registry.family_of(old).exact_in(old, i, 1 - i, paid_in) == paid_out
        if isinstance(old, V3Pool):
            assert old.after(exact_in(old, paid_in, zero_for_one=i == 0)) == new
            assert exact_out(old, paid_out, zero_for_one=i == 0).amount_in <= paid_in
        assert (log.pool, -deltas[0], -deltas[1]) == expected[
            counts.total()
        ]  # the data has the trader's side
        states[log.pool] = new
        counts[registry.family_of(old).name] += 1
    assert counts.total() == len(real.swaps)
    print(f"block {real.number}: swaps re-quoted to the wei: {dict(counts)}")
