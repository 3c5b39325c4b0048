"""A real API server takes what is rendered, of every kind: Kubernetes', the Prometheus operator's, Gateway API's."""

from copy import deepcopy
from typing import Any

import pytest
import yaml

from tests.kubernetes.chart.golden import SECRETS
from tests.kubernetes.chart.releases import Releases
from tests.kubernetes.chart.rendering import RELEASE, merged, nested, rendered

OURS = {"ClerkInstance", "ClerkSync"}
"""Kinds that come with a release: tests/kubernetes/chart/test_install.py sees them made."""
STRICT = ("--dry-run=server", "--validate=strict", "--server-side", "-f", "-")

PARENT = {"name": "gate", "namespace": "gateways", "sectionName": "https", "port": 443}
RELABELING = {"action": "drop", "sourceLabels": ["__name__"], "regex": "python_.*"}
MONITORS: dict[str, Any] = {
    "metrics": {
        name: {
            "enabled": True,
            "renderMode": "alwaysRender",
            "interval": "15s",
            "scrapeTimeout": "5s",
            "labels": {"release": "prometheus"},
            "metricRelabelings": [RELABELING],
        }
        for name in ("serviceMonitor", "podMonitor")
    }
}
ROUTE: dict[str, Any] = {
    "webhook": {
        "httpRoute": {
            "enabled": True,
            "parentRefs": [PARENT],
            "hostnames": ["auth.example.com"],
            "annotations": {"note": "x"},
        }
    }
}

MATRIX: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "everything on": {
        **MONITORS,
        "networkPolicy": {"enabled": True, "extraEgress": [{"to": [{"podSelector": {}}]}]},
        "webhook": {
            **ROUTE["webhook"],
            "autoscaling": {"enabled": True, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}}},
            "ingress": {"enabled": True, "className": "nginx", "host": "a.example", "tls": [{"hosts": ["a.example"]}]},
            "service": {"type": "LoadBalancer", "nodePort": 30_123, "trafficDistribution": "PreferClose"},
            "priorityClassName": "system-cluster-critical",
            "affinity": {"podAntiAffinity": {}},
            "extraVolumes": [{"name": "more", "emptyDir": {}}],
            "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
            "extraEnv": [{"name": "PGSSLMODE", "value": "require"}],
        },
        "commonLabels": {"team": "auth"},
        "commonAnnotations": {"note": "x"},
        "imagePullSecrets": [{"name": "pull"}],
    },
    "namespaced": {"watch": {"namespaces": ["auth"]}},
    "secrets in values": SECRETS,
    "OpenShift": {"openshift": {"adaptSecurityContext": "force"}},
    "a route without host names": {"webhook": {"httpRoute": {"enabled": True, "parentRefs": [{"name": "gate"}]}}},
    "monitors as they come": {
        "metrics": {name: {"enabled": True, "renderMode": "alwaysRender"} for name in MONITORS["metrics"]}
    },
    "operator alone": {"webhook": {"enabled": False}, "crds": {"enabled": False}},
}


@pytest.mark.parametrize("name", MATRIX)
def test_the_api_server_takes_what_is_rendered(trial: Releases, name: str) -> None:
    objects = [moved(item, trial) for item in rendered(MATRIX[name]).all if item["kind"] not in OURS]
    said = trial.kubectl("apply", *STRICT, text=yaml.safe_dump_all(objects)).said
    assert said.count("serverside-applied (server dry run)") == len(objects)


def moved(item: dict[str, Any], releases: Releases) -> dict[str, Any]:
    """The same object in the test's namespace."""
    at = item["metadata"]
    return {**item, "metadata": {**at, "namespace": releases.namespace} if at.get("namespace") == "auth" else at}


@pytest.mark.parametrize("name", ["Deployment/webhook", "Deployment/operator", "Job/migrations", "Pod/test"])
def test_podsecurity_restricted_takes_every_pod(trial: Releases, name: str) -> None:
    spec = {**deepcopy(rendered().pods()[name]), "serviceAccountName": "default"}
    spec.pop("topologySpreadConstraints", None)
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": spec}
    trial.kubectl("create", "--dry-run=server", "-f", "-", text=yaml.safe_dump(pod))
    spec["containers"][0] = {**spec["containers"][0], "securityContext": {}}
    refused = trial.kubectl("create", "--dry-run=server", "-f", "-", text=yaml.safe_dump(pod), check=False)
    assert "violates PodSecurity" in refused.said


