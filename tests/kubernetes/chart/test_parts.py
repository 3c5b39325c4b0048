"""What is switched off, left out or given in another way: nothing of it is left in the release."""

from typing import Any

import pytest
import yaml

from tests.kubernetes.chart.golden import EVERYTHING, SECRETS
from tests.kubernetes.chart.rendering import BASE, chart, merged, nested, rendered


@pytest.mark.parametrize(
    ("component", "number"),
    [("webhook", 10), ("operator", 9), ("migrations", 2)],
)
def test_a_component_that_is_off_leaves_nothing(component: str, number: int) -> None:
    def of(objects: Any) -> set[str]:
        label = "app.kubernetes.io/component"
        return {name for name in objects.names() if objects[name]["metadata"]["labels"][label] == component}

    assert len(of(rendered(EVERYTHING))) == number
    assert of(rendered(merged(EVERYTHING, nested(f"{component}.enabled", False)))) == set()


@pytest.mark.parametrize("values", [{"rbac": {"create": False}}, {"crds": {"enabled": False}}])
def test_roles_for_people_come_with_the_crds_and_with_rbac(values: dict[str, Any]) -> None:
    roles = {"ClusterRole/view", "ClusterRole/edit"}
    assert roles <= rendered().names()
    assert not roles & rendered(values).names()


def test_an_operator_without_a_role_of_its_own_has_none_at_all() -> None:
    kinds = {item["kind"] for item in rendered({"rbac": {"create": False}}).all}
    assert not kinds & {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}


@pytest.mark.parametrize("component", ["webhook", "operator"])
@pytest.mark.parametrize(("given", "name"), [("", "default"), ("theirs", "theirs")])
def test_a_service_account_that_is_not_created_is_the_one_named(component: str, given: str, name: str) -> None:
    objects = rendered({component: {"serviceAccount": {"create": False, "name": given}}})
    assert objects.at(f"Deployment/{component}:spec/template/spec/serviceAccountName") == name
    if component == "operator":
        assert objects.at("ClusterRoleBinding/operator:subjects/0/name") == name
        assert objects.at("RoleBinding/operator-lease:subjects/0/name") == name


def test_without_an_api_key_nothing_of_it_is_mounted() -> None:
    objects = rendered({"clerk": {"apiKey": {"existingSecret": ""}}})
    pod = objects.pods()["Deployment/webhook"]
    assert "CLERK_SECRET_KEY_FILE" not in {variable["name"] for variable in pod["containers"][0]["env"]}
    for mounts in (pod["containers"][0]["volumeMounts"], pod["volumes"]):
        assert "clerk" not in {mount["name"] for mount in mounts}
    pod = rendered({"clerk": {"instanceId": ""}}).pods()["Deployment/webhook"]
    assert "CLERK_INSTANCE_ID" not in {variable["name"] for variable in pod["containers"][0]["env"]}
    assert "CLERK_SECRET_KEY_FILE" in {variable["name"] for variable in pod["containers"][0]["env"]}


def test_all_keys_of_the_signing_secret_are_mounted_and_of_the_others_one() -> None:
    volumes = {volume["name"]: volume for volume in rendered().pods()["Deployment/webhook"]["volumes"]}
    assert "items" not in volumes["signing"]["secret"]
    assert [len(volumes[name]["secret"]["items"]) for name in ("database", "withhold", "clerk")] == [1, 1, 1]


def test_a_secret_of_yours_is_taken_before_one_in_values() -> None:
    both = {
        "secrets": {"allowInValues": True},
        "clerk": {"apiKey": {"value": "sk_test_1"}},
        "webhook": {
            "database": {"url": "postgresql://w"},
            "signing": {"secrets": ["whsec_a"]},
            "withhold": {"value": "w" * 32},
        },
        "migrations": {"database": {"url": "postgresql://o"}},
    }
    objects = rendered(both)
    assert not [name for name in objects.names() if name.startswith("Secret/")]
    volumes = {volume["name"]: volume for volume in objects.pods()["Deployment/webhook"]["volumes"]}
    assert volumes["database"]["secret"]["secretName"] == "webhook-database"
    none = {"webhook": {"database": {"existingSecret": ""}, "enabled": False}, "migrations": {"enabled": False}}
    assert not [name for name in rendered(merged(both, none)).names() if name.startswith("Secret/")]


def test_a_node_port_is_for_services_that_have_one() -> None:
    assert "nodePort" not in rendered({"webhook": {"service": {"nodePort": 30_080}}}).at("Service/webhook:spec/ports/0")


