"""The machine is restarted: everything comes back, in any order."""

from __future__ import annotations

from conftest import ENGINE, Platform, eventually

BOOT = "systemctl show -P UserspaceTimestamp"


# Could fail: a unit that is not enabled, a folder under /run that nobody makes, an order that deadlocks.
def test_everything_comes_back(following: Platform) -> None:
    p = following
    rows = p.number("SELECT count(*) FROM opportunities")
    boot = p.run(BOOT)
    # A container shares the machine's boot id, which Ansible looks at unless told otherwise.
    options = f"reboot_timeout=180 boot_time_command='{BOOT}'"
    done = p.host.ansible("ansible.builtin.reboot", options, check=False, become=True)
    assert done.get("rebooted"), done
    assert p.run(BOOT) != boot

    eventually("the engine runs", lambda: p.unit(ENGINE, "ActiveState") == "active", seconds=180)
    eventually("new opportunities arrive", lambda: p.number("SELECT count(*) FROM opportunities") > rows)
    assert p.metric("mev_jit_compilations") == 0
    assert p.run("systemctl list-units --state=failed --no-legend --plain") == ""
