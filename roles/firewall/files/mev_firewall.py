#!/usr/bin/python3
"""Change UFW's rules in one step, and go back unless the change is confirmed in time.

mev-firewall apply     read what is wanted (JSON) from stdin; change what differs; arm the way back
mev-firewall confirm   keep the change
mev-firewall rollback  go back now; what the timer does, and the boot after a change that was not confirmed
mev-firewall status    say what is in force

`ufw reload` empties chains before it fills them. Here each family's chains and policies change in one commit
of iptables-restore, so that no packet meets half a firewall. Each command prints one JSON object; a failure
is one sentence on stderr and exit code 1.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

STATE = Path("/var/lib/mev-firewall")
PENDING = STATE / "pending"
LAST = STATE / "last.json"
UNIT = "mev-firewall-rollback"
CONF, DEFAULTS = Path("/etc/ufw/ufw.conf"), Path("/etc/default/ufw")
RULES = {4: Path("/etc/ufw/user.rules"), 6: Path("/etc/ufw/user6.rules")}
UFW_INIT = "/lib/ufw/ufw-init"
FLOWS = ("input", "output", "forward")
OTHERS = ("firewalld", "nftables", "netfilter-persistent", "shorewall")
"""Services that load rules of their own and would undo ours, or we theirs."""


class RefusedError(Exception):
    """What was asked can't be done; the message says why."""


def run(command: list[str], stdin: str | None = None) -> str:
    """Run a command and return what it printed."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        raise RefusedError(f"{' '.join(command)} ended with {done.returncode}: {said}")
    return done.stdout


def works(command: list[str]) -> bool:
    """Say whether a command succeeds."""
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def now() -> str:
    """This moment, in UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())


def write(path: Path, text: str, mode: int = 0o600) -> None:
    """Put a file in place whole, with the owner and mode of the one that was there."""
    new = path.with_name(f".{path.name}.mev")
    with new.open("w") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    if path.exists():
        old = path.stat()
        os.chown(new, old.st_uid, old.st_gid)
        mode = old.st_mode & 0o7777
    new.chmod(mode)
    new.replace(path)


class Family:
    """UFW's chains of IPv4 or of IPv6."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.tool, self.ufw = ("iptables", "ufw") if version == 4 else ("ip6tables", "ufw6")

    def usable(self) -> bool:
        """Say whether the kernel has this family."""
        return works([self.tool, "-L", "INPUT", "-n"])

    def save(self) -> str:
        """Return the table filter as it is in force."""
        return run([f"{self.tool}-save", "-t", "filter"])

    def restore(self, text: str) -> None:
        """Replace the chains that the text names, in one commit; others stay."""
        run([f"{self.tool}-restore", "-w", "10", "-n"], text)

    def loaded(self) -> bool:
        """Say whether packets go through UFW's chains."""
        lines = self.save().splitlines()
        return all(line in lines for line in self.hooks())

    def hooks(self) -> list[str]:
        """Return the rules by which a packet comes to the rules of user.rules."""
        return [
            f"-A INPUT -j {self.ufw}-before-input",
            f"-A {self.ufw}-before-input -j {self.ufw}-user-input",
        ]

    def commit(self, rules: str, incoming: str) -> str:
        """Return user.rules with the policies, so that both change in one commit."""
        ufw, reject = self.ufw, incoming == "REJECT"
        chains = [f"{kind}-{flow}" for kind in ("skip-to-policy", "reject", "track") for flow in FLOWS[:2]]
        head = ["*filter", ":INPUT DROP [0:0]", ":OUTPUT ACCEPT [0:0]"]
        head += [f":{ufw}-{chain} - [0:0]" for chain in chains]
        tail = [f"-A {ufw}-skip-to-policy-input -j {incoming}", f"-A {ufw}-skip-to-policy-output -j ACCEPT"]
        tail += [f"-A {ufw}-reject-input -j REJECT"] if reject else []
        tail += [
            f"-A {ufw}-track-output -p {proto} -m conntrack --ctstate NEW -j ACCEPT"
            for proto in ("tcp", "udp")
        ]
        body = [
            line for line in rules.splitlines() if line and not line.startswith(("*filter", "COMMIT", "###"))
        ]
        return "\n".join([*head, *body, *tail, "COMMIT", ""])

    def policy(self, verdict: str) -> None:
        """Set the policy of INPUT alone."""
        self.restore(f"*filter\n:INPUT {verdict} [0:0]\nCOMMIT\n")

    def expected(self, commit: str) -> dict[str, list[str]]:
        """Load a commit for trial, in a network namespace of its own, and return it as the kernel has it."""
        run([f"{self.tool}-restore", "--test", "-n"], commit)
        script = f"{self.tool}-restore && {self.tool}-save -t filter"
        saved = run(["unshare", "--net", "--", "sh", "-c", script], commit)
        return chains_of(saved, declared(commit))


