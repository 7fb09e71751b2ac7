"""Runner of degenbot 0.6.0a17, whose core is in Rust; started by `peers.run`.

The package has one solver, as its README says: the ArbitrageEngine, in 512-bit integers, asked through
`solve_all_paths`. It takes Uniswap V2, V3 and V4, Aerodrome V2 (volatile and stable), Curve stableswap
and Balancer weighted pools, all offline: a pool is registered with its state. All their quotes are exact, but
the engine often finds nothing in cycles through stable, Curve or Balancer pools, of any decimals, and what
it reports for Aerodrome volatile hops is off by some units. Balancer stable pools register and quote, but
no path through one was ever solved, so they are refused here.

A call of `solve_all_paths` costs about 60 µs beside the paths. So that this is not charged to a path,
each cycle is registered in many copies, of pools at other addresses, and the time of one is its share:
100 copies where all pools are cheap, 20 where one has ticks. Each copy differs from the others by some wei in
every pool, because the engine solves equal states only once a call (which took a quarter of the time, but is
no solving). Their likeness helps it still, by up to a fifth beside as many different cycles. Each call is for
a new block, as another for the same block reuses what it found; between blocks nothing is remembered: a
repeated call takes as long as one after all states have been set anew.

The engine solves in one thread where there are two cores, one of which it keeps for input and output. With
one core it aborts, with more it may take more threads, so it is held to two here.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable
from typing import Any

from degenbot import _ffi

from peers import protocol
from peers.protocol import Answer, Cycle, Hop, Quote, RefusedError

CHAIN = 1
BLOCK = 1
CORES = 2
COPIES, COPIES_WITH_TICKS = 100, 20
QUOTES = 100
_NEUTRAL = "0x" + "77" * 20  # factory, vault or manager: one whose pool addresses the peer does not check


class Session:
    """A Bot with pools and an engine on it, which lives as long as one cycle."""

    def __init__(self) -> None:
        self.bot = _ffi.Bot(chain_id=CHAIN)
        self.engine = _ffi.ArbitrageEngine(self.bot)
        self._numbers = itertools.count(1)

    def register(self, hop: Hop, copy: int = 0) -> int:
        """Registers a pool at a new address, with this state but for `copy` wei; its number."""
        family = hop["family"]
        if family not in REGISTER:
            raise RefusedError(f"{family}: degenbot 0.6.0a17 solves {', '.join(REGISTER)}")
        tokens = protocol.token_pair(hop)
        for token, decimals in zip(tokens, protocol.decimals_pair(hop), strict=True):
            self.bot.register_token(token, "", "", decimals, CHAIN)
        number = next(self._numbers)
        try:
            return int(REGISTER[family](self.bot, _nudged(hop, copy), number, *tokens))
        except (ValueError, OverflowError) as error:
            raise RefusedError(f"{family}: {error}") from error


def _address(number: int) -> str:
    return f"0x{0xA0 << 152 | number:040x}"


def _hash(number: int) -> str:
    return f"0x{number:064x}"


def _ints(values: list[Any]) -> list[int]:
    return [int(value) for value in values]


def _nudged(hop: Hop, wei: int) -> Hop:
    """The hop with `wei` more in its pool, in ticked ones as a position over all ticks."""
    if "reserve0" in hop:
        return hop | {"reserve0": int(hop["reserve0"]) + wei}
    if "balances" in hop:
        first, second = _ints(hop["balances"])
        return hop | {"balances": [first + wei, second]}
    ticks = [[tick, int(net), int(gross)] for tick, net, gross in hop["ticks"]]
    for edge, sign in ((ticks[0], 1), (ticks[-1], -1)):
        edge[1] += sign * wei
        edge[2] += wei
    inside = ticks[0][0] <= hop["tick"] < ticks[-1][0]
    return hop | {"ticks": ticks, "liquidity": int(hop["liquidity"]) + (wei if inside else 0)}


def _v2(bot: Any, hop: Hop, number: int, token0: str, token1: str) -> Any:
    fee = hop["fee_num"], hop["fee_den"]
    reserves = int(hop["reserve0"]), int(hop["reserve1"])
    return bot.register_v2_pool(_address(number), token0, token1, *reserves, *fee, *fee, _NEUTRAL)


def _ticks(hop: Hop) -> dict[int, tuple[int, int, int]]:
    return {tick: (int(gross), int(net), BLOCK) for tick, net, gross in hop["ticks"]}


def _v3(bot: Any, hop: Hop, number: int, token0: str, token1: str) -> Any:
    kind = hop["fee_pips"], hop["tick_spacing"], _NEUTRAL
    state = int(hop["sqrt_price_x96"]), int(hop["liquidity"]), hop["tick"], _ticks(hop)
    return bot.register_v3_pool(_address(number), token0, token1, *kind, *state, BLOCK, "tracked")


def _v4(bot: Any, hop: Hop, number: int, token0: str, token1: str) -> Any:
    kind = hop["lp_fee"], hop["tick_spacing"], None
    state = int(hop["sqrt_price_x96"]), int(hop["liquidity"]), hop["tick"], BLOCK, _ticks(hop)
    return bot.register_v4_pool(_NEUTRAL, _hash(number), token0, token1, *kind, *state, "tracked")


def _solidly(bot: Any, hop: Hop, number: int, token0: str, token1: str) -> Any:
    stable = hop["family"] == "solidly_stable"
    variant = "aerodrome-v2-stable" if stable else "aerodrome-v2-volatile"
    fee = hop["fee_den"] - hop["fee_num"], hop["fee_den"]
    reserves = int(hop["reserve0"]), int(hop["reserve1"])
    kind = _NEUTRAL, variant, stable, *fee, *protocol.decimals_pair(hop)
    return bot.register_aerodrome_pool(_address(number), token0, token1, *kind, *reserves, BLOCK)


def _curve(bot: Any, hop: Hop, number: int, *tokens: str) -> Any:
    decimals = protocol.decimals_pair(hop)
    return bot.register_curve_pool(
        _address(number),
        list(tokens),
        a_coefficient=hop["amp"],
        a_precision=100,
        fee=int(hop["fee"]),
        admin_fee=0,
        rate_multipliers=[10 ** (36 - d) for d in decimals],
        balances=_ints(hop["balances"]),
        update_block=BLOCK,
        # 1 is the first of each enumeration in degenbot/curve/types.py: the standard one
        swap_style=1,
        lending_rate_style=1,
        d_variant=1,
        y_variant=1,
        yd_variant=1,
        precision_multipliers=[10 ** (18 - d) for d in decimals],
    )


def _weighted(bot: Any, hop: Hop, number: int, *tokens: str) -> Any:
    scaling = [10 ** (36 - d) for d in protocol.decimals_pair(hop)]  # times 1e18, as the vault has them
    config = list(tokens), _ints(hop["weights"]), scaling, int(hop["swap_fee"])
    with_exact_powers = 2
    balances = _ints(hop["balances"])
    identity = _address(number), _NEUTRAL, _hash(number)
    return bot.register_balancer_weighted_pool(*identity, *config, with_exact_powers, balances, BLOCK)


REGISTER: dict[str, Callable[..., Any]] = {
    "uniswap_v2": _v2,
    "uniswap_v3": _v3,
    "uniswap_v4": _v4,
    "solidly_volatile": _solidly,
    "solidly_stable": _solidly,
    "curve_stable": _curve,
    "balancer_weighted": _weighted,
}


def solve(cycle: Cycle, repeat: int) -> Answer:
    """The engine's best for the cycle, and its share of the time of solving many copies."""
    session = Session()
    hops = cycle["hops"]
    copies = COPIES_WITH_TICKS if any("ticks" in hop for hop in hops) else COPIES
    paths = []
    for copy in range(copies):
        path = [(session.register(hop, copy), hop["zero_for_one"]) for hop in hops]
        try:
            paths.append(session.engine.register_path(path)[0])
        except ValueError as error:
            raise RefusedError(str(error)) from error
    blocks = itertools.count(BLOCK)
    seconds = protocol.best_seconds(lambda: session.engine.solve_all_paths(next(blocks)), repeat) / copies
    for path_id, amount_in, _profit, hop_outputs, _consumed in session.engine.latest_results()[0]:
        if path_id == paths[0]:
            return Answer(amount_in, hop_outputs[-1], seconds)
    return Answer(0, 0, seconds)


def quote(hop: Hop, amount_in: int, repeat: int) -> Quote:
    """Exact input through one pool, by the pool's own handle."""
    session = Session()
    pool = session.bot.get_pool(session.register(hop))
    zero_for_one = hop["zero_for_one"]

    def ask() -> int:
        return int(pool.calculate_tokens_out(zero_for_one, amount_in))

    return Quote(ask(), protocol.best_seconds(ask, repeat, calls=QUOTES))


if __name__ == "__main__":
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < CORES:
        sys.exit(
            "degenbot 0.6.0a17 needs two cores (its engine aborts on one); this process may use one only"
        )
    os.sched_setaffinity(0, allowed[:CORES])
    protocol.main(solve, quote, __doc__)
