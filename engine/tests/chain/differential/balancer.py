"""Balancer's V2 vault on the local chain: pools, any balances and rates by state overrides, swaps.

All from @balancer-labs/v2-deployments, the code that is on mainnet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Generic, Literal, TypeVar

from eth_abi.abi import encode
from eth_utils.crypto import keccak
from mev_devchain.deploy import rpc_call
from mev_engine.amm.balancer_math import ONE
from mev_engine.amm.balancer_vault import MAX_BALANCE, V2, VaultPool

from .compare import Answer, Case, Reverted
from .evm import APPROVE, SENDER, TRANSFER, ZERO, Chain, Function, Result, Sub

TASKS = "@balancer-labs/v2-deployments/dist/tasks/"
FUNDS = "(address,bool,address,bool)"
QUERY = Function(
    f"queryBatchSwap(uint8,(bytes32,uint256,uint256,uint256,bytes)[],address[],{FUNDS})", "(int256[])"
)
SWAP = Function(f"swap((bytes32,uint8,address,address,uint256,bytes),{FUNDS},uint256,uint256)", "(uint256)")
JOIN = Function("joinPool(bytes32,address,address,(address[],uint256[],bytes,bool))")
POOL_ID = Function("getPoolId()", "(bytes32)")
POOL = Function("getPool(bytes32)", "(address,uint8)")
POOL_TOKENS = Function("getPoolTokens(bytes32)", "(address[],uint256[],uint256)")

TOP = MAX_BALANCE[V2]
DEPTH, QUERIES = 4, 16
_DECIMALS = (18, 18, 6, 8, 0)
_GENERAL, _MINIMAL, _TWO_TOKEN = 0, 1, 2
"""How the vault keeps a pool's balances: PoolSpecialization of IVault."""
_SLOT = {_GENERAL: 1, _MINIMAL: 7, _TWO_TOKEN: 9}
"""Where in the vault's storage: mappings from a pool's id."""
_ERRORS = {
    "BAL#000": "ADD_OVERFLOW",
    "BAL#001": "SUB_OVERFLOW",
    "BAL#003": "MUL_OVERFLOW",
    "BAL#004": "ZERO_DIVISION",
    "BAL#005": "DIV_INTERNAL",
    "BAL#006": "X_OUT_OF_BOUNDS",
    "BAL#007": "Y_OUT_OF_BOUNDS",
    "BAL#008": "PRODUCT_OUT_OF_BOUNDS",
    "BAL#304": "MAX_IN_RATIO",
    "BAL#305": "MAX_OUT_RATIO",
    "BAL#321": "STABLE_INVARIANT_DIDNT_CONVERGE",
    "BAL#322": "STABLE_GET_BALANCE_DIDNT_CONVERGE",
    "BAL#509": "CANNOT_SWAP_SAME_TOKEN",
    "BAL#510": "UNKNOWN_AMOUNT_IN_FIRST_SWAP",
    "BAL#526": "BALANCE_TOTAL_OVERFLOW",
}

PoolT = TypeVar("PoolT", bound=VaultPool)
Overrides = dict[str, dict[str, dict[str, str]]]


@dataclass(frozen=True, slots=True)
class BalancerCall:
    """The answer is one amount: out for given "in", in for given "out"."""

    given: Literal["in", "out"]
    token_in: int
    token_out: int
    amount: int


@dataclass(frozen=True)
class Vault:
    """The vault, the fee provider that newer factories want, and tokens by decimals (addresses ascend)."""

    address: str
    fees: str
    tokens: Mapping[str, int]


@dataclass(frozen=True)
class Deployed(Generic[PoolT]):
    """A real pool. `tokens` in the vault's order; `rate_providers`, ZERO where there is none, and
    `bpt` likewise. `state(balances, rates)`: the pool as we see it."""

    id: bytes
    specialization: int
    tokens: tuple[str, ...]
    rate_providers: tuple[str, ...]
    scaling: tuple[int, ...]
    state: Callable[[tuple[int, ...], tuple[int, ...]], PoolT]
    bpt: int | None = None


def deploy_vault(chain: Chain) -> Vault:
    """A vault that holds plenty of every token, of which the multicall contract may spend its own."""
    month = 30 * 86_400
    vault = chain.deploy(
        TASKS + "20210418-vault/artifact/Vault.json",
        "(address,address,uint256,uint256)", SENDER, ZERO, 3 * month, month,
    )  # fmt: skip
    fees = chain.deploy(
        TASKS + "20220725-protocol-fee-percentages-provider/artifact/ProtocolFeePercentagesProvider.json",
        "(address,uint256,uint256)", vault, ONE, ONE,
    )  # fmt: skip
    tokens = {token: decimals for decimals in _DECIMALS for token in chain.tokens(1, decimals)}
    chain.transact(
        sub for t in tokens for sub in (Sub(t, APPROVE(vault, 2**256 - 1)), Sub(t, TRANSFER(vault, 2**200)))
    )
    return Vault(vault, fees, dict(sorted(tokens.items())))


