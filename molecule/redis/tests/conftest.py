"""The cluster that the inventory names."""

from __future__ import annotations

import pytest
from cluster import Cluster, found


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Cluster:
    cluster = found(request.config.option.ansible_inventory)
    assert len(cluster.hosts) == 3
    return cluster