@pytest.mark.parametrize(
    ("kind", "path", "wrong", "sentence"),
    [
        ("ServiceMonitor/webhook", "endpoints/0/intervall", "15s", ".spec.endpoints[0].intervall: field not declared"),
        ("ServiceMonitor/webhook", "endpoints/0/interval", "soon", "spec.endpoints[0].interval"),
        ("PodMonitor/operator", "podMetricsEndpoints/0/targetport", 1, ".targetport: field not declared"),
        ("PodMonitor/operator", "podMetricsEndpoints/0/scheme", "ftp", "spec.podMetricsEndpoints[0].scheme"),
        ("HTTPRoute/webhook", "rules/0/matches/0/method", "post", "spec.rules[0].matches[0].method"),
        ("HTTPRoute/webhook", "rules/0/matches/0/path/value", "webhooks", "value must be an absolute path"),
        ("HTTPRoute/webhook", "rules/0/backend", [], ".spec.rules[0].backend: field not declared"),
        ("HTTPRoute/webhook", "parentRefs/0/group", "UPPER", "spec.parentRefs[0].group"),
    ],
)
def test_the_definitions_of_others_refuse_what_is_wrong(
    trial: Releases, kind: str, path: str, wrong: Any, sentence: str
) -> None:
    """What the matrix proves, it proves since the API server would have said no."""
    item = moved(deepcopy(rendered(merged(MONITORS, ROUTE))[kind]), trial)
    *way, last = path.split("/")
    at: Any = item["spec"]
    for part in way:
        at = at[int(part)] if isinstance(at, list) else at[part]
    at[last] = wrong
    refused = trial.kubectl("apply", *STRICT, text=yaml.safe_dump(item), check=False)
    assert sentence in refused.said


def test_helm_installs_monitors_and_a_route_and_nothing_of_them_is_lost(releases: Releases) -> None:
    """Helm itself finds that the kinds are there; what the server keeps is what was rendered, and its own defaults."""
    asked = merged(MONITORS, ROUTE)
    for name in MONITORS["metrics"]:
        asked = merged(asked, nested(f"metrics.{name}.renderMode", "failIfMissing"))
    releases.install(asked)
    wanted = rendered(merged(MONITORS, ROUTE))
    for kind, name in (("ServiceMonitor", "webhook"), ("PodMonitor", "operator"), ("HTTPRoute", "webhook")):
        kept = releases.get(kind.lower(), f"{RELEASE}-nexus-auth-{name}")
        assert holds(kept["spec"], wanted[f"{kind}/{name}"]["spec"]), kept["spec"]
    releases.upgrade()
    assert releases.get("servicemonitor") == releases.get("podmonitor") == releases.get("httproute") == []


def holds(kept: Any, wanted: Any) -> bool:
    """Whether all that is wanted is in what is kept."""
    if isinstance(wanted, dict):
        return all(key in kept and holds(kept[key], value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return len(kept) == len(wanted) and all(map(holds, kept, wanted))
    return bool(kept == wanted)


def test_a_monitor_finds_what_it_is_to_scrape() -> None:
    """A selector that fits nothing is valid, and useless."""
    objects = rendered(MONITORS)
    metrics = objects["Service/webhook-metrics"]
    chosen = objects.at("ServiceMonitor/webhook:spec/selector/matchLabels")
    assert chosen.items() <= metrics["metadata"]["labels"].items()
    assert not chosen.items() <= objects["Service/webhook"]["metadata"]["labels"].items()
    port = objects.at("ServiceMonitor/webhook:spec/endpoints/0/port")
    assert port in {each["name"] for each in metrics["spec"]["ports"]}
    template = objects.at("Deployment/operator:spec/template")
    assert objects.at("PodMonitor/operator:spec/selector/matchLabels").items() <= template["metadata"]["labels"].items()
    port = objects.at("PodMonitor/operator:spec/podMetricsEndpoints/0/port")
    assert port in {each["name"] for each in template["spec"]["containers"][0]["ports"]}


def test_route_and_ingress_lead_to_the_service() -> None:
    objects = rendered(merged(ROUTE, {"webhook": {"ingress": {"enabled": True, "host": "a.example"}}}))
    service = objects["Service/webhook"]
    (backend,) = objects.at("HTTPRoute/webhook:spec/rules/0/backendRefs")
    assert backend == {"name": service["metadata"]["name"], "port": service["spec"]["ports"][0]["port"]}
    way = objects.at("Ingress/webhook:spec/rules/0/http/paths/0/backend/service")
    assert way == {"name": service["metadata"]["name"], "port": {"name": service["spec"]["ports"][0]["name"]}}
    assert service["spec"]["selector"].items() <= objects.at("Deployment/webhook:spec/template/metadata/labels").items()
