"""Writes a status where it differs from the API server's, under the object's resourceVersion.

After a 409 the object is read again and the write repeated. The status belongs to the operator, so whatever somebody
else put there is replaced. The spec does not: a write that returns another spec has the object read again.
"""

import logging
from collections.abc import Callable

from services.reconciler.operator.cache import Cache, Key, TrackedObject, parse_moment
from services.reconciler.operator.cluster import INSTANCES, Changed, Cluster, Forbidden, Gone, Unreachable
from services.reconciler.operator.metrics import OperatorMetrics
from services.reconciler.operator.status import Status
from services.reconciler.operator.watch import WatchEvent

ATTEMPTS = 5

logger = logging.getLogger(__name__)


class StatusWriter:
    """Writes statuses, and updates the metrics that show them."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        cache: Cache,
        metrics: OperatorMetrics,
        spec_changed: Callable[[TrackedObject], None],
        put: Callable[[WatchEvent], None],
    ) -> None:
        """`spec_changed` is called where a write returned another spec; `put` gets the deferred events."""
        self._cluster = cluster
        self._cache = cache
        self._metrics = metrics
        self._spec_changed = spec_changed
        self._put = put
        self._pending: dict[Key, TrackedObject] = {}
        self._waiting: list[WatchEvent] = []

    def defer(self, event: WatchEvent) -> None:
        """Keeps an event of an object that is being written: it may be the echo of that write."""
        self._waiting.append(event)

    def mark_pending(self, tracked: TrackedObject) -> None:
        """Notes that the API server's status differs from ours."""
        self._pending[tracked.key] = tracked

    async def write(self, tracked: TrackedObject, status: Status) -> None:
        """Sets the object's status here and at the API server. A write that fails is retried later."""
        tracked.status = status
        self.mark_pending(tracked)
        generation = tracked.generation
        tracked.writing = True
        try:
            await self._write(tracked, status)
        finally:
            tracked.writing = False
            while self._waiting:
                self._put(self._waiting.pop())
        self._cache.update_blocked(tracked)
        if tracked.generation != generation:
            self._spec_changed(tracked)
        self._show(tracked)

    async def retry_pending(self) -> None:
        """Retries the writes that failed."""
        for key, tracked in list(self._pending.items()):
            if self._cache.get(key) is not tracked:
                self._pending.pop(key)
            elif tracked.task is None:
                await self.write(tracked, tracked.status)
                if key in self._pending:
                    return  # the API server is unreachable; the next tick retries

    async def _write(self, tracked: TrackedObject, status: Status) -> None:
        plural, namespace, name = tracked.key
        try:
            for _ in range(ATTEMPTS):
                if tracked.body.get("status") != status:
                    try:
                        tracked.hold(await self._cluster.replace_status(plural, {**tracked.body, "status": status}))
                        tracked.written = tracked.body.get("status")
                        if tracked.written == status:
                            tracked.status = tracked.written  # one copy is enough for a thousand objects
                    except Changed:
                        found = await self._cluster.get(plural, namespace=namespace, name=name)
                        if found["metadata"]["uid"] != tracked.uid:
                            return
                        tracked.hold(found)
                        continue
                self._pending.pop(tracked.key, None)
                return
        except Gone:
            pass
        except (Forbidden, Unreachable) as error:
            logger.warning("status not written", extra={"object": "/".join(tracked.at), "why": str(error)})

    def _show(self, tracked: TrackedObject) -> None:
        if self._cache.get(tracked.key) is not tracked:
            return
        if tracked.key[0] == INSTANCES:
            self._metrics.instance(tracked.at, tracked.status)
        else:
            last = parse_moment(tracked.status.get("lastSuccessTime"))
            self._metrics.sync(tracked.at, tracked.status, last_success=last.timestamp() if last else None)
