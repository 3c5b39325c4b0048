"""An API server on which the chart alone brings the custom resources: the shared one has them already."""

import secrets
from collections.abc import Iterator

import pytest

from devtools.kubernetes import Cluster, find_definitions, prepare, temporary_cluster
from tests.kubernetes.chart.releases import Releases
from tests.kubernetes.chart.rendering import CRDS


@pytest.fixture(scope="package")
def bare() -> Iterator[Cluster]:
    """An API server without our custom resources; those of others are there: Prometheus operator, Gateway API."""
    prepare(print)
    with temporary_cluster() as cluster:
        cluster.admin.install_definitions(find_definitions())
        yield cluster


@pytest.fixture
def releases(bare: Cluster) -> Iterator[Releases]:
    """A namespace that enforces PodSecurity `restricted`; custom resources go with the test."""
    name = f"chart-{secrets.token_hex(4)}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    bare.admin.call("POST", "/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
    made = Releases(bare, name, bare.kubeconfig)
    yield made
    for release in made.helm("list", "--short", "--all-namespaces").said.split():
        made.helm("uninstall", release, "--no-hooks", check=False)
    made.kubectl("delete", "crd", *CRDS, "--ignore-not-found", "--wait")
    bare.admin.call("DELETE", f"/api/v1/namespaces/{name}")
