"""Balancer V2's vault and stable pools against `balancer_stable`.

StablePool (2021 and V2), MetaStablePool and ComposableStablePool (V1 and V3), the latter two with rates.
A case that differs by a wei or a revert fails. About half a minute on one slow core.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from random import Random

import pytest
from eth_abi.abi import encode
from mev_engine.amm.balancer_stable import AMP_PRECISION, StablePool
from mev_engine.amm.balancer_vault import V2

from .balancer import (
    TASKS,
    BalancerCall,
    Deployed,
    Vault,
    cases_of,
    create_pool,
    deploy_vault,
    join,
    rate_provider,
)
from .compare import Case, compare
from .evm import ZERO, Chain, Function
from .implementations import BALANCER_STABLE

pytestmark = pytest.mark.chain

STATES = 40
AMPS = (1, 60, 200, 5000)
FEES = (10**12, 4 * 10**14, 10**17)
"""Swap fees, 18 decimals: the least, a common one, the most."""

_CREATE = "create(string,string,address[],uint256,"
CREATE_PLAIN = Function(_CREATE + "uint256,address)", "(address)")
CREATE_META = Function(_CREATE + "address[],uint256[],uint256,bool,address)", "(address)")
CREATE_COMPOSABLE = Function(_CREATE + "address[],uint256[],bool[],uint256,address)", "(address)")


def test_vault_swaps_as_we_compute(chain: Chain) -> None:
    # fails if Newton's method ended elsewhere, or a rate, a scaling or the fee were rounded another way
    random = Random(6)
    vault = deploy_vault(chain)
    cases: list[Case[StablePool, BalancerCall]] = []
    for pool in _pools(chain, vault, random):
        for _ in range(STATES):
            cases += cases_of(chain, vault, random, pool)
    tally = compare(cases, BALANCER_STABLE)
    print(f"\nBalancer V2, stable: {tally}")
    assert tally.paid >= 5000


def _pools(chain: Chain, vault: Vault, random: Random) -> Iterator[Deployed[StablePool]]:
    old = [
        chain.deploy(TASKS + f"deprecated/{task}/artifact/StablePoolFactory.json", "(address)", vault.address)
        for task in ("20210624-stable-pool", "20220609-stable-pool-v2")
    ]
    meta = _meta_factory(chain, vault)
    composable = [
        chain.deploy(
            TASKS + "deprecated/20220906-composable-stable-pool/artifact/ComposableStablePoolFactory.json",
            "(address,address)", vault.address, vault.fees,
        ),
        chain.deploy(
            TASKS + "20230206-composable-stable-pool-v3/artifact/ComposableStablePoolFactory.json",
            "(address,address,string,string)", vault.address, vault.fees, "3", "3",
        ),
    ]  # fmt: skip
    numbers = count()
    for amp in AMPS:
        fee = random.choice([*FEES, random.randrange(FEES[0], FEES[-1])])
        for factory in old:
            tokens = _some_tokens(random, vault, random.choice([2, 3, 5]))
            _, pool_id = create_pool(chain, factory, CREATE_PLAIN, "P", "P", tokens, amp, fee, ZERO)
            yield _deployed(chain, vault, pool_id, amp, fee, {}, rounds_up=factory == old[0])
        providers = [rate_provider(chain, next(numbers)) for _ in range(2)]
        tokens = _some_tokens(random, vault, 2)
        _, pool_id = create_pool(
            chain, meta, CREATE_META, "P", "P", tokens, amp, providers, [0, 0], fee, False, ZERO
        )
        rated = dict(zip(tokens, providers, strict=True))
        yield _deployed(chain, vault, pool_id, amp, fee, rated, rounds_up=True)
        for factory in composable:
            tokens = _some_tokens(random, vault, random.choice([2, 3, 4, 5]))
            providers = [random.choice([ZERO, rate_provider(chain, next(numbers))]) for _ in tokens]
            none, flags = [0] * len(tokens), [False] * len(tokens)
            pool, pool_id = create_pool(
                chain, factory, CREATE_COMPOSABLE, "P", "P", tokens, amp, providers, none, flags, fee, ZERO
            )
            rated = dict(zip(tokens, providers, strict=True))
            yield _deployed(chain, vault, pool_id, amp, fee, rated, bpt=pool)


def _meta_factory(chain: Chain, vault: Vault) -> str:
    task = TASKS + "deprecated/20210727-meta-stable-pool/artifact/"
    library = chain.deploy(task + "QueryProcessor.json")
    code = chain.code(
        task + "MetaStablePoolFactory.json", {"__$7d2aa5f7ef8d6b62e49cb3fca3aaf3d8f4$__": library}
    )
    return chain.create(code + encode(["address"], [vault.address]))


def _some_tokens(random: Random, vault: Vault, number: int) -> list[str]:
    return sorted(random.sample(list(vault.tokens), number))


def _deployed(
    chain: Chain,
    vault: Vault,
    pool_id: bytes,
    amp: int,
    fee: int,
    rated: dict[str, str],
    *,
    rounds_up: bool = False,
    bpt: str | None = None,
) -> Deployed[StablePool]:
    """`rated`: rate provider by token."""
    tokens, specialization = join(chain, vault, pool_id)
    scaling = tuple(10 ** (18 - vault.tokens.get(token, 18)) for token in tokens)
    own = tokens.index(bpt) if bpt else None

    def state(balances: tuple[int, ...], rates: tuple[int, ...]) -> StablePool:
        return StablePool(
            vault=V2,
            balances=balances,
            scaling=scaling,
            rates=rates,
            swap_fee=fee,
            amp=amp * AMP_PRECISION,
            rounds_invariant_up=rounds_up,
            bpt=own,
        )

    providers = tuple(rated.get(token, ZERO) for token in tokens)
    return Deployed(pool_id, specialization, tokens, providers, scaling, state, own)
