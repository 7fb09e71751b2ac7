"""`mev-engine quote`: what one pool of a snapshot pays, exactly as its contract computes it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mev_engine import loading, report
from mev_engine.amm import registry
from mev_engine.amm.errors import SwapRevertedError, UnknownStateError
from mev_engine.market import PoolSpec
from mev_engine.market.book import Book
from mev_engine.market.recording import jsonable
from mev_engine.scan import decimal

EPILOG = """\
examples:
  mev-engine quote pools.jsonl.gz --pool 0xb4e1… --in WETH --out USDC --amount 1.5
  mev-engine quote v3.csv --ticks ticks.jsonl --pool 0x88e6… --in USDC --out WETH --amount 2 --exact-out
  mev-engine quote market.mev --pool 0x8ad5… --in WETH --out USDC --amount 1000000000000000000 --raw --json

A pool may be named by the beginning of its address or id, where no other begins so.
exit codes: 0 good, 1 the contract would revert or its answer can't be known, 2 bad usage
"""


@dataclass(frozen=True, slots=True)
class Quote:
    """A swap with one pool. Amounts in raw units. `marginal_price`: raw units out for one in, of the first
    infinitesimal input, after the fee. `price_impact`: share by which the whole swap's price is below it."""

    pool: str
    family: str
    protocol: str
    token_in: str
    token_out: str
    amount_in: int
    amount_out: int
    marginal_price: float
    price_impact: float


def quote(pool: PoolSpec, token_in: str, token_out: str, amount: int, *, exact_out: bool = False) -> Quote:
    """What `pool` pays for `amount` raw units of `token_in`, or with `exact_out` asks for that much output.

    SwapRevertedError where the contract reverts, UnknownStateError where more state would be needed;
    ValueError on a token that the pool doesn't trade.
    """
    for token in (token_in, token_out):
        if token not in pool.tokens:
            raise ValueError(f"pool {pool.address} does not trade {token}: it has {', '.join(pool.tokens)}")
    i, j = pool.tokens.index(token_in), pool.tokens.index(token_out)
    if i == j:
        raise ValueError(f"{token_in} is both the input and the output: name two tokens")
    family = registry.family_of(pool.state)
    if exact_out:
        amount_in, amount_out = family.exact_out(pool.state, i, j, amount), amount
    else:
        amount_in, amount_out = amount, family.exact_in(pool.state, i, j, amount)
    price = marginal_price(pool, i, j)
    paid = Fraction(amount_out, amount_in) if amount_in else Fraction(0)
    impact = 1.0 - float(paid / Fraction(price)) if price > 0.0 else 0.0
    sides = token_in, token_out, amount_in, amount_out
    return Quote(pool.address, family.name, pool.protocol, *sides, price, impact)


def marginal_price(pool: PoolSpec, i: int, j: int) -> float:
    """Raw units of token j for one of token i, of an infinitesimal input, after the fee; any family."""
    book = Book()
    book.add([pool.state])
    leg = next(k for k in range(book.n_legs) if {book.leg_i[k], book.leg_j[k]} == {i, j})
    return float(book.slope[2 * leg + (book.leg_i[leg] != i)])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    loading.add_arguments(parser)
    parser.add_argument("--pool", required=True, metavar="ADDRESS", help="address or id of the pool")
    parser.add_argument("--in", dest="token_in", required=True, metavar="TOKEN", help="symbol or address")
    parser.add_argument("--out", dest="token_out", required=True, metavar="TOKEN", help="symbol or address")
    parser.add_argument("--amount", required=True, type=decimal, metavar="X", help="whole units, e.g. 1.5")
    parser.add_argument("--raw", action="store_true", help="--amount is in the token's smallest units")
    parser.add_argument("--exact-out", action="store_true", help="--amount is the output wanted")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")


def run(args: argparse.Namespace) -> int:
    try:
        return _quote(args)
    except (SwapRevertedError, UnknownStateError) as error:
        what = "the contract would revert" if isinstance(error, SwapRevertedError) else "can't be known"
        print(f"mev-engine quote: {what}: {error}", file=sys.stderr)
        return 1
    except ValueError as error:
        print(f"mev-engine quote: {error}", file=sys.stderr)
        return 2


def _quote(args: argparse.Namespace) -> int:
    pools, all_tokens, excluded = loading.pools_and_tokens(args)
    pool = _find_pool(pools, excluded, args.pool, args.snapshot)
    tokens = [token for token in all_tokens if token.address in pool.tokens]
    token_in, token_out = (
        loading.find_token(tokens, name, f"pool {pool.address}") for name in (args.token_in, args.token_out)
    )
    given = token_out if args.exact_out else token_in
    amount = _raw_amount(args.amount, 0 if args.raw else given.decimals, given.symbol)
    result = quote(pool, token_in.address, token_out.address, amount, exact_out=args.exact_out)
    if args.json:
        print(json.dumps(jsonable(asdict(result))))
        return 0
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    table = Table(title=f"{result.family} pool {result.pool}", title_justify="left", show_header=False)
    scale = 10.0 ** (token_in.decimals - token_out.decimals)
    sides = ((token_in, result.amount_in, "in"), (token_out, result.amount_out, "out"))
    for token, raw, name in sides:
        symbol = escape(report.clean(token.symbol))
        table.add_row(name, f"{report.quantity(raw, token.decimals)} {symbol}", f"{raw} raw")
    names = f"{escape(report.clean(token_out.symbol))} for one {escape(report.clean(token_in.symbol))}"
    table.add_row("marginal price, after the fee", f"{result.marginal_price * scale:.8g}", names)
    table.add_row("price impact", f"{result.price_impact:.4%}", "below the marginal price")
    console.print(table)
    return 0


def _find_pool(pools: Sequence[PoolSpec], excluded: Mapping[str, str], name: str, path: Path) -> PoolSpec:
    matches = [pool for pool in pools if pool.address.startswith(name.lower())]
    exact = [pool for pool in matches if pool.address == name.lower()]
    if len(exact or matches) == 1:
        return (exact or matches)[0]
    if matches:
        raise ValueError(f"{len(matches)} pools of {path} begin with {name!r}: give more of the address")
    if name.lower() in excluded:
        raise ValueError(f"pool {name} of {path} is left out: {excluded[name.lower()]}")
    raise ValueError(f"no pool {name!r} among the {len(pools)} that {path} holds: give its address or id")


def _raw_amount(amount: Decimal, decimals: int, symbol: str) -> int:
    raw = amount.scaleb(decimals) if amount.adjusted() < 80 else Decimal(-1)
    if not 0 < raw < 2**256 or raw != raw.to_integral_value():
        raise ValueError(
            f"amount = {amount}: must be above zero, with up to {decimals} decimals, as {symbol} (or --raw)"
        )
    return int(raw)
