"""The command `mev-engine`. Parses arguments; each command's work is in a module of its own."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from mev_engine import __version__

GOOD, FAILED, BAD_USAGE = 0, 1, 2


class Command(NamedTuple):
    """A subcommand: `module` has `add_arguments(parser)` and `run(args) -> exit code`.

    Modules are named, not imported: numba and web3 cost a second that `--help` need not pay.
    """

    module: str
    summary: str


COMMANDS = {
    "run": Command("mev_engine.commands.run", "follow a chain and emit what is found"),
    "check": Command("mev_engine.commands.check", "check settings, endpoints, database, Redis, JIT cache"),
    "status": Command("mev_engine.commands.status", "what was seen and found: blocks, rows, the best five"),
    "migrate": Command("mev_engine.commands.migrate", "bring the database schema up to date"),
    "warm": Command("mev_engine.commands.warm", "compile all kernels into the on-disk cache"),
    "scan": Command("mev_engine.scan", "list what is profitable in a snapshot of pools"),
    "quote": Command("mev_engine.quote", "what one pool of a snapshot pays, exactly"),
    "replay": Command("mev_engine.replay", "scan recorded blocks again"),
    "bench": Command("mev_engine.bench", "measure the kernels beside the same loops in C"),
}

EPILOG = """\
examples:
  mev-engine check --config /opt/mev-infrastructure/config/engine-ethereum.toml
  mev-engine migrate --config engine.toml        # before the first run, and every hour
  mev-engine run --config engine.toml --record blocks.jsonl.gz
  mev-engine replay blocks.jsonl.gz              # the same scan, offline
  MEV_ENGINE__DETECT__MIN_PROFIT_WEI=5 mev-engine run --config engine.toml

exit codes: 0 good, 1 a check or the work failed, 2 bad usage or settings
`mev-engine COMMAND --help` explains one command.
"""


def main(argv: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="mev-engine",
        description="Detects cyclic arbitrage on EVM chains: floats to screen, exact integers to decide.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"mev-engine {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    chosen = next((argument for argument in arguments if not argument.startswith("-")), None)
    run: Callable[[argparse.Namespace], int] | None = None
    for name, command in COMMANDS.items():
        sub = commands.add_parser(
            name,
            help=command.summary,
            description=command.summary[0].upper() + command.summary[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name == chosen:
            module = importlib.import_module(command.module)
            module.add_arguments(sub)
            run = module.run
    args = parser.parse_args(arguments)
    assert run is not None  # noqa: S101  (argparse has refused any other command)
    return _guarded(run, args)


def _guarded(run: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """Run a command; the errors that a person can mend become one clear line, not a traceback."""
    from mev_engine.settings import SettingsError  # noqa: PLC0415

    try:
        return run(args)
    except SettingsError as error:
        print("mev-engine: the settings cannot be used:", file=sys.stderr)
        print(error, file=sys.stderr)
        return BAD_USAGE
    except BrokenPipeError:  # `mev-engine scan … | head`
        sys.stderr.close()
        return FAILED
    except KeyboardInterrupt:
        return 130


def config_argument(parser: argparse.ArgumentParser) -> None:
    """`--config FILE`, the same for every command that needs settings."""
    parser.add_argument(
        "--config", required=True, type=Path, metavar="FILE", help="the settings, TOML; see docs/contracts.md"
    )


if __name__ == "__main__":
    sys.exit(main())
