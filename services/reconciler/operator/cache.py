"""What the operator knows of every object: its body, what it asks for, what we said of it, and when it is due.

All of it can be had again from the API server: a restart loses nothing.
"""

import asyncio
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import unquote, urlsplit

from services.reconciler.leading import Trouble
from services.reconciler.manifests import GROUP, InstanceManifest, InvalidManifest, ManifestReader, SyncManifest
from services.reconciler.operator.cluster import INSTANCES, KINDS, SYNCS, VERSION, Object
from services.reconciler.operator.conditions import find
from services.reconciler.operator.status import Status

Key = tuple[str, str, str]
"""Plural, namespace, name."""

REQUEST = f"{GROUP}/sync-requested-at"
APPROVE = f"{GROUP}/approve"
APPROVED_BY = f"{GROUP}/approved-by"


@dataclass
class TrackedObject:
    """One object."""

    key: Key
    body: Object
    status: Status
    """As we want it to be; what the API server has may be older."""
    manifest: SyncManifest | InstanceManifest | None = None
    invalid: Trouble | None = None
    due_at: float = math.inf
    """By the loop's clock."""
    task: "asyncio.Task[None] | None" = None
    secrets: dict[str, str | None] = field(default_factory=dict)
    """Secrets that the last visit read: their resourceVersion, or None where there was none."""
    database_address: str | None = None
    """The database that it keeps as its Secret names it, where that is known: see `named`."""
    database_identity: str | None = None
    """The same in the server's own words: two names of one server are one place."""
    written: Status | None = None
    """As the API server took it: without fields that its schema does not know."""
    versions: tuple[str, ...] = ()
    """resourceVersions that we have read or written: what the watch tells of them is no news."""
    writing: bool = False
    """A write is on its way: what the watch tells meanwhile may be that write."""
    reconciled: bool = False
    """In this process's time as leader."""

    @property
    def namespace(self) -> str:
        """Of the object."""
        return self.key[1]

    @property
    def name(self) -> str:
        """Of the object."""
        return self.key[2]

    @property
    def at(self) -> tuple[str, str]:
        """Namespace and name: the labels of its metrics."""
        return self.key[1], self.key[2]

    @property
    def uid(self) -> str:
        """Of the object."""
        return str(self.body["metadata"]["uid"])

    @property
    def generation(self) -> int:
        """Of its spec."""
        return int(self.body["metadata"].get("generation", 1))

    @property
    def resource_version(self) -> str:
        """Of the newest body that we have event."""
        return str(self.body["metadata"]["resourceVersion"])

    @property
    def age(self) -> tuple[str, str]:
        """Sorts the older before the younger."""
        return str(self.body["metadata"].get("creationTimestamp", "")), self.uid

    @property
    def sync(self) -> SyncManifest | None:
        """The manifest of a ClerkSync that is none the worse."""
        return self.manifest if isinstance(self.manifest, SyncManifest) else None

    @property
    def instance(self) -> InstanceManifest | None:
        """The manifest of a ClerkInstance that is none the worse."""
        return self.manifest if isinstance(self.manifest, InstanceManifest) else None

    def annotation(self, name: str) -> str | None:
        """One of ours."""
        value = (self.body["metadata"].get("annotations") or {}).get(name)
        return str(value) if value else None

    @property
    def request(self) -> str | None:
        """A sync request that nobody has handled."""
        wanted = self.annotation(REQUEST)
        return wanted if wanted != self.status.get("lastHandledSyncRequest") else None

    @property
    def approval(self) -> str | None:
        """An approval that nobody has handled."""
        wanted = self.annotation(APPROVE)
        return wanted if wanted != self.status.get("lastHandledApproval") else None

    def hold(self, body: Object) -> None:
        """Takes a new body over."""
        self.body = body
        self.versions = (*self.versions[-3:], self.resource_version)

    def note_database(self, name: str, place: str | None = None) -> None:
        """Notes which database it keeps; a name that is known already keeps its place until another is told."""
        if place is not None or name != self.database_address:
            self.database_address, self.database_identity = name, place

    def same_database(self, other: "TrackedObject") -> bool:
        """Whether both are known to keep the same one."""
        return any(
            mine is not None and mine == theirs
            for mine, theirs in (
                (self.database_address, other.database_address),
                (self.database_identity, other.database_identity),
            )
        )

    def read(self, body: Object, reader: ManifestReader) -> None:
        """Takes a new body over, and what it asks for."""
        self.hold(body)
        document = {**body, "apiVersion": f"{GROUP}/{VERSION}", "kind": KINDS[self.key[0]]}
        self.manifest, self.invalid = None, None
        try:
            self.manifest = reader.read(document)
        except InvalidManifest as error:
            self.invalid = Trouble("InvalidSpec", f"{error}: correct the spec", about="spec")


