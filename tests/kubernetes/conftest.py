"""A real API server for each worker, with our custom resources, and a namespace of its own for each test."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from devtools.kubernetes import Cluster, find_binary, prepare, temporary_cluster

CRDS = Path(__file__).parents[2] / "crds"


@pytest.fixture(scope="session")
def api_server() -> Iterator[Cluster]:
    """The API server of this worker: `.kubeconfig` and `.admin` are the administrator's. No test stops it."""
    prepare(print)
    with temporary_cluster() as cluster:
        cluster.admin.install_definitions(CRDS)
        yield cluster


@pytest.fixture
def namespace(api_server: Cluster) -> Iterator[str]:
    """A namespace of the test's own. Its end is not waited for: the server's is near."""
    name = f"test-{secrets.token_hex(4)}"
    api_server.admin.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    yield name
    api_server.admin.call("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture(scope="session")
def helm() -> Path:
    """The command helm, of the version that the kit pins."""
    prepare(print)
    return find_binary("helm")
