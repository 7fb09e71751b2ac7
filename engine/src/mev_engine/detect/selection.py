"""Which opportunities of a block to take: no two may share a pool, as the second would meet a changed state.

That is maximum-weight set packing: the weights are net profits, the sets pools. Opportunities that share
no pool, not even by way of others, fall into components that are settled one by one. In a component of at
most `MAX_EXACT` opportunities branch and bound finds the best set and proves it. The bound covers what is
left with cliques, groups through one pool each, of which one opportunity at most can be chosen: the most
valuable of each clique. The search stops after `MAX_NODES` nodes a call in all; where it does, and in
bigger components, the best set known is taken, from greedy choice and swaps, and `Packing.proven` says so.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from mev_engine.detect.opportunity import Opportunity

MAX_EXACT = 200
MAX_NODES = 2_000
_MAX_SWAPS = 1_000  # that are tried in a component
_MAX_SUBSETS = 6


@dataclass(frozen=True, slots=True)
class Packing:
    """`chosen`: positions, ascending. `value`: their sum. `proven`: whether it is the best there is.
    `nodes`: of branch and bound; `searched`: components settled by it, `approximate`: by swaps."""

    chosen: tuple[int, ...]
    value: int
    proven: bool
    nodes: int
    searched: int
    approximate: int


def select(ranked: Iterable[Opportunity]) -> list[Opportunity]:
    """The same opportunities in the same order (best first), with `conflicts_with` set: None for those to
    take, else the id of the first taken one that shares a pool."""
    found = list(ranked)
    rivals = conflicts([o.pools for o in found], [o.net_profit for o in found])
    return [
        replace(o, conflicts_with=None if rival is None else found[rival].id)
        for o, rival in zip(found, rivals, strict=True)
    ]


def conflicts(pools: Sequence[Sequence[Hashable]], values: Sequence[int]) -> list[int | None]:
    """For each of some opportunities, best first: None if it is to be taken, else the position of the first
    taken one that shares a pool.

    The taken ones are the best set by value; those that gain nothing are taken where no taken one is in
    their way.
    """
    taken = set(pack(pools, values).chosen)
    owner: dict[Hashable, int] = {}
    for n in sorted(taken):
        owner |= dict.fromkeys(pools[n], n)
    result: list[int | None] = []
    for n, own in enumerate(pools):
        rivals = [owner[pool] for pool in own if pool in owner]
        if n not in taken and not rivals:
            owner |= dict.fromkeys(own, n)
            taken.add(n)
        result.append(None if n in taken else min(rivals))
    return result


def pack(
    sets: Sequence[Sequence[Hashable]],
    values: Sequence[int],
    *,
    max_exact: int = MAX_EXACT,
    max_nodes: int = MAX_NODES,
) -> Packing:
    """Positions of sets without a common member and the greatest sum of values. Those of value 0 or less
    are never chosen."""
    worth = [n for n, value in enumerate(values) if value > 0]
    chosen: list[int] = []
    nodes, searched, approximate, proven = 0, 0, 0, True
    for group in components([sets[n] for n in worth]):
        members = sorted((worth[n] for n in group), key=lambda n: (-values[n], n))
        members = _undominated(members, sets)
        component = _Component([sets[n] for n in members], [values[n] for n in members])
        component.start()
        if len(members) <= max_exact:
            complete = component.search(max_nodes - nodes)
            nodes += component.nodes
            searched += 1
            proven &= complete
        else:
            approximate += 1
            proven = False
        chosen += [members[n] for n in _bits(component.best)]
    return Packing(
        tuple(sorted(chosen)), sum(values[n] for n in chosen), proven, nodes, searched, approximate
    )


def components(sets: Sequence[Sequence[Hashable]]) -> list[list[int]]:
    """Positions of sets that share members, directly or by way of others, in order of the first."""
    parent = list(range(len(sets)))

    def root(n: int) -> int:
        while parent[n] != n:
            parent[n] = n = parent[parent[n]]
        return n

    first: dict[Hashable, int] = {}
    for n, members in enumerate(sets):
        for member in members:
            other = root(first.setdefault(member, n))
            mine = root(n)
            parent[max(mine, other)] = min(mine, other)
    groups: dict[int, list[int]] = {}
    for n in range(len(sets)):
        groups.setdefault(root(n), []).append(n)
    return list(groups.values())


def _undominated(members: Sequence[int], sets: Sequence[Sequence[Hashable]]) -> list[int]:
    """Without those that another of at least their value could stand in for: it needs no other pool.
    `members` must be in falling order of value; sets of more than `_MAX_SUBSETS` pools all stay."""
    kept: list[int] = []
    seen: set[frozenset[Hashable]] = set()
    for n in members:
        pools = frozenset(sets[n])
        if len(pools) <= _MAX_SUBSETS and any(
            frozenset(some) in seen for size in range(len(pools)) for some in combinations(pools, size + 1)
        ):
            continue
        kept.append(n)
        seen.add(pools)
    return kept


def _bits(mask: int) -> Iterable[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


class _Component:
    """Sets as bits of integers, in falling order of value."""

    def __init__(self, sets: Sequence[Sequence[Hashable]], values: Sequence[int]) -> None:
        self.values = values
        through: dict[Hashable, int] = {}
        for n, members in enumerate(sets):
            for member in members:
                through[member] = through.get(member, 0) | 1 << n
        self.cliques = [[through[member] for member in dict.fromkeys(members)] for members in sets]
        self.rivals = [0] * len(sets)  # and itself
        for n, cliques in enumerate(self.cliques):
            for clique in cliques:
                self.rivals[n] |= clique
        self.best, self.best_value, self.nodes = 0, 0, 0

    def start(self) -> None:
        """A good set: the most valuable first, then swaps of one for its chosen rivals while that gains."""
        self.best = self._filled(0)
        self.best_value = self._value(self.best)
        n, rejected = 0, 0
        for _ in range(_MAX_SWAPS):
            if rejected == len(self.values):
                return
            rejected += 1
            if not self.best >> n & 1:
                other = self._filled(self.best & ~self.rivals[n] | 1 << n)
                value = self._value(other)
                if value > self.best_value:
                    self.best, self.best_value, rejected = other, value, 0
            n = (n + 1) % len(self.values)

    def _filled(self, chosen: int) -> int:
        """With all that still fits, the most valuable first."""
        rest = (1 << len(self.values)) - 1
        for n in _bits(chosen):
            rest &= ~self.rivals[n]
        while rest:
            n = (rest & -rest).bit_length() - 1
            chosen |= 1 << n
            rest &= ~self.rivals[n]
        return chosen

    def _value(self, chosen: int) -> int:
        return sum(self.values[n] for n in _bits(chosen))

    def _bound(self, rest: int) -> int:
        """What the rest can add at most: the most valuable of each clique of a cover."""
        total = 0
        while rest:
            n = (rest & -rest).bit_length() - 1  # the most valuable
            total += self.values[n]
            rest &= ~max(self.cliques[n], key=lambda clique: (clique & rest).bit_count())
        return total

    def search(self, max_nodes: int) -> bool:
        """Branch and bound from the best set known; False if it was cut short."""
        waiting = [(0, 0, (1 << len(self.values)) - 1)]
        while waiting:
            value, chosen, rest = waiting.pop()
            if value > self.best_value:
                self.best, self.best_value = chosen, value
            if not rest or value + self._bound(rest) <= self.best_value:
                continue
            if self.nodes >= max_nodes:
                return False
            self.nodes += 1
            n = (rest & -rest).bit_length() - 1
            waiting.append((value, chosen, rest & ~(1 << n)))
            waiting.append((value + self.values[n], chosen | 1 << n, rest & ~self.rivals[n]))
        return True
