"""One pool of a snapshot: from the fields of its row to a state, or the reason why it is left out.

Every family has a builder; `TYPES` names them by the row's `type`. Balancer and Curve are in
`snapshot_vaults`. A row whose `type` is "state" gives `family` and `state` as `codec` writes them, so
that every registered family can be loaded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mev_engine.amm import registry
from mev_engine.amm.concentrated import MAX_TICK, MIN_TICK
from mev_engine.amm.solidly import SolidlyPool, SolidlyVariant
from mev_engine.amm.solidly_pair import StablePair, VolatilePair
from mev_engine.amm.uniswap_v2 import MAX_RESERVE, V2Pair
from mev_engine.amm.uniswap_v3 import V3Pool
from mev_engine.amm.uniswap_v4 import DYNAMIC_FEE_FLAG, V4Pool
from mev_engine.market import codec
from mev_engine.market.delta import PoolSpec, TokenSpec

ASSUMED_DECIMALS = 18
ASSUMED_FEE_PPM = 3000
_ADDRESS = re.compile(r"0x[0-9a-f]{40}")
_POOL = re.compile(r"0x[0-9a-f]{40}([0-9a-f]{24})?")
_UINT256 = 2**256 - 1


class RowError(ValueError):
    """The pool is left out by name; the message is the reason."""


class UnhandledError(ValueError):
    """The pool is of a kind that is not handled, and merely counted; the message says why."""


@dataclass(frozen=True, slots=True)
class TickMap:
    """`quality` is "complete" where every initialised tick is there; `ticks`: (tick, net, perhaps gross)."""

    quality: str
    ticks: Sequence[Sequence[Any]]


@dataclass(slots=True)
class Row:
    """The fields of one pool. Empty ones are as good as missing. `assumed` collects what was not given."""

    fields: Mapping[str, Any]
    tick_maps: Mapping[str, TickMap] = field(default_factory=dict)
    assumed: list[str] = field(default_factory=list)

    def get(self, name: str) -> Any:
        value = self.fields.get(name)
        return None if value == "" else value

    def integer(self, name: str, least: int, most: int, default: int | None = None) -> int:
        value = self.get(name)
        return default if value is None and default is not None else integer(name, value, least, most)

    def integers(self, name: str, one: str, n: int, least: int, most: int) -> tuple[int, ...]:
        """The list `name` of n integers, each called `one` and its number in errors."""
        values = self.items(name, one, n)
        return tuple(integer(f"{one}{k}", value, least, most) for k, value in enumerate(values))

    def items(self, name: str, one: str, n: int) -> list[Any]:
        """The list `name`; CSV has its entries in columns `one` 0, 1 …"""
        values = self.get(name)
        if values is None and f"{one}0" in self.fields:
            values = [self.get(f"{one}{k}") for k in range(n)]
        if not isinstance(values, list) or len(values) != n:
            raise RowError(f"{one} = {values!r}: must be a list of {n}")
        return values

    def pool(self) -> str:
        """What names the pool: the id where one contract holds many, else the contract's address."""
        name = "pool_id" if self.get("pool_id") is not None else "pool"
        return _hexadecimal(name, self.get(name), _POOL)

    def protocol(self) -> str:
        return str(self.get("protocol") or self.get("family") or "unnamed")

    def tokens(self) -> tuple[str, ...]:
        """Addresses of the pool's tokens."""
        values = self.get("tokens") or self.get("coin_addresses")
        if values is None:
            values = [self.get("token0"), self.get("token1")]
        if not isinstance(values, list) or len(values) < 2:
            raise RowError(f"token = {values!r}: must be a list of two addresses or more")
        found = tuple(_hexadecimal(f"token{k}", value, _ADDRESS) for k, value in enumerate(values))
        for k, token in enumerate(found):
            if token in found[:k]:
                raise RowError(f"token{k} = {token!r} is token{found.index(token)} too")
        return found

    def decimals(self, n: int, why: str = "") -> list[int | None]:
        """Decimals of each token, None where not given; RowError where `why` needs them."""
        if self.get("decimals") is None and "decimals0" not in self.fields and not why:
            return [None] * n
        result = [
            None if value in (None, "") else integer(f"decimals{k}", value, 0, 255)
            for k, value in enumerate(self.items("decimals", "decimals", n))
        ]
        if why and None in result:
            raise RowError(f"decimals{result.index(None)} is missing: {why}")
        return result

    def token_specs(self) -> tuple[TokenSpec, ...]:
        """The tokens with what is known of them."""
        tokens = self.tokens()
        symbols: Sequence[Any] = [""] * len(tokens)
        if self.get("symbols") is not None or "symbol0" in self.fields:
            symbols = self.items("symbols", "symbol", len(tokens))
        return tuple(
            TokenSpec(address, str(symbol or "") or address[:8] + "…", -1 if decimals is None else decimals)
            for address, symbol, decimals in zip(tokens, symbols, self.decimals(len(tokens)), strict=True)
        )

    def fee_ppm(self) -> int:
        if self.get("fee_ppm") is None:
            self.assumed.append(f"fee {ASSUMED_FEE_PPM} ppm")
        return self.integer("fee_ppm", 0, 999_999, ASSUMED_FEE_PPM)

    def ticks(self, pool: str) -> dict[str, Any]:
        """`ticks` and, where known, `gross` of a concentrated pool's state."""
        found = self.tick_maps.get(pool)
        if self.get("ticks") is not None:
            complete = self.get("complete")
            quality = "complete" if complete is None or complete is True else "not complete"
            found = TickMap(str(self.get("tick_map_quality") or quality), self.fields["ticks"])
        if found is None:
            raise UnhandledError("no tick map")
        if found.quality != "complete" or self.get("tick_map_quality") not in (None, "complete"):
            raise UnhandledError("the tick map is not complete")
        return _tick_fields(found.ticks)