def declared(text: str) -> list[str]:
    """Return the chains that a text for iptables-restore replaces."""
    return re.findall(r"^:(\S+) ", text, re.MULTILINE)


def chains_of(saved: str, names: Iterable[str]) -> dict[str, list[str]]:
    """Pick chains out of what iptables-save printed: policy first, then the rules of UFW's own chains.

    Of the built-in chains only the policy is ours: others hook their chains there, too.
    """
    found: dict[str, list[str]] = {}
    for name in names:
        policy = re.search(rf"^:{re.escape(name)} (\S+) ", saved, re.MULTILINE)
        if policy:
            rules = re.findall(rf"^-A {re.escape(name)} .*$", saved, re.MULTILINE)
            found[name] = [policy[1], *(rules if policy[1] == "-" else [])]
    return found


def as_restore(chains: Mapping[str, list[str]]) -> str:
    """Return chains as a text for iptables-restore -n that puts them back as they were."""
    head = [f":{name} {lines[0]} [0:0]" for name, lines in chains.items()]
    rules = [rule for lines in chains.values() for rule in lines[1:]]
    return "\n".join(["*filter", *head, *rules, "COMMIT", ""])


def with_settings(text: str, settings: Mapping[str, str]) -> str:
    """Return a file of NAME=value lines with some of them set, all else as it was."""
    for name, value in settings.items():
        line = f"{name}={value}"
        text, count = re.subn(rf"^{name}=.*$", line, text, flags=re.MULTILINE)
        if not count:
            text = f"{text.rstrip()}\n{line}\n"
    return text


def enabled() -> bool:
    """Say whether UFW is to start at boot."""
    return bool(re.search(r"^ENABLED=[\"']?yes", CONF.read_text(), re.MULTILINE | re.IGNORECASE))


def families() -> list[Family]:
    """Return those that the kernel has."""
    return [family for family in (Family(4), Family(6)) if family.usable()]


def active() -> bool:
    """Say whether UFW is enabled and in force."""
    return enabled() and all(family.loaded() for family in families())


# --- the way back ----------------------------------------------------------------------------------------


def arm(seconds: int, touched: Mapping[int, list[str]]) -> dict[str, Any]:
    """Save files and chains as they are, and start the timer that restores them."""
    STATE.mkdir(mode=0o700, exist_ok=True)
    fresh = STATE / "pending.new"
    shutil.rmtree(fresh, ignore_errors=True)  # what a run that died here left
    (fresh / "files").mkdir(parents=True)
    for path in (*RULES.values(), CONF, DEFAULTS):
        (fresh / "files" / path.name).write_text(path.read_text())
    meta: dict[str, Any] = {
        "armed": now(),
        "until": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(time.time() + seconds)),
        "active": active(),
        "chains": {
            family.version: chains_of(family.save(), touched[family.version]) for family in families()
        },
    }
    write(fresh / "meta.json", json.dumps(meta, indent=1))
    os.sync()
    fresh.rename(PENDING)
    stop_timer()
    timer = [f"--on-active={seconds}", "--timer-property=AccuracySec=100ms", f"--unit={UNIT}.service"]
    run(["systemd-run", "--quiet", *timer])
    run(["systemctl", "is-active", "--quiet", f"{UNIT}.timer"])
    return meta


def stop_timer() -> None:
    """Stop the timer if it runs; it is gone then, for it was made for one change."""
    works(["systemctl", "stop", f"{UNIT}.timer"])


def ended(outcome: str, why: str) -> dict[str, Any]:
    """Note how the change ended, then forget what was saved for it."""
    last = {"outcome": outcome, "why": why, "at": now(), "change": read_json(PENDING / "meta.json")["armed"]}
    write(LAST, json.dumps(last))
    done = STATE / "pending.done"
    shutil.rmtree(done, ignore_errors=True)  # what a run that died here left
    PENDING.rename(done)
    shutil.rmtree(done)
    return last


