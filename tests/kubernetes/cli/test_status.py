"""The page of `kubectl nexus status`, from what the objects say."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from devtools.kubernetes import Cluster
from tests.kubernetes.chart.rendering import rendered
from tests.kubernetes.cli.commands import Nexus, Objects, condition, drifted, in_step, parked

GOOD = {
    "observedGeneration": 1,
    "conditions": [condition("Ready", "True", "Connected")],
    "instanceId": "ins_main",
    "environment": "Production",
    "budget": {"requestsPer10s": 1000, "shareRequestsPer10s": 100},
    "syncs": 1,
}


def test_what_is_well_is_shown_on_one_page(nexus: Nexus, objects: Objects) -> None:
    objects.instance(status=GOOD)
    objects.sync(status=in_step())
    ran = nexus("status")
    assert ran.code == 0, ran.err
    for word in ("ins_main", "100 of 1,000", "InSync", "7 full completed", "1,234", "none"):
        assert word in ran.out
    assert ran.err == ""


def test_what_is_amiss_is_a_sentence_and_exit_code_1(nexus: Nexus, objects: Objects) -> None:
    refused = [condition("Ready", "False", "UpstreamUnauthorized", "Clerk refuses the key: put a new one there")]
    objects.instance(status={**GOOD, "conditions": refused})
    objects.sync(status=parked(41))
    ran = nexus("status")
    assert ran.code == 1
    assert "UpstreamUnauthorized: Clerk refuses the key: put a new one there" in ran.err
    assert "2 of 2 are not well" in ran.err
    assert f"kubectl nexus approve 41 -n {objects.namespace}" in ran.out


def test_a_sync_that_nobody_looked_at_asks_for_the_operator(nexus: Nexus, objects: Objects) -> None:
    objects.sync()
    ran = nexus("status")
    assert ran.code == 1
    assert "is an operator running that watches this namespace?" in ran.err


def test_a_condition_of_an_older_spec_is_not_believed(nexus: Nexus, objects: Objects) -> None:
    objects.sync(status=in_step())
    assert nexus("suspend").code == 0
    ran = nexus("status")
    assert "Suspended" in ran.out
    assert "suspended" in ran.out
    assert "InSync" not in ran.out
    assert nexus("resume").code == 0
    assert "Unknown: Changed" in nexus("status").out


def test_a_status_that_nobody_keeps_is_not_believed(nexus: Nexus, objects: Objects) -> None:
    """An operator that is away writes no condition: what it last said stays, and says that all is well."""
    objects.instance(status=GOOD)
    at = datetime.now(UTC)
    objects.sync(status=in_step(nextSyncTime=f"{at - timedelta(minutes=7):%Y-%m-%dT%H:%M:%SZ}"))
    ran = nexus("status")
    assert ran.code == 1
    assert "its run is overdue by 7 min; is an operator running" in ran.err
    objects.say("app", in_step(nextSyncTime=f"{at + timedelta(minutes=7):%Y-%m-%dT%H:%M:%SZ}"))
    assert nexus("status").code == 0


def test_drift_is_shown_with_five_of_its_items(nexus: Nexus, objects: Objects) -> None:
    objects.sync(status=drifted(*(f"user_{n}" for n in range(7)), total=30))
    ran = nexus("status")
    assert ran.code == 0, ran.err
    assert "SyncedWithDrift" in ran.out
    assert "user_4" in ran.out
    assert "user_5" not in ran.out
    assert "and 25 more" in ran.out


def test_programs_get_objects_and_troubles(nexus: Nexus, objects: Objects) -> None:
    objects.instance(status=GOOD)
    objects.sync(status=parked(9))
    ran = nexus("status", "--output", "json")
    assert ran.code == 1
    said = ran.json()
    assert said["instances"][0]["status"]["instanceId"] == "ins_main"
    assert said["syncs"][0]["status"]["parkedRun"] == 9
    assert len(said["trouble"]) == 1


def test_an_empty_namespace_says_so_and_all_namespaces_are_a_flag_away(nexus: Nexus, objects: Objects) -> None:
    ran = nexus("status")
    assert (ran.code, ran.out) == (0, "")
    assert "(-A shows all)" in ran.err
    objects.sync("other", status=in_step())
    assert f"{objects.namespace}/other" in nexus("status", "-A").out


def test_names_that_somebody_chose_do_not_steer_the_terminal(nexus: Nexus, objects: Objects) -> None:
    objects.sync(status=in_step(conditions=[condition("Ready", "False", "Odd", "\x1b[2Jgone")]))
    ran = nexus("status")
    assert "\x1b" not in ran.err + ran.out
    assert "\\x1b[2Jgone" in ran.err


def test_connections_of_the_releases_in_view_are_added_up(nexus: Nexus, objects: Objects) -> None:
    chart = rendered({"operator": {"concurrency": 2}, "webhook": {"replicas": 3}})
    for name in ("Deployment/webhook", "Deployment/operator"):
        objects.apply(chart[name])
    ran = nexus("status")
    assert ran.code == 0, ran.err
    lines = [line.split() for line in ran.out.splitlines()]
    assert ["rel-nexus-auth-webhook", "0", "of", "3", "36"] in lines
    assert ["rel-nexus-auth-operator", "0", "of", "2", "44"] in lines
    assert lines[-1][0] == "together"
    assert lines[-1][-1] == "80"
    told = json.loads(nexus("status", "--output", "json").out)["deployments"]
    assert {of["name"]: of["connections_at_most"] for of in told} == {
        "rel-nexus-auth-webhook": 36,
        "rel-nexus-auth-operator": 44,
    }


def test_who_may_not_list_deployments_sees_the_rest(
    nexus: Nexus, objects: Objects, api_server: Cluster, tmp_path: Path
) -> None:
    objects.instance(status=GOOD)
    objects.sync(status=in_step())
    rules = [{"apiGroups": ["nexus-auth.dev"], "resources": ["*"], "verbs": ["get", "list"]}]
    where = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{objects.namespace}"
    objects.admin.call("POST", objects.core("serviceaccounts"), {"metadata": {"name": "reader"}})
    objects.admin.call("POST", f"{where}/roles", {"metadata": {"name": "reader"}, "rules": rules})
    binding = {
        "metadata": {"name": "reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": objects.namespace}],
    }
    objects.admin.call("POST", f"{where}/rolebindings", binding)
    nexus.kubeconfig = api_server.service_account_kubeconfig(
        tmp_path / "reader", namespace=objects.namespace, name="reader"
    )
    ran = nexus("status")
    assert ran.code == 0, ran.err
    assert "InSync" in ran.out
    assert "connections are not counted" in ran.err
