"""`mev-devchain`: a local chain with a real Uniswap V2 market, in a few commands."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from mev_devchain import trader
from mev_devchain.chain import ChainError, anvil_command, default_node_modules, recover_state
from mev_devchain.deploy import Contracts, Deployment, connect, deploy
from mev_devchain.market import MarketError, MarketSpec, add_market_options, write_market

EXAMPLE = """\
In a checkout, with `npm ci --ignore-scripts` done in engine/devchain:

  mev-devchain market --out market.json                         # a seeded market
  mev-devchain market --out market.json --data ../shared/data   # a real one
  mev-devchain anvil -- --block-time 1 &
  mev-devchain deploy --market market.json --out deployment.json
  mev-devchain trade --deployment deployment.json

Exit codes: 0 good, 1 failed (the message says why), 2 bad usage or a bad file.
"""


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        run: int = arguments.run(arguments)
    except MarketError as error:
        print(f"mev-devchain: {error}", file=sys.stderr)
        return 2
    except (ChainError, OSError) as error:
        print(f"mev-devchain: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return run


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mev-devchain",
        description=__doc__,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    market = commands.add_parser("market", help="write a market specification: tokens, pools, reserves")
    add_market_options(market)
    market.set_defaults(run=_market)

    run = commands.add_parser(
        "deploy", help="put the market on the chain; a second run checks, changes nothing"
    )
    _add_rpc(run)
    run.add_argument("--market", type=Path, required=True, metavar="FILE", help="from `mev-devchain market`")
    run.add_argument("--out", type=Path, required=True, metavar="FILE", help="where to write what is where")
    run.add_argument(
        "--wait",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="for anvil to answer (default %(default)g)",
    )
    run.set_defaults(run=_deploy)

    trade = commands.add_parser("trade", help="swap at every new block, until stopped")
    _add_rpc(trade)
    trade.add_argument(
        "--deployment", type=Path, required=True, metavar="FILE", help="from `mev-devchain deploy`"
    )
    trade.add_argument("--seed", type=int, default=1, metavar="N", help="default 1")
    trade.set_defaults(run=_trade)

    anvil = commands.add_parser(
        "anvil", help="become the locked anvil, with the chain id that the rest expects"
    )
    _add_artifacts(anvil)
    anvil.add_argument("options", nargs="*", metavar="OPTION", help="after `--`: anvil's own")
    anvil.set_defaults(run=_anvil)

    state = commands.add_parser(
        "recover-state", help="make sure that anvil can load a state file after a kill"
    )
    state.add_argument("file", type=Path, metavar="FILE")
    state.add_argument("--keep-blocks", type=int, default=1000, metavar="N", help="default %(default)s")
    state.set_defaults(run=_recover_state)
    return parser


def _add_artifacts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--artifacts",
        type=Path,
        metavar="NODE_MODULES",
        default=Path(os.environ.get("MEV_DEVCHAIN_ARTIFACTS", default_node_modules())),
        help="where npm installed the contracts (default: $MEV_DEVCHAIN_ARTIFACTS, else the checkout's)",
    )


def _add_rpc(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rpc", default="http://127.0.0.1:8545", metavar="URL", help="anvil (default %(default)s)"
    )
    _add_artifacts(parser)


def _market(arguments: argparse.Namespace) -> int:
    print(f"{arguments.out}: {write_market(arguments.out, arguments.data, arguments.seed)}")
    return 0


def _deploy(arguments: argparse.Namespace) -> int:
    market = MarketSpec.from_json(arguments.market.read_text(encoding="utf-8"))
    contracts = Contracts(arguments.artifacts)

    def progress(done: int, total: int) -> None:
        print(f"deploying: {done} of {total} transactions", file=sys.stderr)

    deployment = deploy(connect(arguments.rpc, wait=arguments.wait), market, contracts, progress)
    text = deployment.to_json()
    if not arguments.out.exists() or arguments.out.read_text(encoding="utf-8") != text:
        temporary = arguments.out.with_name(
            arguments.out.name + ".new"
        )  # readers see the old or the new file
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(arguments.out)
    print(f"{arguments.rpc}: {len(deployment.tokens)} tokens, {len(deployment.pools)} pools, checked")
    return 0


def _trade(arguments: argparse.Namespace) -> int:
    deployment = Deployment.from_json(arguments.deployment.read_text(encoding="utf-8"))
    trader.run(arguments.rpc, deployment, Contracts(arguments.artifacts), arguments.seed)
    return 0


def _anvil(arguments: argparse.Namespace) -> int:
    command = anvil_command(*arguments.options, node_modules=arguments.artifacts)
    os.execv(command[0], command)  # noqa: S606 - no shell wanted


def _recover_state(arguments: argparse.Namespace) -> int:
    print(recover_state(arguments.file, keep_blocks=arguments.keep_blocks))
    return 0
