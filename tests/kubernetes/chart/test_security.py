"""What holds for every object and pod whatever the values, and the rights that people and the operator get."""

from typing import Any

import pytest

from tests.kubernetes.chart.golden import EVERYTHING
from tests.kubernetes.chart.rendering import rendered

PODS = {"Deployment/webhook", "Deployment/operator", "Job/migrations", "Pod/test"}


def test_these_are_all_pods() -> None:
    assert set(rendered().pods()) == PODS


@pytest.mark.parametrize("name", sorted(PODS))
def test_every_pod_is_restricted(name: str) -> None:
    pod = rendered().pods()[name]
    context: dict[str, Any] = pod["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] == 10001
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        inner = container["securityContext"]
        assert inner["allowPrivilegeEscalation"] is False
        assert inner["readOnlyRootFilesystem"] is True
        assert inner["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]
    assert pod.get("hostNetwork") is None


@pytest.mark.parametrize("name", sorted(PODS - {"Pod/test"}))
def test_a_read_only_root_has_a_place_for_temporary_files(name: str) -> None:
    pod = rendered().pods()[name]
    assert {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}} in pod["volumes"]
    for container in pod["containers"]:
        assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]


def test_every_object_has_the_labels_that_people_look_for() -> None:
    objects = rendered(EVERYTHING)
    assert {"Ingress/webhook", "HTTPRoute/webhook", "PodMonitor/operator"} < objects.names()
    for item in objects.all:
        everywhere = item["kind"] in ("ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition")
        assert ("namespace" in item["metadata"]) is not everywhere
        labels = item["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == labels["app.kubernetes.io/part-of"] == "nexus-auth"
        assert labels["app.kubernetes.io/instance"] == "rel"
        assert labels["app.kubernetes.io/component"]
        assert labels["app.kubernetes.io/version"] == "0.1.0"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        assert labels["helm.sh/chart"] == "nexus-auth-0.1.0"


def test_selectors_find_the_pods_of_their_component_and_of_no_other() -> None:
    objects = rendered({"networkPolicy": {"enabled": True}})
    pods = {name: objects.at(f"Deployment/{name}:spec/template/metadata/labels") for name in ("webhook", "operator")}
    for name, other in (("webhook", "operator"), ("operator", "webhook")):
        for where in (f"Deployment/{name}:spec/selector", f"PodDisruptionBudget/{name}:spec/selector"):
            selector = objects.at(f"{where}/matchLabels").items()
            assert selector <= pods[name].items()
            assert not selector <= pods[other].items()
        policy = objects.at(f"NetworkPolicy/{name}:spec/podSelector/matchLabels").items()
        assert policy <= pods[name].items()
        assert not policy <= pods[other].items()
    spread = objects.at("Deployment/webhook:spec/template/spec/topologySpreadConstraints")
    assert [each["topologyKey"] for each in spread] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    for each in spread:
        assert each["labelSelector"]["matchLabels"].items() <= pods["webhook"].items()


def test_each_component_reaches_what_it_needs_and_nothing_else() -> None:
    objects = rendered({"networkPolicy": {"enabled": True}})
    reached = {}
    for name in ("webhook", "operator", "migrations"):
        egress = objects.at(f"NetworkPolicy/{name}:spec/egress")
        reached[name] = {f"{port['port']}/{port['protocol']}" for rule in egress for port in rule["ports"]}
        assert "Egress" in objects.at(f"NetworkPolicy/{name}:spec/policyTypes")
    names = {"53/UDP", "53/TCP"}
    assert reached["webhook"] == {*names, "5432/TCP", "443/TCP"}
    assert reached["operator"] == {*names, "5432/TCP", "443/TCP", "6443/TCP"}
    assert reached["migrations"] == {*names, "5432/TCP"}
    assert "ingress" not in objects["NetworkPolicy/migrations"]["spec"]


def test_who_may_reach_which_port_is_said_for_each() -> None:
    def reach(**policy: Any) -> dict[str, dict[str, Any]]:
        objects = rendered({"networkPolicy": {"enabled": True, **policy}})
        return {
            name: {
                rule["ports"][0]["port"]: rule.get("from") for rule in objects.at(f"NetworkPolicy/{name}:spec/ingress")
            }
            for name in ("webhook", "operator")
        }

    some: list[Any] = [{"podSelector": {"matchLabels": {"a": "b"}}}]
    others: list[Any] = [{"namespaceSelector": {}}]
    assert reach() == {"webhook": {"http": None, "health": None}, "operator": {"health": None}}
    narrow = reach(webhookFrom=some, metricsFrom=others)
    assert narrow == {"webhook": {"http": some, "health": others}, "operator": {"health": others}}


@pytest.mark.parametrize("name", sorted(PODS - {"Pod/test", "Job/migrations"}))
def test_probes_are_on_and_liveness_does_not_ask_the_database(name: str) -> None:
    (container,) = rendered().pods()[name]["containers"]
    paths = {kind: container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
    assert paths == {"startup": "/livez", "liveness": "/livez", "readiness": "/readyz"}


@pytest.mark.parametrize("name", sorted(PODS))
def test_only_the_operator_has_a_token(name: str) -> None:
    assert rendered().pods()[name]["automountServiceAccountToken"] is (name == "Deployment/operator")


@pytest.mark.parametrize("name", sorted(PODS))
def test_secrets_are_folders_and_never_in_the_environment(name: str) -> None:
    pod = rendered().pods()[name]
    for container in pod["containers"]:
        for variable in container["env"]:
            assert "secretKeyRef" not in variable.get("valueFrom", {})
        for mount in container.get("volumeMounts", []):
            assert "subPath" not in mount
    for volume in pod.get("volumes", []):
        if "secret" in volume:
            assert volume["secret"]["defaultMode"] == 0o440


def test_a_cluster_wide_operator_reads_everywhere_and_writes_status_only() -> None:
    objects = rendered()
    assert writes(objects["ClusterRole/operator"]["rules"]) == {"clerkinstances/status", "clerksyncs/status", "events"}
    assert objects.at("ClusterRoleBinding/operator:subjects/0/name") == "rel-nexus-auth-operator"
    assert writes(objects["Role/operator-lease"]["rules"]) == {"leases"}


def test_a_namespaced_operator_has_roles_in_these_namespaces_only() -> None:
    objects = rendered({"watch": {"namespaces": ["one", "two"]}})
    kinds = {item["kind"] for item in objects.all if item["metadata"]["name"].endswith("operator-auth")}
    assert kinds == {"Role", "RoleBinding"}
    where = {item["metadata"]["namespace"] for item in objects.all if item["kind"] == "Role"}
    assert where == {"one", "two", "auth"}
    assert "ClusterRole/operator" not in objects
    assert "ClusterRoleBinding/operator" not in objects


def test_view_reads_and_edit_writes_our_kinds() -> None:
    objects = rendered()
    view, edit = objects["ClusterRole/view"], objects["ClusterRole/edit"]
    reach = "rbac.authorization.k8s.io/aggregate-to-"
    assert {k for k in view["metadata"]["labels"] if k.startswith(reach)} == {
        reach + "view",
        reach + "edit",
        reach + "admin",
    }
    assert {k for k in edit["metadata"]["labels"] if k.startswith(reach)} == {reach + "edit", reach + "admin"}
    assert writes(view["rules"]) == set()
    assert writes(edit["rules"]) == {"clerkinstances", "clerksyncs"}


def writes(rules: list[dict[str, Any]]) -> set[str]:
    """Resources that may be changed."""
    reading = {"get", "list", "watch"}
    return {resource for rule in rules if set(rule["verbs"]) - reading for resource in rule["resources"]}


def test_hooks_come_in_the_right_order() -> None:
    objects = rendered(
        {
            "networkPolicy": {"enabled": True},
            "secrets": {"allowInValues": True},
            "migrations": {"database": {"existingSecret": "", "url": "postgresql://o"}},
            "clerkInstance": {"create": True},
            "clerkSync": {"create": True},
        }
    )

    def weight(name: str) -> int:
        return int(objects[name]["metadata"]["annotations"]["helm.sh/hook-weight"])

    assert weight("Secret/migrations-database") < weight("Job/migrations")
    assert weight("NetworkPolicy/migrations") < weight("Job/migrations")
    assert weight("ClerkInstance/rel-nexus-auth") < weight("ClerkSync/rel-nexus-auth")
    for name in ("ClerkInstance/rel-nexus-auth", "ClerkSync/rel-nexus-auth"):
        annotations = objects[name]["metadata"]["annotations"]
        assert annotations["helm.sh/hook-delete-policy"] == "hook-failed"


def test_without_a_pause_before_the_stop_there_is_no_hook() -> None:
    container = rendered({"webhook": {"preStopSeconds": 0}}).pods()["Deployment/webhook"]["containers"][0]
    assert "lifecycle" not in container


def test_with_autoscaling_the_deployment_says_no_number() -> None:
    assert "replicas" not in rendered({"webhook": {"autoscaling": {"enabled": True}}})["Deployment/webhook"]["spec"]


def test_a_spread_with_a_selector_of_its_own_keeps_it() -> None:
    own = {
        "maxSkew": 1,
        "topologyKey": "k",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {}},
    }
    objects = rendered({"webhook": {"topologySpreadConstraints": [own]}})
    assert objects.at("Deployment/webhook:spec/template/spec/topologySpreadConstraints") == [own]
