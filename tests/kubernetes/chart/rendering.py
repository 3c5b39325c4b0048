"""Renders the chart in this process, and finds one field in what comes out."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import yaml

from devtools.kubernetes import find_binary

CHART = Path(__file__).parents[3] / "deploy" / "helm" / "nexus-auth"
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The CRDs are long, and every test parses them."""
RELEASE, NAMESPACE = "rel", "auth"
CRDS = ("clerkinstances.nexus-auth.dev", "clerksyncs.nexus-auth.dev")

BASE: Mapping[str, Any] = {
    "clerk": {"instanceId": "ins_2abc", "apiKey": {"existingSecret": "clerk"}},
    "webhook": {
        "database": {"existingSecret": "webhook-database"},
        "signing": {"existingSecret": "signing"},
        "withhold": {"existingSecret": "withhold"},
    },
    "migrations": {"database": {"existingSecret": "owner-database"}},
}
"""The least that a release needs."""


class Refused(Exception):
    """The chart refuses these values; the text says why."""


def merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """`second` over `first`, as Helm merges values."""
    both = dict(first)
    for key, value in second.items():
        former = both.get(key)
        both[key] = merged(former, value) if isinstance(former, Mapping) and isinstance(value, Mapping) else value
    return both


def nested(name: str, value: Any) -> dict[str, Any]:
    """A dotted name as values."""
    head, _, rest = name.partition(".")
    return {head: nested(rest, value) if rest else value}


@cache
def chart() -> Any:
    """The chart, read once."""
    return helm_python.Chart.load(str(CHART))


def rendered(values: Mapping[str, Any] = {}, *, base: Mapping[str, Any] = BASE, apis: Sequence[str] = ()) -> "Objects":
    """Everything that a release with these values over the least ones consists of. Raises `Refused`.

    `apis`: group/version/Kind that the cluster has besides its own; only helm itself can be told of them.
    """
    return _rendered(json.dumps(merged(base, values)), tuple(apis))


@cache
def _rendered(values: str, apis: tuple[str, ...]) -> "Objects":
    """Many tests ask for the same."""
    files = _by_helm(values, apis) if apis else _here(json.loads(values))
    notes = "".join(files.pop(name) for name in list(files) if name.endswith("NOTES.txt"))
    objects = [document for text in files.values() for document in yaml.load_all(text, _Loader) if document]
    return Objects(objects, notes=notes)


def _here(values: dict[str, Any]) -> dict[str, str]:
    """In this process: a hundredth of a second."""
    try:
        return dict(chart().render(values, name=RELEASE, namespace=NAMESPACE))
    except helm_python.HelmError as error:
        raise Refused(str(error)) from None


def _by_helm(values: str, apis: Sequence[str]) -> dict[str, str]:
    ran = subprocess.run(
        [str(find_binary("helm")), "template", RELEASE, str(CHART), "--namespace", NAMESPACE, "--values", "-"]
        + [f"--api-versions={api}" for api in apis],
        input=values,
        text=True,
        capture_output=True,
        check=False,
    )
    if ran.returncode != 0:
        raise Refused(ran.stderr)
    return {"all": ran.stdout}


class Objects:
    """What a release consists of; `objects["Deployment/webhook"]` by kind and the name's end after the release's."""

    def __init__(self, objects: Sequence[dict[str, Any]], *, notes: str) -> None:
        self.all = objects
        self.notes = notes
        self._named = {f"{item['kind']}/{_short(item['metadata']['name'])}": item for item in objects}

    def __getitem__(self, name: str) -> dict[str, Any]:
        return self._named[name]

    def __contains__(self, name: str) -> bool:
        return name in self._named

    def names(self) -> set[str]:
        """All of them."""
        return set(self._named)

    def at(self, where: str) -> Any:
        """`Kind/name:path/to/field`; a number is an index, `name=x` finds an entry of a list, ~1 stands for a slash."""
        name, _, path = where.partition(":")
        found: Any = self[name]
        for part in path.split("/"):
            key = part.replace("~1", "/")
            if isinstance(found, list):
                if "=" in key:
                    field, _, wanted = key.partition("=")
                    found = next(item for item in found if item.get(field) == wanted)
                else:
                    found = found[int(key)]
            else:
                found = found[key]
        return found

    def pods(self) -> dict[str, dict[str, Any]]:
        """The pod specification of everything that runs pods."""
        specs = {}
        for name, item in self._named.items():
            if item["kind"] in ("Deployment", "Job"):
                specs[name] = item["spec"]["template"]["spec"]
            elif item["kind"] == "Pod":
                specs[name] = item["spec"]
        return specs


def _short(name: str) -> str:
    for prefix in (f"{NAMESPACE}-{RELEASE}-nexus-auth-", f"{RELEASE}-nexus-auth-", f"{NAMESPACE}-{RELEASE}-nexus-auth"):
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    return name
