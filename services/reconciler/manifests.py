"""ClerkInstance and ClerkSync, read from YAML and checked against the schema of the custom resources.

One schema for both worlds: what `kubectl apply` would refuse is refused here, with the field's name. Defaults are the
schema's, too.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from nexus_auth.clerk.catalogue import BY_KIND, PROJECTED
from nexus_auth.reconcile.policy import Guard, SyncPolicy
from nexus_auth.store.budget import Share
from services.reconciler.rules import broken, seconds

CRDS = Path(__file__).parents[2] / "crds"
GROUP = "nexus-auth.dev"
KINDS = {entity.resource: entity.kind for entity in PROJECTED}
"""By the resource's name in a manifest; parents before children."""


class InvalidManifest(ValueError):
    """What is wrong, in which document and field."""


@dataclass(frozen=True, slots=True)
class SecretRef:
    """One key of one Secret."""

    name: str
    key: str


@dataclass(frozen=True, slots=True)
class InstanceManifest:
    """A ClerkInstance."""

    name: str
    instance_id: str | None
    api_url: str
    secret_key: SecretRef
    environment: str
    """Production or Development."""
    budget_percent: int
    share: Share
    """What of the environment's limit that is."""
    state_database: SecretRef
    request_timeout: float
    """Seconds."""


@dataclass(frozen=True, slots=True)
class SyncManifest:
    """A ClerkSync; intervals in seconds."""

    name: str
    instance: str
    database: SecretRef
    policy: SyncPolicy
    interval: float
    full_sweep_intervals: Mapping[str, float]
    """By kind."""
    deep_sweep_interval: float
    suspend: bool
    controller_class: str
    """Which operator looks after it, where a cluster has several."""


@dataclass(frozen=True, slots=True)
class Manifests:
    """Everything that one file says."""

    instances: Mapping[str, InstanceManifest]
    syncs: Mapping[str, SyncManifest]


class ManifestReader:
    """Reads one document after the other; the schemas are read once.

    `closed` refuses fields that the schema does not have, as a strict `kubectl apply` does. An operator leaves that to
    the API server: its schema may be newer than ours.
    """

    def __init__(self, *, closed: bool) -> None:
        """Reads the schemas of `CRDS`."""
        self._schemas = {kind: _schema(kind.lower()) for kind in ("ClerkInstance", "ClerkSync")}
        self._validators = {
            kind: jsonschema.Draft202012Validator(_closed(schema) if closed else schema)
            for kind, schema in self._schemas.items()
        }

    def read(self, document: Any, *, number: int = 1) -> InstanceManifest | SyncManifest:
        """One document. Raises `InvalidManifest`, which names it (by `number`, where it has no name) and the field."""
        kind, name = _named(document, number=number, kinds=self._schemas)
        errors = sorted(
            self._validators[kind].iter_errors({"spec": document.get("spec")}), key=lambda error: list(error.path)
        )
        if errors:
            raise InvalidManifest(f"{kind} {name}: {_field(errors[0].absolute_path)}: {errors[0].message}")
        spec = _defaulted(self._schemas[kind]["properties"]["spec"], document["spec"])
        for field, sentence in broken(kind, spec):
            raise InvalidManifest(f"{kind} {name}: {field}: {sentence}")
        return _instance(name, spec) if kind == "ClerkInstance" else _sync(name, spec)


def read_manifests(text: str) -> Manifests:
    """Reads YAML documents. Raises `InvalidManifest`, which names the document and the field."""
    try:
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except yaml.YAMLError as error:
        raise InvalidManifest(f"no YAML: {' '.join(str(error).split())}") from None
    reader = ManifestReader(closed=True)
    instances: dict[str, InstanceManifest] = {}
    syncs: dict[str, SyncManifest] = {}
    for number, document in enumerate(documents, start=1):
        manifest = reader.read(document, number=number)
        if manifest.name in (instances if isinstance(manifest, InstanceManifest) else syncs):
            raise InvalidManifest(f"{document['kind']} {manifest.name} stands twice")
        if isinstance(manifest, InstanceManifest):
            instances[manifest.name] = manifest
        else:
            syncs[manifest.name] = manifest
    for sync in syncs.values():
        if sync.instance not in instances:
            raise InvalidManifest(
                f"ClerkSync {sync.name}: spec.instanceRef.name: there is no ClerkInstance {sync.instance}"
            )
    return Manifests(instances, syncs)


