"""Who holds and owes what in a lending market, as arrays, and the float64 screen over all of it.

Positions of account a lie in the slots `start[a] .. start[a] + length[a] - 1` of arrays that the kernel
reads. A row that is full moves to the end with twice the room, so adding a position is cheap and slots of one
account stay together. Exact amounts are Python integers in the lists `supplied` and `owed`, slot by slot.
"""

from __future__ import annotations

import numpy as np

from mev_engine.jit import kernel
from mev_engine.types import FlagArray, FloatArray, IndexArray, OffsetArray

# Relative error of a sum of at most 128 products of three rounded factors; see `health_bounds`.
_RELATIVE = 1e-13
_EMPTY = -1  # reserve number of a slot that is not in use


class PositionTable:
    """Accounts and their positions; grows as they appear. Numbers of accounts and reserves never change."""

    def __init__(self) -> None:
        self.accounts: list[str] = []
        self.account_index: dict[str, int] = {}
        self.category: IndexArray = np.empty(0, np.int32)  # row of the market's tables for this account
        self.start: OffsetArray = np.empty(0, np.int64)
        self.length: IndexArray = np.empty(0, np.int32)
        self._room: IndexArray = np.empty(0, np.int32)
        self.reserve: IndexArray = np.empty(0, np.int32)  # per slot
        self.collateral: FloatArray = np.empty(0)  # per slot, scaled; 0 where it does not count as collateral
        self.debt: FloatArray = np.empty(0)  # per slot, scaled
        self.fixed_debt: FloatArray = np.empty(0)  # per slot, in scaled units: debt at a rate of its own
        self.supplied: list[int] = []  # per slot, scaled
        self.owed: list[int] = []  # per slot, scaled
        self.enabled: list[bool] = []  # per slot: counts as collateral

    @property
    def n_accounts(self) -> int:
        return len(self.accounts)

    def account(self, address: str) -> int:
        """The account's number; it is added if it is new."""
        number = self.account_index.get(address)
        if number is None:
            number = self.account_index[address] = len(self.accounts)
            self.accounts.append(address)
            if number == len(self.start):  # double the room of all columns
                more = max(number, 16)
                self.start = np.concatenate([self.start, np.zeros(more, np.int64)])
                self.length = np.concatenate([self.length, np.zeros(more, np.int32)])
                self._room = np.concatenate([self._room, np.zeros(more, np.int32)])
                self.category = np.concatenate([self.category, np.zeros(more, np.int32)])
        return number

    def slots(self, account: int) -> range:
        """Slots of an account's positions."""
        first = int(self.start[account])
        return range(first, first + int(self.length[account]))

    def find(self, account: int, reserve: int) -> int | None:
        """The slot of a position, or None."""
        return next((s for s in self.slots(account) if self.reserve[s] == reserve), None)

    def slot(self, account: int, reserve: int) -> int:
        """The slot of a position, added with nothing in it if there is none."""
        found = self.find(account, reserve)
        if found is not None:
            return found
        if self.length[account] == self._room[account]:
            self._move(account)
        slot = int(self.start[account] + self.length[account])
        self.length[account] += 1
        self.reserve[slot] = reserve
        return slot

    def write(self, slot: int, *, supplied: int | None, owed: int | None, enabled: bool | None) -> None:
        """Set what is not None, exact and float alike."""
        if supplied is not None:
            self.supplied[slot] = supplied
        if owed is not None:
            self.owed[slot] = owed
            self.debt[slot] = owed
        if enabled is not None:
            self.enabled[slot] = enabled
        self.collateral[slot] = self.supplied[slot] if self.enabled[slot] else 0

    def _move(self, account: int) -> None:
        """Give an account a row of twice the room at the end."""
        old, room = self.slots(account), max(2, 2 * int(self._room[account]))
        first = len(self.supplied)
        self.supplied += [*(self.supplied[s] for s in old), *[0] * (room - len(old))]
        self.owed += [*(self.owed[s] for s in old), *[0] * (room - len(old))]
        self.enabled += [*(self.enabled[s] for s in old), *[False] * (room - len(old))]
        while len(self.reserve) < first + room:
            more = max(len(self.reserve), 64)
            self.reserve = np.concatenate([self.reserve, np.full(more, _EMPTY, np.int32)])
            for name in ("collateral", "debt", "fixed_debt"):
                setattr(self, name, np.concatenate([getattr(self, name), np.zeros(more)]))
        for column in (self.reserve, self.collateral, self.debt, self.fixed_debt):
            column[first : first + len(old)] = column[old.start : old.stop]
        self.start[account], self._room[account] = first, room

    def bounds(
        self, value: FloatArray, threshold: FloatArray, debt_value: FloatArray, slack: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """`health_bounds` of every account: arrays (n_accounts,)."""
        n = self.n_accounts
        low, high = np.empty(n), np.empty(n)
        health_bounds(
            self.start[:n],
            self.length[:n],
            self.category[:n],
            self.reserve,
            self.collateral,
            self.debt,
            self.fixed_debt,
            value,
            threshold,
            debt_value,
            slack,
            low,
            high,
        )
        return low, high

    def maybe_below_one(self, low: FloatArray) -> IndexArray:
        """Accounts (sorted numbers) whose health factor can be below 1: the others need no exact look."""
        flags: FlagArray = low < 1.0
        return np.flatnonzero(flags).astype(np.int32)


@kernel(
    "void(int64[::1], int32[::1], int32[::1], int32[::1], float64[::1], float64[::1], float64[::1],"
    " float64[:, ::1], float64[:, ::1], float64[:, ::1], float64[:, ::1], float64[::1], float64[::1])"
)
def health_bounds(
    start: OffsetArray,
    length: IndexArray,
    category: IndexArray,
    reserve: IndexArray,
    collateral: FloatArray,
    debt: FloatArray,
    fixed_debt: FloatArray,
    value: FloatArray,
    threshold: FloatArray,
    debt_value: FloatArray,
    slack: FloatArray,
    low: FloatArray,
    high: FloatArray,
) -> None:
    """Bounds `low <= health factor <= high` of every account (1.0 is the limit; inf without debt).

    Tables are (categories, reserves): `value` and `debt_value`, base currency of a scaled unit; `threshold`,
    bps; `slack`, by how much a position's exact value can differ from the real product, base currency.
    `fixed_debt` is debt at an account's own rate, converted to scaled units, so that `debt_value` applies.

    The exact factor is `C * floor(W / C) / 10000 / D` with C the collateral's value, W the same weighted by
    thresholds, D the debt's value, each a sum of rounded terms. With every term within its slack,
    `C * floor(W / C)` lies in `[max(W - C, C * least threshold), W]`. That, half a unit for the last two
    roundings and 1e-13 for float64 is all: the gap is the slack, and 1 / mean threshold where an account has
    collaterals of different thresholds.
    """
    for account in range(start.size):
        row = category[account]
        c_low = c_high = w_low = w_high = d = d_slack = 0.0
        least = np.inf
        for slot in range(start[account], start[account] + length[account]):
            r = reserve[slot]
            if collateral[slot] > 0.0 and threshold[row, r] > 0.0:
                worth = collateral[slot] * value[row, r]
                sure = max(worth - slack[row, r], 0.0)
                most = worth + slack[row, r]
                c_low += sure
                c_high += most
                w_low += sure * threshold[row, r]
                w_high += most * threshold[row, r]
                least = min(least, threshold[row, r])
            if debt[slot] > 0.0 or fixed_debt[slot] > 0.0:
                d += (debt[slot] + fixed_debt[slot]) * debt_value[row, r]
                d_slack += slack[row, r]
        if d == 0.0 and d_slack == 0.0:
            low[account] = high[account] = np.inf
            continue
        d_low = d * (1.0 - _RELATIVE) - d_slack
        d_high = d * (1.0 + _RELATIVE) + d_slack
        product = 0.0
        if c_high > 0.0:
            product = max(w_low * (1.0 - _RELATIVE) - c_high * (1.0 + _RELATIVE), c_low * least)
        low[account] = (product * 1e-4 * (1.0 - _RELATIVE) - 0.5) / d_high - 1e-18
        if d_low > 0.0:
            high[account] = (w_high * 1e-4 * (1.0 + _RELATIVE) + 0.5) / d_low + 1e-18
        else:
            high[account] = np.inf
