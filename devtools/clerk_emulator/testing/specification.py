"""Clerk's OpenAPI files as a judge of what the emulator says. They are Clerk's, so they are read and never shipped.

They are looked for in ``CLERK_OPENAPI_DIR``, else in ``shared/reference`` beside the checkout. The files are read more
strictly than OpenAPI demands: an object that lists its members may hold no others unless it says so. Where ``allOf``
joins closed objects, which nothing could satisfy, the members of all parts are meant and taken together; where a
``oneOf`` is nullable, null is meant to be one of the choices.
"""

import json
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from openapi_schema_validator import OAS30Validator
from referencing import Registry
from referencing.jsonschema import DRAFT4

BAPI_FILE, WEBHOOKS_FILE = "clerk-bapi-openapi.yml", "clerk-webhooks-openapi.yml"
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Json = dict[str, Any]


class SpecificationMissing(Exception):
    """The files are not to be found."""


class Specification:
    """The two OpenAPI files."""

    def __init__(self, folder: Path) -> None:
        """Read them; raise SpecificationMissing."""
        try:
            self._documents = {
                "bapi": _closed_document(yaml.load((folder / BAPI_FILE).read_text(), _LOADER)),
                "webhooks": _closed_document(yaml.load((folder / WEBHOOKS_FILE).read_text(), _LOADER)),
            }
        except OSError as error:
            raise SpecificationMissing(f"no OpenAPI files of Clerk in {folder}: {error.strerror}") from error
        self._validators: dict[str, OAS30Validator] = {}

    @classmethod
    def found(cls, *, repository: Path, environment: Mapping[str, str] = os.environ) -> "Specification":
        """Read the files from where they usually are; raise SpecificationMissing."""
        named = environment.get("CLERK_OPENAPI_DIR")
        return cls(Path(named) if named else repository.parent / "shared" / "reference")

    @property
    def event_types(self) -> frozenset[str]:
        """The event types that the specification knows."""
        return frozenset(self._documents["webhooks"]["x-webhooks"])

    def problems_of_event(self, body: bytes) -> list[str]:
        """Return what is wrong with the body of an event of a known type."""
        event = json.loads(body)
        pointer = _pointer("x-webhooks", event["type"], "post", "requestBody", "content", "application/json", "schema")
        return self._problems(f"urn:webhooks#{pointer}", event, where=event["type"])

    def problems_of_answer(self, *, method: str, route: str, status: int, body: bytes) -> list[str]:
        """Return what is wrong with an answer of the API: the route as in the specification, ``/users/{user_id}``."""
        where = f"{method} {route} {status}"
        operation = self._documents["bapi"]["paths"].get(route, {}).get(method.lower())
        if status >= 400:
            return self._problems("urn:bapi#/components/schemas/ClerkErrors", json.loads(body), where=where)
        if operation is None:
            return [f"{where}: no such route in the specification"]
        response = operation["responses"].get(str(status))
        if response is None:
            return [f"{where}: no such status in the specification"]
        if "$ref" in response:
            reference = response["$ref"] + "/content/application~1json/schema"
        else:
            reference = "#" + _pointer(
                "paths", route, method.lower(), "responses", str(status), "content", "application/json", "schema"
            )
        return self._problems(f"urn:bapi{reference}", json.loads(body), where=where)

    @cached_property
    def _registry(self) -> Any:
        resources = [(f"urn:{name}", DRAFT4.create_resource(document)) for name, document in self._documents.items()]
        return Registry().with_resources(resources)

    def _problems(self, reference: str, value: Any, *, where: str) -> list[str]:
        validator = self._validators.get(reference)
        if validator is None:
            validator = OAS30Validator({"$ref": reference}, registry=self._registry)
            self._validators[reference] = validator
        return [
            f"{where}: {'/'.join(map(str, error.absolute_path))}: {error.message[:300]}"
            for error in validator.iter_errors(value)
        ]


def _pointer(*parts: str) -> str:
    return "".join(
        "/" + part.replace("~", "~0").replace("/", "~1").replace("{", "%7B").replace("}", "%7D") for part in parts
    )


def _closed_document(document: Json) -> Json:
    closed = _closed(document, document)
    assert isinstance(closed, dict)
    return closed


def _closed(node: Any, document: Json) -> Any:
    if isinstance(node, list):
        return [_closed(item, document) for item in node]
    if not isinstance(node, dict):
        return node
    if "allOf" in node:
        node = _joined(node, document)
    result = {key: value if key == "example" else _closed(value, document) for key, value in node.items()}
    if isinstance(result.get("properties"), dict) and "additionalProperties" not in result and "$ref" not in result:
        result["additionalProperties"] = False
    if result.get("nullable") and "oneOf" in result:
        result["oneOf"] = [*result["oneOf"], {"type": "object", "nullable": True, "enum": [None]}]
    return result


def _joined(node: Json, document: Json) -> Json:
    """Return one object schema in place of an ``allOf``: all members, all requirements."""
    joined: Json = {key: value for key, value in node.items() if key != "allOf"}
    joined.setdefault("type", "object")
    properties = dict(joined.get("properties", {}))
    required = list(joined.get("required", []))
    for part in node["allOf"]:
        whole = _resolved(part, document)
        if "allOf" in whole:
            whole = _joined(whole, document)
        properties |= whole.get("properties", {})
        required += [name for name in whole.get("required", []) if name not in required]
    joined["properties"] = properties
    if required:
        joined["required"] = required
    return joined


def _resolved(node: Json, document: Json) -> Json:
    while "$ref" in node:
        target: Any = document
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part.replace("~1", "/").replace("~0", "~")]
        node = target
    return node
