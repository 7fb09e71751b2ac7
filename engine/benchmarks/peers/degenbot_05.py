"""Runner of degenbot 0.5.0, which is all Python; started by `peers.run`.

Its public optimiser is UniswapLpCycle.calculate: a check of the marginal rate, then a bounded Brent search
(scipy, xatol 1) on exact integer quotes. It takes Uniswap V2, V3 and V4 and Aerodrome V2 pools. The package
also has private `..._cycle_testing` classes; tried on the same cycles, the convex one for V2 pools was
three times slower and found less or nothing, the one for two pools was slower with the same profit within a
few wei. Curve pools go through UniswapCurveCycle, which wants the Curve pool second of three, takes 0.01 %
off its output, and needs a pool object that reads the chain throughout: refused here, as are Balancer pools,
which no optimiser of it takes.

- **Input bound.** Brent needs one (`max_input`, "100 WETH" by default); the closer, the faster. Given is
  what the last pool can pay out, as no profitable input is above it, or less where the path can't take that.
- **Answer.** The amount it settles on, and what its own integer quotes give for it; the profit that it
  reports is the same rounded to a float.
- **Cache.** Pools keep the swap steps from tick to tick that they have computed; rounds with a full cache
  count, in its favour.
- **No node.** Constructors read state from a Web3 connection. The subclasses below answer the reading
  methods from the cycle; `_NO_NODE` stands in for the connection and knows only that tokens have code.
"""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import eth_abi.abi
from degenbot.aerodrome import AerodromeV2Pool
from degenbot.arbitrage import UniswapLpCycle
from degenbot.connection import connection_manager
from degenbot.database import db_session
from degenbot.database.models import Base
from degenbot.erc20 import Erc20Token
from degenbot.exceptions.arbitrage import ArbitrageError
from degenbot.exceptions.liquidity_pool import IncompleteSwap, LiquidityPoolError
from degenbot.registry import token_registry
from degenbot.uniswap.v2_liquidity_pool import UniswapV2Pool
from degenbot.uniswap.v3_liquidity_pool import UniswapV3Pool
from degenbot.uniswap.v4_liquidity_pool import ProtocolFee, Slot0, UniswapV4Pool
from web3 import Web3

from peers import protocol
from peers.protocol import Answer, Cycle, Hop, Quote, RefusedError

CHAIN = 1
BLOCK = 1
QUOTES = 10
_MOST = 2**127 - 1  # V4 amounts are int128
_NEUTRAL = "0x" + "77" * 20  # factory: one without a deployment that the peer knows
_NO_HOOKS = "0x" + "00" * 20
_NO_NODE = SimpleNamespace(eth=SimpleNamespace(get_code=lambda _address: b"\x01"))
_numbers = itertools.count(1)


class _Token(Erc20Token):  # type: ignore[misc]
    def __init__(self, address: str, decimals: int) -> None:
        self._given = decimals
        super().__init__(address, chain_id=CHAIN, silent=True)

    @property
    def w3(self) -> Any:
        return _NO_NODE

    def get_name_symbol_decimals_batched(self, w3: Any) -> tuple[str, str, int]:
        return "token", "token", self._given


class _V2(UniswapV2Pool):  # type: ignore[misc]
    def __init__(self, hop: Hop, address: str) -> None:
        self._hop = hop
        fee = 1 - Fraction(hop["fee_num"], hop["fee_den"])
        super().__init__(address, fee=fee, **_OFFLINE)

    def get_immutable_pool_values(self, w3: Any) -> tuple[str, tuple[str, str]]:
        return _NEUTRAL, protocol.token_pair(self._hop)

    def get_reserves(self, w3: Any, block_identifier: Any) -> tuple[int, int]:
        return int(self._hop["reserve0"]), int(self._hop["reserve1"])


class _V3(UniswapV3Pool):  # type: ignore[misc]
    def __init__(self, hop: Hop, address: str) -> None:
        self._hop = hop
        super().__init__(address, **_tick_map(hop), **_OFFLINE)

    def get_immutable_pool_values(self, w3: Any) -> tuple[str, tuple[str, str], int, int]:
        return _NEUTRAL, protocol.token_pair(self._hop), self._hop["fee_pips"], self._hop["tick_spacing"]

    def get_mutable_pool_values(self, w3: Any, state_block: int) -> tuple[int, int, int]:
        return int(self._hop["sqrt_price_x96"]), self._hop["tick"], int(self._hop["liquidity"])


class _V4(UniswapV4Pool):  # type: ignore[misc]
    def __init__(self, hop: Hop, address: str) -> None:
        self._hop = hop
        token0, token1 = protocol.token_pair(hop)
        key = token0, token1, hop["lp_fee"], hop["tick_spacing"], _NO_HOOKS
        super().__init__(
            pool_id=Web3.keccak(
                eth_abi.abi.encode(["address", "address", "uint24", "int24", "address"], key)
            ),
            pool_manager_address=address,  # the key of two pools may be the same; their managers differ
            state_view_address=_NEUTRAL,
            tokens=[token0, token1],
            fee=hop["lp_fee"],
            tick_spacing=hop["tick_spacing"],
            chain_id=CHAIN,
            state_block=BLOCK,
            silent=True,
            **_tick_map(hop),
        )

    def _get_state_values(self, w3: Any, state_block: int) -> tuple[Slot0, int]:
        slot0 = Slot0(
            sqrt_price_x96=int(self._hop["sqrt_price_x96"]),
            tick=self._hop["tick"],
            protocol_fee=ProtocolFee(one_for_zero=0, zero_for_one=0),
            lp_fee=self._hop["lp_fee"],
        )
        return slot0, int(self._hop["liquidity"])