def test_a_sync_of_the_release_belongs_to_its_instance_and_class() -> None:
    created = {"clerkInstance": {"create": True, "name": "main"}, "clerkSync": {"create": True}}
    sync = rendered(created)["ClerkSync/rel-nexus-auth"]
    assert sync["spec"] == {"instanceRef": {"name": "main"}}
    own = rendered(merged(created, {"clerkSync": {"spec": {"instanceRef": {"name": "other"}, "controllerClass": "x"}}}))
    assert own["ClerkSync/rel-nexus-auth"]["spec"] == {"instanceRef": {"name": "other"}, "controllerClass": "x"}
    instance = rendered(merged(created, {"clerk": {"instanceId": ""}}))["ClerkInstance/main"]
    assert "instanceId" not in instance["spec"]


@pytest.mark.parametrize(
    ("release", "name"),
    [("nexus-auth", "nexus-auth"), ("my-nexus-auth", "my-nexus-auth"), ("rel", "rel-nexus-auth"), ("r" * 53, "r" * 40)],
)
def test_names_carry_the_release_once_and_stay_short_enough(release: str, name: str) -> None:
    values = merged(BASE, merged(EVERYTHING, {"watch": {"namespaces": ["n" * 63]}}))
    files = chart().render(values, name=release, namespace="n" * 63)
    objects = [of for file, text in files.items() if "NOTES" not in file for of in yaml.safe_load_all(text) if of]
    names = {of["metadata"]["name"] for of in objects if of["kind"] != "CustomResourceDefinition"}
    assert f"{name}-webhook" in names
    assert max(map(len, names)) <= 63
    assert not [each for each in names if each.endswith("-")]
    for of in objects:
        assert all(len(value) <= 63 for value in of["metadata"]["labels"].values())


def test_the_api_keys_secret_that_the_chart_makes_consents_and_no_other_does() -> None:
    made = rendered(SECRETS)
    consent = {
        name: (made[name]["metadata"]["labels"]).get("nexus-auth.dev/readable")
        for name in made.names()
        if name.startswith("Secret/")
    }
    assert consent.pop("Secret/api-key") == "true"
    assert len(consent) == 4
    assert set(consent.values()) == {None}


def test_the_job_makes_the_logins_of_the_secrets_that_the_services_use() -> None:
    logins = {"create": True, "reconciler": {"existingSecret": "database"}, "cli": {"existingSecret": "people"}}
    pod = rendered({"migrations": {"logins": logins}}).pods()["Job/migrations"]
    assert pod["containers"][0]["command"][-2:] == ["--logins-from", "/run/nexus-auth/logins"]
    mounts = {of["name"]: of["mountPath"] for of in pod["containers"][0]["volumeMounts"]}
    assert mounts["logins"] == "/run/nexus-auth/logins"
    (volume,) = [of["projected"] for of in pod["volumes"] if of["name"] == "logins"]
    assert volume["defaultMode"] == 0o440
    found = {of["secret"]["items"][0]["path"]: of["secret"]["name"] for of in volume["sources"]}
    assert found == {"webhook": "webhook-database", "reconciler": "database", "cli": "people"}


def test_without_logins_the_job_gets_no_secret_of_a_service() -> None:
    pod = rendered().pods()["Job/migrations"]
    assert "--logins-from" not in pod["containers"][0]["command"]
    assert {of["name"] for of in pod["volumes"]} == {"tmp", "database"}


def test_a_webhook_url_in_values_reaches_the_job_before_the_releases_own_secrets_exist() -> None:
    made = rendered(merged(SECRETS, {"migrations": {"logins": {"create": True}}}))
    secret = made["Secret/migrations-webhook"]
    assert secret["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    (volume,) = [of["projected"] for of in made.pods()["Job/migrations"]["volumes"] if of["name"] == "logins"]
    assert volume["sources"][0]["secret"]["name"] == secret["metadata"]["name"]


def test_listed_secrets_are_the_only_ones_that_the_role_allows_and_are_not_watched() -> None:
    made = rendered({"rbac": {"secretNames": ["clerk", "database"]}})
    rules = [rule for rule in made["ClusterRole/operator"]["rules"] if rule["resources"] == ["secrets"]]
    names = ["clerk", "database"]
    assert rules == [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": names, "verbs": ["list"]}]
    container = made.pods()["Deployment/operator"]["containers"][0]
    environment = {of["name"]: of.get("value") for of in container["env"]}
    assert environment["NEXUS_AUTH_SECRET_NAMES"] == "clerk,database"
    assert environment["NEXUS_AUTH_API_HOSTS"] == "api.clerk.com"
