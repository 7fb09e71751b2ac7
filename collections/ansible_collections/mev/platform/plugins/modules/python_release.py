# Copyright (c) the MEV platform's authors. Apache-2.0 (see LICENSE)
"""Build the wheel of a release."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mev.platform.plugins.module_utils.release import copy_source, release_id

DOCUMENTATION = r"""
---
module: python_release
short_description: Build a Python package's wheel under an id made from its content
version_added: 0.1.0
description:
  - Runs on the controller. The id is a hash of the package's files and of its lock file, so the same sources
    give the same release on every controller, and nothing is built twice.
  - Needs pip and setuptools in the Python that runs the module, and no network.
  - In check mode the id is returned and nothing is built.
options:
  source:
    description: Folder of the package (pyproject.toml and src).
    type: path
    required: true
  lock:
    description: Its hash-pinned requirements file.
    type: path
    required: true
  dest:
    description: Folder in which the wheels are kept, each in a folder named by its id.
    type: path
    required: true
author:
  - The MEV platform's authors
"""

EXAMPLES = r"""
- name: Build the engine
  mev.platform.python_release:
    source: "{{ playbook_dir }}/../engine"
    lock: "{{ playbook_dir }}/../engine/requirements.txt"
    dest: "{{ playbook_dir }}/../.cache/releases"
  delegate_to: localhost
"""

RETURN = r"""
id:
  description: Id of the release.
  returned: always
  type: str
  sample: 3f2a9c01b7de
wheel:
  description: Path of the wheel; not there yet in check mode.
  returned: always
  type: str
  sample: .cache/releases/3f2a9c01b7de/mev_engine-0.1.0-py3-none-any.whl
"""


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "source": {"type": "path", "required": True},
            "lock": {"type": "path", "required": True},
            "dest": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    source, lock, dest = (Path(module.params[name]) for name in ("source", "lock", "dest"))
    try:
        identity = release_id(source, lock)
    except OSError as error:
        module.fail_json(msg=f"source is {source} and lock is {lock}: {error}")
    folder = dest / identity
    wheels = sorted(folder.glob("*.whl"))
    if not wheels and not module.check_mode:
        wheels = [build(module, source, dest, folder)]
    wheel = str(wheels[0]) if wheels else str(folder / "unbuilt.whl")
    # A wheel on the controller is a cache: it is no change of any host.
    module.exit_json(changed=False, id=identity, wheel=wheel)


def build(module: AnsibleModule, source: Path, dest: Path, folder: Path) -> Path:
    """Build beside the final folder and rename, so that an interrupted build is never taken for a wheel."""
    dest.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=dest) as scratch:
        tree, out = Path(scratch) / "tree", Path(scratch) / "out"
        copy_source(source, tree)
        arguments = ["--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(out), str(tree)]
        # A fixed time makes the wheel the same bytes wherever it is built; 1980 is the oldest that zip knows.
        environment = {**os.environ, "SOURCE_DATE_EPOCH": "315532800"}
        code, said, complaint = module.run_command(
            [sys.executable, "-m", "pip", "wheel", "--quiet", *arguments], environ_update=environment
        )
        if code != 0:
            module.fail_json(
                msg=f"{source}: {sys.executable} -m pip wheel failed: {(complaint or said).strip()}", rc=code
            )
        shutil.rmtree(folder, ignore_errors=True)  # it may not be there; what stays makes rename fail
        out.rename(folder)
    return next(folder.glob("*.whl"))


if __name__ == "__main__":
    main()
