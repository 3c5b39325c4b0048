"""One table of good and bad manifests, given to the API server and to the standalone runner: both say the same."""

from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from devtools.kubernetes import ApiError, Cluster
from services.reconciler import rules
from services.reconciler.manifests import CRDS, InvalidManifest, ManifestReader, read_manifests

PLURALS = {"ClerkInstance": "clerkinstances", "ClerkSync": "clerksyncs"}
MINIMAL: dict[str, dict[str, Any]] = {
    "ClerkInstance": {
        "secretKeyRef": {"name": "clerk"},
        "environment": "Production",
        "stateDatabase": {"secretRef": {"name": "database"}},
    },
    "ClerkSync": {"instanceRef": {"name": "main"}, "database": {"secretRef": {"name": "database"}}},
}


@dataclass(frozen=True)
class Bad:
    """A change to a minimal spec, the field that is complained of, and the sentence where it is ours."""

    kind: str
    change: dict[str, Any]
    field: str
    sentence: str = ""

    def __str__(self) -> str:
        return f"{self.field}={next(iter(self.change.values()))!r:.40}"


def sync(field: str, value: Any, at: str | None = None, sentence: str = "") -> Bad:
    return Bad("ClerkSync", {field: value}, at or f"spec.{field}", sentence)


def instance(field: str, value: Any, at: str | None = None, sentence: str = "") -> Bad:
    return Bad("ClerkInstance", {field: value}, at or f"spec.{field}", sentence)


def users(**more: Any) -> list[dict[str, Any]]:
    return [{"name": "users", **more}]


BAD = [
    sync("interval", "soon"),
    sync("interval", ""),
    sync("interval", "10"),
    sync("interval", "-5m"),
    sync("interval", "99999999h"),
    sync("interval", "10m 5s"),
    sync("interval", 600),
    sync("interval", "29s", None, rules.TOO_SHORT),
    sync("interval", "29.999s", None, rules.TOO_SHORT),
    sync("interval", "0s", None, rules.TOO_SHORT),
    sync("interval", "29000ms", None, rules.TOO_SHORT),
    sync("interval", "25h", "spec.fullSweepInterval", rules.BELOW_INTERVAL),
    sync("fullSweepInterval", "9m", None, rules.BELOW_INTERVAL),
    sync("fullSweepInterval", "169h", "spec.deepSweepInterval", rules.BELOW_FULL),
    sync("deepSweepInterval", "23h59m", None, rules.BELOW_FULL),
    sync("resources", []),
    sync("resources", [{"name": "sessions"}], "spec.resources[0].name"),
    sync("resources", [{"enabled": True}], "spec.resources[0]"),
    sync("resources", users(enabled="yes"), "spec.resources[0].enabled"),
    sync("resources", users(enabled=False), None, rules.NONE_ENABLED),
    sync("resources", users() + users(), "spec.resources[1]", rules.TWICE),
    sync("resources", users(fullSweepInterval="soon"), "spec.resources[0].fullSweepInterval"),
    sync("resources", users(fullSweepInterval="1s"), "spec.resources[0].fullSweepInterval", rules.TOO_SHORT),
    sync("resources", users(fullSweepInterval="5m"), None, rules.RESOURCE_BELOW_INTERVAL),
    sync("drift", {"policy": "Repair"}, "spec.drift.policy"),
    sync("deletionGuard", {"floor": -1}, "spec.deletionGuard.floor"),
    sync("deletionGuard", {"percent": 101}, "spec.deletionGuard.percent"),
    sync("deletionGuard", {"floor": 1.5}, "spec.deletionGuard.floor"),
    sync("suspend", "true"),
    sync("controllerClass", "-blue"),
    sync("instanceRef", {"name": ""}, "spec.instanceRef.name"),
    sync("instanceRef", {"name": "Main"}, "spec.instanceRef.name"),
    sync("database", {}),
    sync("database", {"secretRef": {"name": "data base"}}, "spec.database.secretRef.name"),
    sync("database", {"secretRef": {"name": "database", "key": "a/b"}}, "spec.database.secretRef.key"),
    sync("intervall", "10m", "intervall"),
    instance("instanceId", "user_1"),
    instance("instanceId", "ins_"),
    instance("apiUrl", "ftp://clerk"),
    instance("apiUrl", "https://key@clerk"),
    instance("apiUrl", "http://api.clerk.com", None, rules.IN_CLEAR),
    instance("apiUrl", "http://11.0.0.1:8080", None, rules.IN_CLEAR),
    instance("apiUrl", "http://127.0.0.1.example.com", None, rules.IN_CLEAR),
    instance("apiUrl", "http://localhost.example.com", None, rules.IN_CLEAR),
    instance("environment", "Staging"),
    instance("budgetPercent", 0),
    instance("budgetPercent", 101),
    instance("budgetPercent", "10"),
    instance("secretKeyRef", {"name": ""}, "spec.secretKeyRef.name"),
    instance("stateDatabase", {}),
    instance("requestTimeout", "999ms", None, rules.TIMEOUT),
    instance("requestTimeout", "5m1s", None, rules.TIMEOUT),
]

