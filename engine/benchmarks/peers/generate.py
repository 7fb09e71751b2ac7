"""Random cycles for the peers, the same for the same seed.

    python -m peers.generate --kind v2-v3 --count 100 --seed 1 > cycles.jsonl
    python -m peers.generate --kind v3 --count 100 --quotes > quotes.jsonl

Tokens have 6, 8 or 18 decimals and worths over six orders of magnitude, so prices span twelve. Pools hold
1e3 to 1e9 tokens a side. Half of the cycles gain 1 bp to 20 % at the margin, the others lose as much; gaps
are uniform in their logarithm. Ticked pools have 10 to 200 initialised ticks, of positions that overlap.
Every state is one that our own pool types accept: `exact.state` checks it.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

from mev_engine.amm.concentrated import MAX_TICK, MIN_TICK, Q96, tick_at_sqrt_price

from peers import exact
from peers.protocol import Cycle, Hop

KINDS = {
    "v2": ("uniswap_v2",),
    "v3": ("uniswap_v3",),
    "v4": ("uniswap_v4",),
    "v2-v3": ("uniswap_v2", "uniswap_v3"),
    "v2-v3-v4": ("uniswap_v2", "uniswap_v3", "uniswap_v4"),
    "v2-solidly": ("uniswap_v2", "solidly_volatile"),
    "v2-solidly-stable": ("uniswap_v2", "solidly_stable"),
    "v2-curve": ("uniswap_v2", "curve_stable"),
    "v2-balancer": ("uniswap_v2", "balancer_weighted"),
}
"""Families of a kind's cycles. Each family is there at least once where the hops suffice."""
PRICED = ("uniswap_v2", "uniswap_v3", "uniswap_v4")
"""Families whose price can be set freely: one of them closes the cycle, with the gap that is wanted."""
STABLE = ("solidly_stable", "curve_stable")
V2_FEES = ((997, 1000), (9975, 10000), (998, 1000), (9970, 10000))
TICKED_FEES = ((100, 1), (500, 10), (2500, 50), (3000, 60), (10000, 200))
"""fee in pips, tick spacing"""
LEAST_TOKENS, MOST_TOKENS = 1e3, 1e9
FEWEST_TICKS, MOST_TICKS = 10, 200
LEAST_GAP, MOST_GAP = 1e-4, 0.2


class Token(NamedTuple):
    """worth: of a whole token, in any unit."""

    address: str
    decimals: int
    worth: float


def cycles(kind: str, count: int, seed: int, hops: tuple[int, ...] = (2, 3, 4)) -> Iterator[Cycle]:
    """`count` cycles with ids 0, 1, …; `hops`: the lengths to draw from, the shortest for `v2-v3-v4` is 3."""
    if kind not in KINDS:
        raise ValueError(f"kind={kind}: one of {', '.join(KINDS)}")
    rng = random.Random(f"{kind} {seed}")  # noqa: S311  (no secret)
    for number in range(count):
        yield {"id": number, "hops": _hops(rng, KINDS[kind], rng.choice(hops), number)}


def quotes(kind: str, count: int, seed: int) -> Iterator[dict[str, Any]]:
    """`count` quotes of single pools, for amounts of 1e-7 to 0.3 of what the pool holds (virtually)."""
    rng = random.Random(f"amounts {seed}")  # noqa: S311
    for cycle in cycles(kind, count, seed, (2,)):
        hop = cycle["hops"][0]
        if "ticks" in hop:
            root = int(hop["sqrt_price_x96"]) / Q96
            held = int(hop["liquidity"]) * (1 / root if hop["zero_for_one"] else root)
        elif "balances" in hop:
            held = float(hop["balances"][0 if hop["zero_for_one"] else 1])
        else:
            held = float(hop["reserve0" if hop["zero_for_one"] else "reserve1"])
        amount = _whole(rng, held * _log_uniform(rng, 1e-7, 0.3))
        yield {"id": cycle["id"], "hop": hop, "amount_in": str(amount)}


