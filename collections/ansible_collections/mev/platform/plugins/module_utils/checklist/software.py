# Copyright (c) the MEV platform's authors. Apache-2.0 (see LICENSE)
"""What must run on the machine and what it must reach: system, kernel, time, names, endpoints, packages."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from ansible_collections.mev.platform.plugins.module_utils.checklist.outcome import (
    FAILED,
    PASSED,
    UNKNOWN,
    UNWANTED,
    Check,
    Facts,
    Outcome,
    Wanted,
    number,
    settle,
    version,
)


def access(facts: Facts) -> Outcome:
    """Whether the host could be asked at all."""
    if facts.get("machine"):
        return PASSED, "ssh, Python and sudo work", "ssh, Python and sudo", ""
    why = " ".join(str(facts.get("problem") or "it was not asked").split())
    return FAILED, why, "ssh, Python and sudo", "nothing else was measured: mend this first"


def _os(_: Facts, wanted: Wanted) -> Outcome:
    known = ", ".join(wanted["supported"])
    if wanted["platform"] in wanted["supported"]:
        return PASSED, wanted["platform"], f"one of {known}", ""
    return FAILED, f"{wanted['platform']}, which is not supported", f"one of {known}", "install one of these"


def _kernel(machine: Facts, wanted: Wanted) -> Outcome:
    running, want = version(machine["kernel"]), f"{wanted['min_kernel']} or newer"
    result = UNKNOWN if not running else PASSED if running >= version(wanted["min_kernel"]) else FAILED
    mend = "install a newer kernel of the distribution and reboot (preflight_min_kernel)"
    return result, machine["kernel"] or "it can't be read", want, mend


def _virtualisation(machine: Facts, wanted: Wanted) -> Outcome:
    kind = machine["virtualisation"]
    said = "bare metal" if kind == "none" else kind or "nothing tells"
    if not wanted["bare_metal"]:
        return UNWANTED, said, "bare metal or not", ""
    result = UNKNOWN if not kind else PASSED if kind == "none" else FAILED
    mend = "a hypervisor adds jitter: use bare metal, or set preflight_bare_metal to false"
    return result, said, "bare metal", mend


def _clock_source(machine: Facts, wanted: Wanted) -> Outcome:
    clock, good = machine["clock"], wanted["clock_sources"]
    if not good:
        return UNWANTED, clock["source"] or "it can't be read", "any", ""
    result = UNKNOWN if not clock["source"] else PASSED if clock["source"] in good else FAILED
    mend = "the kernel distrusts the TSC: see dmesg | grep -i tsc, and the firmware's settings"
    return result, clock["source"] or "it can't be read", f"one of {', '.join(good)}", mend


def _time_sync(machine: Facts, wanted: Wanted) -> Outcome:
    clock, most = machine["clock"], wanted["max_clock_offset_ms"]
    want = f"at most {number(most)} ms off, by chrony"
    if not clock["installed"]:  # so on a host that the role base has not seen yet
        return UNKNOWN, "chrony is not installed yet: the role base does it", want, ""
    mend = "see chronyc sources, and base_ntp_servers"
    if not clock["synchronised"]:
        return FAILED, str(clock["why"] or "not synchronised"), want, mend
    said = f"{clock['offset_ms']} ms off {clock['server']}"
    return (PASSED if clock["offset_ms"] <= most else FAILED), said, want, mend


def _dns(machine: Facts, _: Wanted) -> Outcome:
    names = machine["names"]
    lost = sorted(name for name, good in names.items() if not good)
    if not names:
        return UNWANTED, "no endpoint of this host has a name", "nothing", ""
    want = "the names of the endpoints resolve"
    said = f"{', '.join(lost)} can't be resolved" if lost else f"{', '.join(sorted(names))} resolved"
    return (FAILED if lost else PASSED), said, want, "see engine_chains, and /etc/resolv.conf on the host"


def _endpoints(_: Facts, wanted: Wanted) -> Outcome:
    asked = wanted["endpoints"]
    if not asked["count"]:
        return UNWANTED, "this host runs no engine", "nothing", ""
    want = f"{asked['count']} answer with their chain's id"
    if asked["problems"]:
        return FAILED, "; ".join(asked["problems"]), want, "engine_chains has endpoints that can't be used"
    if asked["silent"]:
        return UNKNOWN, "; ".join(asked["silent"]) + " (this run starts it)", want, ""
    return PASSED, f"{asked['count']} answered with their chain's id", want, ""


def _mesh(_: Facts, wanted: Wanted) -> Outcome:
    address, network = str(wanted["address"]), str(wanted["mesh"])
    if not network:
        return UNWANTED, address or "no address", "there is no mesh (mev_mesh_network)", ""
    try:
        good = ipaddress.ip_address(address) in ipaddress.ip_network(network)
    except ValueError as error:  # no address, or a network with bits of a host in it
        return FAILED, str(error), f"an address in {network}", "see mev_address and mev_mesh_network"
    want = f"an address in {network}"
    return (PASSED if good else FAILED), address, want, "see mev_address and mev_mesh_network"


def _docker(machine: Facts, wanted: Wanted) -> Outcome:
    if not wanted["docker"]:
        return UNWANTED, "not asked", "systemd runs the platform (preflight_docker: false)", ""
    docker, want = machine["docker"], "Docker 24.0 or newer with buildx"
    said = f"Docker {docker['version']}, buildx {docker['buildx'] or 'missing'}" if docker["version"] else ""
    good = version(docker["version"]) >= (24,) and docker["buildx"]
    return (
        (PASSED if good else FAILED),
        said or str(docker["why"]),
        want,
        "install it, or set preflight_docker to false",
    )


def _kubernetes(machine: Facts, wanted: Wanted) -> Outcome:
    if not wanted["kubernetes"]:
        return UNWANTED, "not asked", "systemd runs the platform (preflight_kubernetes: false)", ""
    cluster, want = machine["kubernetes"], "Kubernetes 1.28 or newer with an ingress controller"
    mend = "mend the cluster, or set preflight_kubernetes to false"
    if not cluster["version"]:
        return FAILED, str(cluster["why"]), want, mend
    classes = cluster["ingress_classes"]
    said = f"Kubernetes {cluster['version']}, ingress classes: "
    said += "not readable from here" if classes is None else ", ".join(classes) or "none"
    if version(cluster["version"]) < (1, 28) or classes == []:
        return FAILED, said, want, mend
    return (PASSED if classes else UNKNOWN), said, want, ""


def packages(wanted: Wanted, severity: str) -> Iterator[dict[str, str]]:
    """What the distribution itself provides, an item each; other sources bring what they are told to."""
    for package in wanted["packages"]:
        what, least, platform = package["what"], package["least"], wanted["platform"]
        want = f"{least} or newer"
        if not package["wanted"]:
            outcome = UNWANTED, "not for this host, or from elsewhere", "not from the distribution", ""
        elif package["provided"] is None:
            outcome = UNKNOWN, f"what {platform} provides is not known", want, ""
        else:
            said = f"{what} of {platform} is {package['provided'] or 'not packaged'}"
            good = package["provided"] and version(package["provided"]) >= version(least)
            outcome = (PASSED if good else FAILED), said, want, package["mend"]
        yield settle(f"package_{what.lower()}", f"Package: {what}", outcome, severity)


CHECKS = (
    Check("access", "Access", "fail fail fail", lambda machine, _: access({"machine": machine})),
    Check("os", "Operating system", "fail fail fail", _os),
    Check("kernel", "Kernel", "fail fail warn", _kernel),
    Check("virtualisation", "Virtualisation", "fail warn warn", _virtualisation),
    Check("clock_source", "Clock source", "fail warn warn", _clock_source),
    Check("time_sync", "Time", "fail warn warn", _time_sync),
    Check("dns", "Names", "fail fail warn", _dns),
    Check("endpoints", "Endpoints", "fail fail fail", _endpoints),
    Check("mesh", "Address on the mesh", "fail fail fail", _mesh),
    Check("docker", "Docker", "fail fail warn", _docker),
    Check("kubernetes", "Kubernetes", "fail fail warn", _kubernetes),
)