def _tick_fields(entries: Sequence[Sequence[Any]]) -> dict[str, Any]:
    ticks: dict[int, int] = {}
    gross: dict[int, int] = {}
    for entry in entries:
        if not isinstance(entry, list) or len(entry) not in (2, 3):
            raise RowError(f"ticks has {entry!r}: must be [tick, liquidityNet] or with liquidityGross")
        tick = integer("ticks: tick", entry[0], MIN_TICK, MAX_TICK)
        if tick in ticks:
            raise RowError(f"ticks has {tick} twice: give each once")
        ticks[tick] = integer(f"ticks[{tick}]", entry[1], -(2**127), 2**127 - 1)
        if len(entry) == 3:
            gross[tick] = integer(f"gross[{tick}]", entry[2], 0, 2**128 - 1)
    return {"ticks": ticks, "gross": gross if len(gross) == len(ticks) else None}


def integer(name: str, value: Any, least: int, most: int) -> int:
    """RowError unless `value` is an integer, or its decimal digits, from `least` to `most`."""
    try:
        number = codec.whole(name, value)
    except ValueError:
        number = None
    if number is None or not least <= number <= most:
        raise RowError(f"{name} = {value!r}: not an integer from {least} to {most}")
    return number


def _hexadecimal(name: str, value: Any, pattern: re.Pattern[str]) -> str:
    text = value.lower() if isinstance(value, str) else ""
    if not pattern.fullmatch(text):
        raise RowError(f"{name} = {value!r}: not an address (0x and 40 hex digits)")
    return text


def fee_fraction(fee_ppm: int) -> tuple[int, int]:
    """`(fee_num, fee_den)` with the least power of ten that is exact, as the contracts write it:
    3000 ppm -> 997 / 1000, 2500 ppm -> 9975 / 10000."""
    for unit in (1000, 100, 10, 1):
        if fee_ppm % unit == 0:
            return (1_000_000 - fee_ppm) // unit, 1_000_000 // unit
    raise AssertionError("unreachable: every integer is a multiple of 1")


def flag(name: str, value: Any) -> bool:
    """A yes or no of JSON or CSV."""
    known = {True: True, False: False, "true": True, "false": False, "1": True, "0": False}
    answer = known.get(value.lower() if isinstance(value, str) else value) if value is not None else None
    if answer is None:
        raise RowError(f"{name} = {value!r}: must be true or false")
    return answer


def _v2(row: Row) -> V2Pair:
    reserve0, reserve1 = row.integers("reserves", "reserve", 2, 1, MAX_RESERVE)
    fee_num, fee_den = fee_fraction(row.fee_ppm())
    return V2Pair(reserve0, reserve1, fee_num, fee_num, fee_den)


def _position(row: Row) -> dict[str, Any]:
    """What V3 and V4 have in common; ranges are checked by the state."""
    ticks = row.ticks(row.pool())
    numbers = ("sqrt_price_x96", "tick", "liquidity", "tick_spacing")
    return {name: integer(name, row.get(name), -_UINT256, _UINT256) for name in numbers} | ticks


