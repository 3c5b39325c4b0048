"""Helm installs, upgrades, rolls back and uninstalls the chart on a real API server."""

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kubernetes.chart.releases import OBJECTS, Releases
from tests.kubernetes.chart.rendering import CHART, CRDS, RELEASE, merged

NAME = f"{RELEASE}-nexus-auth"
AT = "2026-11-25T08:00:00Z"


def test_install_upgrade_rollback_and_uninstall(releases: Releases) -> None:
    releases.install(OBJECTS)
    assert releases.get("clerksync", NAME)["spec"]["instanceRef"] == {"name": NAME}
    assert releases.get("clerkinstance", NAME)["spec"]["instanceId"] == "ins_2abc"
    changed = {"webhook": {"replicas": 5}, "clerkSync": {"spec": {"interval": "7m"}}}
    releases.upgrade(merged(OBJECTS, changed))
    assert releases.get("deployment", f"{NAME}-webhook")["spec"]["replicas"] == 5
    assert releases.get("clerksync", NAME)["spec"]["interval"] == "7m"
    releases.upgrade(merged(OBJECTS, {"clerkSync": {"spec": {"interval": "8m"}}}))
    assert releases.get("clerksync", NAME)["spec"]["interval"] == "8m"
    releases.helm("rollback", RELEASE, "1")
    assert releases.get("clerksync", NAME)["spec"]["interval"] == "8m", "a rollback runs no hooks"
    assert releases.get("deployment", f"{NAME}-webhook")["spec"]["replicas"] == 2
    said = releases.helm("uninstall", RELEASE).said
    assert "CustomResourceDefinition" in said
    selector = ("--selector", f"app.kubernetes.io/instance={RELEASE}")
    left = releases.get("deployment,service,serviceaccount,role,rolebinding,clusterrole,clusterrolebinding", *selector)
    assert left == []
    assert all(releases.there("crd", name) for name in CRDS)
    assert releases.there("clerksync", NAME)
    assert releases.there("clerkinstance", NAME)


@pytest.mark.parametrize("program", ["helm", "helm3"])
def test_a_release_does_not_wait_for_a_sync_that_waits_for_a_human(releases: Releases, program: str) -> None:
    here, no_pods = replace(releases, program=program), {"webhook": {"enabled": False}, "operator": {"enabled": False}}
    here.install(no_pods)
    here.upgrade(merged(OBJECTS, no_pods))
    of = {"status": "True", "reason": "DeletionGuardTripped", "message": "11 users", "observedGeneration": 1}
    said = [{**of, "type": "Stalled"}, {**of, "type": "Ready", "status": "False"}]
    status = {"observedGeneration": 1, "conditions": [{**each, "lastTransitionTime": AT} for each in said]}
    patch = ("--subresource=status", "--type=merge", "--patch", json.dumps({"status": status}))
    releases.kubectl("patch", "clerksync", NAME, *patch)
    here.upgrade(merged(OBJECTS, no_pods), waiting=True)


def test_with_helm_3_objects_come_by_an_upgrade_and_follow_all_later_ones(releases: Releases) -> None:
    """Helm 3 cannot change what a hook has made."""
    helm3 = replace(releases, program="helm3")
    refused = helm3.install(OBJECTS, check=False)
    assert ".create: the kind is not there yet" in refused.said
    helm3.install()
    helm3.upgrade(OBJECTS)
    assert releases.get("clerksync", NAME)["spec"]["interval"] == "10m"
    helm3.upgrade(merged(OBJECTS, {"webhook": {"replicas": 5}, "clerkSync": {"spec": {"interval": "7m"}}}))
    assert releases.get("clerksync", NAME)["spec"]["interval"] == "7m"
    helm3.helm("rollback", RELEASE, "2")
    assert releases.get("clerksync", NAME)["spec"]["interval"] == "10m"
    assert releases.get("deployment", f"{NAME}-webhook")["spec"]["replicas"] == 2
    helm3.helm("uninstall", RELEASE)
    assert releases.there("clerksync", NAME)
    assert releases.there("clerkinstance", NAME)
    releases.install(OBJECTS)
    assert releases.there("deployment", f"{NAME}-webhook")


def test_without_keep_the_crds_and_their_objects_go(releases: Releases) -> None:
    releases.install(merged(OBJECTS, {"crds": {"keep": False}}))
    assert releases.there("clerksync", NAME)
    releases.helm("uninstall", RELEASE)
    for name in CRDS:
        releases.kubectl("wait", "--for=delete", f"crd/{name}", "--timeout=20s")


def test_crds_that_stayed_are_taken_over_by_the_same_release(releases: Releases) -> None:
    releases.install()
    releases.helm("uninstall", RELEASE)
    releases.install()