def read_json(path: Path) -> Any:
    """Read a JSON file; None where there is none."""
    return json.loads(path.read_text()) if path.exists() else None


def rollback(why: str) -> dict[str, Any]:
    """Put files and chains back as they were before the pending change."""
    meta = read_json(PENDING / "meta.json")
    if meta is None:
        return {"outcome": "nothing to go back from", "why": why, "at": now()}
    for path in (*RULES.values(), CONF, DEFAULTS):
        write(path, (PENDING / "files" / path.name).read_text())
    usable = [family for family in families() if str(family.version) in meta["chains"]]
    if not any(works([family.tool, "-n", "-L", f"{family.ufw}-user-input"]) for family in usable):
        # UFW starts after us, from these files
        why = "the host was started again before the change was confirmed, or the change died before it began"
    else:
        if not meta["active"]:
            for family in usable:  # ufw-init empties the chains first: open before that, or all is shut
                family.policy("ACCEPT")
            run([UFW_INIT, "force-stop"])
        for family in usable:
            family.restore(as_restore(former(meta["chains"][str(family.version)], meta["active"])))
    last = ended("rolled back", why)
    stop_timer()
    return last


def former(chains: Mapping[str, list[str]], was_active: bool) -> dict[str, list[str]]:
    """Pick what to put back: policies alone where UFW was not in force; else all but FORWARD, not touched."""
    return {
        name: lines
        for name, lines in chains.items()
        if (name != "FORWARD" if was_active else lines[0] != "-")
    }


# --- commands --------------------------------------------------------------------------------------------


def apply(wanted: Mapping[str, Any], seconds: int, check: bool) -> dict[str, Any]:
    """Make the rules that are wanted the ones in force, and arm the way back."""
    if PENDING.exists() and not check:
        rollback("another change began before this one was confirmed")
    incoming, present = wanted["incoming"], families()
    rules = {4: wanted["user.rules"], 6: wanted["user6.rules"]}
    commits = {family.version: family.commit(rules[family.version], incoming) for family in present}
    expected = {family.version: family.expected(commits[family.version]) for family in present}

    files = {RULES[version]: text for version, text in rules.items()}
    files[CONF] = with_settings(CONF.read_text(), {"ENABLED": "yes", "LOGLEVEL": wanted["logging"]})
    policies = {"IPV6": "yes", "DEFAULT_INPUT_POLICY": f'"{incoming}"', "DEFAULT_OUTPUT_POLICY": '"ACCEPT"'}
    files[DEFAULTS] = with_settings(DEFAULTS.read_text(), policies)
    differing = {path: text for path, text in files.items() if path.read_text() != text}
    was_active = active()
    drifted = was_active and any(
        chains_of(family.save(), expected[family.version]) != expected[family.version] for family in present
    )
    result = {
        "changed": bool(differing or drifted or not was_active),
        "diff": "".join(diff(path, text) for path, text in differing.items()),
        "first": not was_active,
        "drifted": drifted,
        "families": [f"IPv{family.version}" for family in present],
    }
    if check or not result["changed"]:
        return result
    if not was_active:
        refuse_others(present)
    touched = {family.version: [*declared(commits[family.version]), "FORWARD"] for family in present}
    meta = arm(seconds, touched)
    try:
        land(files, was_active, present)
        for family in present:
            family.restore(commits[family.version])
            if chains_of(family.save(), expected[family.version]) != expected[family.version]:
                raise RefusedError(f"{family.tool} does not read back as it was written")
        write(DEFAULTS, files[DEFAULTS])
        if not active():
            raise RefusedError("UFW's chains are not in force after all")
    except BaseException as error:
        rollback(f"the change failed: {error}")
        raise
    meta["applied"] = time.clock_gettime(time.CLOCK_BOOTTIME)
    write(PENDING / "meta.json", json.dumps(meta, indent=1))
    return {**result, "until": meta["until"]}


