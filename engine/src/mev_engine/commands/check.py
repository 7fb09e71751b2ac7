"""`mev-engine check`: what `run` will need of others, asked before it is needed.

Not asked: whether the state directory can be written and the metrics' port is free; `run` says so.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple

from mev_engine.cli import config_argument
from mev_engine.settings import DatabaseSettings, MarketSettings, RedisSettings, Settings, SettingsError, load

if TYPE_CHECKING:
    from mev_engine.chain.rpc import Link

PATIENCE = 10.0  # seconds that one check may take


class Finding(NamedTuple):
    """One line of the table."""

    good: bool
    what: str
    detail: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    config_argument(parser)
    parser.add_argument(
        "--offline", action="store_true", help="the settings alone: asks no endpoint, database or Redis"
    )
    parser.epilog = (
        "Exit code 0: all good; 1: a check failed (the table says which); 2: the settings are wrong.\n"
        "Endpoints are shown without path and query, since those hold the provider's key."
    )


def run(args: argparse.Namespace) -> int:
    settings = load(args.config)
    if args.offline:
        print(f"settings {args.config}: good (chain {settings.chain.name}, id {settings.chain.chain_id})")
        return 0
    findings = asyncio.run(_all(settings))
    _print(findings)
    return 0 if all(finding.good for finding in findings) else 1


async def _all(settings: Settings) -> list[Finding]:
    checks: list[tuple[str, Callable[[], Awaitable[str]]]] = []
    for url in settings.chain.endpoints:
        checks.append(_endpoint_check(settings, url))
    if settings.market.pools_file:
        checks.append(("pools_file", lambda: _pools_file(settings.market)))
    checks.append(("database", lambda: _database(settings.database)))
    checks.append(("redis", lambda: _redis(settings.redis)))
    checks.append(("jit cache", _jit))
    return [await _try(what, check) for what, check in checks]


async def _try(what: str, check: Callable[[], Awaitable[str]]) -> Finding:
    """Run one check; whatever goes wrong is a finding, so that the others still run."""
    try:
        async with asyncio.timeout(PATIENCE):
            return Finding(True, what, await check())
    except TimeoutError:
        return Finding(False, what, f"no answer within {PATIENCE:.0f} s")
    except SettingsError as error:
        return Finding(False, what, str(error))
    except Exception as error:
        return Finding(False, what, f"{type(error).__name__}: {' '.join(str(error).split())}")


def _endpoint_check(settings: Settings, url: str) -> tuple[str, Callable[[], Awaitable[str]]]:
    from mev_engine.chain.rpc import Link  # noqa: PLC0415
    from mev_engine.redact import redact_url  # noqa: PLC0415

    async def ask() -> str:
        async with await Link.open(url, expected_chain_id=settings.chain.chain_id) as link:
            head = await link.head()
            await _market(settings.market, link)
            return f"chain id {settings.chain.chain_id}, head {head.number}, has the market's contracts"

    return f"endpoint {redact_url(url)}", ask


async def _market(market: MarketSettings, link: Link) -> None:
    """Raises SettingsError naming each factory and token that is not on the endpoint's chain."""
    from mev_engine.chain.pools import ALL_PAIRS_LENGTH  # noqa: PLC0415
    from mev_engine.chain.v3_pools import is_factory  # noqa: PLC0415

    tokens = list(dict.fromkeys([*market.base_tokens, market.wrapped_native]))
    code = await link.batch([("eth_getCode", [token, "latest"]) for token in tokens])
    wrong = [
        f"token {token} has no code" for token, answer in zip(tokens, code, strict=True) if answer == "0x"
    ]
    pairs = [factory for factory in market.factories if factory.family == "uniswap_v2"]
    calls = [{"to": factory.address, "data": ALL_PAIRS_LENGTH} for factory in pairs]
    lengths = await link.batch([("eth_call", [call, "latest"]) for call in calls])
    for factory, answer in zip(pairs, lengths, strict=True):
        if not isinstance(answer, str) or len(answer) != 66:
            wrong.append(f"factory {factory.address} ({factory.name}) does not answer allPairsLength()")
    for factory in market.factories:
        if factory.family == "uniswap_v3" and not await is_factory(link, factory.address, "latest"):
            wrong.append(f"factory {factory.address} ({factory.name}) does not answer feeAmountTickSpacing()")
    if wrong:
        raise SettingsError(f"{'; '.join(wrong)}: not the contracts of this chain, check [market]")


async def _pools_file(market: MarketSettings) -> str:
    from mev_engine.chain.pools import Pools  # noqa: PLC0415

    return f"{market.pools_file}: {len(Pools(market, beat=lambda: None).by_address)} pools"


async def _database(settings: DatabaseSettings) -> str:
    from mev_engine.sinks.migrations import pending  # noqa: PLC0415
    from mev_engine.sinks.postgresql import connect  # noqa: PLC0415

    async with await connect(settings) as connection:
        missing = await pending(connection)
    if missing:
        raise SettingsError(f"migrations missing: {', '.join(missing)}; run `mev-engine migrate`")
    return f"{settings.user}@{settings.host}:{settings.port}/{settings.name}, schema up to date"


async def _redis(settings: RedisSettings) -> str:
    from mev_engine.sinks.redis_stream import connect  # noqa: PLC0415

    async with connect(settings) as client:
        await client.ping()
        # asks the server's own access list without writing anything
        answer = await client.acl_dryrun(settings.username, "XADD", settings.stream, "*", "k", "v")
    if answer not in (b"OK", "OK"):
        raise SettingsError(f"user {settings.username} may not XADD {settings.stream}: {answer!r}")
    where = ",".join(f"{host}:{port}" for host, port in settings.where())
    return f"{settings.username}@{where}, may write {settings.stream}"


async def _jit() -> str:
    from mev_engine import jit  # noqa: PLC0415
    from mev_engine.detect import selfcheck  # noqa: PLC0415

    selfcheck.warm()
    if cold := jit.compiled():
        raise SettingsError(
            f"{len(cold)} kernels had to be compiled: {', '.join(cold)}; run `mev-engine warm`"
        )
    return f"{len(jit.report())} kernels, all from the cache"


def _print(findings: list[Finding]) -> None:
    width = max(len(finding.what) for finding in findings)
    for finding in findings:
        print(f"{'ok  ' if finding.good else 'FAIL'}  {finding.what:<{width}}  {finding.detail}")
