#!/usr/bin/python
# Copyright (c) the MEV platform's authors. Apache-2.0 (see LICENSE)
"""Set the kernel's settings, all or none."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mev.platform.plugins.module_utils.sysctl import (
    Refused,
    Setting,
    apply,
    huge_pages,
    settings_of,
    values_of,
)
from ansible_collections.mev.platform.plugins.module_utils.sysctl_files import (
    assignments,
    name_of,
    open_files_above,
    overriding,
    path_of,
    sysctl_text,
    tmpfiles_text,
    tolerated,
)
from ansible_collections.mev.platform.plugins.module_utils.sysctl_keys import MODULE_TREES

DOCUMENTATION = r"""
---
module: kernel_settings
short_description: Kernel settings as one transaction, in force and kept
version_added: 0.1.0
description:
  - Keys and values are checked first, against the ranges known and against files that would override them at
    the next boot. Whatever is wrong is told in one go, and nothing is changed.
  - Then all values are written and read back, and the files that set them at boot follow. When the kernel
    refuses a value, or another one is read back, the former values and files are put back and the task fails.
  - A value that was changed by hand meanwhile is put back.
  - A key that this kernel lacks is named in RV(lacking) when Linux is known to have it, when it comes with a
    module or an interface that is not there, or when it is in O(may_lack). Any other is taken for a slip.
  - M(ansible.posix.sysctl) sets one key at a time, and what it wrote stays when the next one fails.
options:
  sysctl:
    description: Value of each key, as in sysctl.d(5), without wildcards.
    type: dict
    required: true
  sysfs:
    description: Value of each file below F(/sys). One that isn't there is skipped and named.
    type: dict
    default: {}
  hugepages_mb:
    description:
      - Megabytes of huge pages that each consumer needs, which gives C(vm.nr_hugepages).
      - Left out, that key is left alone.
    type: dict
  hugepages_share:
    description: Most that huge pages may take of all memory, and that new ones may take of the available.
    type: float
    default: 0.5
  may_lack:
    description: Keys that are unknown here and that this kernel may lack nevertheless.
    type: list
    elements: str
    default: []
  sysctl_file:
    description: The drop-in that sets O(sysctl) at boot.
    type: path
    default: /etc/sysctl.d/90-mev-platform.conf
  sysfs_file:
    description: The file of systemd-tmpfiles that sets O(sysfs) at boot.
    type: path
    default: /etc/tmpfiles.d/90-mev-platform.conf
  limits_file:
    description: The file of limits.d that is written next, and so is not compared with C(fs.nr_open).
    type: path
    default: /etc/security/limits.d/90-mev-platform.conf
author:
  - The MEV platform's authors
"""

EXAMPLES = r"""
- name: Tune the kernel
  mev.platform.kernel_settings:
    sysctl:
      vm.swappiness: 1
      net.ipv4.tcp_rmem: 4096 65536 134217728
    hugepages_mb: {postgresql: 33792}
"""

RETURN = r"""
changes:
  description: What was set, or would be, by key.
  returned: always
  type: dict
  sample: {vm.swappiness: {from: "60", to: "1"}}
lacking:
  description: What this host lacks, and why.
  returned: always
  type: dict
  sample: {kernel.sched_migration_cost_ns: this kernel has no such key}
released:
  description: Keys that the file set before and no longer does; they keep their values until the next boot.
  returned: always
  type: list
values:
  description: What is in force, or would be, by key.
  returned: always
  type: dict