class _Aerodrome(AerodromeV2Pool):  # type: ignore[misc]
    def __init__(self, hop: Hop, address: str) -> None:
        self._hop = hop
        super().__init__(address, **_OFFLINE)

    def get_factory_tokens_stable_reserves_batched(self, w3: Any, state_block: int) -> tuple[Any, ...]:
        hop = self._hop
        fee, rest = divmod((hop["fee_den"] - hop["fee_num"]) * self.FEE_DENOMINATOR, hop["fee_den"])
        if rest:
            raise RefusedError(f"fee {hop['fee_num']}/{hop['fee_den']}: degenbot 0.5.0 has ten-thousandths")
        stable = hop["family"] == "solidly_stable"
        reserves = int(hop["reserve0"]), int(hop["reserve1"])
        return _NEUTRAL, protocol.token_pair(hop), stable, fee, reserves


_OFFLINE: dict[str, Any] = {
    "chain_id": CHAIN,
    "state_block": BLOCK,
    "verify_address": False,
    "silent": True,
}
_POOLS = {
    "uniswap_v2": _V2,
    "uniswap_v3": _V3,
    "uniswap_v4": _V4,
    "solidly_volatile": _Aerodrome,
    "solidly_stable": _Aerodrome,
}


def _tick_map(hop: Hop) -> dict[str, Any]:
    """The pool's ticks as constructors take them: by tick, and as bitmap words of 256 spacings."""
    data = {
        tick: {"liquidity_net": int(net), "liquidity_gross": int(gross)} for tick, net, gross in hop["ticks"]
    }
    words: dict[int, int] = {}
    for tick in data:
        word, bit = divmod(tick // hop["tick_spacing"], 256)
        words[word] = words.get(word, 0) | 1 << bit
    return {"tick_data": data, "tick_bitmap": {word: {"bitmap": bits} for word, bits in words.items()}}


def _token(address: str, decimals: int) -> Any:
    known = token_registry.get(token_address=address, chain_id=CHAIN)
    return known or _Token(address, decimals)


def build(hop: Hop) -> Any:
    """The peer's pool object with this state, at a new address."""
    if hop["family"] not in _POOLS:
        raise RefusedError(f"{hop['family']}: degenbot 0.5.0 solves {', '.join(_POOLS)}")
    for side in ("in", "out"):
        _token(hop[f"token_{side}"], hop[f"decimals_{side}"])
    return _POOLS[hop["family"]](hop, f"0x{0xA0 << 152 | next(_numbers):040x}")


def _follow(pools: list[Any], hops: list[Hop], amount: int) -> int:
    """What the path gives for the amount, by the peer's own quotes."""
    for pool, hop in zip(pools, hops, strict=True):
        amount = pool.calculate_tokens_out_from_tokens_in(_token(hop["token_in"], hop["decimals_in"]), amount)
    return amount


def _payable(pool: Any, hop: Hop) -> int:
    """The most that the pool can pay out."""
    if "reserve0" in hop:
        return int(hop["reserve1" if hop["zero_for_one"] else "reserve0"])
    try:
        return _follow([pool], [hop], _MOST)
    except IncompleteSwap as swap:
        return int(swap.amount_out)


def _bound(pools: list[Any], hops: list[Hop]) -> int:
    """Input to search up to: what the last pool can pay, or within 1 % the most that the path takes whole."""
    low, high = 1, max(1, _payable(pools[-1], hops[-1]))
    tried = high
    while high - low > high // 100:
        try:
            _follow(pools, hops, tried)
            low = tried
        except IncompleteSwap:
            high = tried
        except LiquidityPoolError:  # too little to swap
            low = tried
        tried = math.isqrt(low * high)
        if tried == low:
            break
    return low


def solve(cycle: Cycle, repeat: int) -> Answer:
    """UniswapLpCycle.calculate on the cycle."""
    hops = cycle["hops"]
    pools = [build(hop) for hop in hops]
    token = _token(hops[0]["token_in"], hops[0]["decimals_in"])
    path = UniswapLpCycle(
        input_token=token, swap_pools=pools, id=str(cycle["id"]), max_input=_bound(pools, hops)
    )

    def ask() -> int:
        try:
            result = path.calculate()
        except ArbitrageError:  # no profit at the margin, or none that the search found
            return 0
        return int(result.input_amount) if result.profit_amount > 0 else 0

    seconds = protocol.best_seconds(ask, repeat)
    amount_in = ask()
    return Answer(amount_in, _follow(pools, hops, amount_in) if amount_in else 0, seconds)


def quote(hop: Hop, amount_in: int, repeat: int) -> Quote:
    """Exact input through one pool."""
    pool = build(hop)
    token = _token(hop["token_in"], hop["decimals_in"])

    def ask() -> int:
        try:
            return int(pool.calculate_tokens_out_from_tokens_in(token, amount_in))
        except IncompleteSwap as swap:
            raise RefusedError(str(swap)) from swap

    return Quote(ask(), protocol.best_seconds(ask, repeat, calls=QUOTES))


if __name__ == "__main__":
    connection_manager.connections[CHAIN] = _NO_NODE
    Base.metadata.create_all(db_session.connection())  # constructors look there first; it stays empty
    protocol.main(solve, quote, __doc__)
