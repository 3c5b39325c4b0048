"""The examples of deploy/examples, applied to a real API server, rendered with the chart, or run."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_python import Chart
from lupa import LuaRuntime

from devtools.kubernetes import Cluster
from tests.kubernetes.cli.commands import condition, drifted, in_step, parked

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "deploy/examples"


def kubectl(cluster: Cluster | None, *arguments: str) -> str:
    """What a command of kubectl says; it must succeed."""
    program = str(Path(sys.executable).with_name("kubectl"))
    where = ("--kubeconfig", str(cluster.kubeconfig)) if cluster is not None else ()
    done = subprocess.run([program, *where, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr, done.stderr
    return done.stdout


def documents(folder: Path) -> Iterator[Any]:
    """Every YAML document below a folder."""
    for file in sorted(folder.rglob("*.yaml")):
        yield from yaml.safe_load_all(file.read_text("utf-8"))


def test_manifests_are_accepted_as_they_stand(api_server: Cluster, namespace: str) -> None:
    said = kubectl(
        api_server, "apply", "-n", namespace, "--dry-run=server", "--validate=strict", "-f", str(EXAMPLES / "manifests")
    )
    assert said.count("created (server dry run)") == 4


def test_the_overlay_renames_what_refers_and_is_accepted(api_server: Cluster, namespace: str) -> None:
    folder = str(EXAMPLES / "kustomize/staging")
    instance, sync = yaml.safe_load_all(kubectl(None, "kustomize", folder))
    assert instance["metadata"]["name"] == sync["spec"]["instanceRef"]["name"] == "staging-production"
    assert instance["spec"]["environment"] == "Development"
    assert sync["spec"]["drift"]["policy"] == "Fix"
    kubectl(api_server, "apply", "-n", namespace, "--dry-run=server", "--validate=strict", "-k", folder)


def test_base_and_manifests_are_the_same(api_server: Cluster) -> None:
    for name in ("clerkinstance.yaml", "clerksync.yaml"):
        assert (EXAMPLES / "kustomize/base" / name).read_text() == (EXAMPLES / "manifests" / name).read_text()


def test_flux_installs_this_chart_and_then_the_objects() -> None:
    found = {(of["kind"], of["metadata"]["name"]): of for of in documents(EXAMPLES / "flux") if "metadata" in of}
    chart, objects = found["Kustomization", "nexus-auth-chart"], found["Kustomization", "nexus-auth-objects"]
    assert objects["spec"]["dependsOn"] == [{"name": "nexus-auth-chart"}]
    for of in (chart, objects):
        assert (ROOT / of["spec"]["path"] / "kustomization.yaml").is_file()
        assert ("GitRepository", of["spec"]["sourceRef"]["name"]) in found
    release = found["HelmRelease", "nexus-auth"]["spec"]
    assert release["targetNamespace"] == objects["spec"]["targetNamespace"]
    rendered = Chart.load(ROOT / release["chart"]["spec"]["chart"]).render(
        release["values"], name="nexus-auth", namespace="nexus-auth"
    )
    assert any("webhook/deployment.yaml" in name for name in rendered)


def test_argocd_gets_the_keys_that_it_looks_for() -> None:
    (config,) = yaml.safe_load_all(kubectl(None, "kustomize", str(EXAMPLES / "argocd")))
    assert config["metadata"]["name"] == "argocd-cm"
    kinds = {"ClerkInstance", "ClerkSync"}
    for what in ("health", "ignoreResourceUpdates"):
        assert {f"resource.customizations.{what}.nexus-auth.dev_{kind}" for kind in kinds} <= set(config["data"])
    ignored = yaml.safe_load(config["data"]["resource.customizations.ignoreResourceUpdates.nexus-auth.dev_ClerkSync"])
    assert "/status/conditions" not in ignored["jsonPointers"]


def test_what_argocd_ignores_is_in_the_status() -> None:
    schema = yaml.safe_load((ROOT / "crds/clerksync.yaml").read_text())["spec"]["versions"][0]["schema"]
    status = schema["openAPIV3Schema"]["properties"]["status"]["properties"]
    for pointer in yaml.safe_load((EXAMPLES / "argocd/ignore-updates.yaml").read_text())["jsonPointers"]:
        _, of, name = pointer.split("/")
        assert of == "metadata" or name in status


def stalled() -> dict[str, Any]:
    return in_step(
        conditions=[
            condition("Ready", "False", "UpstreamUnauthorized", "Clerk refuses"),
            condition("Stalled", "True", "UpstreamUnauthorized", "Clerk refuses"),
        ]
    )


@pytest.mark.parametrize(
    ("status", "spec", "generation", "health", "message"),
    [
        (None, {}, 1, "Progressing", "no operator"),
        ({"observedGeneration": -1}, {}, 1, "Progressing", "no operator"),
        (in_step(), {}, 1, "Healthy", "so it is"),
        (in_step(), {}, 2, "Progressing", "the spec changed"),
        (in_step(), {"suspend": True}, 1, "Suspended", "spec.suspend"),
        (drifted("user_1", total=1), {}, 1, "Healthy", ""),
        (parked(), {}, 1, "Degraded", "DeletionGuardTripped: run 41"),
        (stalled(), {}, 1, "Degraded", "UpstreamUnauthorized: Clerk refuses"),
        (in_step(conditions=[condition("Ready", "Unknown", "Pending", "no run")]), {}, 1, "Progressing", "no run"),
        (in_step(conditions=[]), {}, 1, "Progressing", ""),
    ],
)
def test_argocd_health(
    status: dict[str, Any] | None, spec: dict[str, Any], generation: int, health: str, message: str
) -> None:
    of = {"metadata": {"generation": generation}, "spec": spec} | ({"status": status} if status is not None else {})
    lua = LuaRuntime(unpack_returned_tuples=True)
    script = (EXAMPLES / "argocd/health.lua").read_text("utf-8")
    answer = lua.execute(f"obj = ...\n{script}", lua.table_from(json.loads(json.dumps(of)), recursive=True))
    assert answer["status"] == health
    assert message in answer["message"]
