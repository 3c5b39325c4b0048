"""Every value does something, and values that cannot work are refused with a sentence."""

import re
from typing import Any

import pytest
import yaml

from devtools.chart.values import read_values
from services.reconciler.leading import CONNECTIONS, STATE_CONNECTIONS
from services.reconciler.operator.work_queue import CHECKS_AT_ONCE
from services.webhook.__main__ import SPARE_CONNECTIONS
from tests.kubernetes.chart.rendering import BASE, CHART, Refused, merged, nested, rendered
from tests.kubernetes.chart.table import ABSENT, AS_GIVEN, GONE, MONITORING, TABLE


def test_every_documented_value_is_in_the_table() -> None:
    documented = {value.name for value in read_values((CHART / "values.yaml").read_text())}
    assert documented == set(TABLE)


def rows() -> list[Any]:
    """Names; only helm itself can be told what a cluster has, and it may have to be built first."""
    return [pytest.param(name, marks=[pytest.mark.kubernetes] if row.apis else []) for name, row in TABLE.items()]


@pytest.mark.parametrize("name", rows())
def test_a_value_is_found_again_in_the_release(name: str) -> None:
    row = TABLE[name]
    objects = rendered(merged(row.given, nested(name, row.value)), apis=row.apis)
    if row.shows is GONE:
        assert row.where not in objects
        assert row.where in rendered(row.given, apis=row.apis)
        return
    if row.shows is ABSENT:
        assert rendered(row.given, apis=row.apis).at(row.where)
        with pytest.raises(KeyError):
            objects.at(row.where)
        return
    wanted = row.value if row.shows is AS_GIVEN else row.shows
    assert objects.at(row.where) == wanted
    try:
        default = rendered(row.given, apis=row.apis).at(row.where)
    except (KeyError, StopIteration, IndexError, Refused):
        return
    assert default != wanted, "the table's value is the default: it shows nothing"


def within() -> dict[str, Any]:
    """What lies below documented values, as resources.limits.memory does; lists are values of their own."""

    def leaves(value: Any, name: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            return {name: value}
        return {leaf: of for key, inner in value.items() for leaf, of in leaves(inner, f"{name}.{key}").items()}

    documented = read_values((CHART / "values.yaml").read_text())
    return {
        name: of for value in documented for name, of in leaves(value.default, value.name).items() if name not in TABLE
    }


@pytest.mark.parametrize(("name", "default"), within().items())
def test_a_part_of_a_value_changes_the_release_too(name: str, default: Any) -> None:
    other: Any
    match default:
        case bool():
            other = not default
        case int():
            other = default + 1
        case str():
            other = "Recreate" if name.endswith("strategy.type") else f"7{default}"
        case _:
            other = []
    assert rendered(nested(name, other)).all != rendered().all


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"webhook": {"replicas": "two"}}, "got string, want integer"),
        ({"webhook": {"lanes": 0}}, "minimum: got 0, want 1"),
        ({"image": {"digest": "latest"}}, "does not match pattern"),
        ({"rolePrefix": "Clerk-"}, "does not match pattern"),
        ({"clerk": {"instanceId": "sk_live_1"}}, "does not match pattern"),
        ({"webhook": {"service": {"type": "ExternalName"}}}, "value must be one of"),
        ({"clerk": {"apiKey": {"value": "sk_test_1"}}}, "clerk.apiKey.value: a secret in values lies in Helm's record"),
        ({"webhook": {"database": {"url": "postgresql://x"}}}, "webhook.database.url: a secret in values"),
        ({"webhook": {"signing": {"secrets": ["whsec_a"]}}}, "webhook.signing.secrets: a secret in values"),
        ({"webhook": {"withhold": {"value": "w" * 32}}}, "webhook.withhold.value: a secret in values"),
        ({"migrations": {"database": {"url": "postgresql://x"}}}, "migrations.database.url: a secret in values"),
        ({"webhook": {"database": {"existingSecret": ""}}}, "webhook.database.existingSecret: name the Secret"),
        ({"webhook": {"signing": {"existingSecret": ""}}}, "webhook.signing.existingSecret: name the Secret"),
        ({"webhook": {"withhold": {"existingSecret": ""}}}, "webhook.withhold.existingSecret: name the Secret"),
        ({"migrations": {"database": {"existingSecret": ""}}}, "migrations.database.existingSecret: name the Secret"),
        ({"clerk": {"instanceId": "", "apiKey": {"existingSecret": ""}}}, "must know which Clerk instance it serves"),
        ({"clerk": {"apiKey": {"existingSecret": ""}}, "clerkInstance": {"create": True}}, "where the API key is"),
        ({"webhook": {"terminationGracePeriodSeconds": 25}}, "must be more than preStopSeconds \\+ drainSeconds"),
        ({"webhook": {"autoscaling": {"enabled": True, "minReplicas": 9}}}, "minReplicas is more than maxReplicas"),
        ({"webhook": {"ingress": {"enabled": True}}}, "name the host that Clerk delivers to"),
        ({"webhook": {"httpRoute": {"enabled": True}}}, "name the Gateway that the route hangs on"),
    ],
)
def test_what_cannot_work_is_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Refused, match=sentence):
        rendered(values)


def test_a_component_that_is_off_asks_for_nothing() -> None:
    objects = rendered({"webhook": {"enabled": False}, "migrations": {"enabled": False}}, base={})
    assert not any(name.endswith("/webhook") for name in objects.names())
    assert "Job/migrations" not in objects
    assert "Pod/test" not in objects
    assert "Migrations are off" in objects.notes


