"""Real blocks as call traces: what was called, what V2 and V3 pools traded, and their states in between.

The traces have no logs. Reserves of V2 pairs are in the data; the state of a V3 pool is never read whole, but
where one range of liquidity explains what it traded, that state follows from it (`one_range`).
"""

from __future__ import annotations

import csv
import gzip
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from eth_utils.crypto import keccak
from mev_engine.amm.concentrated import MAX_TICK, MIN_TICK, PIPS, Q96, tick_at_sqrt_price
from mev_engine.amm.uniswap_v2 import V2Pair
from mev_engine.amm.uniswap_v3 import V3Pool, exact_in


def selector(signature: str) -> str:
    return keccak(text=signature)[:4].hex()


TRANSFER, TRANSFER_FROM = (
    selector("transfer(address,uint256)"),
    selector("transferFrom(address,address,uint256)"),
)
BALANCE_OF = selector("balanceOf(address)")
SWAP_V2, SWAP_V3 = (
    selector("swap(uint256,uint256,address,bytes)"),
    selector("swap(address,bool,int256,uint160,bytes)"),
)


@dataclass(frozen=True)
class Call:
    """One frame of a trace; `reverted` if it or a frame around it was."""

    tx: str
    position: int
    path: tuple[int, ...]
    sender: str
    to: str
    selector: str
    args: bytes
    output: bytes
    value: int
    reverted: bool

    def word(self, number: int) -> int:
        return int.from_bytes(self.args[32 * number : 32 * number + 32])

    def address(self, number: int) -> str:
        return f"0x{self.word(number):040x}"


@dataclass(frozen=True)
class Swap:
    """A swap that took effect."""

    position: int
    pool: str
    token_in: str
    token_out: str
    amount_out: int
    is_v3: bool


@dataclass(frozen=True)
class Traded:
    """What a V3 pool took and gave (raw units); or `read`, its sqrt_price_x96 as someone read it then."""

    position: int
    zero_for_one: bool = False
    amount_in: int = 0
    amount_out: int = 0
    read: int = 0


