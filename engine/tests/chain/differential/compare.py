"""A case is a pool state, a call, and what the real contract answered; every implementation must agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from mev_engine.amm.errors import SwapRevertedError

State = TypeVar("State")
Call = TypeVar("Call")


@dataclass(frozen=True, slots=True)
class Reverted:
    """The call reverts. `reason`: the contract's own, "" where it (or an implementation) gives none."""

    reason: str = ""


Answer = tuple[int, ...] | Reverted
"""Integers in an order that the family's `Call` fixes, or the revert."""

Implementation = Callable[[State, Call], Answer | None]
"""None: this implementation leaves such a call to others. It may answer only the first integers."""


@dataclass(frozen=True, slots=True)
class Case(Generic[State, Call]):
    """`answer` is the contract's."""

    state: State
    call: Call
    answer: Answer


def answer_of(compute: Callable[[], tuple[int, ...]]) -> Answer:
    """What `compute` returns, or the revert that it raises."""
    try:
        return compute()
    except SwapRevertedError as error:
        return Reverted(str(error))


def agree(contract: Answer, ours: Answer) -> bool:
    """Equal; of two reverts, the reasons too where both give one."""
    if isinstance(contract, Reverted) or isinstance(ours, Reverted):
        if not (isinstance(contract, Reverted) and isinstance(ours, Reverted)):
            return False
        return contract.reason == ours.reason or not (contract.reason and ours.reason)
    return contract[: len(ours)] == ours


@dataclass(frozen=True, slots=True)
class Tally:
    """Cases compared; `paid` of them are swaps that the contract made or quoted, the rest it refused.

    `answered`: how many of all cases each implementation answered.
    """

    paid: int
    refused: Counter[str]
    answered: Mapping[str, int]

    def __str__(self) -> str:
        reasons = ", ".join(
            f"{count} {reason or '(none given)'}" for reason, count in self.refused.most_common()
        )
        by = ", ".join(f"{name} {count}" for name, count in self.answered.items())
        return (
            f"{self.paid} swaps equal to the wei, {self.refused.total()} reverts equal ({reasons});"
            f" answered by {by}"
        )


def compare(
    cases: Sequence[Case[State, Call]], implementations: Mapping[str, Implementation[State, Call]]
) -> Tally:
    """Fails with the first differing cases of any implementation."""
    answered = {}
    for name, implementation in implementations.items():
        wrong, answered[name] = [], 0
        for case in cases:
            ours = implementation(case.state, case.call)
            if ours is None:
                continue
            answered[name] += 1
            if not agree(case.answer, ours):
                wrong.append(f"{case.call}\n  on {case.state}\n  contract {case.answer}\n  ours     {ours}")
        assert not wrong, f"{name}: {len(wrong)} of {len(cases)} differ, such as\n" + "\n".join(wrong[:3])
    refused = Counter(case.answer.reason for case in cases if isinstance(case.answer, Reverted))
    return Tally(len(cases) - refused.total(), refused, answered)
