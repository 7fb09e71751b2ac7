"""`mev-engine migrate`: schema, indexes, partitions, retention, hours, rights, statistics. Safe to repeat."""

from __future__ import annotations

import argparse
import asyncio

from mev_engine.cli import config_argument
from mev_engine.settings import load


def add_arguments(parser: argparse.ArgumentParser) -> None:
    config_argument(parser)
    parser.epilog = (
        "Applies the numbered SQL files that are new (each in a transaction, one migrator at a time), makes\n"
        "and mends indexes, makes partitions for last month to three months ahead, detaches those that are\n"
        "older than database.keep_months, runs retention, sums up full hours, grants rights, runs ANALYZE.\n"
        "The last line, `changed=N`, counts what it changed. Run it as the tables' owner, before the first\n"
        "start and every hour."
    )


def run(args: argparse.Namespace) -> int:
    from mev_engine.sinks.migrations import migrate  # noqa: PLC0415

    return asyncio.run(migrate(load(args.config).database))