class Cache:
    """All objects, and who refers to whom."""

    def __init__(self) -> None:
        """Empty."""
        self._objects: dict[Key, TrackedObject] = {}
        self._blocked: dict[Key, TrackedObject] = {}

    def __iter__(self) -> Iterator[TrackedObject]:
        """All of them as they are now, whatever comes and goes meanwhile."""
        return iter(list(self._objects.values()))

    def __len__(self) -> int:
        """How many."""
        return len(self._objects)

    def get(self, key: Key) -> TrackedObject | None:
        """One object."""
        return self._objects.get(key)

    def put(self, tracked: TrackedObject) -> None:
        """A new one."""
        self._objects[tracked.key] = tracked
        self.sort(tracked)

    def remove(self, key: Key) -> None:
        """One that is gone."""
        self._objects.pop(key, None)
        self._blocked.pop(key, None)

    def sort(self, tracked: TrackedObject) -> None:
        """To be called whenever an object's status is another."""
        ready = find(tracked.status.get("conditions", []), "Ready")
        waits = ready is not None and ready["reason"] in ("Conflict", "StateDatabaseMismatch")
        if waits and self.get(tracked.key) is tracked:
            self._blocked[tracked.key] = tracked
        else:
            self._blocked.pop(tracked.key, None)

    def blocked(self) -> list[TrackedObject]:
        """Whoever waits for another object to give way."""
        return list(self._blocked.values())

    def instance_of(self, tracked: TrackedObject) -> TrackedObject | None:
        """The ClerkInstance that a sync names."""
        sync = tracked.sync
        return self.get((INSTANCES, tracked.namespace, sync.instance)) if sync is not None else None

    def syncs(self) -> Iterator[TrackedObject]:
        """All ClerkSyncs."""
        return (tracked for tracked in self if tracked.key[0] == SYNCS)

    def syncs_of(self, instance: TrackedObject) -> list[TrackedObject]:
        """The ClerkSyncs that name an instance."""
        return [
            tracked
            for tracked in self.syncs()
            if tracked.sync is not None and (tracked.namespace, tracked.sync.instance) == instance.at
        ]

    def users_of_secret(self, namespace: str, name: str) -> list[TrackedObject]:
        """Whoever has read this Secret, or missed it."""
        return [tracked for tracked in self if tracked.namespace == namespace and name in tracked.secrets]

    def names_on_same_database(self, tracked: TrackedObject) -> list[str]:
        """Names of all syncs that keep the same database, or may: of some it is not known yet."""
        return [other.name for other in self.syncs() if other.database_identity is None or other.same_database(tracked)]

    def older_conflict(self, tracked: TrackedObject) -> TrackedObject | None:
        """An older sync that keeps the same rows of the same database, or has its name there."""
        return next((rival for rival in self._conflicts(tracked) if rival.age < tracked.age), None)

    def younger_conflicts(self, tracked: TrackedObject) -> list[TrackedObject]:
        """Younger ones."""
        return [rival for rival in self._conflicts(tracked) if rival.age > tracked.age]

    def _conflicts(self, tracked: TrackedObject) -> Iterator[TrackedObject]:
        mine = tracked.sync
        for other in self.syncs():
            theirs = other.sync
            if other is tracked or mine is None or theirs is None or not other.same_database(tracked):
                continue
            if other.name == tracked.name or set(mine.policy.kinds) & set(theirs.policy.kinds):
                yield other

    def older_with_other_state(self, tracked: TrackedObject) -> TrackedObject | None:
        """An older ClerkInstance of the same instance of Clerk whose budget lies in another database."""
        mine = tracked.status.get("instanceId")
        for other in self:
            if (
                other.key[0] == INSTANCES
                and other is not tracked
                and mine is not None
                and other.status.get("instanceId") == mine
                and other.age < tracked.age
                and None not in (other.database_identity, tracked.database_identity)
                and not other.same_database(tracked)
            ):
                return other
        return None


def database_address(database_url: str) -> str:
    """Which database an address names: host, port and name, without login."""
    try:
        parts = urlsplit(database_url.strip())
        return f"{(parts.hostname or '').lower()}:{parts.port or 5432}/{unquote(parts.path.lstrip('/'))}"
    except ValueError:
        return ""


def parse_moment(text: Any) -> datetime | None:
    """A moment out of a status."""
    try:
        return datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    except ValueError:
        return None