@pytest.mark.parametrize("component", ["webhook", "operator"])
def test_a_single_pod_has_no_disruption_budget(component: str) -> None:
    assert f"PodDisruptionBudget/{component}" in rendered()
    assert f"PodDisruptionBudget/{component}" not in rendered({component: {"replicas": 1}})


def test_with_autoscaling_its_least_number_decides_on_a_disruption_budget() -> None:
    scaled = {"webhook": {"replicas": 1, "autoscaling": {"enabled": True, "minReplicas": 2}}}
    assert "PodDisruptionBudget/webhook" in rendered(scaled)
    assert "PodDisruptionBudget/webhook" not in rendered(merged(scaled, nested("webhook.autoscaling.minReplicas", 1)))


@pytest.mark.kubernetes
@pytest.mark.parametrize("kind", ["ServiceMonitor", "PodMonitor"])
def test_a_monitor_whose_kind_is_missing_is_skipped_or_refused_as_asked(kind: str) -> None:
    prefix = kind[0].lower() + kind[1:]
    name = f"{kind}/{'webhook' if kind == 'ServiceMonitor' else 'operator'}"
    assert name not in rendered({"metrics": {prefix: {"enabled": True}}})
    fails = {"metrics": {prefix: {"enabled": True, "renderMode": "failIfMissing"}}}
    with pytest.raises(Refused, match=f"this cluster has no {kind}"):
        rendered(fails)
    assert name in rendered(fails, apis=MONITORING)


@pytest.mark.kubernetes
def test_on_openshift_numeric_users_are_left_out_without_being_asked() -> None:
    context = rendered(apis=["security.openshift.io/v1"]).at("Deployment/webhook:spec/template/spec/securityContext")
    assert "runAsUser" not in context
    disabled = {"openshift": {"adaptSecurityContext": "disabled"}}
    kept = rendered(disabled, apis=["security.openshift.io/v1"])
    assert kept.at("Deployment/webhook:spec/template/spec/securityContext/runAsUser") == 10001


def test_crds_are_the_ones_of_the_repository() -> None:
    for file in sorted((CHART.parents[2] / "crds").glob("*.yaml")):
        document = yaml.safe_load(file.read_text())
        assert rendered()[f"CustomResourceDefinition/{document['metadata']['name']}"]["spec"] == document["spec"]


def test_notes_say_what_comes_next() -> None:
    notes = rendered().notes
    assert "helm test rel --namespace auth" in notes
    assert "kubectl explain clerksync.spec" in notes
    assert "kubectl nexus status --namespace auth" in notes
    assert "nothing outside the cluster reaches it yet" in notes
    assert "Migrations are off" not in notes
    assert "WARNING" not in notes
    ingress = {"webhook": {"ingress": {"enabled": True, "host": "a.example"}}}
    assert " http://a.example/webhooks/clerk" in rendered(ingress).notes
    secure = merged(ingress, {"webhook": {"ingress": {"tls": [{"hosts": ["a.example"]}]}}})
    assert " https://a.example/webhooks/clerk" in rendered(secure).notes
    synced = rendered({"clerkSync": {"create": True}}).notes
    assert "kubectl wait clerksync/rel-nexus-auth" in synced
    assert "kubectl explain" not in synced
    route = {"webhook": {"httpRoute": {"enabled": True, "parentRefs": [{"name": "g"}]}}}
    assert "through the Gateway" in rendered(route).notes
    assert "WARNING" in rendered({"secrets": {"allowInValues": True}}).notes
    assert "Clerk delivers" not in rendered({"webhook": {"enabled": False}}).notes
    assert BASE["webhook"]["database"]["existingSecret"] not in notes


@pytest.mark.parametrize(
    ("values", "webhook", "operator"),
    [
        ({}, 2 * 2, 4),
        ({"webhook": {"replicas": 7}, "operator": {"concurrency": 9}}, 2 * 7, 9),
        ({"webhook": {"autoscaling": {"enabled": True, "maxReplicas": 5}}}, 2 * 5, 4),
        ({"webhook": {"strategy": {"type": "Recreate", "rollingUpdate": None}}}, 2, 4),
        ({"webhook": {"enabled": False}}, 0, 4),
        ({"operator": {"enabled": False}}, 4, 0),
    ],
)
def test_connections_are_counted_as_the_services_open_them(values: dict[str, Any], webhook: int, operator: int) -> None:
    """`webhook`: pods at once; `operator`: runs at once. A look takes a key and one connection after the other."""
    objects = rendered(merged({"webhook": {"lanes": 3}}, values))
    pods = webhook * (3 + SPARE_CONNECTIONS + 1)
    runs = operator * (CONNECTIONS + STATE_CONNECTIONS) + (CHECKS_AT_ONCE if operator else 0)
    assert f"webhook {pods}, operator {runs}, migrations 1; {pods + runs + 1} in all" in objects.notes
    for name, number in (("webhook", pods), ("operator", runs)):
        if number:
            said = objects.at(f"Deployment/{name}:metadata/annotations/nexus-auth.dev~1connections")
            assert said == str(number)


def test_the_comment_in_values_counts_the_defaults() -> None:
    (total,) = re.findall(r"With the defaults: .* = (\d+) of max_connections", (CHART / "values.yaml").read_text())
    assert f"; {total} in all" in rendered().notes