class Block:
    """One block of `blocks/mev_inspect_py` with the events derived from it."""

    def __init__(self, data_dir: Path, number: int) -> None:
        self.number = number
        content = (data_dir / "blocks" / "mev_inspect_py" / f"{number}.json.gz").read_bytes()
        self._traces = json.loads(gzip.decompress(content))["traces"]
        with gzip.open(data_dir / "events" / "mev_inspect_v2_sync.csv.gz", "rt") as lines:
            self._pairs = [row for row in csv.DictReader(lines) if int(row["block"]) == number]
        with gzip.open(data_dir / "events" / "mev_inspect_dex_actions.jsonl.gz", "rt") as lines:
            actions = (json.loads(line) for line in lines)
            self.actions = [action for action in actions if action["block"] == number]

    @cached_property
    def calls(self) -> list[Call]:
        frames = [t for t in self._traces if t["type"] == "call" and t.get("transaction_hash")]
        failed = {(t["transaction_hash"], *t["trace_address"]) for t in frames if t.get("error")}
        result = []
        for frame in frames:
            action, tx, path = frame["action"], frame["transaction_hash"], tuple(frame["trace_address"])
            data = bytes.fromhex(action["input"][2:])
            output = (frame.get("result") or {}).get("output") or "0x"
            reverted = any((tx, *path[:n]) in failed for n in range(len(path) + 1))
            result.append(
                Call(
                    tx, frame["transaction_position"], path, action["from"], action["to"], data[:4].hex(),
                    data[4:], bytes.fromhex(output[2:]), int(action["value"], 16), reverted,
                )
            )  # fmt: skip
        return result

    @cached_property
    def by_tx(self) -> dict[str, list[Call]]:
        result = defaultdict(list)
        for call in self.calls:
            result[call.tx].append(call)
        return dict(result)

    @cached_property
    def swaps(self) -> dict[str, list[Swap]]:
        """Swaps of V2 and V3 pools that took effect, by transaction. What a pool sends out it calls
        `transfer` of, what it takes in it asks its balance of."""
        result = defaultdict(list)
        for call in self.calls:
            if call.selector not in (SWAP_V2, SWAP_V3) or call.reverted:
                continue
            inner = [c for c in self.by_tx[call.tx] if c.path[:-1] == call.path and c.sender == call.to]
            sent = next(c for c in inner if c.selector == TRANSFER)
            into = next(c.to for c in inner if c.selector == BALANCE_OF and c.to != sent.to)
            is_v3 = call.selector == SWAP_V3
            swap = Swap(call.position, call.to, into, sent.to, sent.word(1), is_v3)
            result[call.tx].append(swap)
        return dict(result)

    def closed_walks(self) -> list[str]:
        """Transactions whose swaps, two or more, form one cycle: each token is paid out once and in once."""
        found = []
        for tx, swaps in self.swaps.items():
            paid_in, paid_out = Counter(s.token_in for s in swaps), Counter(s.token_out for s in swaps)
            if len(swaps) > 1 and paid_in == paid_out and set(paid_in.values()) == {1}:
                found.append(tx)
        return found

    def paid_to(self, tx: str, token: str, to: str) -> int:
        """What a transaction transferred of a token to an address (raw units)."""
        amounts = {TRANSFER: (0, 1), TRANSFER_FROM: (1, 2)}
        total = 0
        for call in self.by_tx[tx]:
            if call.to == token and call.selector in amounts and not call.reverted:
                recipient, amount = amounts[call.selector]
                total += call.word(amount) if call.address(recipient) == to else 0
        return total

    def profit(self, tx: str, token: str) -> int:
        """What the pools of a closed walk gave of a token, less what they took."""
        first = next(s for s in self.swaps[tx] if s.token_in == token)
        last = next(s for s in self.swaps[tx] if s.token_out == token)
        return last.amount_out - self.paid_to(tx, token, first.pool)

    # --- States ---------------------------------------------------------------------------------------

    def pairs_before(self, position: int) -> dict[str, tuple[str, str, V2Pair]]:
        """V2 pairs (token0, token1, state) before the transaction at a position, as far as is known."""
        result: dict[str, tuple[str, str, V2Pair]] = {}
        for row in self._pairs:
            pair, before = row["pool"], int(row["tx_pos"]) < position
            if before or pair not in result:
                reserves = (row["reserve0"], row["reserve1"]) if before else self._before(row)
                if reserves:
                    state = V2Pair(*map(int, reserves))
                    result[pair] = row["token0"], row["token1"], state
        return result

    def _before(self, row: dict[str, str]) -> tuple[Any, Any] | None:
        """Reserves before an event: said, or its result less what the transaction paid in."""
        if row["pre_reserve0"]:
            return row["pre_reserve0"], row["pre_reserve1"]
        if (
            row["kind"] != "swap"
            or sum(r["tx"] == row["tx"] and r["pool"] == row["pool"] for r in self._pairs) > 1
        ):
            return None
        paid = [self.paid_to(row["tx"], row[f"token{i}"], row["pool"]) for i in (0, 1)]
        return tuple(int(row[f"reserve{i}"]) + int(row[f"amount{i}_out"]) - paid[i] for i in (0, 1))  # type: ignore[return-value]

    def traded(self, pool: str) -> list[Traded]:
        """What a V3 pool traded in this block, and readings of its price, in order."""
        result = []
        for action in self.actions:
            if action["pool"] != pool or action["proto"] != "v3":
                continue
            position = action["tx_pos"]
            if action["kind"] == "slot0_read":
                result.append(Traded(position, read=int(action["sqrt_price_x96"])))
            else:
                assert action["kind"] == "swap", action["kind"]
                amounts = int(action["amount0"]), int(action["amount1"])
                down = action["zero_for_one"]
                result.append(Traded(position, down, amounts[not down], -amounts[down]))
        return result


