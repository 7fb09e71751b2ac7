"""`mev-engine run`: the service."""

from __future__ import annotations

import argparse
from pathlib import Path

from mev_engine.cli import config_argument
from mev_engine.settings import load


def add_arguments(parser: argparse.ArgumentParser) -> None:
    config_argument(parser)
    parser.add_argument(
        "--record",
        type=Path,
        metavar="FILE",
        help="also write every block to FILE (.gz: compressed) for replay",
    )
    parser.epilog = (
        "Journal lines are `event key=value …`. Stops cleanly at SIGTERM: queues are flushed for a few\n"
        "seconds and the checkpoint is written. Speaks systemd's notify protocol (READY, WATCHDOG, STATUS)."
    )


def run(args: argparse.Namespace) -> int:
    settings = load(args.config)
    settings.state.path()  # a missing directory is a settings error, so say it before the long start
    from mev_engine.engine import main  # noqa: PLC0415

    return main(settings, record=args.record)