def _hops(rng: random.Random, families: tuple[str, ...], length: int, number: int) -> list[Hop]:
    chosen = list(families[:length]) + rng.choices(families, k=max(0, length - len(families)))
    rng.shuffle(chosen)
    last = next(i for i, family in enumerate(chosen) if family in PRICED)
    chosen = chosen[last + 1 :] + chosen[: last + 1]  # the one that closes the cycle comes last
    tokens = _tokens(rng, chosen, number)
    gap = math.copysign(_log_uniform(rng, LEAST_GAP, MOST_GAP), rng.random() - 0.5)
    result: list[Hop] = []
    rate = 1.0  # raw units out for each unit of the cycle's first token in
    for i, (family, (paid, got)) in enumerate(zip(chosen, pairwise([*tokens, tokens[0]]), strict=True)):
        if i < length - 1:
            price = paid.worth / got.worth * (1 + rng.uniform(-0.01, 0.01))
        else:
            price = (1 + gap) / rate * 10 ** (paid.decimals - got.decimals)
        hop = _hop(rng, family, paid, got, price, fee_included=i == length - 1)
        exact.state(hop)  # raises where it is no state of a pool
        rate *= exact.marginal_price(hop)
        result.append(hop)
    turn = rng.randrange(length)  # so that the closing pool may be anywhere
    return result[turn:] + result[:turn]


def _tokens(rng: random.Random, families: list[str], number: int) -> list[Token]:
    """One token before each hop; those on both sides of a stable pool are worth the same."""
    tokens: list[Token] = []
    for i in range(len(families)):
        same = i > 0 and families[i - 1] in STABLE
        worth = tokens[-1].worth if same else _log_uniform(rng, 1e-3, 1e3)
        address = f"0x{rng.randrange(1, 2**32) << 64 | number << 8 | i:040x}"
        tokens.append(Token(address, rng.choice((6, 8, 18)), worth))
    return tokens


def _hop(
    rng: random.Random, family: str, paid: Token, got: Token, price: float, *, fee_included: bool
) -> Hop:
    """A pool that gives about `price` whole tokens for one, exactly so after its fee if `fee_included`."""
    zero_for_one = int(paid.address, 16) < int(got.address, 16)
    hop: Hop = {
        "family": family,
        "token_in": paid.address,
        "token_out": got.address,
        "decimals_in": paid.decimals,
        "decimals_out": got.decimals,
        "zero_for_one": zero_for_one,
    }
    if family in {"uniswap_v3", "uniswap_v4"}:
        return hop | _ticked(rng, hop, price, fee_included=fee_included)
    fee_num, fee_den = rng.choice(V2_FEES) if family == "uniswap_v2" else (rng.choice((9970, 9995)), 10000)
    if fee_included:
        price *= fee_den / fee_num
    if family in STABLE:
        price = rng.uniform(0.5, 2)  # how full the sides are; the curve keeps the price near one
    amounts = _amounts(rng, price, paid, got)
    held = [str(amount) for amount in (amounts if zero_for_one else amounts[::-1])]
    if family == "curve_stable":
        return hop | {
            "balances": held,
            "amp": rng.choice((50, 200, 2000)),
            "fee": rng.choice(("1000000", "4000000")),
        }
    if family == "balancer_weighted":
        weight = rng.choice((5, 8, 2)) * 10**17
        return hop | {
            "balances": held,
            "weights": [str(weight), str(exact.ONE - weight)],
            "swap_fee": rng.choice(("1000000000000000", "3000000000000000")),
        }
    return hop | {"reserve0": held[0], "reserve1": held[1], "fee_num": fee_num, "fee_den": fee_den}


def _depth(rng: random.Random, price: float) -> float:
    """Geometric mean of a pool's two sides, whole tokens, so that both are within the bounds."""
    skew = max(math.sqrt(price), 1 / math.sqrt(price))
    least, most = LEAST_TOKENS * skew, MOST_TOKENS / skew
    return _log_uniform(rng, least, most) if least < most else math.sqrt(least * most)


