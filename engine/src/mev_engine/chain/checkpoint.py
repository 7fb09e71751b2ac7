"""Where a restarted engine goes on: the last block whose results the database has acknowledged."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mev_engine.chain.events import BlockId

log = logging.getLogger(__name__)
VERSION = 1


class Remembered(NamedTuple):
    """`blocks`, oldest first, and the hash of the chain's block 0 (None: not known), which tells a
    deep reorganisation from another chain of the same id."""

    blocks: tuple[BlockId, ...] = ()
    genesis: str | None = None


class Checkpoint:
    """A small file in the state directory.

    It holds the last acknowledged block and those before it, oldest first, so that after a restart
    a reorganisation that happened in between is seen and its orphaned blocks can be named.
    """

    def __init__(self, directory: Path, chain_id: int) -> None:
        self._path = directory / "checkpoint.json"
        self._chain_id = chain_id

    def read(self) -> Remembered:
        """What was written last; empty where there is no (usable) checkpoint, with the reason."""
        try:
            content = json.loads(self._path.read_text())
            if content["version"] != VERSION or content["chain_id"] != self._chain_id:
                raise ValueError(f"version {content['version']}, chain id {content['chain_id']}")
            blocks = tuple(BlockId(int(number), str(block)) for number, block in content["blocks"])
            return Remembered(blocks, content.get("genesis"))
        except FileNotFoundError:
            log.info("checkpoint_absent path=%s start=head", self._path)
        except (ValueError, KeyError, TypeError) as error:
            log.error("checkpoint_unusable path=%s reason=%r start=head", self._path, str(error))
        return Remembered()

    def write(self, blocks: Sequence[BlockId], genesis: str | None) -> None:
        """Replace the file in one step: a crash leaves the old one or the new one, never a part."""
        content = {
            "version": VERSION,
            "chain_id": self._chain_id,
            "genesis": genesis,
            "blocks": [[block.number, block.hash] for block in blocks],
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_suffix(".new")
        with temporary.open("w") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)
        directory = os.open(self._path.parent, os.O_RDONLY)  # the rename itself must be on disk too
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
