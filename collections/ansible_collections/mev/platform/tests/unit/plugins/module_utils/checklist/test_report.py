"""The report of all hosts: data, page, lines for a terminal."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from ansible_collections.mev.platform.plugins.module_utils.checklist import report
from ansible_collections.mev.platform.plugins.module_utils.checklist.outcome import RESULTS, settle

TEMPLATE = Path(__file__).parents[9] / "roles/preflight/templates/report.html.j2"
EVIL = "<script>alert('{{ 7 * 7 }}')</script>"
HOSTS = {
    "mev-1": [
        settle("memory", "Memory", ("failed", "3,900 MB", "at least 125,000 MB", "add memory"), "fail"),
        settle("cpu_model", "Processor", ("passed", EVIL, "EPYC", "never shown"), "fail"),
    ],
    "mev-2": [
        settle("raid", "RAID", ("failed", "no RAID", "raid10", "use raid10"), "warn"),
        settle("ups", "UPS", ("not measurable here", "NUT is not installed", "on mains", ""), "fail"),
        settle("gpu", "Graphics card", ("not wanted", "none", "with or without", ""), "fail"),
    ],
}
MADE = report.build("staging", "2026-11-25 16:00:00 UTC", HOSTS, left_out=3)


class Page(HTMLParser):
    """Tags that are opened and closed, and the text between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


# Could fail: an item is lost on the way to the totals.
def test_counts() -> None:
    assert tuple(MADE["counts"]) == RESULTS
    assert list(MADE["counts"].values()) == [1, 1, 1, 1, 1]
    assert [sum(host["counts"].values()) for host in MADE["hosts"]] == [2, 3]


# Could fail: what a host says of itself becomes part of the page, the page needs the network, or a colour is
# the only sign of a result.
def test_page_is_whole_self_contained_and_safe() -> None:
    text = report.page(MADE, TEMPLATE)
    page = Page(text)
    assert page.open == []
    assert "script" not in page.tags
    assert EVIL in page.text
    assert not re.search(r"(src|href)=|url\(|@import|https?://", text)
    for host in MADE["hosts"]:
        assert host["name"] in page.text
        for line in host["items"]:
            assert line["found"] in page.text
            assert line["result"] in page.text
    assert "prefers-color-scheme: dark" in text
    assert "3 other host(s)" in page.text


# Could fail: only the first failure is told, a warning is told as a failure, or it says not how to mend it.
def test_failures_and_table() -> None:
    assert report.failures(MADE) == ["mev-1: Memory: 3,900 MB; wanted: at least 125,000 MB; add memory"]
    lines = report.table(MADE).splitlines()
    assert lines[0].endswith("1 failed, 1 warned, 1 not measurable here, 1 passed, 1 not wanted")
    assert [line.split()[0] for line in lines[1:3]] == ["FAILED", "WARNED"]
    assert "not measurable here: mev-2: UPS" in lines


# Could fail: a reader meets half a file, an older report is overwritten, or a failed write leaves rubbish.
def test_files_appear_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report.write(tmp_path / "a", "first", {"json": "{}", "html": "one"})
    report.write(tmp_path / "a", "second", {"json": "{}", "html": "two"})
    names = {"first.html", "first.json", "second.html", "second.json", "latest.html", "latest.json"}
    assert {path.name for path in (tmp_path / "a").iterdir()} == names
    assert (tmp_path / "a/first.html").read_text() == "one"
    assert (tmp_path / "a/latest.html").read_text() == "two"

    def refuse(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="No space"):
        report.write(tmp_path / "a", "third", {"html": "three"})
    assert {path.name for path in (tmp_path / "a").iterdir()} == names
