#!/usr/bin/python
# Copyright (c) 2026, the MEV platform's authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Start, stop and remove a throwaway host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nspawn_host
short_description: A throwaway systemd host under systemd-nspawn
version_added: 0.1.0
description:
  - Boots a Debian tree as a machine of its own, with its own network, under systemd-nspawn.
  - The tree is never written. Each host has an overlay on it, so that it starts in seconds and goes without
    a trace.
  - A reboot inside the host brings it back. Power off inside it stops it.
  - Interrupted anywhere, the next run finishes or removes what was begun.
author: The MEV platform's maintainers (@mev-platform)
options:
  name:
    description: The host's name; letters, digits and hyphens.
    type: str
    required: true
  state:
    description:
      - V(started) makes and boots the host, V(restarted) boots it again, V(stopped) powers it off and
        V(absent) removes it with all that it held.
    type: str
    choices: [started, restarted, stopped, absent]
    default: started
  tree:
    description: The Debian tree to lay the host over, from M(mev.platform.nspawn_tree).
    type: path
  bridge:
    description: The bridge to be on, from M(mev.platform.nspawn_network).
    type: str
  files:
    description: Files that the host finds at its first boot. Later runs leave them alone.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path in the host.
        type: str
        required: true
      content:
        description: What the file holds.
        type: str
        required: true
      mode:
        description: Permissions in octal, as a string.
        type: str
        default: "0644"
      user:
        description: Owner by the host's own F(/etc/passwd); its first group too.
        type: str
        default: root
  owner:
    description: Directory of the inventory that the host is for. Others may not change it.
    type: path
    required: true
  timeout:
    description: Seconds to wait for a boot or a power off.
    type: int
    default: 90
  state_dir:
    description: Where records and hosts are kept.
    type: path
    default: /var/lib/mev-platform
attributes:
  check_mode:
    support: full
    description: Says whether anything would change.
requirements: [systemd-container]
"""

EXAMPLES = r"""
- name: Boot a host
  mev.platform.nspawn_host:
    name: mev-local
    tree: "{{ nspawn_tree.path }}"
    bridge: mev-local
    owner: "{{ inventory_dir }}"
    files:
      - path: /etc/hostname
        content: mev-local
  become: true
"""

RETURN = r"""
root:
  description: Where the host's file system is seen on the controller.
  type: str
  returned: always
leader:
  description: The controller's pid of the host's init, 0 where none runs.
  type: int
  returned: always
"""

import functools
import os
import re
import shutil
import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mev.platform.plugins.module_utils.nspawn import (
    PACKAGES,
    HostError,
    boot_id,
    check_owner,
    guest_leader,
    guest_processes,
    kill,
    lock,
    mounts_under,
    power_off,
    read_record,
    run,
    wait_until,
    write_record,
)

NSPAWN = Path("/run/systemd/nspawn")

SUPERVISOR = """\
while :; do  # systemd-nspawn ends with 133 when its guest reboots
  systemd-nspawn "$@"; code=$?
  [ "$code" -eq 133 ] || exit "$code"