"""


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "sysctl": {"type": "dict", "required": True},
            "sysfs": {"type": "dict", "default": {}},
            "hugepages_mb": {"type": "dict"},
            "hugepages_share": {"type": "float", "default": 0.5},
            "may_lack": {"type": "list", "elements": "str", "default": []},
            "sysctl_file": {"type": "path", "default": "/etc/sysctl.d/90-mev-platform.conf"},
            "sysfs_file": {"type": "path", "default": "/etc/tmpfiles.d/90-mev-platform.conf"},
            "limits_file": {"type": "path", "default": "/etc/security/limits.d/90-mev-platform.conf"},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except (Refused, OSError) as error:
        module.fail_json(msg=str(error))


def run(module: AnsibleModule, root: Path = Path("/")) -> dict[str, Any]:
    """Check, set, read back; return the module's result. `root` is another than / in tests."""
    given = module.params
    proc = root / "proc/sys"
    own, tmpfiles = Path(given["sysctl_file"]), Path(given["sysfs_file"])
    problems: list[str] = []
    values = values_of(given["sysctl"], problems)
    if given["hugepages_mb"] is not None:
        if "vm/nr_hugepages" in values:
            problems.append("vm.nr_hugepages: hugepages_mb sets it")
        try:
            meminfo = (root / "proc/meminfo").read_text()
            values["vm/nr_hugepages"] = str(
                huge_pages(given["hugepages_mb"], given["hugepages_share"], meminfo)
            )
        except Refused as error:
            problems.append(str(error))
    settings, lacking = settings_of(values, proc, given["may_lack"], problems)
    for path, value, file in overriding(root, own, values):
        if value.split() != values[path].split():
            problems.append(
                f"{name_of(path)} is {values[path]}: {file} is read later and says {value}; remove it there"
            )
    if "fs/nr_open" in values and values["fs/nr_open"].isdigit():
        for line in open_files_above(root, int(values["fs/nr_open"]), Path(given["limits_file"]).name):
            problems.append(
                f"fs.nr_open is {values['fs/nr_open']}, and the kernel would refuse {line} to every session"
            )
    if problems:
        listed = "\n".join(f"  - {problem}" for problem in problems)
        raise Refused(f"{len(problems)} wrong in the kernel's settings; nothing was changed:\n{listed}")

    sysfs = {path.strip("/").removeprefix("sys/"): str(value) for path, value in given["sysfs"].items()}
    for path, value in sysfs.items():
        if (root / "sys" / path).is_file():
            settings.append(Setting(f"/sys/{path}", root / "sys" / path, value))
        else:
            lacking[f"/sys/{path}"] = "this kernel has no such file"
    return transact(module, settings, lacking, values, {own: None, tmpfiles: tmpfiles_text(sysfs)}, proc)


def transact(
    module: AnsibleModule,
    settings: list[Setting],
    lacking: dict[str, str],
    values: Mapping[str, str],
    files: dict[Path, str | None],
    proc: Path,
) -> dict[str, Any]:
    """Set all, then the files; the drop-in's text depends on what this kernel turned out to lack."""
    own = next(iter(files))
    before = {file: file.read_text() if file.is_file() else None for file in files}
    was = before[own] or ""
    changes = {s.name: {"from": s.now(), "to": s.wanted} for s in settings if not s.holds()}

    def texts(without: set[str]) -> dict[Path, str]:
        optional = {
            path for path in values if name_of(path).startswith(tuple(f"{tree}." for tree in MODULE_TREES))
        }
        optional |= {path_of(name) for name in without} | set(lacking)
        return {file: sysctl_text(values, optional) if text is None else text for file, text in files.items()}

    if module.check_mode:
        # what the last run found out by trying is in its file
        without = {s.name for s in settings if s.rule and s.rule.choices} & set(map(name_of, tolerated(was)))
    else:
        without = apply(settings, proc, lambda found: put(before, texts(found)))
    for name in sorted(without):
        lacking[path_of(name)] = f"this kernel was built without {changes.pop(name)['to']}"
    after = texts(without)
    changed_files = [file for file in files if before[file] != after[file]]
    diff = [
        {
            "before_header": str(file),
            "after_header": str(file),
            "before": before[file] or "",
            "after": after[file],
        }
        for file in changed_files
    ]
    if changes:
        shown = {
            side: "".join(f"{name} = {change[end]}\n" for name, change in changes.items())
            for side, end in (("before", "from"), ("after", "to"))
        }
        diff.append({"before_header": "in force", "after_header": "in force", **shown})
    return {
        "changed": bool(changes or changed_files),
        "changes": changes,
        "lacking": {name if name.startswith("/") else name_of(name): why for name, why in lacking.items()},
        "released": sorted({name_of(path) for path, _ in assignments(was)} - set(map(name_of, values))),
        "values": {
            s.name: s.wanted if module.check_mode else s.now() for s in settings if s.name not in without
        },
        "diff": diff,
    }


def put(before: Mapping[Path, str | None], after: Mapping[Path, str]) -> None:
    """Write the files and read them back; whatever fails, the former ones are put back."""
    written: list[Path] = []
    try:
        for file, text in after.items():
            if before[file] != text:
                replace(file, text)
                written.append(file)
                if file.read_text() != text:
                    raise Refused(f"{file}: what was written is not what is read back")
    except BaseException:
        for file in written:
            old = before[file]
            if old is None:
                file.unlink()
            else:
                replace(file, old)
        raise


def replace(file: Path, text: str) -> None:
    """Write a file beside its place and rename it, so that no boot reads half of it."""
    file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "w") as stream:
            stream.write(text)
            os.fchmod(stream.fileno(), 0o644)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).rename(file)
    finally:
        Path(name).unlink(missing_ok=True)


if __name__ == "__main__":
    main()