def land(files: Mapping[Path, str], was_active: bool, present: list[Family]) -> None:
    """Put the files in place. Start UFW where it is not in force, with everything open as it was."""
    if was_active:
        for path, text in files.items():
            write(path, text, 0o640)
        return
    for path, text in files.items():
        write(
            path,
            with_settings(text, {"DEFAULT_INPUT_POLICY": '"ACCEPT"'}) if path == DEFAULTS else text,
            0o640,
        )
    for family in present:
        family.policy("ACCEPT")
    run([UFW_INIT, "force-stop"])  # chains of a start that was cut short
    run([UFW_INIT, "start"])
    # From here connections are tracked. Those that were open before become known by their next packets,
    # and are let on when the policy becomes to drop.
    time.sleep(3)


def refuse_others(present: list[Family]) -> None:
    """Raise when another firewall is in charge: starting UFW would open what it shuts."""
    for name in OTHERS:
        if works(["systemctl", "is-enabled", "--quiet", f"{name}.service"]):
            raise RefusedError(f"{name}.service is enabled and loads rules of its own: disable it first")
    for family in present:
        saved = family.save()
        if re.search(r"^:INPUT (?!ACCEPT)", saved, re.MULTILINE) and f":{family.ufw}-" not in saved:
            raise RefusedError(
                f"another firewall has set {family.tool}'s policy of INPUT: remove its rules first"
            )


def diff(path: Path, text: str) -> str:
    """Return the difference between a file and what it is to become."""
    old = path.read_text().splitlines(keepends=True)
    return "".join(difflib.unified_diff(old, text.splitlines(keepends=True), str(path), f"{path} (wanted)"))


def confirm(over: str) -> dict[str, Any]:
    """Keep the change. Over ssh only a connection that is younger than the change counts."""
    meta = read_json(PENDING / "meta.json")
    if meta is None:
        last = read_json(LAST) or {"outcome": "none", "at": "never", "why": "no change was made"}
        raise RefusedError(
            f"no change waits to be confirmed; the last one: {last['outcome']} {last['at']}, {last['why']}"
        )
    if "applied" not in meta:
        raise RefusedError("the change is not complete")
    if over == "ssh":
        began = ssh_began()
        if began is None:
            raise RefusedError("this is no ssh connection: no ancestor of this process is sshd")
        if began <= meta["applied"]:
            age = meta["applied"] - began
            raise RefusedError(f"this ssh connection is {age:.0f} s older than the change: it proves nothing")
    last = ended("confirmed", f"over {over}")
    stop_timer()
    return last


def ssh_began() -> float | None:
    """Return when the ssh connection began that this process belongs to, in seconds since the boot.

    The nearest sshd above us serves one connection, and all sessions that share its control socket.
    """
    pid = os.getpid()
    while pid > 1:
        stat = Path(f"/proc/{pid}/stat").read_text()
        name, rest = stat[stat.index("(") + 1 : stat.rindex(")")], stat[stat.rindex(")") + 2 :].split()
        if name.startswith("sshd"):
            return int(rest[19]) / os.sysconf("SC_CLK_TCK")
        pid = int(rest[1])
    return None


def status() -> dict[str, Any]:
    """Say what is in force, and how the last change ended."""
    pending = read_json(PENDING / "meta.json")
    return {
        "active": active(),
        "rules": len(re.findall(r"^### tuple", "".join(p.read_text() for p in RULES.values()), re.MULTILINE)),
        "pending": pending and {key: pending[key] for key in ("armed", "until")},
        "last": read_json(LAST),
    }


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Let one command of this program run at a time."""
    with Path("/run/mev-firewall.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    apply_parser = commands.add_parser("apply")
    apply_parser.add_argument("--timeout", type=int, required=True, help="seconds to wait for confirm")
    apply_parser.add_argument("--check", action="store_true", help="only say what would change")
    commands.add_parser("confirm").add_argument("--over", default="ssh", choices=["ssh", "tcp", "console"])
    commands.add_parser("rollback").add_argument("--why", default="the change was not confirmed in time")
    commands.add_parser("status")
    given = parser.parse_args()
    os.environ["LC_ALL"] = "C"
    os.umask(0o077)
    try:
        with alone():
            if given.command == "apply":
                result = apply(json.load(sys.stdin), given.timeout, given.check)
            elif given.command == "confirm":
                result = confirm(given.over)
            elif given.command == "rollback":
                result = rollback(given.why)
            else:
                result = status()
    except (RefusedError, OSError) as error:
        sys.exit(f"mev-firewall: {error}")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
