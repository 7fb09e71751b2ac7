"""Rows of Balancer and Curve pools, whose files differ most from what the states need.

Sources: Balancer's subgraph as its b-sdk has it (amounts in whole units, `poolTypeVersion`), and
Curve's public getters (A in units of 1 / A_PRECISION, balances with or without the admin's share).
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from mev_engine.amm.balancer_stable import StablePool
from mev_engine.amm.balancer_vault import MAX_BALANCE, V2, VaultPool
from mev_engine.amm.balancer_weighted import WeightedPool
from mev_engine.amm.curve_stable import BASE_CACHE_EXPIRES, CurveStablePool, Product, ramped_amp
from mev_engine.market.snapshot_rows import TYPES, Row, RowError, UnhandledError, flag, integer

ONE = 10**18
_UINT256 = 2**256 - 1
_FIRST_GENERATION = {
    "0xbebc44782c7db0a1a60cb6fe97d0b483032ff1c7",  # 3pool
    "0x4ca9b3063ec5866a4b82e437059d2c43d1be596f",  # hbtc
    "0x93054188d876f558f4a66b2ef1d97d16edf0895b",  # ren
    "0x7fc77b5c7614e1533320ea6ddc2eb61fa00a9714",  # sbtc
    "0x06364f10b501e868329afbc005b3492902d6c763",  # pax
}
"""Ethereum's pools of 2020 that keep A without a precision and take the fee after the conversion."""


def exact(name: str, value: Any, decimals: int) -> int:
    """A number in whole units as an integer with `decimals`; RowError where that loses something."""
    try:
        number = Decimal(str(value)).scaleb(decimals)
    except ArithmeticError:  # no number, or out of all bounds
        number = Decimal("NaN")
    if not number.is_finite() or not 0 <= number <= _UINT256 or number != number.to_integral_value():
        raise RowError(f"{name} = {value!r}: not a number of zero or more with up to {decimals} decimals")
    return int(number)


# --- Balancer ---------------------------------------------------------------------------------------


def _vault(row: Row, vault: int) -> dict[str, Any]:
    tokens = row.tokens()
    n = len(tokens)
    decimals = row.decimals(n, "a Balancer pool scales amounts by them")
    for k, number in enumerate(decimals):
        if number is not None and number > 18:
            raise RowError(f"decimals{k} = {number}: Balancer takes tokens of up to 18")
    rates = (ONE,) * n
    if row.get("rates") is not None:
        rates = row.integers("rates", "rate", n, 1, _UINT256)
    swap_fee = row.get("swap_fee")
    return {
        "vault": vault,
        "balances": row.integers("balances", "balance", n, 1, MAX_BALANCE[vault]),
        "scaling": tuple(10 ** (18 - (number or 0)) for number in decimals),
        "rates": rates,
        "swap_fee": row.integer("fee_ppm", 0, 999_999) * 10**12
        if swap_fee is None
        else integer("swap_fee", swap_fee, 0, ONE - 1),
        "tokens": tokens,
    }


def _version(row: Row) -> int:
    """Which vault."""
    return row.integer("vault", 2, 3, V2)


def _weighted(row: Row) -> VaultPool:
    vault = _vault(row, _version(row))
    values = row.items("weights", "weight", len(vault["balances"]))
    weights = tuple(exact(f"weight{k}", value, 18) for k, value in enumerate(values))
    if row.get("exact_powers") is None and vault["vault"] == V2:
        row.assumed.append("Balancer weighted pool code since 2022, which multiplies small powers")
    return WeightedPool(
        **vault,
        weights=weights,
        exact_powers=row.get("exact_powers") is None or flag("exact_powers", row.get("exact_powers")),
    )


def _stable(row: Row) -> VaultPool:
    bpt, rounds_up = row.get("bpt"), row.get("rounds_invariant_up")
    return StablePool(
        **_vault(row, _version(row)),
        amp=exact("amp", row.get("amp"), 3),  # 1000 is one
        bpt=None if bpt is None else integer("bpt", bpt, 0, 7),
        rounds_invariant_up=rounds_up is not None and flag("rounds_invariant_up", rounds_up),
    )


_SDK_TYPES = {
    "Weighted": "balancer_weighted",
    "Stable": "balancer_stable",
    "MetaStable": "balancer_stable",
    "ComposableStable": "balancer_stable",
}


def from_sdk(pool: Mapping[str, Any]) -> dict[str, Any]:
    """A pool as Balancer's subgraph gives it, as a row. RowError, UnhandledError."""
    kind = pool.get("poolType")
    if kind not in _SDK_TYPES:
        raise UnhandledError(f"Balancer pools of type {kind}")
    if pool.get("isPaused") or pool.get("swapEnabled") is False:
        raise RowError("the pool is paused, or its swaps are not enabled")
    tokens = pool["tokens"]
    for k, token in enumerate(tokens):
        if not isinstance(token.get("decimals"), int):
            raise RowError(f"decimals{k} is missing: a Balancer pool scales amounts by them")
    version = integer("poolTypeVersion", pool.get("poolTypeVersion"), 1, 99)
    row = {
        "type": _SDK_TYPES[kind],
        "protocol": "balancer",
        "pool": pool.get("address"),
        "pool_id": pool.get("id"),
        "tokens": [token["address"] for token in tokens],
        "symbols": [token.get("symbol") for token in tokens],
        "decimals": [token["decimals"] for token in tokens],
        "balances": [exact(f"balance{k}", t["balance"], t["decimals"]) for k, t in enumerate(tokens)],
        "rates": [exact(f"priceRate{k}", t.get("priceRate") or 1, 18) for k, t in enumerate(tokens)],
        "swap_fee": exact("swapFee", pool.get("swapFee"), 18),
    }
    if kind == "Weighted":
        return row | {"weights": [token["weight"] for token in tokens], "exact_powers": version > 1}
    own = [k for k, token in enumerate(tokens) if token["address"] == pool.get("address")]
    first = kind == "MetaStable" or (kind == "Stable" and version == 1)
    return row | {"amp": pool.get("amp"), "bpt": own[0] if own else None, "rounds_invariant_up": first}