def one_range(trades: Sequence[Traded], fee_pips: int, tick_spacing: int) -> V3Pool | None:
    """A pool's state before `trades` if one range of liquidity explains each of them to the wei, else None.

    Needs more observations than unknowns (price and liquidity): three swaps, or a swap between two readings
    of the price. What is known then are the tick spacings that the trades went through.
    """
    if len(trades) < 3:
        return None
    first, second, third = trades[:3]
    guesses: Iterable[tuple[int, int]]
    if first.read and third.read and not second.read:
        guesses = _between(first.read, second, third.read, fee_pips)
    elif first.read or second.read or third.read:
        return None
    else:
        guesses = _around(first, second, fee_pips, tick_spacing)
    states = (_replayed(trades, *guess, fee_pips, tick_spacing) for guess in guesses)
    return next((state for state in states if state is not None), None)


def _pool(price: int, liquidity: int, fee_pips: int, tick_spacing: int) -> V3Pool:
    """A pool of one endless range."""
    return V3Pool(
        sqrt_price_x96=price,
        tick=tick_at_sqrt_price(price),
        liquidity=liquidity,
        tick_spacing=tick_spacing,
        fee_pips=fee_pips,
        ticks={},
        known=(MIN_TICK, MAX_TICK - 1),
    )


def _between(before: int, swap: Traded, after: int, fee_pips: int) -> Iterator[tuple[int, int]]:
    """(price, liquidity) from a swap's input and the prices around it, give or take the last unit."""
    counted = swap.amount_in * (PIPS - fee_pips) // PIPS
    if swap.zero_for_one:
        middle = counted * before * after // ((before - after) << 96)
    else:
        middle = (counted << 96) // (after - before)
    for off in range(-2, 3):
        yield before, middle + off


def _around(first: Traded, second: Traded, fee_pips: int, tick_spacing: int) -> Iterator[tuple[int, int]]:
    """(price, liquidity) from two swaps in a row: the continuous answer, and a grid around it.

    A swap gives the product of the prices before and after it, out / in, and how far it moves, token1 / L.
    Hence with p, q the two products and m, n the two moves times L: `s1 * (m + n) / L = q - p`, where s1
    between them solves `s1**2 - s1 * m / L = p`.
    """
    products, moves = [], []
    for swap in (first, second):
        counted = swap.amount_in * (1 - fee_pips / PIPS)
        products.append(swap.amount_out / counted if swap.zero_for_one else counted / swap.amount_out)
        moves.append(-float(swap.amount_out) if swap.zero_for_one else counted)
    a = (products[1] - products[0]) / sum(moves)
    square = products[0] + a * moves[0]
    if a <= 0 or square <= 0:
        return
    for n in range(-200, 201):
        liquidity = int(math.sqrt(square) / a * (1 + n * 1e-7))
        yield _price(first, liquidity, math.sqrt(products[0]), fee_pips, tick_spacing), liquidity


def _price(swap: Traded, liquidity: int, root: float, fee_pips: int, tick_spacing: int) -> int:
    """The price at which a swap gives what it gave, with this liquidity: by bisection around `root`."""

    def gives(price: int) -> int:
        pool = _pool(price, liquidity, fee_pips, tick_spacing)
        return exact_in(pool, swap.amount_in, zero_for_one=swap.zero_for_one).amount_out

    low, high = int(root * 0.9 * Q96), int(root * 1.1 * Q96)
    while high - low > 1:
        middle = (low + high) // 2
        if (gives(middle) >= swap.amount_out) == swap.zero_for_one:
            high = middle
        else:
            low = middle
    return high if swap.zero_for_one else low


def _replayed(
    trades: Sequence[Traded], price: int, liquidity: int, fee_pips: int, tick_spacing: int
) -> V3Pool | None:
    """The pool in this state if the trades then go as they went."""
    start = pool = _pool(price, liquidity, fee_pips, tick_spacing)
    visited = [pool.tick]
    for trade in trades:
        if trade.read:
            if trade.read != pool.sqrt_price_x96:
                return None
            continue
        swap = exact_in(pool, trade.amount_in, zero_for_one=trade.zero_for_one)
        if (swap.amount_in, swap.amount_out) != (trade.amount_in, trade.amount_out):
            return None
        pool = pool.after(swap)
        visited.append(pool.tick)
    low = min(visited) // tick_spacing * tick_spacing + 1  # the tick below may be initialised
    high = (max(visited) // tick_spacing + 1) * tick_spacing - 1
    return replace(start, known=(low, high))