def rate_provider(chain: Chain, number: int) -> str:
    """A contract that answers every call with its storage slot 0."""
    address = f"0x{0xBA1A << 144 | number:040x}"
    rpc_call(chain.web3, "anvil_setCode", address, "0x5f545f5260205ff3")  # slot 0 to memory, returned
    rpc_call(chain.web3, "anvil_setStorageAt", address, hex(0), f"0x{ONE:064x}")
    return address


def create_pool(chain: Chain, factory: str, create: Function, *arguments: object) -> tuple[str, bytes]:
    """Address and id of a new pool of a factory."""
    pool = chain.read(factory, create, *arguments)[0]
    chain.send(factory, create(*arguments))
    return pool, chain.read(pool, POOL_ID)[0]


def join(chain: Chain, vault: Vault, pool_id: bytes) -> tuple[tuple[str, ...], int]:
    """First liquidity, a thousand of each token; the pool's tokens and specialization."""
    tokens = chain.read(vault.address, POOL_TOKENS, pool_id)[0]
    amounts = [10 ** (vault.tokens.get(token, 18) + 3) for token in tokens]
    data = encode(["uint256", "uint256[]"], [0, amounts])
    most = [2**256 - 1] * len(tokens)
    request = (tokens, most, data, False)
    chain.transact([Sub(vault.address, JOIN(pool_id, chain.multicall, chain.multicall, request))])
    rpc_call(chain.web3, "evm_increaseTime", 60)  # cached rates, kept for 0 seconds, are now out of date
    rpc_call(chain.web3, "evm_mine")
    return tuple(tokens), chain.read(vault.address, POOL, pool_id)[1]


def cases_of(
    chain: Chain, vault: Vault, random: Random, pool: Deployed[PoolT]
) -> Iterator[Case[PoolT, BalancerCall]]:
    """Queries on one state, then real swaps one after the other."""
    balances, rates = _balances(random, pool), _rates(random, pool)
    overrides = _overrides(vault, pool, balances, rates)
    state = pool.state(balances, rates)
    queries = [_call(random, pool, state) for _ in range(QUERIES)]
    swaps = [_call(random, pool, state) for _ in range(DEPTH)]
    subs = [_query(chain, vault, pool, call) for call in queries]
    for call in swaps:
        subs += [_swap(chain, vault, pool, call), Sub(vault.address, POOL_TOKENS(pool.id))]
    results = iter(chain.call(subs, overrides))
    for call in queries:
        yield Case(state, call, _queried(call, next(results)))
    for call in swaps:
        swapped, told = next(results), next(results)
        answer = SWAP.decode(swapped.data) if swapped.success else _revert(swapped)
        yield Case(state, call, answer)
        after: tuple[int, ...] = tuple(POOL_TOKENS.decode(told.data)[1])
        assert after == _expected(balances, call, answer)
        balances, state = after, pool.state(after, rates)


def _expected(balances: tuple[int, ...], call: BalancerCall, answer: Answer) -> tuple[int, ...]:
    """The vault's books after a swap: nothing but the two amounts moves."""
    after = list(balances)
    if not isinstance(answer, Reverted):
        paid, got = (call.amount, answer[0]) if call.given == "in" else (answer[0], call.amount)
        after[call.token_in] += paid
        after[call.token_out] -= got
    return tuple(after)


def _balances(random: Random, pool: Deployed[PoolT]) -> tuple[int, ...]:
    """Of like value, or of any, or near empty, or near the vault's top."""
    kind = random.random()
    typical = 10 ** random.uniform(3, 30)

    def one(scaling: int) -> int:
        if kind < 0.6:
            return int(min(max(typical * 2 ** random.uniform(-5, 5) / scaling, 1), TOP))
        if kind < 0.75:
            return int(2 ** random.uniform(0, 112))
        if kind < 0.88:
            return random.choice([0, 1, 2, random.randrange(1001), int(2 ** random.uniform(0, 60))])
        return random.choice(
            [TOP, TOP - 1, TOP - int(2 ** random.uniform(0, 111)), int(2 ** random.uniform(90, 112))]
        )

    return tuple(2**111 if i == pool.bpt else one(s) for i, s in enumerate(pool.scaling))


