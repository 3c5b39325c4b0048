"""The rules of ClerkInstance and ClerkSync that a JSON schema cannot say, for where no API server says them.

The API server has them as CEL, in `crds/`; a standalone runner reads the same files with jsonschema, which passes CEL
over. Sentence by sentence they are the same here, and a test gives both the same manifests. Rules about a change (an
instanceId is for good) are the API server's alone: a file has no past.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Spec = Mapping[str, Any]
"""With its defaults filled in."""

SHORTEST = 30.0
"""Seconds between two looks."""

CLEAR_HOSTS = (
    "^http://(localhost|[a-z0-9-]+|[a-z0-9.-]+[.](svc|local|internal)|[a-z0-9.-]+[.]svc[.][a-z0-9.-]+|127[.][0-9.]+"
    "|10[.][0-9.]+|192[.]168[.][0-9.]+|172[.](1[6-9]|2[0-9]|3[01])[.][0-9.]+|\\[::1\\])(:[0-9]+)?(/.*)?$"
)
"""Addresses that may do without TLS: on this machine, in a cluster, in a private network."""

IN_CLEAR = "http would send the API key in clear: use https, or an address in this cluster"
TOO_SHORT = "must be 30s or more"
TIMEOUT = "must be from 1s to 5m"
BELOW_INTERVAL = "must not be shorter than interval"
BELOW_FULL = "must not be shorter than fullSweepInterval"
RESOURCE_BELOW_INTERVAL = "no resource's fullSweepInterval may be shorter than interval"
NONE_ENABLED = "none is enabled: to pause a sync, set suspend"
TWICE = "Duplicate value"

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0}


def seconds(duration: str) -> float:
    """A duration as Kubernetes writes it: 30s, 10m, 1h30m."""
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9.]+)(ms|s|m|h)", duration))


def broken(kind: str, spec: Spec) -> Iterator[tuple[str, str]]:
    """Each rule that a spec breaks, which its schema has accepted: the field and the sentence."""
    rules: Callable[[Spec], Iterator[tuple[str, str]]] = _instance if kind == "ClerkInstance" else _sync
    return rules(spec)


def _instance(spec: Spec) -> Iterator[tuple[str, str]]:
    if spec["apiUrl"].startswith("http://") and not re.match(CLEAR_HOSTS, spec["apiUrl"]):
        yield "spec.apiUrl", IN_CLEAR
    if not 1.0 <= seconds(spec["requestTimeout"]) <= 300.0:
        yield "spec.requestTimeout", TIMEOUT


def _sync(spec: Spec) -> Iterator[tuple[str, str]]:
    interval, full, deep = (seconds(spec[name]) for name in ("interval", "fullSweepInterval", "deepSweepInterval"))
    if interval < SHORTEST:
        yield "spec.interval", TOO_SHORT
    if full < interval:
        yield "spec.fullSweepInterval", BELOW_INTERVAL
    if deep < full:
        yield "spec.deepSweepInterval", BELOW_FULL
    if "resources" in spec:
        yield from _resources(spec["resources"], interval=interval)


def _resources(resources: list[Spec], *, interval: float) -> Iterator[tuple[str, str]]:
    names = [resource["name"] for resource in resources]
    own = [
        seconds(resource["fullSweepInterval"]) if "fullSweepInterval" in resource else None for resource in resources
    ]
    for number, name in enumerate(names):
        if name in names[:number]:
            yield f"spec.resources[{number}]", TWICE
    for number, each in enumerate(own):
        if each is not None and each < SHORTEST:
            yield f"spec.resources[{number}].fullSweepInterval", TOO_SHORT
    if any(each is not None and each < interval for each in own):
        yield "spec.resources", RESOURCE_BELOW_INTERVAL
    if not any(resource["enabled"] for resource in resources):
        yield "spec.resources", NONE_ENABLED
