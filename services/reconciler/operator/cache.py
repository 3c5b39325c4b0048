"""The cache: for each object its body, its manifest, the status that we want it to have, and when it is due.

Everything in it can be read again from the API server: a restart loses nothing.
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
    """The status that we want. The API server's may be older."""
    manifest: SyncManifest | InstanceManifest | None = None
    invalid: Trouble | None = None
    due_at: float = math.inf
    """By the work queue's clock."""
    task: "asyncio.Task[None] | None" = None
    secrets: dict[str, str | None] = field(default_factory=dict)
    """Secrets that the last reconcile read, with their resourceVersion; None where there was no readable one."""
    database_address: str | None = None
    """Its database as the Secret names it, where that is known: see `database_address`."""
    database_identity: str | None = None
    """Its database as the server identifies itself: two names of one server have one identity."""
    written: Status | None = None
    """The status as the API server stored it, without fields that its schema does not know."""
    versions: tuple[str, ...] = ()
    """resourceVersions that we have read or written. The watch's events about them are ignored."""
    writing: bool = False
    """A status write is in progress: an event of the watch may be its echo."""
    failures: int = 0
    """Failed reconciles in a row, of a ClerkInstance; a ClerkSync's status counts its own."""
    reconciled: bool = False
    """Whether this process has reconciled it since it became leader."""

    @property
    def namespace(self) -> str:
        """Namespace of the object."""
        return self.key[1]

    @property
    def name(self) -> str:
        """Name of the object."""
        return self.key[2]

    @property
    def at(self) -> tuple[str, str]:
        """Namespace and name: the labels of its metrics."""
        return self.key[1], self.key[2]

    @property
    def uid(self) -> str:
        """UID of the object."""
        return str(self.body["metadata"]["uid"])

    @property
    def generation(self) -> int:
        """Generation of its spec."""
        return int(self.body["metadata"].get("generation", 1))

    @property
    def resource_version(self) -> str:
        """resourceVersion of the newest body that we have seen."""
        return str(self.body["metadata"]["resourceVersion"])

    @property
    def age(self) -> tuple[str, str]:
        """A sort key: older objects come first."""
        return str(self.body["metadata"].get("creationTimestamp", "")), self.uid

    @property
    def sync(self) -> SyncManifest | None:
        """The manifest of a ClerkSync; None for another kind or an invalid spec."""
        return self.manifest if isinstance(self.manifest, SyncManifest) else None

    @property
    def instance(self) -> InstanceManifest | None:
        """The manifest of a ClerkInstance; None for another kind or an invalid spec."""
        return self.manifest if isinstance(self.manifest, InstanceManifest) else None

    def annotation(self, name: str) -> str | None:
        """The value of an annotation; None where it is missing or empty."""
        value = (self.body["metadata"].get("annotations") or {}).get(name)
        return str(value) if value else None

    @property
    def request(self) -> str | None:
        """A sync request that was not handled yet."""
        wanted = self.annotation(REQUEST)
        return wanted if wanted != self.status.get("lastHandledSyncRequest") else None

    @property
    def approval(self) -> str | None:
        """An approval that was not handled yet."""
        wanted = self.annotation(APPROVE)
        return wanted if wanted != self.status.get("lastHandledApproval") else None

    def hold(self, body: Object) -> None:
        """Stores a new body."""
        self.body = body
        self.versions = (*self.versions[-3:], self.resource_version)

    def note_database(self, address: str, identity: str | None = None) -> None:
        """Stores which database it uses. An unchanged address keeps the identity that is known."""
        if identity is not None or address != self.database_address:
            self.database_address, self.database_identity = address, identity

    def same_database(self, other: "TrackedObject") -> bool:
        """Whether both are known to use the same database."""
        return any(
            mine is not None and mine == theirs
            for mine, theirs in (
                (self.database_address, other.database_address),
                (self.database_identity, other.database_identity),
            )
        )

    def read(self, body: Object, reader: ManifestReader) -> None:
        """Stores a new body and reads its manifest."""
        self.hold(body)
        document = {**body, "apiVersion": f"{GROUP}/{VERSION}", "kind": KINDS[self.key[0]]}
        self.manifest, self.invalid = None, None
        try:
            self.manifest = reader.read(document)
        except InvalidManifest as error:
            self.invalid = Trouble("InvalidSpec", f"{error}: correct the spec", about="spec")


class Cache:
    """All objects, and which of them refer to which."""

    def __init__(self) -> None:
        """Starts empty."""
        self._objects: dict[Key, TrackedObject] = {}
        self._blocked: dict[Key, TrackedObject] = {}

    def __iter__(self) -> Iterator[TrackedObject]:
        """Iterates over a snapshot."""
        return iter(list(self._objects.values()))

    def __len__(self) -> int:
        """Number of objects."""
        return len(self._objects)

    def get(self, key: Key) -> TrackedObject | None:
        """The object of a key; None where there is none."""
        return self._objects.get(key)

    def put(self, tracked: TrackedObject) -> None:
        """Adds an object."""
        self._objects[tracked.key] = tracked
        self.update_blocked(tracked)

    def remove(self, key: Key) -> None:
        """Removes an object."""
        self._objects.pop(key, None)
        self._blocked.pop(key, None)

    def update_blocked(self, tracked: TrackedObject) -> None:
        """Call it after every change of an object's status."""
        ready = find(tracked.status.get("conditions", []), "Ready")
        waits = ready is not None and ready["reason"] in ("Conflict", "StateDatabaseMismatch")
        if waits and self.get(tracked.key) is tracked:
            self._blocked[tracked.key] = tracked
        else:
            self._blocked.pop(tracked.key, None)

    def blocked(self) -> list[TrackedObject]:
        """Objects that an older one blocks."""
        return list(self._blocked.values())

    def instance_of(self, tracked: TrackedObject) -> TrackedObject | None:
        """The ClerkInstance that a sync names; None where it does not exist."""
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
        """Objects whose last reconcile read this Secret, or missed it."""
        return [tracked for tracked in self if tracked.namespace == namespace and name in tracked.secrets]

    def names_on_same_database(self, tracked: TrackedObject) -> list[str]:
        """Names of all syncs that use the same database, and of those whose database is not known yet."""
        return [other.name for other in self.syncs() if other.database_identity is None or other.same_database(tracked)]

    def older_conflict(self, tracked: TrackedObject) -> TrackedObject | None:
        """An older sync that writes the same rows of the same database, or has the same name there."""
        return next((other for other in self._conflicts(tracked) if other.age < tracked.age), None)

    def younger_conflicts(self, tracked: TrackedObject) -> list[TrackedObject]:
        """Younger syncs that write the same rows of the same database."""
        return [other for other in self._conflicts(tracked) if other.age > tracked.age]

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
    """Host, port and name of the database in a URL, without the login; empty where it cannot be read."""
    try:
        parts = urlsplit(database_url.strip())
        return f"{(parts.hostname or '').lower()}:{parts.port or 5432}/{unquote(parts.path.lstrip('/'))}"
    except ValueError:
        return ""


def parse_moment(text: Any) -> datetime | None:
    """A time out of a status; None where it is none."""
    try:
        return datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    except ValueError:
        return None
