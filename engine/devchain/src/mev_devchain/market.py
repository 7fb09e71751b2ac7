"""The market that the local chain starts with: which tokens, which pools, which reserves.

Two sources give the same shape: a real snapshot of Uniswap V2 and SushiSwap pairs (one crawl, so
that its prices belong together), or a seeded generator where that data is not at hand.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import math
import random
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

FACTORIES = ("uniswap_v2", "sushiswap")
"""The two factories, in the order of their deployment."""

CORE_TOKENS = ("WETH", "USDC", "USDT", "DAI", "WBTC")
"""Always there and always in this order: their addresses on the local chain are a contract."""

SNAPSHOT = Path("pools") / "v2_eth_2023-06_uniswap_sushi_A.csv.gz"
"""Both factories at the same moment: `SOURCES.md` warns against mixing crawls."""

WETH_MAINNET = "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2"

MAX_MISPRICING = 1.03
"""A pool whose two sides differ more in value is stale or taxed: it would be a standing arbitrage."""

MIN_DEPTH_ETH = 2.0
"""Thinner pools are dust: no cycle through them pays its gas."""

MAX_RESERVE = 1 << 104
"""uint112 is the pair's limit; 8 bits are left for what fees and trades add over weeks."""


class MarketError(ValueError):
    """A market specification that cannot be used; the message names the value and the mend."""


@dataclass(frozen=True, slots=True)
class Token:
    """An ERC-20 to deploy."""

    symbol: str
    decimals: int


@dataclass(frozen=True, slots=True)
class Pool:
    """A pair to create: `reserve_a` of token `a` and `reserve_b` of token `b`, in raw token units.

    Which of the two is the pair's token0 follows from the addresses and is known at deployment.
    """

    factory: str
    a: str
    b: str
    reserve_a: int
    reserve_b: int


