"""Check mode tells the truth on a converged host; the scenario's step `check` is a fresh one's."""

from __future__ import annotations

import re

from conftest import Platform
from test_6_bad_input import deploy


# Could fail: a task that runs a command reads nothing in check mode, so that what follows it has nothing to
# go by or sees a change where there is none; a template whose text differs from run to run.
def test_a_check_of_a_converged_host_finds_nothing_to_change(platform: Platform) -> None:
    done = deploy({}, "--check", "--diff")
    said = done.stdout[-6000:] + done.stderr
    assert done.returncode == 0, said
    recap = re.findall(
        rf"^({platform.host.backend.host}|localhost) +: .*?changed=(\d+)", done.stdout, re.MULTILINE
    )
    assert dict(recap).get(platform.host.backend.host) == "0", said
    assert {changed for _, changed in recap} == {"0"}, said
