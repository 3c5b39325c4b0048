"""Writes the comments of values.yaml into values.schema.json, which editors show, and holds the two to each other.

Types and bounds are the schema's own; what a value means is said once.
"""

import json
from collections.abc import Iterator
from typing import Any

from devtools.chart.values import Value

HELMS_OWN = "global"
"""Helm adds it, and this chart uses nothing of it."""


class Unmatched(Exception):
    """Values that the schema does not know, or the other way round; names them."""


def described(source: str, values: list[Value]) -> str:
    """The schema with what values.yaml says. Raises `Unmatched`."""
    schema = json.loads(source)
    names = {value.name for value in values}
    unknown = [value.name for value in values if _node(schema, value.name) is None]
    if unknown:
        raise Unmatched(f"values.schema.json does not know {', '.join(unknown)}")
    unset = [name for name in _properties(schema, names) if name not in names]
    if unset:
        raise Unmatched(f"values.yaml does not have {', '.join(unset)} of values.schema.json")
    for value in values:
        node = _node(schema, value.name) or {}
        kept = {key: of for key, of in node.items() if key != "description"}
        node.clear()
        node.update({"description": value.text, **kept})
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def _node(schema: dict[str, Any], name: str) -> dict[str, Any] | None:
    """Where a value is described; each value has a place of its own, since each has a text of its own."""
    at: dict[str, Any] | None = schema
    for key in name.split("."):
        at = (at or {}).get("properties", {}).get(key)
    return at


def _properties(schema: dict[str, Any], names: set[str], prefix: str = "") -> Iterator[str]:
    """Every property that is no group of others; what lies below a documented value is Kubernetes'."""
    for key, node in schema.get("properties", {}).items():
        name = f"{prefix}{key}"
        if name not in names and "properties" in node:
            yield from _properties(node, names, f"{name}.")
        elif name != HELMS_OWN:
            yield name
