"""Every mistake in the settings is named: where, which key, which value, what would do."""

from __future__ import annotations

from pathlib import Path

import pytest
from mev_engine.cli import main

GOOD = """
[chain]
name = "ethereum"
chain_id = 1
endpoints = ["wss://node.example/v2/SECRET"]
[market]
base_tokens = ["0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2"]
wrapped_native = "0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2"
[[market.factories]]
address = "0x5C69bEe701ef814a2B6a3EDD4B1652CB9cc5aA6f"
name = "uniswap_v2"
"""


def check(tmp_path: Path, text: str) -> int:
    config = tmp_path / "engine.toml"
    config.write_text(text)
    return main(["check", "--offline", "--config", str(config)])


def test_good_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # fails if the contract's own example is refused, or the endpoint's key is shown
    assert check(tmp_path, GOOD) == 0
    assert "SECRET" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("chain_id = 1", 'chain_id = "one"', ["chain.chain_id = 'one'", "integer"]),
        ("chain_id = 1", "chain_id = true", ["chain.chain_id = True", "integer"]),
        ("chain_id = 1\n", "", ["chain.chain_id is missing"]),
        ("[market]", "max_catchup_block = 5\n[market]", ["max_catchup_block = 5", "max_catchup_blocks?"]),
        ("[market]", "[market]\nmax_hops = 9", ["market.max_hops = 9", "less than or equal to 4"]),
        ("wss://node.example", "http://node.example", ["endpoints[0] = 'http://node.example/…'", "ws://"]),
        ("[market]", "max_silence = -1\n[market]", ["chain.max_silence = -1", "greater than or equal to 0"]),
        ('"ethereum"', '"etherum"', ["chain.name = 'etherum'", "'ethereum', 'polygon' or 'arbitrum'"]),
        ("C756Cc2\"]", "C756Cc3\"]", ["market.base_tokens[0]", "checksum"]),
        ("[chain]", "[chian]\n[chain]", ["chian = {}", "did you mean chain?"]),
        ("[chain]", "[chain", ["is not valid TOML", "line"]),
    ],
)  # fmt: skip
def test_mistakes_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, words: list[str]
) -> None:
    # fails if a mistake passes, or its message lacks the file, the key, the value or the mend
    assert old in GOOD
    assert check(tmp_path, GOOD.replace(old, new, 1)) == 2
    message = capsys.readouterr().err
    for word in [*words, "engine.toml"]:
        assert word in message
    assert "SECRET" not in message


def test_families(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Could fail: V3 factories are refused, a family that nothing follows is taken, or a fee that would be
    # ignored passes without a word.
    v3 = 'name = "uniswap_v2"\nfamily = "uniswap_v3"'
    assert check(tmp_path, GOOD.replace('name = "uniswap_v2"', v3)) == 0
    assert check(tmp_path, GOOD.replace('name = "uniswap_v2"', f"{v3}\nfee_bps = 30")) == 2
    message = capsys.readouterr().err
    assert "market.factories[0]: fee_bps = 30 is given and family is uniswap_v3" in message
    assert "leave fee_bps out" in message
    assert check(tmp_path, GOOD.replace('name = "uniswap_v2"', v3.replace("_v3", "_v4"))) == 2
    message = capsys.readouterr().err
    assert "market.factories[0].family = 'uniswap_v4'" in message
    assert "'uniswap_v2' or 'uniswap_v3'" in message


def test_environment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # fails if the environment is not checked like the file, or is blamed on the file
    monkeypatch.setenv("MEV_ENGINE__DETECT__MIN_PROFIT_WEI", "5")
    assert check(tmp_path, GOOD) == 0
    monkeypatch.setenv("MEV_ENGINE__DETECT__MIN_PROFIT_WEI", "-5")
    monkeypatch.setenv("MEV_ENGINE__REDIS__PROT", "6379")
    assert check(tmp_path, GOOD) == 2
    message = capsys.readouterr().err
    assert "environment MEV_ENGINE__DETECT__MIN_PROFIT_WEI: detect.min_profit_wei = -5" in message
    assert "environment MEV_ENGINE__REDIS__PROT: redis.prot = 6379" in message
    assert "did you mean port?" in message
