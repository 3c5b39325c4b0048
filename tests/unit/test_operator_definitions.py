"""The custom resource definitions, held to the types of apiextensions/v1 as the official client declares them.

An API server does not show a stray key: it prunes a null, and warns about the rest. A tool that compares the file
with the cluster (Argo CD) shows a difference for ever.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.client import models

from nexus_auth.clerk.catalogue import PROJECTED
from services.reconciler.operator.status import HISTORY

CRDS = Path(__file__).parents[2] / "crds"
FILES = sorted(CRDS.glob("*.yaml"))


def problems(value: Any, declared: str, path: str = "") -> Iterator[str]:
    """Every null and every key that the declared type does not have."""
    if value is None:
        yield f"{path} is null"
        return
    nested = re.fullmatch(r"(?i)(list|dict)[\[(](?:str, )?(.+)[\])]", declared)
    if nested is not None:
        items = value.items() if nested[1].lower() == "dict" else enumerate(value)
        for key, item in items:
            yield from problems(item, nested[2], f"{path}.{key}")
        return
    model = getattr(models, declared, None)
    if model is None or not isinstance(value, dict):
        yield from _nulls(value, path)
        return
    types = {name: model.openapi_types[attribute] for attribute, name in model.attribute_map.items()}
    for key, item in value.items():
        if key not in types:
            yield f"{path}.{key} is no field of {declared}"
        elif key == "items" and declared == "V1JSONSchemaProps":  # declared as `object`: one schema, or a list of them
            yield from problems(item, declared, f"{path}.{key}")
        else:
            yield from problems(item, types[key], f"{path}.{key}")


def _nulls(value: Any, path: str) -> Iterator[str]:
    if value is None:
        yield f"{path} is null"
    elif isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _nulls(item, f"{path}.{key}")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_definition_has_no_null_and_no_key_that_apiextensions_does_not_know(file: Path) -> None:
    assert list(problems(yaml.safe_load(file.read_text("utf-8")), "V1CustomResourceDefinition")) == []


def test_a_comma_in_an_unquoted_description_is_noticed() -> None:
    text = (
        FILES[1]
        .read_text("utf-8")
        .replace('"Clerk has them, the mirror had not."', "Clerk has them, the mirror had not.")
    )
    found = list(problems(yaml.safe_load(text), "V1CustomResourceDefinition"))
    assert len(found) == 1
    assert "the mirror had not. is no field of V1JSONSchemaProps" in found[0]


def test_the_resources_of_a_sync_are_those_of_the_catalogue_parents_first() -> None:
    definition = yaml.safe_load((CRDS / "clerksync.yaml").read_text("utf-8"))
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    resources = schema["spec"]["properties"]["resources"]
    assert resources["items"]["properties"]["name"]["enum"] == [entity.resource for entity in PROJECTED]
    assert resources["maxItems"] >= len(PROJECTED)
    assert schema["status"]["properties"]["history"]["maxItems"] == HISTORY
