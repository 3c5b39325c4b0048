"""The definitions as people and programs meet them: explain, get, kubectl wait, a status, a selector."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from devtools.kubernetes import ApiError, Cluster
from services.reconciler.manifests import CRDS
from tests.kubernetes.crds.test_rules import PLURALS, apply, document

SECONDS = 30.0


def kubectl(cluster: Cluster, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
    program = Path(sys.executable).with_name("kubectl")
    done = subprocess.run(
        [program, "--kubeconfig", cluster.kubeconfig, *arguments],
        env={"PATH": os.defpath, "HOME": str(cluster.folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not check or done.returncode == 0, done.stderr
    return done


def fields(schema: dict[str, Any], path: str) -> list[tuple[str, dict[str, Any]]]:
    """Every field below a schema, with its path."""
    found = []
    for name, part in schema.get("properties", {}).items():
        here = f"{path}.{name}"
        found += [(here, part), *fields(part, here), *fields(part.get("items", {}), here)]
    return found


def schemas() -> list[tuple[str, dict[str, Any]]]:
    found = []
    for file in sorted(CRDS.glob("*.yaml")):
        definition = yaml.safe_load(file.read_text())["spec"]
        schema = definition["versions"][0]["schema"]["openAPIV3Schema"]
        found += [each for each in fields(schema, definition["names"]["kind"]) if not each[0].endswith(".metadata")]
    return found


@pytest.mark.parametrize(("path", "schema"), schemas(), ids=lambda each: each if isinstance(each, str) else "")
def test_every_field_is_described_and_bounded(path: str, schema: dict[str, Any]) -> None:
    assert len(schema["description"]) > 5
    if ".spec." in path:
        if schema["type"] == "string":
            assert "maxLength" in schema or "enum" in schema
        if schema["type"] == "array":
            assert "maxItems" in schema


def test_kubectl_explains_every_field(api_server: Cluster) -> None:
    deadline = time.monotonic() + SECONDS  # the server publishes a new definition's description a moment later
    for kind, plural in PLURALS.items():
        while (told := kubectl(api_server, "explain", "--recursive", plural, check=False)).returncode:
            assert time.monotonic() < deadline, told.stderr
        for path, _ in schemas():
            if path.startswith(f"{kind}."):
                assert path.rpartition(".")[2] in told.stdout
    assert "30s or more" in kubectl(api_server, "explain", "csync.spec.interval").stdout
    assert "approve: RUN" in " ".join(kubectl(api_server, "explain", "csync").stdout.split())


def test_a_status_says_that_nobody_has_looked_yet(api_server: Cluster, namespace: str) -> None:
    for kind in PLURALS:
        created = apply(api_server, namespace, document(kind, {}))
        assert created["status"] == {"observedGeneration": -1}


def test_columns(api_server: Cluster, namespace: str) -> None:
    apply(api_server, namespace, document("ClerkInstance", {}))
    apply(api_server, namespace, document("ClerkSync", {}))
    now, soon = "2026-01-01T00:00:00Z", "2126-01-01T00:00:00Z"
    ready = {"type": "Ready", "status": "True", "reason": "SyncedWithDrift", "message": "so", "lastTransitionTime": now}
    shown = {
        "conditions": [{**ready, "observedGeneration": 1}],
        "drift": {"total": 7},
        "lastSuccessTime": now,
        "nextSyncTime": soon,
    }
    path = f"/apis/nexus-auth.dev/v1alpha1/namespaces/{namespace}/clerksyncs/main/status"
    api_server.admin.call("PATCH", path, {"status": shown}, content="application/merge-patch+json")
    head, row = kubectl(api_server, "get", "csync", "-n", namespace).stdout.splitlines()
    assert head.split() == ["NAME", "INSTANCE", "READY", "REASON", "DRIFT", "LAST", "SYNC", "AGE"]
    assert row.split()[:5] == ["main", "main", "True", "SyncedWithDrift", "7"]
    wide = kubectl(api_server, "get", "clerksyncs", "-n", namespace, "-o", "wide").stdout
    assert soon in wide
    assert "<invalid>" not in wide
    both = kubectl(api_server, "get", "clerk", "-n", namespace).stdout
    assert "clerkinstance.nexus-auth.dev/main" in both
    assert "clerksync.nexus-auth.dev/main" in both
    kubectl(api_server, "wait", "-n", namespace, "--for=condition=Ready", "csync/main", "--timeout=5s")


def test_syncs_of_one_instance_are_selected_by_the_server(api_server: Cluster, namespace: str) -> None:
    apply(api_server, namespace, document("ClerkSync", {}))
    for name, found in (("main", 1), ("other", 0)):
        select = f"--field-selector=spec.instanceRef.name={name}"
        names = kubectl(api_server, "get", "csync", "-n", namespace, select, "-o", "name").stdout.split()
        assert len(names) == found


def test_a_status_is_written_by_its_own_path_only(api_server: Cluster, namespace: str) -> None:
    manifest = document("ClerkSync", {}) | {"status": {"parkedRun": 1}}
    assert "parkedRun" not in apply(api_server, namespace, manifest)["status"]
    path = f"/apis/nexus-auth.dev/v1alpha1/namespaces/{namespace}/clerksyncs/main/status"
    change = {"status": {"history": [{"id": number} for number in range(6)]}}
    with pytest.raises(ApiError, match=r"status\.history"):
        api_server.admin.call("PATCH", path, change, content="application/merge-patch+json")
