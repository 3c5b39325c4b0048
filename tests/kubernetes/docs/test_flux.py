"""The shipped Flux release, by the `helm install --wait` that Flux's helm-controller does."""

from pathlib import Path

import pytest
import yaml

from devtools.postgres import fetch
from tests.kubernetes.docs.typed import ROOT, PersonsCluster, blocks

RELEASE = ROOT / "deploy/examples/flux/chart/helmrelease.yaml"


@pytest.mark.slow
def test_the_flux_release_on_an_empty_cluster_ends_ready_with_one_install(helm: Path, tmp_path: Path) -> None:
    """Nobody makes a login in between: the Job does, with the passwords of the Secrets."""
    values = tmp_path / "values.yaml"
    release = yaml.safe_load(RELEASE.read_text().replace("<registry>", "registry.example"))
    values.write_text(yaml.safe_dump(release["spec"]["values"]))
    with PersonsCluster(tmp_path / "cluster") as cluster:
        _, *typed = blocks("install.md", heading="1. Namespace and Secrets")
        for block in typed:
            cluster.said_by(block)
        install = f"helm install nexus-auth deploy/helm/nexus-auth --namespace auth --values {values}"
        assert "STATUS: deployed" in cluster.said_by(f"{install} --wait --timeout 100s")
        ready = "jsonpath='{.items[*].status.conditions[?(@.type==\"Ready\")].status}'"
        assert set(
            cluster.said_by(f"kubectl get pods -l app.kubernetes.io/component!=migrations -o {ready}").split()
        ) == {"True"}
        logins = fetch(
            cluster.env["OWNER_DATABASE_URL"],
            "select rolname from pg_roles where rolcanlogin and rolname like 'clerk%'",
        )
        assert sorted(name for (name,) in logins) == ["clerk_reconciler_login", "clerk_webhook_login"]
        inherits = "select bool_or(rolinherit) from pg_roles where rolname like 'clerk%login'"
        assert fetch(cluster.env["OWNER_DATABASE_URL"], inherits)[0][0] is False
