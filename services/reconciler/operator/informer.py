"""The informer: keeps the cache equal to the API server, and enqueues each object that a change concerns.

The watch reports keys; a listing of everything every few minutes is the fallback. No decision depends on an event: a
lost one only delays the reconcile until the next listing.
"""

import logging
from collections.abc import Callable
from dataclasses import replace

from services.reconciler.manifests import ManifestReader, SyncManifest
from services.reconciler.operator.cache import Cache, Key, TrackedObject
from services.reconciler.operator.cluster import INSTANCES, SYNCS, Cluster, Forbidden, Gone, Object, Unreachable
from services.reconciler.operator.metrics import OperatorMetrics
from services.reconciler.operator.status_writer import StatusWriter
from services.reconciler.operator.watch import SECRETS, WatchEvent
from services.reconciler.operator.work_queue import WorkQueue

logger = logging.getLogger(__name__)


class Informer:
    """Fills the cache, and is the only one to add objects to it or remove them."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        cache: Cache,
        queue: WorkQueue,
        status_writer: StatusWriter,
        metrics: OperatorMetrics,
        controller_class: str,
        restart_watch: Callable[[], None],
    ) -> None:
        """`restart_watch` is called where a listing found a change that the watch had not reported."""
        self._cluster = cluster
        self._cache = cache
        self._queue = queue
        self._status_writer = status_writer
        self._metrics = metrics
        self._class = controller_class
        self._restart_watch = restart_watch
        self._reader = ManifestReader(closed=False)
        self._listed = False
        self.list_error: str | None = None
        """Why the last listing failed; None where it did not."""

    async def list(self) -> bool:
        """Lists everything and updates the cache; returns whether the listing succeeded."""
        try:
            found = {
                (plural, item["metadata"]["namespace"], item["metadata"]["name"]): item
                for plural in (INSTANCES, SYNCS)
                for item in await self._cluster.objects(plural)
            }
        except (Unreachable, Forbidden, Gone) as error:
            self.list_error = {
                "Gone": "the custom resources are not installed: apply crds/",
                "Forbidden": "the operator's role does not allow it to list its custom resources",
            }.get(type(error).__name__, str(error))
            logger.error("listing failed", extra={"why": self.list_error})
            return False
        first, was_away, news = not self._listed, self.list_error is not None, False
        self.list_error = None
        for tracked in self._cache:
            if tracked.key not in found:
                self._remove(tracked)
                news = True
        for key, body in found.items():
            news = self._consider(key, body) or news
        if was_away or (news and not first):  # whatever kept us from listing kept the watch from working
            logger.warning("the watch had missed a change; it is started again")
            self._restart_watch()
        self._listed = True
        return True

    async def handle(self, event: WatchEvent) -> bool:
        """Handles one event of the watch; returns whether the object could be read."""
        if event.plural == SECRETS:
            self._secret(event)
            return True
        key = (event.plural, event.namespace, event.name)
        tracked = self._cache.get(key)
        if event.gone:
            if tracked is not None and tracked.uid == event.uid:
                self._remove(tracked)
            return True
        if tracked is not None and tracked.uid == event.uid and event.resource_version in tracked.versions:
            return True
        if tracked is not None and tracked.writing:
            self._status_writer.defer(event)
            return True
        try:
            body = await self._cluster.get(event.plural, namespace=event.namespace, name=event.name)
        except Gone:
            if tracked is not None:
                self._remove(tracked)
            return True
        except (Unreachable, Forbidden) as error:
            logger.warning("object not read", extra={"object": f"{event.namespace}/{event.name}", "why": str(error)})
            return False
        self._consider(key, body)
        return True

    def spec_changed(self, tracked: TrackedObject) -> None:
        """Reads the object again: a status write returned a body with another spec."""
        tracked.read(tracked.body, self._reader)
        self._changed(tracked)
        self._queue.enqueue(tracked)

    def forget(self, tracked: TrackedObject) -> None:
        """Removes the object's metrics."""
        if tracked.key[0] == INSTANCES:
            self._metrics.forget_instance(tracked.at)
        else:
            self._metrics.forget(tracked.at)

    def _secret(self, event: WatchEvent) -> None:
        """A Secret changed: whoever read another version of it is reconciled again."""
        for tracked in self._cache.users_of_secret(event.namespace, event.name):
            if tracked.secrets[event.name] != (None if event.gone else event.resource_version):
                self._queue.enqueue(tracked)

    def _consider(self, key: Key, body: Object) -> bool:
        """Updates the cache from a body; returns whether anything changed."""
        tracked = self._cache.get(key)
        if tracked is not None and tracked.uid != body["metadata"]["uid"]:
            self._remove(tracked)
            tracked = None
        if tracked is None:
            return self._add(key, body)
        if tracked.resource_version == body["metadata"]["resourceVersion"]:
            return False
        former, generation = tracked.manifest, tracked.generation
        tracked.read(body, self._reader)
        if not self._is_ours(tracked):
            self._remove(tracked)
            return True
        if body.get("status") not in (tracked.status, tracked.written):
            self._status_writer.mark_pending(tracked)  # somebody else changed the status
        if tracked.generation != generation:
            self._changed(tracked)
            if tracked.task is not None and _means_another_run(former, tracked.manifest):
                tracked.task.cancel()
            self._queue.enqueue(tracked)
        elif tracked.request is not None or tracked.approval is not None:
            self._queue.enqueue(tracked)
        return True

    def _add(self, key: Key, body: Object) -> bool:
        tracked = TrackedObject(key, body, dict(body.get("status") or {}))
        tracked.read(body, self._reader)
        if not self._is_ours(tracked):
            return False
        self._cache.put(tracked)
        self._changed(tracked)
        self._queue.schedule_next(tracked)
        return True

    def _is_ours(self, tracked: TrackedObject) -> bool:
        if tracked.key[0] == INSTANCES:
            return True
        return str((tracked.body.get("spec") or {}).get("controllerClass", "")) == self._class

    def _changed(self, tracked: TrackedObject) -> None:
        """A new object or a new spec: objects that refer to it, or were blocked by it, are reconciled again."""
        if tracked.key[0] == INSTANCES:
            for user in self._cache.syncs_of(tracked):
                self._queue.enqueue(user)
            return
        sync = tracked.sync
        if sync is not None:
            self._metrics.spec(
                tracked.at,
                instance=sync.instance,
                policy=sync.policy.drift,
                suspend=sync.suspend,
                interval=sync.interval,
            )
        holder = self._cache.instance_of(tracked)
        if holder is not None and self._listed:
            self._queue.enqueue(holder)
        self._recheck_blocked()

    def _recheck_blocked(self) -> None:
        """Objects that another one blocked are reconciled again: it may block them no more."""
        for other in self._cache.blocked():
            self._queue.enqueue(other)

    def _remove(self, tracked: TrackedObject) -> None:
        self._cache.remove(tracked.key)
        if tracked.task is not None:
            tracked.task.cancel()
        self.forget(tracked)
        logger.info("object gone", extra={"object": "/".join(tracked.at)})
        if tracked.key[0] == INSTANCES:
            for sync in self._cache.syncs_of(tracked):
                self._queue.enqueue(sync)
        else:
            holder = self._cache.instance_of(tracked)
            if holder is not None:
                self._queue.enqueue(holder)
        self._recheck_blocked()


def _means_another_run(former: object, now: object) -> bool:
    """Whether a run by the former manifest must stop: every change of the spec but `suspend`."""
    if isinstance(former, SyncManifest) and isinstance(now, SyncManifest):
        return replace(former, suspend=False) != replace(now, suspend=False)
    return True