done"""


def unmounted(point: Path) -> bool:
    """Try to unmount; say whether it is done."""
    return subprocess.run(["umount", point], check=False, capture_output=True).returncode == 0


class Host:
    """One host on disk and in memory."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.given = module.params
        self.name: str = self.given["name"]
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,62}", self.name):
            raise HostError(
                "a name has lower-case letters, digits and hyphens, at most 63, and starts with a letter"
            )
        self.dir = Path(self.given["state_dir"]) / "hosts" / self.name
        self.root = self.dir / "root"
        self.record = read_record(self.dir / "record.json")
        check_owner(f"the host {self.name}", self.record, self.given["owner"])

    def running(self) -> bool:
        """Say whether the host's init lives, on the mount that it was given."""
        return guest_leader(self.root) is not None and self.root in mounts_under(self.root)

    def save(self, **values: object) -> None:
        """Write the record with `values` changed."""
        self.record = {**(self.record or {}), **values}
        write_record(self.dir / "record.json", self.record)

    def mount(self) -> None:
        """Lay the overlay over the tree."""
        assert self.record is not None  # noqa: S101  start() wrote it
        tree = Path(self.record["tree"])
        if not tree.is_dir():
            raise HostError(f"its tree {tree} is gone: destroy the host and create it again")
        for part in ("upper", "work", "root"):
            (self.dir / part).mkdir(parents=True, exist_ok=True)
        if self.root not in mounts_under(self.root):
            layers = f"lowerdir={tree},upperdir={self.dir}/upper,workdir={self.dir}/work"
            run(["mount", "-t", "overlay", "-o", layers, f"mev-{self.name}", str(self.root)])

    def seed(self) -> None:
        """Write the files of the first boot."""
        users = {}
        for line in (self.root / "etc/passwd").read_text().splitlines():
            name, _, uid, gid, *_ = line.split(":")
            users[name] = (int(uid), int(gid))
        for entry in self.given["files"]:
            if entry["user"] not in users:
                raise HostError(
                    f"the file {entry['path']} is for the user {entry['user']!r}, whom the tree lacks"
                )
            path = self.root / entry["path"].lstrip("/")
            new = [parent for parent in path.parents if not parent.exists()]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)  # a symlink would lead the write out of the tree
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:  # noqa: PTH123
                handle.write(entry["content"])
            path.chmod(int(entry["mode"], 8))
            for made in [path, *new]:
                os.chown(made, *users[entry["user"]])

    def boot(self) -> None:
        """Start the supervisor and wait for the guest's init."""
        log = self.dir / "console.log"
        arguments = [
            f"--directory={self.root}",  # the processes are known by this argument
            f"--machine={self.name}",
            f"--network-bridge={self.given['bridge']}",
            "--boot",
            "--register=no",
            "--keep-unit",
            "--resolv-conf=off",
            "--timezone=off",
            "--link-journal=no",
            "--capability=all",
            "--system-call-filter=@known",  # kernel keyrings and the like, as a machine has them
            "--console=pipe",
        ]
        environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "UNIFIED_CGROUP_HIERARCHY": "1",  # else a Debian 13 guest refuses a controller with cgroup v1
            "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "1",  # roles set sysctls
        }
        command = ["/bin/sh", "-c", SUPERVISOR, f"mev-host-{self.name}", *arguments]
        if Path("/run/systemd/system").is_dir():
            # a unit of its own: a login session may not hold a guest, and would end it when it ends
            command = [
                "systemd-run",
                "--quiet",
                "--collect",
                f"--unit=mev-host-{self.name}",
                "--slice=machine.slice",
                "--property=Delegate=yes",
                "--property=KillMode=mixed",
                f"--property=StandardOutput=append:{log}",
                f"--property=StandardError=append:{log}",
                *(f"--setenv={key}={value}" for key, value in environment.items()),
                *command,
            ]
        if shutil.which("systemd-nspawn") is None:
            package = PACKAGES["systemd-nspawn"]
            raise HostError(f"systemd-nspawn is missing: apt-get install --no-install-recommends {package}")
        with log.open("a") as output:
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
            )
        if not wait_until(lambda: guest_leader(self.root) is not None, self.given["timeout"]):
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise HostError(f"it did not boot in {self.given['timeout']} s; {log} ends with:\n{tail}")

    def start(self) -> bool:
        """Make the host if need be, and boot it; return whether anything changed."""
        if self.running():
            return False
        if self.module.check_mode:
            return True
        for needed in ("tree", "bridge"):
            if not self.given[needed]:
                raise HostError(f"the parameter {needed!r} is needed to start it")
        kill(self.root)  # a supervisor without a guest, or a guest whose mount is gone
        if self.record is None and self.dir.exists():
            self.wipe()  # a removal that was interrupted
        record = self.record or {"tree": self.given["tree"], "seeded": False}
        self.record = record
        self.save(owner=self.given["owner"], bridge=self.given["bridge"], boot_id=boot_id())
        self.mount()
        if not record["seeded"]:
            self.seed()
            self.save(seeded=True)
        self.boot()
        return True

    def stop(self) -> bool:
        """Power the host off as its own systemd would; return whether it ran."""
        if not guest_processes(self.root):
            return False
        if not self.module.check_mode:
            power_off(self.root)
            if not wait_until(lambda: not guest_processes(self.root), self.given["timeout"]):
                self.module.warn(f"{self.name} did not power off in {self.given['timeout']} s and was killed")
            kill(self.root)
        return True

    def wipe(self) -> None:
        """Unmount and delete the host's directory; the record goes last."""
        if self.root.exists():  # what systemd-nspawn leaves where it was killed
            status = self.root.stat()
            (NSPAWN / f"locks/inode-{status.st_dev}:{status.st_ino}").unlink(missing_ok=True)
        if (NSPAWN / f"propagate/{self.name}").exists():
            (NSPAWN / f"propagate/{self.name}").rmdir()
        for point in mounts_under(self.dir):
            if not wait_until(functools.partial(unmounted, point), 10):
                raise HostError(f"{point} can't be unmounted: see what uses it with fuser -vm {point}")
        for part in ("upper", "work", "root", "console.log"):
            path = self.dir / part
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        shutil.rmtree(self.dir)

    def remove(self) -> bool:
        """Remove the host; return whether there was one."""
        if not self.dir.exists() and not guest_processes(self.root):
            return False
        if not self.module.check_mode:
            kill(self.root)
            if self.dir.exists():
                self.wipe()
        return True


def main() -> None:
    file_spec = {
        "path": {"type": "str", "required": True},
        "content": {"type": "str", "required": True},
        "mode": {"type": "str", "default": "0644"},
        "user": {"type": "str", "default": "root"},
    }
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {
                "type": "str",
                "choices": ["started", "restarted", "stopped", "absent"],
                "default": "started",
            },
            "tree": {"type": "path"},
            "bridge": {"type": "str"},
            "files": {"type": "list", "elements": "dict", "default": [], "options": file_spec},
            "owner": {"type": "path", "required": True},
            "timeout": {"type": "int", "default": 90},
            "state_dir": {"type": "path", "default": "/var/lib/mev-platform"},
        },
        required_if=[("state", "started", ["tree", "bridge"]), ("state", "restarted", ["tree", "bridge"])],
        supports_check_mode=True,
    )
    state = module.params["state"]
    try:
        with lock(Path(module.params["state_dir"]) / "lock", waiting=module.warn):
            host = Host(module)
            if state == "absent":
                changed = host.remove()
            else:
                changed = host.stop() if state in ("stopped", "restarted") else False
                if state != "stopped":
                    changed = host.start() or changed
            leader = guest_leader(host.root) or 0
    except (HostError, OSError) as error:
        module.fail_json(msg=f"host {module.params['name']}: {error}")
    module.exit_json(changed=changed, root=str(host.root), leader=leader)


if __name__ == "__main__":
    main()
