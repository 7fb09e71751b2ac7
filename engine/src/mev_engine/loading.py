"""Snapshots as commands take them: text files of pools, or a market that `scan --save` wrote."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mev_engine.market import Market, PoolSpec, TokenSpec, store
from mev_engine.market import snapshot as snapshots
from mev_engine.market.snapshot import Snapshot, SnapshotError

WRAPPED_NATIVE = {
    1: "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2",  # WETH
    56: "0xbb4cdb9cbd36b01bd1cbaebf2de08d9173bc095c",  # WBNB
    8453: "0x4200000000000000000000000000000000000006",  # WETH
    43114: "0xb31f66aa3c1e785363f0875a1b74e27b85fd66c7",  # WAVAX
}
BASE_TOKENS = {  # best first
    1: (
        WRAPPED_NATIVE[1],
        "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48",  # USDC
        "0xdac17f958d2ee523a2206206994597c13d831ec7",  # USDT
        "0x6b175474e89094c44da98b954eedeac495271d0f",  # DAI
        "0x2260fac5e5542a773aa44fbcfedf7c193bc2c599",  # WBTC
    ),
}
DEFAULT_HOPS = 4
_OF_TEXT = ("block", "time", "chain_id", "part", "ticks", "token_flags")
_OF_INDEX = ("base", "wrapped_native", "max_hops")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A market and where it is from. `excluded`: pools left out by name, with the reason. `left_out`:
    default base tokens that nothing prices."""

    path: Path
    market: Market
    chain_id: int
    block: int
    excluded: Mapping[str, str]
    skipped: Mapping[str, int] = field(default_factory=dict)
    assumed: Mapping[str, int] = field(default_factory=dict)
    left_out: Sequence[str] = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The snapshot and how to read it."""
    parser.add_argument(
        "snapshot",
        type=Path,
        metavar="SNAPSHOT",
        help="pools: .jsonl, .json or .csv, also .gz; or what `scan --save` wrote",
    )
    parser.add_argument(
        "--block", type=int, metavar="N", help="only the lines of block N, where a file holds several blocks"
    )
    parser.add_argument(
        "--time",
        type=int,
        metavar="SECONDS",
        help="each pool's last line until then (since 1970), where a file holds several times",
    )
    parser.add_argument("--chain-id", type=int, metavar="N", help="the chain, where the file does not say")
    parser.add_argument("--part", metavar="NAME", help="which part of a .json file that holds several")
    parser.add_argument(
        "--ticks",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="tick maps of V3 and V4 pools, .jsonl: pool, quality, ticks; repeat for more files",
    )
    parser.add_argument(
        "--token-flags",
        type=Path,
        metavar="FILE",
        help="JSON {address: fee_on_transfer | rebasing | paused | blacklisted}; their pools are left out",
    )


def read(args: argparse.Namespace) -> Snapshot:
    """The text snapshot that the arguments name. SnapshotError."""
    return snapshots.read(
        args.snapshot,
        block=args.block,
        time=args.time,
        chain_id=args.chain_id,
        part=args.part,
        tick_files=args.ticks,
        token_flags=args.token_flags,
    )


def is_binary(path: Path) -> bool:
    """By its first bytes, not its name. SnapshotError where it can't be read."""
    try:
        return store.is_binary(path)
    except OSError as error:
        raise SnapshotError(f"{path}: can't be read: {error}") from error


def load(args: argparse.Namespace) -> Loaded:
    """The market that the arguments of `add_arguments` name, and of `base`, `wrapped_native`, `max_hops`.
    ValueError, naming what and how to mend it."""
    if is_binary(args.snapshot):
        return _load_binary(args)
    snapshot = read(args)
    wrapped_native = _wrapped_native(snapshot, args.wrapped_native)
    bases, left_out = _base_tokens(snapshot, wrapped_native, args.base)
    market = Market.build(
        snapshot.tokens,
        snapshot.pools,
        base_tokens=bases,
        wrapped_native=wrapped_native,
        max_hops=args.max_hops or DEFAULT_HOPS,
    )
    market.excluded |= snapshot.excluded
    return Loaded(
        args.snapshot,
        market,
        snapshot.chain_id,
        snapshot.block,
        market.excluded,
        snapshot.skipped,
        snapshot.assumed,
        left_out,
    )


def load_stored(args: argparse.Namespace, refused: Sequence[str]) -> tuple[Market, int, int]:
    """A binary market; ValueError where one of the `refused` arguments, which it can't follow, is given."""
    given = [f"--{name.replace('_', '-')}" for name in refused if getattr(args, name)]
    if given:
        raise ValueError(
            f"{args.snapshot} is a saved market, which {', '.join(given)} can't change: leave that out, or "
            "give the snapshot that it was made of"
        )
    return store.load(args.snapshot)


def _load_binary(args: argparse.Namespace) -> Loaded:
    market, chain_id, block = load_stored(args, (*_OF_TEXT, *_OF_INDEX))
    return Loaded(args.snapshot, market, chain_id, block, market.excluded)


def pools_and_tokens(
    args: argparse.Namespace,
) -> tuple[Sequence[PoolSpec], Sequence[TokenSpec], Mapping[str, str]]:
    """Pools, tokens and what is left out, without an index of cycles. ValueError as of `load`."""
    if is_binary(args.snapshot):
        market, _chain, _block = load_stored(args, _OF_TEXT)
        return market.pools, market.tokens, market.excluded
    snapshot = read(args)
    return snapshot.pools, snapshot.tokens, snapshot.excluded


def find_token(tokens: Iterable[TokenSpec], name: str, where: object) -> TokenSpec:
    """A token by address or symbol; symbols are not unique, so several are an error."""
    matches = [token for token in tokens if name.lower() in (token.address, token.symbol.lower())]
    if len(matches) == 1:
        return matches[0]
    if not matches:
        raise ValueError(f"no token {name!r} in {where}: give a symbol or an address that is in it")
    addresses = ", ".join(token.address for token in matches[:5])
    raise ValueError(f"{len(matches)} tokens are called {name!r}: give one's address, of {addresses}")


def _wrapped_native(snapshot: Snapshot, wanted: str | None) -> str:
    if wanted:
        return find_token(snapshot.tokens, wanted, snapshot.path).address
    if snapshot.chain_id not in WRAPPED_NATIVE:
        raise ValueError(f"chain {snapshot.chain_id} has no default: name its coin with --wrapped-native")
    return WRAPPED_NATIVE[snapshot.chain_id]


def _base_tokens(
    snapshot: Snapshot, wrapped_native: str, wanted: list[str] | None
) -> tuple[list[str], list[str]]:
    """Base tokens, and those of the defaults that this snapshot can't price."""
    if wanted:
        return [find_token(snapshot.tokens, name, snapshot.path).address for name in wanted], []
    flagged = {token.address for token in snapshot.tokens if token.flag}
    priced = {wrapped_native}
    for pool in snapshot.pools:
        if wrapped_native in pool.tokens and not flagged.intersection(pool.tokens):
            priced |= set(pool.tokens)
    defaults = BASE_TOKENS.get(snapshot.chain_id, (wrapped_native,))
    return [t for t in defaults if t in priced], [t for t in defaults if t not in priced]
