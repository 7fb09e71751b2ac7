"""The script of the role cpu_performance, on trees of ordinary files."""

from __future__ import annotations

import json
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mev.platform.tests.unit.plugins.module_utils.layouts import (
    interrupts,
    power,
    put,
)

SCRIPT = Path(__file__).parents[2] / "roles/cpu_performance/files/cpu-performance"
IRQS = {30: ("eth0-rx-0", "2"), 31: ("eth0-rx-1", "0-3"), 32: ("timer", "0"), 33: ("nvme0q3", "3")}


class Box:
    """A machine of four CPUs whose last two are the engine's."""

    def __init__(self, root: Path, driver: str, mode: str) -> None:
        self.sysfs, self.procfs, self.file = root / "sys", root / "proc", root / "settings.json"
        put(self.sysfs / "devices/system/cpu/online", "0-3")
        for cpu in range(4):
            (self.sysfs / f"devices/system/cpu/cpu{cpu}").mkdir()
        if driver:
            power(self.sysfs, driver, mode)
        interrupts(self.procfs, self.sysfs, IRQS, "f")
        self.settings: dict[str, Any] = {
            "sysfs": str(self.sysfs),
            "procfs": str(self.procfs),
            "scaling_governor": "performance",
            "energy_performance_preference": "performance",
            "boost": True,
            "max_exit_latency_us": 10,
            "keep_interrupts_off": "2-3",
        }
        loader = SourceFileLoader("cpu_performance", str(SCRIPT))
        spec = spec_from_loader("cpu_performance", loader)
        assert spec is not None
        self.script = module_from_spec(spec)
        loader.exec_module(self.script)
        vars(self.script)["MEMORY"] = root / "run/before.json"

    def run(self, command: str, **settings: Any) -> int:
        self.file.write_text(json.dumps(self.settings | settings))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", ["cpu-performance", command, str(self.file)])
            return int(self.script.main())

    def read(self, name: str) -> str:
        return (self.sysfs / "devices/system/cpu" / name).read_text().strip()

    def irq(self, number: int) -> str:
        return (self.procfs / f"irq/{number}/smp_affinity_list").read_text().strip()

    def everything(self) -> dict[str, str]:
        return {
            str(path): path.read_text().strip()
            for root in (self.sysfs, self.procfs)
            for path in sorted(root.rglob("*"))
            if path.is_file()
        }


@pytest.fixture
def box(tmp_path: Path, request: pytest.FixtureRequest) -> Box:
    return Box(tmp_path, *getattr(request, "param", ("amd-pstate-epp", "active")))


# Could fail: a mode of a driver is not understood: only active ones have an energy preference, and Intel's
# switch says the opposite.
@pytest.mark.parametrize(
    ("box", "preference", "note"),
    [
        (("amd-pstate-epp", "active"), "performance", "amd-pstate-epp (amd_pstate active)"),
        (("amd-pstate", "passive"), None, "amd-pstate (amd_pstate passive)"),
        (("amd-pstate", "guided"), None, "amd-pstate (amd_pstate guided)"),
        (("acpi-cpufreq", ""), None, "acpi-cpufreq has none"),
        (("intel_pstate", ""), "performance", "intel_pstate"),
    ],
    indirect=["box"],
)
def test_each_driver(box: Box, preference: str | None, note: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = box.everything()
    assert box.run("check") == 1
    capsys.readouterr()
    assert box.run("start") == 0
    assert note in capsys.readouterr().out
    for cpu in range(4):
        assert box.read(f"cpu{cpu}/cpufreq/scaling_governor") == "performance"
        if preference:
            assert box.read(f"cpu{cpu}/cpufreq/energy_performance_preference") == preference
        assert [box.read(f"cpu{cpu}/cpuidle/state{state}/disable") for state in range(3)] == ["0", "0", "1"]
    intel = "intel_pstate" in note
    assert box.read("intel_pstate/no_turbo" if intel else "cpufreq/boost") == ("0" if intel else "1")
    assert box.run("check") == 0
    assert box.run("start") == 0
    assert box.run("stop") == 0
    assert box.everything() == before, "what was there before is back, and not what the second start found"


# Could fail: an interrupt stays on the engine's cores, or one that others spread elsewhere is moved too.
def test_interrupts_leave_the_engines_cores(box: Box) -> None:
    assert box.run("start") == 0
    assert {box.irq(30), box.irq(33)} <= {"0", "1"}
    assert box.irq(30) != box.irq(33), "each goes to another core"
    assert (box.irq(31), box.irq(32)) == ("0,1", "0")
    assert (box.procfs / "irq/default_smp_affinity").read_text() == "00000003"
    assert box.run("start", keep_interrupts_off="") == 0
    assert box.irq(31) == "0-3", "what is no longer wanted is put back"


def refuse(patch: pytest.MonkeyPatch, name: str, number: int, why: str) -> None:
    """Writes to paths that end in `name` fail, as the kernel's may."""
    real = Path.write_text

    def write(self: Path, data: str) -> int:
        if str(self).endswith(name):
            raise OSError(number, why)
        return real(self, data)

    patch.setattr(Path, "write_text", write)


# Could fail: an interrupt that only the kernel may move (EIO) stops the rest, or is passed over in silence.
def test_interrupt_that_the_kernel_manages_is_named(
    box: Box, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refuse(monkeypatch, "33/smp_affinity_list", 5, "Input/output error")
    assert box.run("start") == 0
    said = "interrupt 33 (nvme0q3) can't be moved, the kernel manages it: Input/output error"
    assert said in capsys.readouterr().out
    assert box.irq(33) == "3"
    assert box.run("check") == 0
    assert json.loads(capsys.readouterr().out)["notes"][-1] == said


# Could fail: half of the values stay when one is refused, or nothing says which.
def test_refused_value_puts_all_back(
    box: Box, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = box.everything()
    refuse(monkeypatch, "cpu2/cpufreq/scaling_governor", 16, "Device or resource busy")
    assert box.run("start") == 1
    assert "cpu2/cpufreq/scaling_governor says powersave, not performance: Device or resource busy" in (
        capsys.readouterr().err
    )
    assert box.everything() == before


# Could fail: a governor that this driver does not have is found out half-way.
def test_unknown_governor_is_refused_before_anything_changes(box: Box) -> None:
    before = box.everything()
    with pytest.raises(SystemExit, match="schedutil is none of performance, powersave"):
        box.run("start", scaling_governor="schedutil")
    assert box.everything() == before


# Could fail: a machine without any of it raises, or passes without saying so.
@pytest.mark.parametrize("box", [("", "")], indirect=True)
def test_machine_without_any_of_it_says_so(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    assert box.run("start") == 0
    out = capsys.readouterr().out
    for what in ("no cpufreq", "no boost switch", "no cpuidle states"):
        assert what in out
