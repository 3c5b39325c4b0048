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
    """A namespace of the test's own, for releases; our custom resources go with the test."""
    made = _restricted(bare)
    yield made
    for release in made.helm("list", "--short", "--all-namespaces").said.split():
        made.helm("uninstall", release, "--no-hooks", check=False)
    _remove_definitions(made)
    bare.admin.call("DELETE", f"/api/v1/namespaces/{made.namespace}")


@pytest.fixture(scope="module")
def trial(bare: Cluster) -> Releases:
    """A namespace for what is tried and never kept (dry runs)."""
    return _restricted(bare)


def _remove_definitions(made: Releases) -> None:
    """Their finalizer tries again ever less often where a try of it failed; a change makes it look at once."""
    gone = ("delete", "crd", *CRDS, "--ignore-not-found", "--wait", "--timeout=15s")
    if made.kubectl(*gone, check=False).code != 0:
        made.kubectl("annotate", "crd", *CRDS, "tests/look=again", check=False)
        made.kubectl(*gone)


def _restricted(cluster: Cluster) -> Releases:
    """A namespace that enforces PodSecurity `restricted`."""
    name = f"chart-{secrets.token_hex(4)}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.admin.call("POST", "/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
    return Releases(cluster, name, cluster.kubeconfig)
