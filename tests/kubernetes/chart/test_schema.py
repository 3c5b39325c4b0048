"""values.schema.json: closed at every level, and bounds for each value. That it has every value, `make lint` sees."""

from typing import Any

import pytest
import yaml

from devtools.chart.values import Value, read_values
from tests.kubernetes.chart.rendering import BASE, CHART, Refused, nested, rendered

SOURCE = (CHART / "values.yaml").read_text("utf-8")
VALUES = {value.name: value for value in read_values(SOURCE)}
KUBERNETES = {"podSecurityContext", "securityContext"}
"""Passed on as they are: the API server refuses what it does not know there."""


def levels(value: dict[str, Any], name: str = "") -> list[str]:
    """Dotted names of all groups, the whole included as an empty one."""
    inner = {f"{name}.{key}".lstrip("."): of for key, of in value.items() if isinstance(of, dict) and of}
    return [name, *(level for key, of in inner.items() for level in levels(of, key))]


def closed() -> list[str]:
    """Groups whose keys are the chart's."""
    groups = levels(yaml.safe_load(SOURCE))
    return [name for name in groups if name.split(".")[0] not in KUBERNETES and ".requests" not in name]


@pytest.mark.parametrize("level", closed())
def test_a_key_that_is_not_there_is_refused_at_every_level(level: str) -> None:
    values = nested(f"{level}.typo".lstrip("."), [])
    sentence = "got array, want" if level.endswith(".limits") else "additional properties 'typo' not allowed"
    with pytest.raises(Refused, match=sentence):
        rendered(values)


def wrong(value: Value) -> list[Any]:
    """What a value must not be: of another type, below its least, not of its form."""
    match value.default:
        case bool():
            return ["yes"]
        case int():
            return ["many", -1]
        case str():
            return [["x"], "not \n this"]
        case list():
            return ["x", [None]]
        case _:
            return ["x", ["x"]]


@pytest.mark.parametrize("name", VALUES)
def test_what_a_value_cannot_be_is_refused(name: str) -> None:
    for value in wrong(VALUES[name]):
        with pytest.raises(Refused, match=f"at '/{name.replace('.', '/')}"):
            rendered(nested(name, value))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("webhook.service.port", 65_536),
        ("webhook.service.nodePort", 65_536),
        ("webhook.lanes", 65),
        ("webhook.batchRows", 5_001),
        ("networkPolicy.databasePorts", [65_536]),
        ("networkPolicy.clerkPorts", [0]),
        ("networkPolicy.apiServerPorts", ["https"]),
        ("webhook.podDisruptionBudget.minAvailable", "101%"),
        ("operator.strategy", {"type": "Sometimes"}),
        ("webhook.probes.liveness", {"path": "/"}),
        ("image.digest", "sha256:abc"),
        ("image.tag", "a/b"),
        ("clerk.apiUrl", "https://key@api.clerk.com"),
        ("watch.namespaces", ["one", "one"]),
        ("watch.namespaces", ["Upper"]),
        ("webhook.signing.secrets", ["secret"]),
        ("webhook.extraEnv", [{"value": "nameless"}]),
        ("webhook.httpRoute.parentRefs", [{"namespace": "nameless"}]),
        ("webhook.httpRoute.hostnames", ["https://a.example"]),
        ("webhook.ingress.host", "a.example/path"),
        ("webhook.withhold.value", "w" * 31),
        ("clerk.apiKey.value", "pk_test_1"),
        ("migrations.database.url", "mysql://x"),
        ("metrics.podMonitor.interval", "30"),
        ("commonLabels", {"n": 1}),
    ],
)
def test_bounds_forms_and_enumerations(name: str, value: Any) -> None:
    with pytest.raises(Refused, match=f"at '/{name.replace('.', '/')}"):
        rendered(nested(name, value))


def test_defaults_and_what_helm_adds_are_taken() -> None:
    assert rendered().names() == rendered({**BASE, "global": {"any": 1}}).names()
