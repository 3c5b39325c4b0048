"""The reference page of the custom resources, read off `crds/`: what `kubectl explain` says, with bounds and rules."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

CRDS = Path(__file__).parents[1] / "crds"

HEAD = """# ClerkInstance and ClerkSync

Group `nexus-auth.dev`, version `v1alpha1`, namespaced, category `clerk` (`kubectl get clerk` lists both). Written by
`python -m devtools.reference` from `crds/`; `kubectl explain clerksync.spec` says the same on a cluster. The standalone
runner reads the same manifests from a file and holds them to the same rules.

A duration is written as 90s, 10m or 1h30m.
"""

Schema = Mapping[str, Any]


def page() -> str:
    """The whole page."""
    documents = [yaml.safe_load(file.read_text("utf-8")) for file in sorted(CRDS.glob("*.yaml"))]
    return HEAD + "".join(_kind(document["spec"]) for document in documents)


def _kind(definition: Schema) -> str:
    version = definition["versions"][0]
    root = version["schema"]["openAPIV3Schema"]
    parts = root["properties"]
    names = definition["names"]
    columns = ", ".join(
        column["name"] + (" (wide)" if column.get("priority") else "") for column in version["additionalPrinterColumns"]
    )
    selectable = ", ".join(f"`{field['jsonPath'].lstrip('.')}`" for field in version.get("selectableFields", ()))
    lines = [
        f"\n## {names['kind']}\n",
        f"{root['description'].strip()}\n",
        f"Short name `{names['shortNames'][0]}`. Columns: {columns}."
        + (f" Field selectors: {selectable}." if selectable else "")
        + "\n",
        "### spec\n",
        "| field | type | default | bounds | |\n|---|---|---|---|---|",
        *_rows(parts["spec"], "", spec=True),
        "\n### status\n",
        "| field | type | |\n|---|---|---|",
        *_rows(parts["status"], "", spec=False),
    ]
    return "\n".join(lines) + "\n"


def _rows(schema: Schema, path: str, *, spec: bool) -> Iterator[str]:
    required = schema.get("required", ())
    for name, part in schema.get("properties", {}).items():
        here = f"{path}{name}"
        cells = [f"`{here}`" + (" *" if spec and name in required else ""), _type(part)]
        if spec:
            cells += [_default(part), _bounds(part)]
        yield f"| {' | '.join([*cells, _words(part, spec=schema if spec else {}, name=name)])} |"
        yield from _rows(part, f"{here}.", spec=spec)
        yield from _rows(part.get("items", {}), f"{here}[].", spec=spec)


def _words(part: Schema, *, spec: Schema, name: str) -> str:
    """The description, and the rules of the field, whether they stand at it or at its parent."""
    own = [rule["message"] for rule in part.get("x-kubernetes-validations", ()) if "fieldPath" not in rule]
    around = [
        rule["message"] for rule in spec.get("x-kubernetes-validations", ()) if rule.get("fieldPath") == f".{name}"
    ]
    rules = [f"Otherwise refused: “{message}”." for message in (*own, *around)]
    return " ".join([*part["description"].split(), *rules]).replace("|", "\\|")


def _type(part: Schema) -> str:
    if part["type"] == "array":
        return f"list of {part['items']['type']}s"
    return "time" if part.get("format") == "date-time" else str(part["type"])


def _default(part: Schema) -> str:
    default = part.get("default")
    if default in (None, {}):
        return ""
    return f"`{default if isinstance(default, str) and default else json.dumps(default)}`"


def _bounds(part: Schema) -> str:
    bounds = []
    if "enum" in part:
        bounds.append(", ".join(f"`{value}`" for value in part["enum"]))
    if "minimum" in part:
        bounds.append(f"{part['minimum']:,} to {part['maximum']:,}")
    if part["type"] == "array":
        bounds.append(f"{part.get('minItems', 0)} to {part['maxItems']} items")
        if "x-kubernetes-list-map-keys" in part:
            bounds.append(f"each {part['x-kubernetes-list-map-keys'][0]} once")
    if "maxLength" in part and "ms)?" not in part.get("pattern", ""):
        bounds.append(f"at most {part['maxLength']:,} characters")
    return "; ".join(bounds)