def test_an_upgrade_from_the_previous_chart_brings_the_new_crds(releases: Releases, tmp_path: Path) -> None:
    old = tmp_path / "nexus-auth"
    shutil.copytree(CHART, old)
    chart = (old / "Chart.yaml").read_text()
    (old / "Chart.yaml").write_text(chart.replace("version: 0.1.0", "version: 0.0.9", 1))
    file = old / "files" / "crds" / "clerksync.yaml"
    document = yaml.safe_load(file.read_text())
    del schema(document)["suspend"]
    file.write_text(yaml.safe_dump(document))
    releases.install(chart=old)
    assert "suspend" not in schema(releases.get("crd", CRDS[1]))
    releases.upgrade()
    assert "suspend" in schema(releases.get("crd", CRDS[1]))
    assert releases.get("deployment", f"{NAME}-operator")["metadata"]["labels"]["helm.sh/chart"] == "nexus-auth-0.1.0"


def schema(crd: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    return found


def test_a_second_release_leaves_the_crds_to_the_first(releases: Releases) -> None:
    releases.install()
    refused = releases.install(name="second", check=False)
    assert "invalid ownership metadata" in refused.said
    releases.helm("uninstall", "second", check=False)
    second = {"crds": {"enabled": False}, "operator": {"controllerClass": "second"}}
    releases.install(merged(second, OBJECTS), name="second")
    assert releases.get("clerksync", "second-nexus-auth")["spec"]["controllerClass"] == "second"
    releases.helm("uninstall", "second")
    assert releases.there("crd", CRDS[0])


def test_a_sync_that_the_api_server_refuses_fails_the_install_with_its_sentence(releases: Releases) -> None:
    wrong = merged(OBJECTS, {"clerkSync": {"spec": {"drift": {"policy": "Perhaps"}}}})
    failed = releases.install(wrong, check=False)
    assert failed.code != 0
    assert 'Unsupported value: "Perhaps"' in failed.said
    assert not releases.there("clerksync", NAME)


def test_a_namespaced_operator_reads_secrets_in_its_namespaces_only(releases: Releases, tmp_path: Path) -> None:
    releases.install({"watch": {"namespaces": [releases.namespace]}})
    token = tmp_path / "kubeconfig"
    releases.cluster.service_account_kubeconfig(token, namespace=releases.namespace, name=f"{NAME}-operator")
    operator = Releases(releases.cluster, releases.namespace, token)
    operator.kubectl("get", "clerksyncs,clerkinstances")
    assert operator.may("list", "secrets")
    elsewhere = operator.kubectl("get", "secrets", "--namespace", "kube-system", check=False)
    assert "Forbidden" in elsewhere.said
    assert "Forbidden" in operator.kubectl("get", "clerksyncs", "--all-namespaces", check=False).said
    for verb, resource in (
        ("create", "secrets"),
        ("list", "namespaces"),
        ("delete", "clerksyncs"),
        ("patch", "clerksyncs"),
    ):
        assert not operator.may(verb, resource), (verb, resource)
    for verb, resource in (("update", "leases"), ("create", "events"), ("update", "clerksyncs/status")):
        assert operator.may(verb, resource), (verb, resource)


def test_a_cluster_wide_operator_reads_everywhere_and_leases_at_home(releases: Releases) -> None:
    releases.install()
    who = f"system:serviceaccount:{releases.namespace}:{NAME}-operator"
    assert releases.may("watch", "clerksyncs", where="*", who=who)
    assert releases.may("list", "secrets", where="kube-system", who=who)
    assert releases.may("update", "leases", who=who)
    assert not releases.may("update", "leases", where="kube-system", who=who)
    assert not releases.may("create", "clerksyncs", who=who)


def test_without_rbac_the_operator_may_nothing(releases: Releases) -> None:
    releases.install({"rbac": {"create": False}})
    who = f"system:serviceaccount:{releases.namespace}:{NAME}-operator"
    assert not releases.may("watch", "clerksyncs", who=who)
    assert not releases.may("list", "secrets", who=who)


def test_the_webhooks_account_may_nothing(releases: Releases) -> None:
    releases.install()
    who = f"system:serviceaccount:{releases.namespace}:{NAME}-webhook"
    assert not releases.may("get", "secrets", who=who)
    assert not releases.may("get", "clerksyncs", who=who)


def test_view_edit_and_admin_reach_our_kinds(releases: Releases) -> None:
    releases.install()
    for role in ("view", "edit"):
        releases.kubectl("create", "rolebinding", role, f"--clusterrole={role}", f"--user={role}er")
    aggregated = time.monotonic() + 20
    while not (releases.may("list", "clerksyncs", who="viewer") and releases.may("patch", "clerksyncs", who="editer")):
        assert time.monotonic() < aggregated
    assert not releases.may("patch", "clerksyncs", who="viewer")
    assert not releases.may("update", "clerksyncs/status", who="editer")


def test_the_migration_job_is_made_before_anything_else(releases: Releases) -> None:
    """It cannot run here, so the install gives up waiting; nothing but the Job has been made by then."""
    failed = releases.helm(
        "install", RELEASE, str(CHART), "--timeout", "2s", values={"migrations": {"enabled": True}}, check=False
    )
    assert failed.code != 0
    job = releases.get("job", f"{NAME}-migrations")
    assert job["spec"]["template"]["spec"]["serviceAccountName"] == "default"
    assert releases.get("deployment") == []