GOOD: list[tuple[str, dict[str, Any]]] = [
    ("ClerkSync", {}),
    ("ClerkSync", {"interval": "30s"}),
    ("ClerkSync", {"interval": "1h30m", "fullSweepInterval": "90m", "deepSweepInterval": "90m"}),
    ("ClerkSync", {"interval": "0.5h", "resources": users(fullSweepInterval="30m")}),
    ("ClerkSync", {"interval": "30000ms"}),
    ("ClerkSync", {"resources": [*users(enabled=False), {"name": "memberships"}]}),
    ("ClerkSync", {"drift": {"policy": "Fix"}, "deletionGuard": {"floor": 0, "percent": 0.5}, "suspend": True}),
    ("ClerkSync", {"controllerClass": "example.com/blue"}),
    ("ClerkInstance", {}),
    ("ClerkInstance", {"instanceId": "ins_2abc", "budgetPercent": 100, "requestTimeout": "1s"}),
    ("ClerkInstance", {"requestTimeout": "5m"}),
    ("ClerkInstance", {"apiUrl": "https://proxy.example.com:8443/clerk"}),
    ("ClerkInstance", {"apiUrl": "http://127.0.0.1:8080"}),
    ("ClerkInstance", {"apiUrl": "http://[::1]:8080"}),
    ("ClerkInstance", {"apiUrl": "http://clerk.default.svc.cluster.local:8080/x"}),
    ("ClerkInstance", {"apiUrl": "http://clerk.default.svc"}),
    ("ClerkInstance", {"apiUrl": "http://10.1.2.3:8080"}),
]


def document(kind: str, change: dict[str, Any]) -> dict[str, Any]:
    """A whole manifest."""
    spec = MINIMAL[kind] | change
    return {"apiVersion": "nexus-auth.dev/v1alpha1", "kind": kind, "metadata": {"name": "main"}, "spec": spec}


def apply(cluster: Cluster, namespace: str, manifest: dict[str, Any]) -> Any:
    path = f"/apis/nexus-auth.dev/v1alpha1/namespaces/{namespace}/{PLURALS[manifest['kind']]}"
    return cluster.admin.call("POST", f"{path}?fieldValidation=Strict", manifest)


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_both_refuse_and_name_the_field(api_server: Cluster, namespace: str, bad: Bad) -> None:
    manifest = document(bad.kind, bad.change)
    with pytest.raises(ApiError) as refused:
        apply(api_server, namespace, manifest)
    with pytest.raises(InvalidManifest) as read:
        read_manifests(yaml.safe_dump(manifest))
    assert refused.value.status in (400, 422)
    for said in (refused.value.message, str(read.value)):
        assert bad.field in said
        assert bad.sentence in said


@pytest.mark.parametrize(("kind", "change"), GOOD, ids=str)
def test_both_take_it_and_fill_in_the_same(
    api_server: Cluster, namespace: str, kind: str, change: dict[str, Any]
) -> None:
    manifest = document(kind, change)
    reader = ManifestReader(closed=True)
    stored = apply(api_server, namespace, manifest)
    assert reader.read({**stored, "metadata": {"name": "main"}}) == reader.read(manifest)


def test_an_instance_id_is_for_good_once_it_is_set(api_server: Cluster, namespace: str) -> None:
    apply(api_server, namespace, document("ClerkInstance", {}))
    path = f"/apis/nexus-auth.dev/v1alpha1/namespaces/{namespace}/clerkinstances/main"

    def patch(value: str | None) -> Any:
        change = {"spec": {"instanceId": value}}
        return api_server.admin.call("PATCH", path, change, content="application/merge-patch+json")

    assert patch("ins_one")["spec"]["instanceId"] == "ins_one"
    for other in ("ins_two", None):
        with pytest.raises(ApiError, match=r"spec\.instanceId: .*for good"):
            patch(other)
    assert patch("ins_one")["metadata"]["generation"] == 2


def test_every_rule_of_the_definitions_is_told_in_python_too() -> None:
    told = {value for name, value in vars(rules).items() if name.isupper() and isinstance(value, str)}
    written = {
        rule["message"]: rule["rule"]
        for file in CRDS.glob("*.yaml")
        for rule in _rules(yaml.safe_load(file.read_text()))
    }
    assert {message for message, rule in written.items() if "oldSelf" not in rule} == told - {
        rules.CLEAR_HOSTS,
        rules.TWICE,
    }
    assert f"self.matches('{rules.CLEAR_HOSTS}')".replace("\\", "\\\\") in written[rules.IN_CLEAR]


def _rules(part: Any) -> list[dict[str, str]]:
    if isinstance(part, list):
        return [rule for each in part for rule in _rules(each)]
    if not isinstance(part, dict):
        return []
    own = part.get("x-kubernetes-validations", [])
    return [*own, *(rule for each in part.values() for rule in _rules(each))] if isinstance(own, list) else []
