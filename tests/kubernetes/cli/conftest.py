"""A namespace, `kubectl nexus` in it, and whoever plays the operator."""

from pathlib import Path

import pytest

from devtools.kubernetes import Cluster
from tests.kubernetes.cli.commands import Nexus, Objects


@pytest.fixture
def nexus(api_server: Cluster, namespace: str) -> Nexus:
    """With the administrator's rights."""
    return Nexus(Path(api_server.kubeconfig), namespace=namespace)


@pytest.fixture
def objects(api_server: Cluster, namespace: str) -> Objects:
    """In the test's namespace."""
    return Objects(api_server, namespace=namespace)
