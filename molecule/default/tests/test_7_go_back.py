"""A deploy that fails is undone: what ran before runs again, and nothing of the failure is left."""

from __future__ import annotations

from conftest import ENGINE, Platform, eventually
from test_6_bad_input import BAD_CHAIN, deploy

# Everything that a deploy of the engine writes, by content: going back may write a file anew.
STATE = """
find /opt/mev-infrastructure/config /etc/systemd/system/mev-engine* -type f -exec sha256sum {} + | sort -k 2
ls /opt/mev-infrastructure/engine/releases
readlink /opt/mev-infrastructure/engine/current
systemctl list-unit-files --no-legend --plain 'mev-engine*'
ls /etc/systemd/system/mev-engine.target.wants
"""


# Could fail: going back starts the engine that failed and ends there, without a word; or leaves its settings
# and its unit, which would be started with the machine.
def test_a_chain_that_fails_is_taken_back(following: Platform) -> None:
    p = following
    before = p.run(STATE)
    blocks = p.metric("mev_block_height")
    # The door finds nothing wrong, and neither does the engine's own check: port 8545 is the chain's.
    unhealthy = {**BAD_CHAIN, "name": "polygon", "metrics_port": 8545}
    lower_floor = {**BAD_CHAIN, "min_profit_wei": 12345}

    done = deploy({"engine_chains": [lower_floor, unhealthy]}, "--tags", "engine")

    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0, said
    assert 'failed in "Start or restart the engines, and wait until they are ready"' in said, said[-3000:]
    assert "and its settings are back." in said, said[-3000:]
    assert p.run(STATE) == before
    assert p.run("systemctl show --property=ActiveState --value mev-engine@polygon.service") == "inactive"
    assert p.unit(ENGINE, "ActiveState") == "active"
    eventually("the former engine sees new blocks", lambda: p.metric("mev_block_height") > blocks)
