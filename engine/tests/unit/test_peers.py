"""The peers' benchmark: cycles that are states of pools, and peers that answer what the pools would pay.

Under ten seconds where both peers are installed, one without.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from needs import lacks
from peers import environments, exact, generate
from peers.environments import PeerUnavailableError
from peers.run import run

TICKED = {"uniswap_v3", "uniswap_v4"}


def made(kind: str, count: int, seed: int = 5, hops: tuple[int, ...] = (2, 3, 4)) -> list[dict[str, Any]]:
    return list(generate.cycles(kind, count, seed, hops))


@pytest.mark.parametrize("kind", generate.KINDS)
def test_cycles_are_closed_and_their_pools_possible(kind: str) -> None:
    # a cycle whose hops don't join, or whose ticks don't give its liquidity, would be refused by a peer, or
    # worse, be solved as another one
    for cycle in made(kind, 20, hops=(3, 4)):
        hops = cycle["hops"]
        assert {hop["family"] for hop in hops} == set(generate.KINDS[kind])
        for hop, following in zip(hops, hops[1:] + hops[:1], strict=True):
            assert hop["token_out"] == following["token_in"]
            assert hop["decimals_out"] == following["decimals_in"]
            assert hop["zero_for_one"] == (int(hop["token_in"], 16) < int(hop["token_out"], 16))
            exact.state(hop)  # our pool types check what they are given
            if hop["family"] in TICKED:
                assert generate.FEWEST_TICKS - 1 <= len(hop["ticks"]) <= generate.MOST_TICKS + 1


def test_gaps_are_those_wanted() -> None:
    # the closing pool's price is worked out from the others' rates, decimals and fees: an error in one of
    # them gives gaps of any size, and no cycle worth solving
    gaps = []
    for kind in generate.KINDS:
        for cycle in made(kind, 40):
            gaps.append(math.prod(exact.marginal_price(hop) for hop in cycle["hops"]) - 1)
    # reserves are whole units, so a gap may miss by as much as a part in 1e6 or so of a small pool
    assert all(generate.LEAST_GAP * 0.9 < abs(gap) < generate.MOST_GAP * 1.01 for gap in gaps)
    assert 0.4 < sum(gap > 0 for gap in gaps) / len(gaps) < 0.6


def test_the_same_seed_makes_the_same() -> None:
    # figures of two runs can be compared only if the cycles are the same
    assert made("v2-v3", 5) == made("v2-v3", 5)
    assert made("v2-v3", 5) != made("v2-v3", 5, seed=6)
    assert list(generate.quotes("v3", 3, 1)) == list(generate.quotes("v3", 3, 1))


def test_a_peer_without_its_python_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # the benchmark reports a peer that was not run by this message
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    with pytest.raises(PeerUnavailableError, match=r"degenbot 0\.5\.0 needs Python 3\.12"):
        environments.ensure("0.5.0", tmp_path)


@pytest.mark.parametrize("version", environments.PEERS)
def test_a_peer_answers_what_the_pools_pay(version: str, tmp_path: Path) -> None:
    # a state handed over wrongly (sides, fee, decimals, ticks) would be solved for other pools than ours
    if environments.existing(version) is None:
        lacks(
            "PEERS", f"degenbot {version} is not installed: `python -m peers.run --help` in engine/benchmarks"
        )
    cycles = [
        next(cycle for cycle in made(kind, 20) if _gains(cycle)) | {"id": i}
        for i, kind in enumerate(("v2", "v2-v3"))
    ]
    answers = _answers(version, tmp_path, cycles, "solve")
    for cycle, answer in zip(cycles, answers, strict=True):
        assert answer["id"] == cycle["id"]
        assert int(answer["profit"]) == int(answer["amount_out"]) - int(answer["amount_in"]) > 0
        assert exact.profit(cycle, int(answer["amount_in"])) == int(answer["profit"])
        assert 1e-6 < answer["seconds"] < 1  # a time in other units, or of no work, is outside

    quotes = [quote for kind in ("v2", "v3") for quote in generate.quotes(kind, 4, 1)]
    for quote, answer in zip(quotes, _answers(version, tmp_path, quotes, "quote"), strict=True):
        assert exact.quoter(quote["hop"])(int(quote["amount_in"])) == int(answer["amount_out"])


def _gains(cycle: dict[str, Any]) -> bool:
    return math.prod(exact.marginal_price(hop) for hop in cycle["hops"]) > 1.01


def _answers(version: str, folder: Path, asked: list[dict[str, Any]], mode: Any) -> list[dict[str, Any]]:
    source, out = folder / "asked.jsonl", folder / "answers.jsonl"
    source.write_text("".join(json.dumps(item) + "\n" for item in asked))
    run(version, source, out, repeat=1, mode=mode, timeout=120)
    return [json.loads(line) for line in out.read_text().splitlines()]
