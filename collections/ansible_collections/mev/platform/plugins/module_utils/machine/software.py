# Copyright (c) the MEV platform's authors. Apache-2.0 (see LICENSE)
"""Docker and Kubernetes, asked only where the inventory says that they are used."""

from __future__ import annotations

import json
from typing import Any

from ansible_collections.mev.platform.plugins.module_utils.machine.source import ABSENT, Source


def docker(source: Source) -> dict[str, Any]:
    """Versions of the engine and of buildx; empty: not there, or it does not answer."""
    status, said = source.run(["docker", "version", "--format", "{{.Server.Version}}"])
    built, words = source.run(["docker", "buildx", "version"])
    why = {0: None, ABSENT: "docker is not installed"}.get(status, "the Docker engine does not answer")
    # github.com/docker/buildx v0.13.1 788433953af10f2a698f5c07611dddce2e08c7a0
    buildx = next((word for word in words.split() if word.lstrip("v")[:1].isdigit()), "present")
    return {
        "version": said.strip() if status == 0 else "",
        "buildx": buildx if built == 0 else "",
        "why": why,
    }


def kubernetes(source: Source) -> dict[str, Any]:
    """Version of the cluster's API server (or of this host's kubelet), and its ingress classes."""
    status, said = source.run(["kubectl", "version", "--output=json", "--request-timeout=5s"])
    version, why = (
        "",
        "neither kubectl nor kubelet is installed" if status == ABSENT else "no API server answers",
    )
    try:
        version = json.loads(said)["serverVersion"]["gitVersion"] if said else ""
    except (ValueError, KeyError, TypeError):
        version = ""
    classes: list[str] | None = None  # not known
    if version:
        listed, text = source.run(
            ["kubectl", "get", "ingressclasses", "--output=name", "--request-timeout=5s"]
        )
        classes = [line.rpartition("/")[2] for line in text.split()] if listed == 0 else None
    else:
        kubelet, text = source.run(["kubelet", "--version"])  # Kubernetes v1.29.3
        version = text.split()[-1] if kubelet == 0 and text.split() else ""
    return {"version": version.lstrip("v"), "ingress_classes": classes, "why": None if version else why}