# --- Curve ------------------------------------------------------------------------------------------


def _curve(row: Row) -> CurveStablePool:
    """A stableswap pool or metapool. `a_precision`, `fee_after_rate`, `product`, `kept` may say which code
    it has; else the first generation is known by address, and others count as of the later one."""
    if row.get("offpeg_fee_multiplier") is not None:
        raise UnhandledError("Curve pools with a dynamic fee")
    coins = row.get("coins")
    if not isinstance(coins, list) or not all(isinstance(coin, dict) for coin in coins):
        raise RowError(f"coins = {coins!r}: must be a list of objects")
    timestamp = row.integer("timestamp", 0, 2**63)
    amp = ramped_amp(
        row.integer("initial_A", 0, 10**9),
        row.integer("future_A", 0, 10**9),
        row.integer("initial_A_time", 0, 2**63),
        row.integer("future_A_time", 0, 2**63),
        timestamp,
    )
    first = row.pool() in _FIRST_GENERATION
    lending = first and any("pricePerFullShare" in coin for coin in coins)
    if not first and row.get("a_precision") is None:
        row.assumed.append("later-generation code of Curve pools (A_PRECISION 100, fee before conversion)")
    product = row.get("product") or (Product.EACH_PLUS_ONE.value if lending else Product.EACH.value)
    if product not in {each.value for each in Product}:
        raise RowError(f"product = {product!r}: must be one of {', '.join(each.value for each in Product)}")
    after = row.get("fee_after_rate")
    return CurveStablePool(
        balances=_curve_balances(row, coins),
        rates=_curve_rates(row, coins, timestamp),
        amp=amp,
        fee=row.integer("fee_1e10", 0, 5 * 10**9),
        a_precision=row.integer("a_precision", 1, 100, 1 if first else 100),
        product=Product(product),
        fee_after_rate=first if after is None else flag("fee_after_rate", after),
        kept=row.integer("kept", 0, 1, 0 if lending else 1),
        reverts_unconverged=not first,
    )


def _curve_balances(row: Row, coins: list[dict[str, Any]]) -> tuple[int, ...]:
    """`balances()`, or what the pool holds without the admin's share."""
    if row.get("balances") is not None:
        return row.integers("balances", "balance", len(coins), 1, _UINT256)
    held = [integer(f"pool_balance{k}", c.get("pool_balance"), 1, _UINT256) for k, c in enumerate(coins)]
    admin = row.integers("admin_balances", "admin_balance", len(coins), 0, _UINT256)
    return tuple(
        integer(f"balance{k}", h - a, 1, _UINT256) for k, (h, a) in enumerate(zip(held, admin, strict=True))
    )


def _curve_rates(row: Row, coins: list[dict[str, Any]], timestamp: int) -> tuple[int, ...]:
    rates = []
    for k, coin in enumerate(coins):
        if coin.get("decimals") is None:
            raise RowError(f"decimals{k} is missing: a Curve pool's rates need them")
        rate = 10 ** (36 - integer(f"decimals{k}", coin["decimals"], 0, 36))
        if "accrualBlockNumber" in coin:
            raise RowError(
                f"the rate of {coin.get('symbol')} depends on the block, which the row does not name"
            )
        for name in ("exchangeRateCurrent", "pricePerFullShare"):
            if name in coin:
                rate = rate * integer(name, coin[name], 1, _UINT256) // ONE
        rates.append(rate)
    if row.get("base_virtual_price") is not None:  # a metapool's copy, which holds for ten minutes
        price = row.integer("base_virtual_price", 1, _UINT256)
        if timestamp > row.integer("base_cache_updated", 0, 2**63) + BASE_CACHE_EXPIRES:
            base = row.get("base_pool")
            price = integer("base_pool.virtual_price", (base or {}).get("virtual_price"), 1, _UINT256)
        rates[-1] = price
    return tuple(rates)


def from_curve(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Symbols and decimals of `coins` where the tokens' are looked for."""
    coins = fields.get("coins")
    if not isinstance(coins, list):
        return dict(fields)
    known = [coin if isinstance(coin, dict) else {} for coin in coins]
    names = {"symbols": "symbol", "decimals": "decimals"}
    return dict(fields) | {name: [coin.get(one) for coin in known] for name, one in names.items()}


ALL_TYPES = TYPES | {"balancer_weighted": _weighted, "balancer_stable": _stable, "curve": _curve}
