"""Trees of files that look like /proc and /sys of a machine, and commands that answer like its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from ansible_collections.mev.platform.plugins.module_utils.machine.source import ABSENT, Source

Tree = Mapping[str, str]
Make = Callable[..., Source]


@pytest.fixture
def machine(tmp_path: Path) -> Make:
    """Make a machine of files (a text that starts with ``-> `` is a link) and of commands' answers."""

    def make(*trees: Tree, commands: Mapping[str, tuple[int, str]] | None = None) -> Source:
        for tree in trees:
            for name, text in tree.items():
                path = tmp_path / name
                path.parent.mkdir(parents=True, exist_ok=True)
                if text.startswith("-> "):
                    # a link of sysfs leads to a directory: relative, so that it stays inside the tree
                    target = tmp_path / text[3:]
                    target.mkdir(parents=True, exist_ok=True)
                    path.symlink_to(os.path.relpath(target, path.parent))
                else:
                    path.write_text(text + "\n")
        answers = commands or {}

        def run(command: Sequence[str]) -> tuple[int, str]:
            return answers.get(" ".join(command[:2]), answers.get(command[0], (ABSENT, "")))

        return Source(tmp_path, run)

    return make