def _named(document: Any, *, number: int, kinds: Collection[str]) -> tuple[str, str]:
    if not isinstance(document, dict):
        raise InvalidManifest(f"document {number} is no object")
    kind, version = document.get("kind"), document.get("apiVersion")
    if version != f"{GROUP}/v1alpha1" or not isinstance(kind, str) or kind not in kinds:
        raise InvalidManifest(
            f"document {number}: {version} {kind} is neither a ClerkInstance nor a ClerkSync of {GROUP}/v1alpha1"
        )
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", name):
        raise InvalidManifest(f"document {number} ({kind}): metadata.name is missing or no DNS name")
    return kind, name


def _field(path: Iterable[str | int]) -> str:
    """A field as kubectl writes it: spec.resources[0].name."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in path]
    return "".join(parts).lstrip(".") or "spec"


def _schema(file: str) -> Any:
    definition = yaml.safe_load((CRDS / f"{file}.yaml").read_text("utf-8"))
    return definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def _closed(schema: Any) -> Any:
    """The schema with unknown fields refused, as a strict `kubectl apply` does."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        closed["additionalProperties"] = False
    return closed


def _defaulted(schema: Mapping[str, Any], value: Any) -> Any:
    if schema.get("type") == "object":
        filled = dict(value)
        for name, part in schema.get("properties", {}).items():
            if name not in filled and "default" in part:
                filled[name] = part["default"]
            if name in filled:
                filled[name] = _defaulted(part, filled[name])
        return filled
    if schema.get("type") == "array":
        return [_defaulted(schema["items"], item) for item in value]
    return value


def _instance(name: str, spec: Mapping[str, Any]) -> InstanceManifest:
    return InstanceManifest(
        name=name,
        instance_id=spec.get("instanceId"),
        api_url=spec["apiUrl"],
        secret_key=SecretRef(**spec["secretKeyRef"]),
        environment=spec["environment"],
        budget_percent=spec["budgetPercent"],
        share=Share.of(spec["environment"], percent=spec["budgetPercent"]),
        state_database=SecretRef(**spec["stateDatabase"]["secretRef"]),
        request_timeout=seconds(spec["requestTimeout"]),
    )


def _sync(name: str, spec: Mapping[str, Any]) -> SyncManifest:
    everything: Sequence[Mapping[str, Any]] = [{"name": resource, "enabled": True} for resource in KINDS]
    chosen = [resource for resource in spec.get("resources", everything) if resource["enabled"]]
    full = seconds(spec["fullSweepInterval"])
    intervals: dict[str, float] = {}
    for resource in chosen:
        own = resource.get("fullSweepInterval")
        kind = KINDS[resource["name"]]
        usual = min(full, BY_KIND[kind].full_sweep_seconds or full)
        intervals[kind] = seconds(own) if own else usual
    guard = Guard(floor=spec["deletionGuard"]["floor"], percent=spec["deletionGuard"]["percent"])
    kinds = tuple(kind for kind in KINDS.values() if kind in intervals)
    return SyncManifest(
        name=name,
        instance=spec["instanceRef"]["name"],
        database=SecretRef(**spec["database"]["secretRef"]),
        policy=SyncPolicy(name, drift=spec["drift"]["policy"], kinds=kinds, guard=guard),
        interval=seconds(spec["interval"]),
        full_sweep_intervals=intervals,
        deep_sweep_interval=seconds(spec["deepSweepInterval"]),
        suspend=spec["suspend"],
        controller_class=spec.get("controllerClass", ""),
    )