def _amounts(rng: random.Random, price: float, paid: Token, got: Token) -> tuple[int, int]:
    """Raw reserves of both tokens, `price` whole tokens out for one in before the fee."""
    depth = _depth(rng, price)
    return (
        _whole(rng, depth / math.sqrt(price) * 10**paid.decimals),
        _whole(rng, depth * math.sqrt(price) * 10**got.decimals),
    )


def _ticked(rng: random.Random, hop: Hop, price: float, *, fee_included: bool) -> Hop:
    fee_pips, spacing = rng.choice(TICKED_FEES)
    if fee_included:
        price /= 1 - fee_pips / 1e6
    raw = price * 10.0 ** (hop["decimals_out"] - hop["decimals_in"])
    sqrt_price = _whole(rng, math.sqrt(raw if hop["zero_for_one"] else 1 / raw) * Q96)
    tick = tick_at_sqrt_price(sqrt_price)
    depth = _depth(rng, price) * 10 ** ((hop["decimals_in"] + hop["decimals_out"]) / 2)
    net, gross = _positions(rng, tick, spacing, depth)
    fee = {"fee_pips" if hop["family"] == "uniswap_v3" else "lp_fee": fee_pips}
    return fee | {
        "sqrt_price_x96": str(sqrt_price),
        "tick": tick,
        "liquidity": str(sum(net[at] for at in net if at <= tick)),
        "tick_spacing": spacing,
        "ticks": [[at, str(net[at]), str(gross[at])] for at in sorted(net)],
    }


def _positions(
    rng: random.Random, tick: int, spacing: int, liquidity: float
) -> tuple[dict[int, int], dict[int, int]]:
    """Liquidity net and gross by tick: one wide position of `liquidity`, many smaller ones about `tick`."""
    net: dict[int, int] = {}
    gross: dict[int, int] = {}
    wanted = int(_log_uniform(rng, FEWEST_TICKS, MOST_TICKS + 1))
    first, last = -(-MIN_TICK // spacing), MAX_TICK // spacing
    here = tick // spacing
    while len(net) < wanted - 1:
        if net:
            width = int(_log_uniform(rng, 1, max(2, 20_000 // spacing)))
            lower = here + int(rng.gauss(0, 1 + width)) - width // 2
            amount = _whole(rng, liquidity * _log_uniform(rng, 1e-2, 1))
        else:  # at least a factor of two in the price to either side
            lower, width, amount = here - 10_000 // spacing, 20_000 // spacing, _whole(rng, liquidity)
        lower = min(max(lower, first), last - width)
        for at, delta in ((lower * spacing, amount), ((lower + width) * spacing, -amount)):
            net[at] = net.get(at, 0) + delta
            gross[at] = gross.get(at, 0) + amount
    return net, gross


def _log_uniform(rng: random.Random, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def _whole(rng: random.Random, value: float) -> int:
    """The value as an integer of 1 or more, with random low bits as in real pools where a float has zeros.

    Integers with many factors of two are cheaper for a solver that shortens fractions.
    """
    whole = max(1, int(value))
    return whole + rng.randrange((whole >> 40) + 1)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m peers.generate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kind", choices=list(KINDS), default="v2", help="families (default: v2)")
    parser.add_argument("--count", type=int, default=100, help="how many (default: 100)")
    parser.add_argument("--seed", type=int, default=1, help="default: 1")
    parser.add_argument("--hops", type=int, nargs="+", default=[2, 3, 4], help="lengths (default: 2 3 4)")
    parser.add_argument("--quotes", action="store_true", help="quotes of single pools instead of cycles")
    args = parser.parse_args()
    made: Iterator[dict[str, Any]]
    if args.quotes:
        made = quotes(args.kind, args.count, args.seed)
    else:
        made = cycles(args.kind, args.count, args.seed, tuple(args.hops))
    for item in made:
        json.dump(item, sys.stdout)
        print()


if __name__ == "__main__":
    main()
