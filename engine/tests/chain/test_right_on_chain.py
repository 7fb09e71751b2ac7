"""What the engine reports is what the chain pays: every amount, to the wei, at the block it names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from eth_typing import HexStr
from eth_utils.address import to_checksum_address
from mev_devchain.chain import running_anvil
from mev_devchain.deploy import Contracts, Deployment, connect, rpc_call
from mev_engine.detect.opportunity import Opportunity
from web3 import Web3
from web3.exceptions import ContractLogicError
from web3.types import TxParams, Wei

from .conftest import Recording, scanner

pytestmark = pytest.mark.chain

WANTED = 50
PER_BLOCK = 3
ARBITRAGEUR = to_checksum_address("0x3c44cdddb6a900fa2b585dd299e03d12fa4293bc")  # anvil's account 2
OVERSPENT = "UniswapV2: K"


@pytest.fixture(scope="module")
def second_chain(
    recording: Recording, node_modules: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Web3]:
    """Another anvil that takes its state from the first at any block: the first is never rewound."""
    folder = tmp_path_factory.mktemp("second")
    options = (
        "--cache-path",
        str(folder / "states"),
        "--fork-url",
        recording.anvil.http,
        "--no-storage-caching",
    )
    with running_anvil(*options, log=folder / "anvil.log", node_modules=node_modules) as anvil:
        yield connect(anvil.http)


def test_reserves_followed_by_logs_equal_the_pairs_storage(
    recording: Recording, contracts: Contracts
) -> None:
    # fails if a Sync were missed, taken twice, or taken in the wrong order: then reserves drift for good
    market = recording.market()
    for delta in recording.deltas:
        market.apply(delta)
    for pool in recording.deployment.pools:
        pair = contracts.at(recording.web3, "Pair", pool.address)
        assert market.reserves(pool.address) == tuple(pair.functions.getReserves().call()[:2])


def test_every_replayed_opportunity_pays_to_the_wei(
    recording: Recording, contracts: Contracts, second_chain: Web3
) -> None:
    """At least 50 opportunities of different blocks are executed with real swaps on the second chain.

    Fails if one amount of one hop were a wei too high (the pair refuses it), a wei too low (one more
    would have been paid), if the scan read another state than the block's, or if fewer than 50 exist.
    """
    market = recording.market()
    scan = scanner(market)
    replayed = 0
    for delta in recording.deltas:
        found = scan.scan(delta.block, market.apply(delta)).opportunities
        if not found:
            continue
        fork = {"jsonRpcUrl": recording.anvil.http, "blockNumber": delta.block.number}
        rpc_call(second_chain, "anvil_reset", {"forking": fork})
        for opportunity in _spread(found, PER_BLOCK):
            assert (
                second_chain.eth.get_block(delta.block.number)["hash"].to_0x_hex() == opportunity.block.hash
            )
            before = rpc_call(second_chain, "evm_snapshot")
            gained = _execute(second_chain, contracts, recording.deployment, opportunity)
            assert gained == opportunity.gross_profit, opportunity
            assert rpc_call(second_chain, "evm_revert", before) is True
            replayed += 1
    print(f"{replayed} opportunities replayed")
    assert replayed >= WANTED


def _spread(found: Sequence[Opportunity], count: int) -> list[Opportunity]:
    """The best, the worst and some in between: the thin ones sit nearest to a rounding error."""
    if len(found) <= count:
        return list(found)
    return [found[i * (len(found) - 1) // (count - 1)] for i in range(count)]


def _execute(web3: Web3, contracts: Contracts, deployment: Deployment, opportunity: Opportunity) -> int:
    """Pay the input into the first pair and swap from pair to pair; returns what is gained, raw units."""
    base, amounts = opportunity.tokens[0], opportunity.amounts
    _fund(web3, contracts, deployment, base, amounts[0])
    start = _balance(web3, contracts, base, ARBITRAGEUR)

    _send(
        web3, base, contracts.call("Token", "transfer", to_checksum_address(opportunity.pools[0]), amounts[0])
    )
    sides = {pool.address: (pool.token0, pool.token1) for pool in deployment.pools}
    targets = [*opportunity.pools[1:], ARBITRAGEUR.lower()]
    for pool, target, token_out, amount in zip(
        opportunity.pools, targets, opportunity.tokens[1:], amounts[1:], strict=True
    ):
        before = _balance(web3, contracts, token_out, target)
        with pytest.raises(ContractLogicError, match=OVERSPENT):
            web3.eth.call(_swap(contracts, pool, sides[pool], token_out, amount + 1, target))
        _send(web3, pool, str(_swap(contracts, pool, sides[pool], token_out, amount, target)["data"]))
        assert _balance(web3, contracts, token_out, target) - before == amount
    return _balance(web3, contracts, base, ARBITRAGEUR) - start


def _swap(
    contracts: Contracts, pool: str, tokens: tuple[str, str], token_out: str, amount: int, target: str
) -> TxParams:
    """Call of the pair's own swap: it pays `amount` out and checks that enough came in."""
    out = [amount if token == token_out else 0 for token in tokens]
    data = contracts.call("Pair", "swap", *out, to_checksum_address(target), b"")
    return {"from": ARBITRAGEUR, "to": to_checksum_address(pool), "data": HexStr(data)}


def _fund(web3: Web3, contracts: Contracts, deployment: Deployment, token: str, amount: int) -> None:
    if token == deployment.weth:
        rpc_call(web3, "anvil_setBalance", ARBITRAGEUR, hex(amount + 10**21))
        _send(web3, token, contracts.call("WETH9", "deposit"), amount)
    else:
        _send(web3, token, contracts.call("Token", "mint(uint256)", amount))


def _balance(web3: Web3, contracts: Contracts, token: str, owner: str) -> int:
    balance: int = contracts.at(web3, "Token", token).functions.balanceOf(to_checksum_address(owner)).call()
    return balance


def _send(web3: Web3, to: str, data: str, value: int = 0) -> None:
    transaction: TxParams = {
        "from": ARBITRAGEUR,
        "to": to_checksum_address(to),
        "data": HexStr(data),
        "value": Wei(value),
        "gas": 300_000,
    }
    receipt = web3.eth.wait_for_transaction_receipt(web3.eth.send_transaction(transaction), poll_latency=0.01)
    assert receipt["status"] == 1, f"{data[:10]} to {to} was reverted"