def _v3(row: Row) -> V3Pool:
    return V3Pool(**_position(row), fee_pips=row.integer("fee_ppm", 0, 999_999))


def _v4(row: Row) -> V4Pool:
    hooks = str(row.get("hooks") or "0x0")
    lp_fee = row.integer("fee_ppm", 0, 2**24 - 1)
    if hooks.lower().strip("0x"):
        raise UnhandledError("pools with hooks")
    if lp_fee & DYNAMIC_FEE_FLAG:
        raise UnhandledError("pools with a dynamic fee")
    return V4Pool(**_position(row), lp_fee=lp_fee, protocol_fee=row.integer("protocol_fee", 0, 2**24 - 1, 0))


def _solidly(row: Row) -> SolidlyPool:
    """`fee_ppm`, or `fees_ppm` for each token paid in; `variant` as in `SolidlyVariant`; `stable`;
    `owner_fee_share_ppm` (Camelot)."""
    stable = flag("stable", row.get("stable"))
    try:
        variant = SolidlyVariant(row.get("variant") or SolidlyVariant.VELODROME_V2.value)
    except ValueError:
        known = ", ".join(each.value for each in SolidlyVariant)
        raise RowError(f"variant = {row.get('variant')!r}: must be one of {known}") from None
    camelot = variant is SolidlyVariant.CAMELOT
    unit = 10 if camelot else 100  # ppm
    top = MAX_RESERVE if camelot else _UINT256
    reserve0, reserve1 = row.integers("reserves", "reserve", 2, 1, top)
    if row.get("fees_ppm") is None:
        fees = (row.integer("fee_ppm", 0, 999_999),) * 2
    else:
        fee0, fee1 = row.integers("fees_ppm", "fee_ppm", 2, 0, 999_999)
        fees = fee0, fee1
    share = row.integer("owner_fee_share_ppm", 0, 10**6, 0)
    for name, value in (("fee_ppm", fees[0]), ("fee_ppm", fees[1]), ("owner_fee_share_ppm", share)):
        if value % unit:
            raise RowError(f"{name} = {value}: {variant.value} counts in {unit} ppm")
    why = "the curve of a stable pair needs them" if stable else ""
    scale0, scale1 = (10 ** (ASSUMED_DECIMALS if d is None else d) for d in row.decimals(2, why))
    kind = StablePair if stable else VolatilePair
    return kind(
        reserve0,
        reserve1,
        scale0,
        scale1,
        fee0=fees[0] // unit,
        fee1=fees[1] // unit,
        fee_den=10**6 // unit,
        stable=stable,
        variant=variant,
        owner_fee_share=share // unit,
    )


def _state(row: Row) -> Any:
    """Any family, as `codec` writes it."""
    family = registry.FAMILIES.get(str(row.get("family")))
    if family is None:
        raise UnhandledError(f"family {row.get('family')!r}, known are {', '.join(registry.FAMILIES)}")
    return codec.decode(family.state, row.get("state"))


TYPES: dict[str, Callable[[Row], Any]] = {
    "v2": _v2,
    "v3": _v3,
    "v4": _v4,
    "solidly": _solidly,
    "state": _state,
}


def type_of(fields: Mapping[str, Any]) -> str | None:
    """The row's `type`, or what its fields show; None where they show nothing."""
    if fields.get("type"):
        return str(fields["type"])
    marks = {
        "state": "state",
        "initial_A": "curve",
        "hooks": "v4",
        "sqrt_price_x96": "v3",
        "stable": "solidly",
        "reserves": "v2",
        "reserve0": "v2",
    }
    return next((kind for mark, kind in marks.items() if mark in fields), None)


def build(row: Row, types: Mapping[str, Callable[[Row], Any]]) -> tuple[PoolSpec, tuple[TokenSpec, ...]]:
    """The pool and its tokens (decimals -1 where the row has none). RowError or UnhandledError."""
    kind = type_of(row.fields)
    if kind is None or kind not in types:
        raise UnhandledError("this family is not handled")
    try:
        state = types[kind](row)
        spec = PoolSpec(row.pool(), row.tokens(), state, row.protocol())
    except (RowError, UnhandledError):
        raise
    except ValueError as error:  # the state's own checks
        raise RowError(str(error)) from error
    coins = registry.family_of(state).coins(state)
    if coins != len(spec.tokens):
        raise RowError(f"the state has {coins} coins, tokens has {len(spec.tokens)}: give each one")
    return spec, row.token_specs()