@dataclass(frozen=True, slots=True)
class MarketSpec:
    """Tokens and pools by symbol; `source` says for people where the numbers come from."""

    source: str
    tokens: tuple[Token, ...]
    pools: tuple[Pool, ...]

    def __post_init__(self) -> None:
        """Raises MarketError: a wrong specification must not get as far as a half-built chain."""
        symbols = [token.symbol for token in self.tokens]
        if tuple(symbols[: len(CORE_TOKENS)]) != CORE_TOKENS:
            raise MarketError(
                f"tokens must begin with {', '.join(CORE_TOKENS)}; they begin with {symbols[:5]}"
            )
        if len(set(symbols)) != len(symbols):
            raise MarketError(f"token symbols must be unique: {sorted(symbols)}")
        for token in self.tokens:
            if not 0 <= token.decimals <= 36:
                raise MarketError(f"{token.symbol}: decimals is {token.decimals}, must be from 0 to 36")
        if self.tokens[0].decimals != 18:
            raise MarketError(f"WETH: decimals is {self.tokens[0].decimals}, but WETH9 always has 18")
        seen: set[tuple[str, frozenset[str]]] = set()
        for pool in self.pools:
            name = f"pool {pool.factory} {pool.a}/{pool.b}"
            if pool.factory not in FACTORIES:
                raise MarketError(f"{name}: factory must be one of {', '.join(FACTORIES)}")
            if pool.a == pool.b or not {pool.a, pool.b} <= set(symbols):
                raise MarketError(f"{name}: must join two different tokens of {sorted(symbols)}")
            for reserve in (pool.reserve_a, pool.reserve_b):
                if not 0 < reserve < MAX_RESERVE:
                    raise MarketError(f"{name}: reserve {reserve} must be above 0 and below 2^104")
            if math.isqrt(pool.reserve_a * pool.reserve_b) <= 1000:
                raise MarketError(f"{name}: the pair keeps 1000 units of liquidity; give it more reserves")
            key = (pool.factory, frozenset((pool.a, pool.b)))
            if key in seen:
                raise MarketError(f"{name}: a factory makes one pair of two tokens; it is listed twice")
            seen.add(key)

    def to_json(self) -> str:
        """Reserves go as strings: they are far above 2^53."""
        document = asdict(self)
        for pool in document["pools"]:
            pool["reserve_a"], pool["reserve_b"] = str(pool["reserve_a"]), str(pool["reserve_b"])
        return json.dumps(document, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> MarketSpec:
        """Raises MarketError on anything but what `to_json` writes."""
        try:
            document = json.loads(text)
            return cls(
                source=str(document["source"]),
                tokens=tuple(Token(str(t["symbol"]), int(t["decimals"])) for t in document["tokens"]),
                pools=tuple(
                    Pool(
                        str(p["factory"]), str(p["a"]), str(p["b"]), int(p["reserve_a"]), int(p["reserve_b"])
                    )
                    for p in document["pools"]
                ),
            )
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise MarketError(
                f"not a market specification ({error!r}); write one with `mev-devchain market --out FILE`"
            ) from error


def write_market(out: Path, data: Path | None, seed: int) -> str:
    """Write the market of the data under `data`, or without it of `seed`; returns what it is, in words."""
    market = from_snapshot(data) if data else from_seed(seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(market.to_json(), encoding="utf-8")
    return f"{len(market.tokens)} tokens, {len(market.pools)} pools, {market.source}"


# --- the real snapshot ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Row:
    """One pair of the snapshot; tokens by mainnet address, reserves raw."""

    factory: str
    tokens: tuple[str, str]
    reserves: tuple[int, int]


def from_snapshot(data: Path, *, n_tokens: int = 16, min_pools: int = 40) -> MarketSpec:
    """The best-connected real tokens of the snapshot under `data`, with every sane pool among them.

    Greedy, hence deterministic: the core five, then for each number of decimals not there yet the
    token with most pools, then whichever token adds most pools. Raises MarketError if the snapshot
    gives fewer than `min_pools`.
    """
    path = data / SNAPSHOT
    if not path.is_file():
        raise MarketError(f"{path} does not exist; give the data directory, or no --data for a seeded market")
    rows, known = _read_snapshot(path)
    prices, depths = _prices_in_weth(rows, known)
    sane = [row for row in rows if _is_sane(row, known, prices)]

    chosen = _core_addresses(known, depths)
    candidates = sorted({t for row in sane for t in row.tokens if known[t].symbol.isalnum()} - set(chosen))

    def gain(token: str) -> tuple[int, float]:
        return _count_pools(sane, {*chosen, token}), depths.get(token, 0.0)

    for decimals in sorted({known[t].decimals for t in candidates} - {known[t].decimals for t in chosen}):
        best = max((t for t in candidates if known[t].decimals == decimals), key=gain)
        if gain(best)[0] - _count_pools(sane, set(chosen)) >= 2:  # a dead end closes no cycle
            chosen.append(best)
    while len(chosen) < n_tokens:
        symbols = {known[t].symbol for t in chosen}
        chosen.append(max((t for t in candidates if known[t].symbol not in symbols), key=gain))

    pools = tuple(
        Pool(row.factory, known[row.tokens[0]].symbol, known[row.tokens[1]].symbol, *row.reserves)
        for row in sane
        if set(row.tokens) <= set(chosen)
    )
    if len(pools) < min_pools:
        raise MarketError(
            f"{path} gives {len(pools)} pools, {min_pools} are wanted; it is not the file expected"
        )
    return MarketSpec(
        f"{SNAPSHOT.name} (Ethereum mainnet, June 2023)", tuple(known[t] for t in chosen), pools
    )


def _read_snapshot(path: Path) -> tuple[list[_Row], dict[str, Token]]:
    rows: list[_Row] = []
    known: dict[str, Token] = {}
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            if line["protocol"] not in FACTORIES or not (line["decimals0"] and line["decimals1"]):
                continue
            reserves = (int(line["reserve0"]), int(line["reserve1"]))
            if min(reserves) == 0:
                continue
            rows.append(_Row(line["protocol"], (line["token0"], line["token1"]), reserves))
            for i in "01":
                known[line["token" + i]] = Token(line["symbol" + i], int(line["decimals" + i]))
    return rows, known


def _prices_in_weth(
    rows: Iterable[_Row], known: Mapping[str, Token]
) -> tuple[dict[str, float], dict[str, float]]:
    """For each token its price and depth (both in ETH, a whole token) by its deepest pool with WETH."""
    prices, depths = {WETH_MAINNET: 1.0}, {WETH_MAINNET: math.inf}
    for row in rows:
        if WETH_MAINNET not in row.tokens:
            continue
        i = row.tokens.index(WETH_MAINNET)
        other, depth = row.tokens[1 - i], row.reserves[i] / 1e18
        if depth > depths.get(other, 0.0):
            depths[other] = depth
            prices[other] = depth / (row.reserves[1 - i] / 10 ** known[other].decimals)
    return prices, depths


def _is_sane(row: _Row, known: Mapping[str, Token], prices: Mapping[str, float]) -> bool:
    """Both sides of about the same value, and of some value at all."""
    values: list[float] = [
        prices.get(token, 0.0) * reserve / 10.0 ** known[token].decimals
        for token, reserve in zip(row.tokens, row.reserves, strict=True)
    ]
    return min(values) > MIN_DEPTH_ETH and max(values) / min(values) < MAX_MISPRICING


def _core_addresses(known: Mapping[str, Token], depths: Mapping[str, float]) -> list[str]:
    """The core tokens' addresses. Symbols can be faked by anyone; the deepest pool can't."""
    return [
        max((t for t, token in known.items() if token.symbol == symbol), key=lambda t: depths.get(t, 0.0))
        for symbol in CORE_TOKENS
    ]


def _count_pools(rows: Iterable[_Row], tokens: set[str]) -> int:
    return sum(set(row.tokens) <= tokens for row in rows)


# --- the seeded generator -------------------------------------------------------------------------

_SEEDED_TOKENS: tuple[tuple[str, int, float], ...] = (
    # symbol, decimals, price in ETH: round numbers of the real tokens' order of magnitude
    ("WETH", 18, 1.0), ("USDC", 6, 5.5e-4), ("USDT", 6, 5.5e-4), ("DAI", 18, 5.5e-4), ("WBTC", 8, 15.0),
    ("GUSD", 2, 5.5e-4), ("CEL", 4, 1e-4), ("RLC", 9, 6e-4), ("HEX", 8, 5e-6), ("LINK", 18, 3.5e-3),
    ("UNI", 18, 2.8e-3), ("MATIC", 18, 4e-4), ("SUSHI", 18, 3.6e-4), ("YFI", 18, 3.6),
)  # fmt: skip


def from_seed(seed: int, *, n_pools: int = 48) -> MarketSpec:
    """A market of the same shape without data: prices drift up to 0.2 % apart, depths from 20 to
    20,000 ETH. The same seed gives the same market on every machine."""
    rng = random.Random(seed)  # noqa: S311 - a market to play with, not a secret
    price = {symbol: p for symbol, _, p in _SEEDED_TOKENS}
    decimals = {symbol: d for symbol, d, _ in _SEEDED_TOKENS}
    symbols = list(price)
    hubs = symbols[:4]
    with_weth = [("WETH", other) for other in symbols[1:]]
    with_hubs = [(a, b) for a, b in combinations(symbols[1:], 2) if a in hubs]
    wanted = [(factory, pair) for factory in FACTORIES for pair in with_weth]
    others = [(factory, pair) for factory in FACTORIES for pair in with_hubs]
    if not len(wanted) <= n_pools <= len(wanted) + len(others):
        raise MarketError(f"n_pools is {n_pools}, must be from {len(wanted)} to {len(wanted) + len(others)}")
    wanted += rng.sample(others, n_pools - len(wanted))

    pools = []
    for factory, (a, b) in wanted:
        depth = 20.0 * 1000.0 ** rng.random() if a == "WETH" else 20.0 * 50.0 ** rng.random()
        skew = 1.0 + rng.uniform(-0.001, 0.001)
        amounts = (depth / price[a] * 10 ** decimals[a], depth * skew / price[b] * 10 ** decimals[b])
        pools.append(Pool(factory, a, b, int(amounts[0]), int(amounts[1])))
    return MarketSpec(
        f"seeded generator, seed {seed}", tuple(Token(s, d) for s, d, _ in _SEEDED_TOKENS), tuple(pools)
    )


def main() -> None:
    """`python -m mev_devchain.market`: the command `market` alone, with nothing but Python's own library."""
    parser = argparse.ArgumentParser(description="Write a market specification")
    add_market_options(parser)
    arguments = parser.parse_args()
    print(f"{arguments.out}: {write_market(arguments.out, arguments.data, arguments.seed)}")


def add_market_options(parser: argparse.ArgumentParser) -> None:
    """The options of `mev-devchain market`."""
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument("--data", type=Path, metavar="DIR", help="real data; its pools/ has the V2 snapshot")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="without --data (default 1)")


if __name__ == "__main__":
    main()
