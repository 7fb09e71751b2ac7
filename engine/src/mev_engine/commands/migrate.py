"""`mev-engine migrate`: schema, partitions ahead, retention, statistics. Safe to repeat."""

from __future__ import annotations

import argparse
import asyncio

from mev_engine.cli import config_argument
from mev_engine.settings import load


def add_arguments(parser: argparse.ArgumentParser) -> None:
    config_argument(parser)
    parser.epilog = (
        "Applies the numbered SQL files that are new (each in a transaction, one migrator at a time), makes\n"
        "partitions for last month to three months ahead, runs retention and ANALYZE. The last line,\n"
        "`changed=N`, counts what it changed. Run it before the first start and daily."
    )


def run(args: argparse.Namespace) -> int:
    from mev_engine.sinks.migrations import migrate  # noqa: PLC0415

    return asyncio.run(migrate(load(args.config).database))
