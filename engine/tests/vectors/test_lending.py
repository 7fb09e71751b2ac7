"""Aave's arithmetic against real chain data: labelled liquidations with their traces, and index histories.

Takes about 5 s.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from eth_utils.crypto import keccak
from mev_engine.detect.liquidation import Outcome, terms
from mev_engine.market.aave import AaveMarket, Reserve, StableDebt
from mev_engine.market.aave_math import RAY, AaveVersion, ray_div

pytestmark = pytest.mark.data

POOLS = {
    "0x7d2768de32b0b80b7a3454c06bdac94a69ddc7a9": "Aave V2",
    "0x398ec7346dcd622edc5ae82352f02be94c62d119": "Aave V1",
}
OTHERS = {"Aave V1": "another contract", "compound_v2": "another protocol", "cream": "another protocol"}
DECIMALS = {"0xdac17f958d2ee523a2206206994597c13d831ec7": 6, "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48": 6,
            "0x2260fac5e5542a773aa44fbcfedf7c193bc2c599": 8}  # fmt: skip
"""USDT, USDC, WBTC; all others of these accounts have 18."""
NOW = 1


def selector(signature: str) -> str:
    return "0x" + keccak(text=signature).hex()[:8]


LIQUIDATION_CALL = selector("liquidationCall(address,address,address,uint256,bool)")
PRICE = selector("getAssetPrice(address)")
BALANCE = selector("balanceOf(address)")
INCOME = selector("getReserveNormalizedIncome(address)")
DEBT = selector("getReserveNormalizedVariableDebt(address)")

Calls = dict[tuple[int, ...], tuple[str, str, str]]
"""Trace address to (contract, input, output)."""


def word(text: str, index: int = 0) -> int:
    return int(text[64 * index : 64 * index + 64], 16)


def calls_under(folder: Path, block: str, label: dict[str, Any]) -> Calls:
    """The call of the label's liquidation and those below it."""
    traces = json.loads(gzip.decompress((folder / f"{block}.json.gz").read_bytes()))["traces"]
    start = tuple(label["trace_address"])
    found = {}
    for trace in traces:
        path = tuple(trace["trace_address"])
        mine = trace.get("transaction_hash") == label["transaction_hash"] and path[: len(start)] == start
        if mine and "input" in trace["action"]:
            output = (trace.get("result") or {}).get("output") or "0x"
            found[path] = (trace["action"]["to"], trace["action"]["input"], output)
    return found


def rebuild(calls: Calls, user: str) -> AaveMarket:
    """The market as the trace read it: prices, indexes and this user's balances.

    The contract reads, reserve by reserve, the price, then the user's balances; a token that asks the pool
    for an index is an aToken or a variable debt token, the other one the stable debt token. Thresholds and
    bonuses are in no trace (storage): a threshold of 1 bps makes the user liquidatable, as on the chain.
    """
    market = AaveMarket(AaveVersion.V2, [], NOW)
    asset, depth = "", 0
    for path in sorted(calls):
        _to, data, output = calls[path]
        if data.startswith(PRICE):
            asset, depth = f"0x{word(data[10:]):040x}", len(path)
            if asset not in market.index:
                market.add_reserve(Reserve(asset, DECIMALS.get(asset, 18), 1, 10_000, last_update=NOW))
            market.set_price(asset, word(output[2:]))
        if data == BALANCE + f"{int(user, 16):064x}" and len(path) == depth:
            balance = word(output[2:])
            _pool, question, answer = calls.get((*path, 0, 0), ("", "", ""))
            if question.startswith(INCOME) and not market.supplied(user, asset):
                market.reserve(asset).liquidity_index = index = word(answer[2:])
                market.set_position(user, asset, supplied=ray_div(balance, index), collateral=True)
                assert market.supplied(user, asset) == balance
            elif question.startswith(DEBT) and not market.owed(user, asset)[1]:
                market.reserve(asset).variable_borrow_index = index = word(answer[2:])
                market.set_position(user, asset, owed=ray_div(balance, index))
                assert market.owed(user, asset)[1] == balance
            elif not question and not market.owed(user, asset)[0]:
                market.set_stable_debt(user, asset, StableDebt(balance, 0, NOW))
    return market


