"""Curve's first-generation pool of four coins (sUSD's) against `curve_stable`.

From @setprotocol/set-protocol-v2, which ships its creation code for its own tests. No registry package
ships code of a later Curve pool, a metapool or a tricrypto pool. A case that differs by a wei or a revert
fails; Vyper gives no reasons. About 20 s on one slow core.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
from eth_utils.crypto import keccak
from mev_engine.amm.curve_stable import FEE_DENOMINATOR, CurveStablePool, Product

from .compare import Answer, Case, compare
from .curve_cases import CurveCall
from .evm import APPROVE, TRANSFER, Chain, Function, Result, Sub
from .implementations import CURVE_STABLE

pytestmark = pytest.mark.chain

STATES, QUERIES, DEPTH = 320, 20, 5
DECIMALS = (18, 6, 6, 18)
RATES = tuple(10 ** (36 - decimals) for decimals in DECIMALS)

GET_DY = Function("get_dy(int128,int128,uint256)", "(uint256)")
EXCHANGE = Function("exchange(int128,int128,uint256,uint256)")
BALANCES, BALANCE_OF = Function("balances(int128)", "(uint256)"), Function("balanceOf(address)", "(uint256)")
_CODE = "@setprotocol/set-protocol-v2/external/abi/curve/"
_BALANCES, _AMP, _FEE, _ADMIN_FEE = 2, 3, 4, 5
"""Slots of the pool's storage; a list of Vyper 0.1 lies at the hash of its slot."""


def test_pool_exchanges_as_we_compute(chain: Chain) -> None:
    # fails if D or y ended elsewhere, or a fee or a conversion were rounded another way
    random = Random(7)
    tokens = [chain.tokens(1, decimals)[0] for decimals in DECIMALS]
    share = chain.deploy(_CODE + "CurvePoolERC20.json", "(string,string,uint8,uint256)", "S", "S", 18, 0)
    pool = chain.deploy(
        _CODE + "Stableswap.json",
        "(address[4],address[4],address,uint256,uint256)", tokens, tokens, share, 1, 0,
    )  # fmt: skip
    chain.transact(
        sub for t in tokens for sub in (Sub(t, APPROVE(pool, 2**256 - 1)), Sub(t, TRANSFER(pool, 2**200)))
    )
    cases: list[Case[CurveStablePool, CurveCall]] = []
    for _ in range(STATES):
        cases += _one_state(chain, random, pool, tokens)
    tally = compare(cases, CURVE_STABLE)
    print(f"\nCurve stableswap: {tally}")
    assert tally.paid >= 5000


def _one_state(
    chain: Chain, random: Random, pool: str, tokens: list[str]
) -> Iterator[Case[CurveStablePool, CurveCall]]:
    """Any state by storage overrides; quotes on it, then exchanges one after the other."""
    state = _state(random)
    calls = [_call(random, state, "get_dy") for _ in range(QUERIES)]
    exchanges = [_call(random, state, "exchange") for _ in range(DEPTH)]
    subs = [Sub(pool, GET_DY(call.i, call.j, call.dx)) for call in calls]
    for call in exchanges:
        held = Sub(tokens[call.j], BALANCE_OF(chain.multicall))
        subs += [held, Sub(pool, EXCHANGE(call.i, call.j, call.dx, 0)), held]
        subs += [Sub(pool, BALANCES(k)) for k in range(len(tokens))]
    results = iter(chain.call(subs, {pool: {"stateDiff": _slots(state)}}))
    for call in calls:
        yield Case(state, call, _answer(next(results)))
    for call in exchanges:
        before, done, after = next(results), next(results), next(results)
        balances = tuple(BALANCES.decode(next(results).data)[0] for _ in tokens)
        got = int.from_bytes(after.data) - int.from_bytes(before.data)
        yield Case(state, call, (got, *balances) if done.success else done.revert({}))
        state = _made(balances, state.amp, state.fee, state.admin_fee)


def _answer(result: Result) -> Answer:
    return GET_DY.decode(result.data) if result.success else result.revert({})


def _made(balances: tuple[int, ...], amp: int, fee: int, admin_fee: int) -> CurveStablePool:
    return CurveStablePool(
        balances=balances,
        rates=RATES,
        amp=amp,
        fee=fee,
        admin_fee=admin_fee,
        a_precision=1,
        product=Product.EACH_PLUS_ONE,
        fee_after_rate=True,
        kept=0,
        reverts_unconverged=False,
    )


def _state(random: Random) -> CurveStablePool:
    kind, typical = random.random(), 10 ** random.uniform(0, 30)

    def one(decimals: int) -> int:
        if kind < 0.7:
            return int(typical * 2 ** random.uniform(-4, 4) / 10 ** (18 - decimals)) + 1
        if kind < 0.85:
            return random.choice([0, 1, 2, random.randrange(1001), int(2 ** random.uniform(0, 100))])
        return int(2 ** random.uniform(0, 140))

    fee = random.choice([4 * 10**6, 0, FEE_DENOMINATOR // 2, random.randrange(10**8)])
    admin_fee = random.choice([0, FEE_DENOMINATOR // 2, random.randrange(FEE_DENOMINATOR + 1)])
    amp = random.choice([1, 100, 256, 10**6, random.randrange(1, 5000)])
    return _made(tuple(one(decimals) for decimals in DECIMALS), amp, fee, admin_fee)


def _slots(state: CurveStablePool) -> dict[str, str]:
    list_at = int.from_bytes(keccak(_BALANCES.to_bytes(32, "big")))
    slots = {list_at + k: balance for k, balance in enumerate(state.balances)}
    slots |= {_AMP: state.amp, _FEE: state.fee, _ADMIN_FEE: state.admin_fee}
    return {f"0x{slot:064x}": f"0x{value:064x}" for slot, value in slots.items()}


def _call(random: Random, state: CurveStablePool, kind: str) -> CurveCall:
    i, j = random.sample(range(len(DECIMALS)), 2)
    balance = state.balances[i]
    dx = random.choice(
        [
            *[int(balance * 10 ** random.uniform(-9, 2)) + 1] * 6,
            random.randrange(10),
            balance,
            int(2 ** random.uniform(0, 199)),
        ]
    )
    if random.random() < 0.01:
        j = i
    return CurveCall("exchange" if kind == "exchange" else "get_dy", i, j, dx)
