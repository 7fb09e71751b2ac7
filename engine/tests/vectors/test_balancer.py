"""Balancer's weighted and stable pools: every recorded answer of the vaults and of their libraries."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from mev_engine.amm import balancer_math as fp
from mev_engine.amm import balancer_stable as stable
from mev_engine.amm import balancer_weighted as weighted
from mev_engine.amm.balancer_vault import V2, V3, pool_family
from mev_engine.amm.errors import SwapRevertedError

Pool = weighted.WeightedPool | stable.StablePool
ONE = fp.ONE


def maths(pool: Pool) -> ModuleType:
    return weighted if isinstance(pool, weighted.WeightedPool) else stable


def load(path: Path) -> Any:
    return json.loads(gzip.decompress(path.read_bytes()))


def pool_of_fixture(row: dict[str, Any]) -> Pool:
    fee = Fraction(row["fee"]) * ONE
    assert fee.denominator == 1, f"fee {row['fee']} has more than 18 decimals"
    common: dict[str, Any] = {
        "vault": V2,
        "balances": tuple(row["balances"]),
        "scaling": tuple(10 ** (18 - token["decimals"]) for token in row["tokens"]),
        "rates": tuple(row.get("resolved_rates", [ONE] * len(row["tokens"]))),
        "swap_fee": int(fee),
    }
    if "weights" in row:
        exact_powers = {"v1": False, "v2": True}[row["pow_version"]]
        return weighted.WeightedPool(**common, weights=tuple(row["weights"]), exact_powers=exact_powers)
    rounds_up = {1: False, 2: True}[row["invariant_version"]]
    return stable.StablePool(**common, amp=row["amp"], bpt=row["bpt_idx"], rounds_invariant_up=rounds_up)


def parse_query(key: str, symbols: dict[str, list[str]]) -> tuple[str, str, int, int, int]:
    """(pool, kind, token in, token out, amount) of `address|querySwap|kind|i=..|j=..|amount`."""
    address, _, kind, *tokens, amount = key.split("|")
    if len(tokens) == 1:  # BAL->WETH
        i, j = (symbols[address].index(symbol) for symbol in tokens[0].split("->"))
    else:
        i, j = (int(token.partition("=")[2]) for token in tokens)
    return address, kind, i, j, int(amount)


@pytest.mark.data
def test_every_answer_of_the_v2_vault_is_repeated(data_dir: Path) -> None:
    # fails at one unit of difference: in rounding, in scaling, in the order of fee and scaling, in pow
    content = load(data_dir / "vectors" / "degenbot" / "fixtures_and_golden.json.gz")
    fixtures = [row for name, row in content.items() if "/chain_data/" in name and "/balancer_" in name]
    pools = {row["address"]: pool_of_fixture(row) for row in fixtures}
    symbols = {row["address"]: [token["symbol"] for token in row["tokens"]] for row in fixtures}
    counts: Counter[str] = Counter()
    for name, golden in content.items():
        if "/golden/" not in name or "/tests/balancer/" not in name:
            continue
        for key, recorded in golden["entries"].items():
            address, kind, i, j, amount = parse_query(key, symbols)
            swap = getattr(maths(pools[address]), {"GIVEN_IN": "exact_in", "GIVEN_OUT": "exact_out"}[kind])
            assert swap(pools[address], i, j, amount) == recorded["value"], f"{name}: {key}"
            counts[f"{type(pools[address]).__name__} {kind}"] += 1
    print(f"\nBalancer V2, equal to the vault: {dict(counts)}")
    assert {key.split()[0] for key in counts} == {"WeightedPool", "StablePool"}


def pool_of_maths_testdata(row: dict[str, Any]) -> Pool:
    """ValueError for a pool type or hook that isn't supported."""
    hook = row.get("hook")
    family = pool_family(row["poolType"], hook and hook["type"])
    scaling, rates, live = (
        [int(x) for x in row[k]] for k in ("scalingFactors", "tokenRates", "balancesLiveScaled18")
    )
    common: dict[str, Any] = {
        "vault": V3,
        # the data has live balances only; with a factor above 1 just one raw balance gives each
        "balances": tuple(-(-b * ONE // (s * r)) for b, s, r in zip(live, scaling, rates, strict=True)),
        "scaling": tuple(scaling),
        "rates": tuple(rates),
        "swap_fee": int(row["swapFee"]),
    }
    pool: Pool
    if family == "weighted":
        pool = weighted.WeightedPool(**common, weights=tuple(int(w) for w in row["weights"]))
    else:
        surge = None
        if hook:
            limits = hook["dynamicData"]
            surge = stable.SurgeFee(
                int(limits["surgeThresholdPercentage"]), int(limits["maxSurgeFeePercentage"])
            )
        pool = stable.StablePool(**common, amp=int(row["amp"]), surge=surge)
    assert pool.live_balances() == live
    return pool


@pytest.mark.data
def test_every_answer_of_the_v3_vault_is_repeated_or_refused_by_name(data_dir: Path) -> None:
    # fails at one unit of difference, at a type taken for another, and at a refusal that doesn't name it
    equal: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    content = load(data_dir / "vectors" / "balancer_maths_testdata.json.gz")
    for name, case in content.items():
        kind = case["pool"]["poolType"]
        if kind not in ("WEIGHTED", "STABLE"):
            with pytest.raises(ValueError, match=f"'{kind}' is not supported"):
                pool_of_maths_testdata(case["pool"])
            refused[kind] += len(case["swaps"])
            continue
        pool = pool_of_maths_testdata(case["pool"])
        tokens = [token.lower() for token in case["pool"]["tokens"]]
        for swap in case["swaps"]:
            i, j = tokens.index(swap["tokenIn"].lower()), tokens.index(swap["tokenOut"].lower())
            quote = getattr(maths(pool), ("exact_in", "exact_out")[swap["swapKind"]])
            answer = quote(pool, i, j, int(swap["amountRaw"]))
            assert answer == int(swap["outputRaw"]), f"{name}: {swap}"
            equal[kind + (" with surge fee" if "hook" in case["pool"] else "")] += 1
    print(f"\nBalancer V3, equal to the vault: {dict(equal)}; refused by name: {dict(refused)}")
    assert {"WEIGHTED", "STABLE", "STABLE with surge fee"} <= equal.keys()
    assert equal.total() + refused.total() == sum(len(case["swaps"]) for case in content.values())


def _invariant_up(amp: int, balances: list[int]) -> int:
    return stable.invariant_rounded(amp, balances, up=True)


def _invariant_down(amp: int, balances: list[int]) -> int:
    return stable.invariant_rounded(amp, balances, up=False)


def _stable_out(*args: Any) -> int:
    return stable.out_given_in(*args, vault=V2)


def _stable_in(*args: Any) -> int:
    return stable.in_given_out(*args, vault=V2)


FUNCTIONS: dict[str, Callable[..., int]] = {
    "fp_add": fp.add,
    "fp_sub": fp.sub,
    "fp_mul_down": fp.mul_down,
    "fp_mul_up": fp.mul_up,
    "fp_div_down": fp.div_down,
    "fp_div_up": fp.div_up,
    "fp_complement": fp.complement,
    "fp_pow_down": fp.pow_down,
    "fp_pow_up": fp.pow_up,
    "lm_pow": fp.power,
    "lm_exp": fp.exp,
    "lm_ln": fp.ln,
    "lm_log": fp.log,
    "wm_invariant": weighted.invariant,
    "wm_out_given_in": weighted.out_given_in,
    "wm_in_given_out": weighted.in_given_out,
    "wm_sub_fee": lambda amount, fee: fp.sub(amount, fp.mul_up(amount, fee)),
    "wm_add_fee": lambda amount, fee: fp.div_up(amount, fp.complement(fee)),
    "sm_invariant_d_p": stable.invariant_truncated,
    "sm_invariant_p_d_up": _invariant_up,
    "sm_invariant_p_d_down": _invariant_down,
    "sm_out_given_in": _stable_out,
    "sm_in_given_out": _stable_in,
}


def beyond_the_contract(name: str, args: list[Any]) -> bool:
    """Whether the peer that made the record went on where 256 unsigned bits end."""
    return (name == "lm_pow" and min(args) < 0) or (name == "fp_mul_down" and args[0] * args[1] >= 2**256)


@pytest.mark.data
def test_every_case_of_the_maths_snapshot_is_repeated(data_dir: Path) -> None:
    # fails at one unit of difference, at another reason of revert, and at a function that we lack
    text = gzip.decompress(
        (data_dir / "vectors/degenbot/oracle_balancer_snapshot.txt.gz").read_bytes()
    ).decode()
    counts: Counter[str] = Counter()
    for line in text.splitlines():
        call, _, expected = line.partition(" = ")
        name, *words = call.split()
        options = {"exact_powers": words.pop() == "V2"} if words[-1] in ("V1", "V2") else {}
        args = [json.loads(item) for item in words]
        if beyond_the_contract(name, args):
            with pytest.raises(ValueError):  # noqa: PT011 - a revert is a ValueError too
                FUNCTIONS[name](*args)
            counts["refused: beyond uint256"] += 1
        elif expected.startswith("ERROR:"):
            with pytest.raises(SwapRevertedError, match=f"^{expected.removeprefix('ERROR:')}$"):
                FUNCTIONS[name](*args, **options)
            counts["reverts"] += 1
        else:
            assert FUNCTIONS[name](*args, **options) == int(expected), line
            counts["values"] += 1
    print(f"\nBalancer maths snapshot: {dict(counts)} of {len(text.splitlines())} lines")
    assert counts["values"]
    assert counts["reverts"]