def _rates(random: Random, pool: Deployed[PoolT]) -> tuple[int, ...]:
    def one() -> int:
        return random.choice([ONE, int(ONE * 2 ** random.uniform(-1, 2)), random.randrange(1, 3 * ONE)])

    return tuple(ONE if provider == ZERO else one() for provider in pool.rate_providers)


def _overrides(
    vault: Vault, pool: Deployed[PoolT], balances: Sequence[int], rates: Sequence[int]
) -> Overrides:
    slots = {}
    for provider, rate in zip(pool.rate_providers, rates, strict=True):
        if provider != ZERO:
            slots[provider] = {"stateDiff": {f"0x{0:064x}": f"0x{rate:064x}"}}
    return slots | {vault.address: {"stateDiff": _balance_slots(pool, balances)}}


def _balance_slots(pool: Deployed[PoolT], balances: Sequence[int]) -> dict[str, str]:
    """Where the vault keeps cash (the low 112 bits, or two of those for two tokens); 0 managed."""
    base = _mapped(pool.id, _SLOT[pool.specialization])
    if pool.specialization == _TWO_TOKEN:  # (tokenA, tokenB, hash of the pair -> (cash, managed))
        pair = keccak(b"".join(bytes.fromhex(token[2:]) for token in pool.tokens))
        return {f"0x{_mapped(pair, base + 2):064x}": f"0x{balances[0] | balances[1] << 112:064x}"}
    if pool.specialization == _MINIMAL:  # token -> cash
        keys = [_mapped(bytes(12) + bytes.fromhex(token[2:]), base) for token in pool.tokens]
    else:  # (length, index -> (token, cash), token -> index)
        keys = [_mapped(i.to_bytes(32, "big"), base + 1) + 1 for i in range(len(pool.tokens))]
    return {f"0x{key:064x}": f"0x{cash:064x}" for key, cash in zip(keys, balances, strict=True)}


def _mapped(key: bytes, slot: int) -> int:
    """Storage slot of a mapping's value."""
    return int.from_bytes(keccak(key + (slot % 2**256).to_bytes(32, "big")))


def _call(random: Random, pool: Deployed[PoolT], state: PoolT) -> BalancerCall:
    indices = [i for i in range(len(pool.tokens)) if i != pool.bpt]
    token_in, token_out = random.sample(indices, 2)
    given: Literal["in", "out"] = random.choice(["in", "out"])
    balance = state.balances[token_in if given == "in" else token_out]
    kind = random.random()
    if kind < 0.65:
        amount = int(balance * 10 ** random.uniform(-9, -0.5)) + 1
    elif kind < 0.75:
        amount = balance * 3 // 10 + random.choice([-1, 0, 1])  # weighted pools' limit
    elif kind < 0.85:
        amount = random.choice([1, 2, 3, random.randrange(1, 10**6)])
    elif kind < 0.95:
        amount = random.choice(
            [balance, balance + 1, balance - 1, balance * 3, TOP - balance, TOP - balance + 1]
        )
    else:
        amount = random.choice([0, TOP, 2**128])  # more overflows sooner in the code of 2022 than in 2021's
    if random.random() < 0.01:  # with no amount, one of the vault's two doors would name that first
        token_out, amount = token_in, max(amount, 1)
    return BalancerCall(given, token_in, token_out, max(amount, 0))


def _query(chain: Chain, vault: Vault, pool: Deployed[PoolT], call: BalancerCall) -> Sub:
    step = (pool.id, call.token_in, call.token_out, call.amount, b"")
    funds = (chain.multicall, False, chain.multicall, False)
    return Sub(vault.address, QUERY(int(call.given == "out"), [step], pool.tokens, funds))


def _swap(chain: Chain, vault: Vault, pool: Deployed[PoolT], call: BalancerCall) -> Sub:
    tokens = pool.tokens[call.token_in], pool.tokens[call.token_out]
    step = (pool.id, int(call.given == "out"), *tokens, call.amount, b"")
    funds = (chain.multicall, False, chain.multicall, False)
    limit = 0 if call.given == "in" else 2**256 - 1
    return Sub(vault.address, SWAP(step, funds, limit, 2**256 - 1))


def _queried(call: BalancerCall, result: Result) -> Answer:
    if not result.success:
        return _revert(result)
    deltas = QUERY.decode(result.data)[0]
    return (-deltas[call.token_out] if call.given == "in" else deltas[call.token_in],)


def _revert(result: Result) -> Reverted:
    revert = result.revert({})
    return Reverted(_ERRORS.get(revert.reason, revert.reason))
