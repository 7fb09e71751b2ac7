"""Balancer V2's vault and weighted pools of 2021 (V1), 2022 (V2) and 2023 (V3) against `balancer_weighted`.

A case that differs by a wei or a revert fails: equality is the tightest form of "never above what the
vault pays". About half a minute on one slow core.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from random import Random

import pytest
from mev_engine.amm.balancer_math import ONE
from mev_engine.amm.balancer_vault import V2
from mev_engine.amm.balancer_weighted import MIN_WEIGHT, WeightedPool

from .balancer import TASKS, BalancerCall, Deployed, Vault, cases_of, create_pool, deploy_vault, join
from .compare import Case, compare
from .evm import ZERO, Chain, Function
from .implementations import BALANCER_WEIGHTED

pytestmark = pytest.mark.chain

STATES = 24

CREATE_2021 = Function("create(string,string,address[],uint256[],uint256,address)", "(address)")
CREATE = Function("create(string,string,address[],uint256[],address[],uint256,address)", "(address)")
WEIGHTS = (
    (ONE // 2, ONE // 2),
    (ONE * 4 // 5, ONE // 5),
    (MIN_WEIGHT, ONE - MIN_WEIGHT),
    (ONE // 3, ONE // 3, ONE - 2 * (ONE // 3)),
    (ONE // 4,) * 4,
)
FEES = (10**12, 3 * 10**15, 10**17)  # the least, a common one, the most
"""Swap fees, 18 decimals."""


def test_vault_swaps_as_we_compute(chain: Chain) -> None:
    # fails if a power, its error bound, a scaling or the fee were rounded another way than the pool's
    random = Random(5)
    vault = deploy_vault(chain)
    cases: list[Case[WeightedPool, BalancerCall]] = []
    for pool in _pools(chain, vault, random):
        for _ in range(STATES):
            cases += cases_of(chain, vault, random, pool)
    tally = compare(cases, BALANCER_WEIGHTED)
    print(f"\nBalancer V2, weighted: {tally}")
    assert tally.paid >= 5000


def _pools(chain: Chain, vault: Vault, random: Random) -> Iterator[Deployed[WeightedPool]]:
    v1 = chain.deploy(
        TASKS + "deprecated/20210418-weighted-pool/artifact/WeightedPoolFactory.json",
        "(address)",
        vault.address,
    )
    v2 = chain.deploy(
        TASKS + "20220908-weighted-pool-v2/artifact/WeightedPoolFactory.json",
        "(address,address)", vault.address, vault.fees,
    )  # fmt: skip
    v3 = chain.deploy(
        TASKS + "20230206-weighted-pool-v3/artifact/WeightedPoolFactory.json",
        "(address,address,string,string)", vault.address, vault.fees, "3", "3",
    )  # fmt: skip
    for weights in [*WEIGHTS, *(_random_weights(random, n) for n in (2, 3, 4))]:
        for factory in (v1, v2, v3):
            tokens = sorted(random.sample(list(vault.tokens), len(weights)))
            fee = random.choice([*FEES, random.randrange(FEES[0], FEES[-1])])
            if factory == v1:
                _, pool_id = create_pool(chain, v1, CREATE_2021, "P", "P", tokens, weights, fee, ZERO)
            else:
                no_rates = [ZERO] * len(tokens)
                _, pool_id = create_pool(
                    chain, factory, CREATE, "P", "P", tokens, weights, no_rates, fee, ZERO
                )
            yield _deployed(chain, vault, pool_id, weights, fee, exact_powers=factory != v1)


def _deployed(
    chain: Chain, vault: Vault, pool_id: bytes, weights: tuple[int, ...], fee: int, *, exact_powers: bool
) -> Deployed[WeightedPool]:
    tokens, specialization = join(chain, vault, pool_id)
    scaling = tuple(10 ** (18 - vault.tokens[token]) for token in tokens)

    def state(balances: tuple[int, ...], rates: tuple[int, ...]) -> WeightedPool:
        return WeightedPool(
            vault=V2,
            balances=balances,
            scaling=scaling,
            rates=rates,
            swap_fee=fee,
            weights=weights,
            exact_powers=exact_powers,
        )

    return Deployed(pool_id, specialization, tokens, (ZERO,) * len(tokens), scaling, state)


def _random_weights(random: Random, count: int) -> tuple[int, ...]:
    free = ONE - count * MIN_WEIGHT
    cuts = [0, *sorted(random.randrange(free) for _ in range(count - 1)), free]
    return tuple(MIN_WEIGHT + high - low for low, high in pairwise(cuts))