def labels(folder: Path, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    upstream = json.loads((folder / "labels.json").read_text(encoding="utf-8"))["upstream"]
    for block, entry in upstream.items():
        yield from ((block, label) for label in entry.get(kind, []))


def test_labelled_liquidations(data_dir: Path) -> None:
    """Every labelled liquidation is reproduced, or refused by the name of its protocol.

    For Aave V2, exactly one whole bonus reproduces debt and collateral to the wei. Fails if prices, decimals,
    order of roundings or the close factor were wrong: then no bonus would fit, or several.
    """
    folder = data_dir / "blocks" / "mev_inspect_py"
    reproduced, refused = [], []
    for block, label in labels(folder, "liquidation"):
        calls = calls_under(folder, block, label)
        pool, data, _output = calls[tuple(label["trace_address"])]
        protocol = POOLS.get(pool, label["protocol"])
        if protocol != "Aave V2":
            refused.append(f"{block} {protocol}: {OTHERS[protocol]}")
            continue
        assert data.startswith(LIQUIDATION_CALL)
        collateral, debt, user = (f"0x{word(data[10:], i):040x}" for i in range(3))
        assert (debt, user) == (label["debt_token_address"], label["liquidated_user"])
        to_cover = word(data[10:], 3)
        pair = terms(rebuild(calls, user), user, debt, collateral)
        wanted = Outcome(int(label["debt_purchase_amount"]), int(label["received_amount"]), 0)
        fitting = [b for b in range(10_000, 12_001) if replace(pair, bonus=b).outcome(to_cover) == wanted]
        assert len(fitting) == 1, (block, fitting)
        share = wanted.repaid / replace(pair, bonus=fitting[0]).outcome(2**256 - 1).repaid
        assert share <= 1
        reproduced.append(f"{block} {protocol}: bonus {fitting[0]} bps, {share:.3f} of the most")
    for block, label in labels(folder, "no_liquidation"):
        refused.append(f"{block} compound_v2: {label['reason']}")
    print("\n".join(["reproduced:", *reproduced, "refused:", *refused]))
    assert len(reproduced) == 2
    assert len(refused) == 7


def changes(path: Path) -> list[tuple[int, dict[str, int]]]:
    """(minute, rates and indexes in ray) of the bars at which an index changed."""
    found: list[tuple[int, dict[str, int]]] = []
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for minute, row in enumerate(csv.DictReader(file)):
            state = {
                name: int(Decimal(value) * RAY) for name, value in row.items() if name != "block_timestamp"
            }
            if not found or state != found[-1][1]:
                found.append((minute, state))
    return found


def test_indexes_of_aave_v3_on_polygon(data_dir: Path) -> None:
    """From one minute bar to the next that differs: both indexes, all 27 digits.

    A bar does not say at which second the index was stored, so the second is taken from the supply's index;
    then the debt's index must follow with the same second. Where no second fits, the rates changed more than
    once between the bars, which the bars cannot show. Fails if either interest formula were off by a ray.
    """
    exact = several = 0
    for path in sorted((data_dir / "events" / "demeter").glob("polygon-aave_v3-*.csv.gz")):
        bars = changes(path)
        for (minute, old), (later, new) in pairwise(bars):
            reserve = Reserve(
                "0x", 6, 1, 10_000,
                liquidity_index=old["liquidity_index"],
                variable_borrow_index=old["variable_borrow_index"],
                liquidity_rate=old["liquidity_rate"],
                variable_borrow_rate=old["variable_borrow_rate"],
            )  # fmt: skip
            market = AaveMarket(AaveVersion.V3, [reserve])
            growth = new["liquidity_index"] / old["liquidity_index"] - 1
            near = round(growth * 365 * 86_400 / (old["liquidity_rate"] / RAY))
            for second in range(max(near - 2, 0), min(near + 3, 60 * (later - minute + 1))):
                market.at(second)
                if market.normalized_income("0x") == new["liquidity_index"]:
                    assert market.normalized_debt("0x") == new["variable_borrow_index"], (path.name, later)
                    exact += 1
                    break
            else:
                several += 1
    print(f"{exact} steps exact in both indexes, {several} with more than one change between the bars")
    assert exact > 2500
