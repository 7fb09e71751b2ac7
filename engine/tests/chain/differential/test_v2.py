"""Uniswap V2's own pair and router against `uniswap_v2`.

Contracts: @uniswap/v2-core (whose code, deployed, is mainnet's) and @uniswap/v2-periphery. A pair must
pay what we compute and refuse one unit more, or one less paid in. About 15 s on one slow core.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random

import pytest
from mev_engine.amm import uniswap_v2
from mev_engine.amm.errors import SwapRevertedError

from .compare import Answer, Case, compare
from .evm import AGENT, TRANSFER, ZERO, Chain, Function, Result, Sub
from .implementations import V2
from .v2_cases import FEE, Reserves, V2Call

pytestmark = pytest.mark.chain

STATES, STEPS = 800, 5
TOP = 2**112 - 1

SYNC, SKIM = Function("sync()"), Function("skim(address)")
SWAP = Function("swap(uint256,uint256,address,bytes)")
RESERVES = Function("getReserves()", "(uint112,uint112,uint32)")
CREATE_PAIR = Function("createPair(address,address)", "(address)")
QUOTE = {
    "amount_out": Function("getAmountsOut(uint256,address[])", "(uint256[])"),
    "amount_in": Function("getAmountsIn(uint256,address[])", "(uint256[])"),
}


@dataclass(frozen=True, slots=True)
class Market:
    """An empty pair and the router that knows it."""

    pair: str
    router: str
    tokens: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Step:
    """Quotes, then attempts to swap: (input so far, output asked for)."""

    zero_for_one: bool
    quotes: tuple[V2Call, ...]
    attempts: tuple[tuple[int, int], ...]


def test_pair_and_router_answer_as_we_compute(chain: Chain) -> None:
    # fails if a quote, a pair's yes or no to an amount, or a reserve after a swap differed
    random = Random(2)
    market = _market(chain)
    cases: list[Case[Reserves, V2Call]] = []
    for _ in range(STATES):
        cases += _one_state(chain, random, market)
    tally = compare(cases, V2)
    print(f"\nUniswap V2, pair and router: {tally}")
    assert tally.paid >= 5000


def _market(chain: Chain) -> Market:
    factory = chain.deploy("@uniswap/v2-core/build/UniswapV2Factory.json", "(address)", ZERO)
    router = chain.deploy(
        "@uniswap/v2-periphery/build/UniswapV2Router02.json", "(address,address)", factory, ZERO
    )
    token0, token1 = chain.tokens(2)
    pair = chain.read(factory, CREATE_PAIR, token0, token1)[0]
    chain.send(factory, CREATE_PAIR(token0, token1))
    return Market(pair, router, (token0, token1))


def _one_state(chain: Chain, random: Random, market: Market) -> Iterator[Case[Reserves, V2Call]]:
    """The empty pair is given reserves by `sync`, then steps follow one another; all in one eth_call."""
    reserves = first = _reserves(random)
    steps = []
    for _ in range(STEPS):
        step = _step(random, reserves)
        steps.append(step)
        reserves = _foreseen(reserves, step)
    subs = [Sub(t, TRANSFER(market.pair, r)) for t, r in zip(market.tokens, first, strict=True)]
    subs.append(Sub(market.pair, SYNC()))
    for step in steps:
        subs += _calls(market, step)
    results = iter(chain.call(subs))
    for _ in range(3):
        assert next(results).success
    now = first
    for step in steps:
        for quote in step.quotes:
            yield Case(_seen(now, step.zero_for_one), quote, _quoted(quote, next(results)))
        taken = 0
        for paid, asked in step.attempts:
            transferred, swapped, told = next(results), next(results), next(results)
            assert transferred.success
            before, now = now, RESERVES.decode(told.data)[:2]
            call, after = V2Call("swap", paid - taken, asked), _seen(now, step.zero_for_one)
            answer: Answer = (after.reserve_in, after.reserve_out)
            if swapped.success:
                taken = paid
            else:
                answer = swapped.revert({})
                assert now == before  # a refused swap leaves the reserves
            yield Case(_seen(before, step.zero_for_one), call, answer)
        assert next(results).success  # skim


def _reserves(random: Random) -> tuple[int, int]:
    """Anything, near empty, near overflow, or one side empty; each with its chance."""

    def one() -> int:
        return random.choice(
            [
                int(2 ** random.uniform(0, 112)),
                int(2 ** random.uniform(50, 90)),
                random.randrange(1, 1001),
                TOP - int(2 ** random.uniform(0, 100)),
                random.choice([1, 2, 3, TOP - 1, TOP]),
            ]
        )

    return (0, one()) if random.random() < 0.04 else (one(), one())


def _step(random: Random, reserves: tuple[int, int]) -> Step:
    zero_for_one = random.random() < 0.5
    state = _seen(reserves, zero_for_one)
    reserve_in, reserve_out = state.reserve_in, state.reserve_out
    x = max(int(2 ** random.uniform(-10, 5) * reserve_in), random.choice([1, 1, 2, 3]))
    x = random.choice([x, x, x, x, 1, max(TOP - reserve_in + random.choice([-1, 0, 1]), 1), 2**144])
    y = random.choice([random.randrange(max(reserve_out, 1)), reserve_out - 1, 1])
    quotes = (
        V2Call("amount_out", random.choice([x, x, x, x, x, 0, 2**246, 2**256 - 1])),
        V2Call("amount_in", random.choice([max(y, 0), y + 1, y + 1, reserve_out, reserve_out + 1, 2**255])),
    )
    attempts = (
        [(x, 0), (x, reserve_out)] if random.random() < 0.1 else [(0, max(y, 1))] * (random.random() < 0.1)
    )
    if random.random() < 0.5 and 0 < y < reserve_out and reserve_in:
        least = uniswap_v2.least_input(y, reserve_in, reserve_out, *FEE)
        attempts = [(least - 1, y), (least, y + 1), (least, y)]
    else:
        with suppress(SwapRevertedError):
            out = uniswap_v2.get_amount_out(x, reserve_in, reserve_out, *FEE)
            attempts += [(x, out + 1), (x, random.choice([out, out, out - 1]))]
    return Step(zero_for_one, quotes, tuple(a for a in attempts if a[0] >= 0 and a[1] >= 0))


def _seen(reserves: tuple[int, int], zero_for_one: bool) -> Reserves:
    return Reserves(*(reserves if zero_for_one else reserves[::-1]))


def _foreseen(reserves: tuple[int, int], step: Step) -> tuple[int, int]:
    """Reserves after the one attempt that we expect to pass; only the choice of what follows needs it."""
    for paid, asked in step.attempts:
        state = _seen(reserves, step.zero_for_one)
        with suppress(SwapRevertedError):
            after = uniswap_v2.swap(state.reserve_in, state.reserve_out, paid, asked, *FEE)
            return after if step.zero_for_one else (after[1], after[0])
    return reserves


def _calls(market: Market, step: Step) -> list[Sub]:
    path = list(market.tokens if step.zero_for_one else market.tokens[::-1])
    subs = [Sub(market.router, QUOTE[quote.kind](quote.x, path)) for quote in step.quotes]
    paid = 0
    for total, asked in step.attempts:
        out = (0, asked) if step.zero_for_one else (asked, 0)
        subs += [
            Sub(path[0], TRANSFER(market.pair, total - paid)),
            Sub(market.pair, SWAP(*out, AGENT, b"")),
            Sub(market.pair, RESERVES()),
        ]
        paid = total
    return [*subs, Sub(market.pair, SKIM(AGENT))]  # what no swap took


def _quoted(quote: V2Call, result: Result) -> Answer:
    if not result.success:
        return result.revert({})
    amounts: Sequence[int] = QUOTE[quote.kind].decode(result.data)[0]
    return (amounts[-1 if quote.kind == "amount_out" else 0],)
