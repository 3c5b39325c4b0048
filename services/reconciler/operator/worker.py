"""One turn of an object: it is visited, its status is made from what was met and saved, and it is due again."""

import asyncio
import logging
import time
from datetime import UTC, datetime, timedelta

from services.reconciler.leading import Terms
from services.reconciler.operator import instance_status, status
from services.reconciler.operator.work_queue import WorkQueue, Slot
from services.reconciler.operator.cluster import INSTANCES
from services.reconciler.operator.conditions import find
from services.reconciler.operator.metrics import OperatorMetrics
from services.reconciler.operator.status_writer import StatusWriter
from services.reconciler.operator.secrets import Secrets
from services.reconciler.operator.cache import Cache, TrackedObject
from services.reconciler.operator.reporter import Reporter
from services.reconciler.operator.reconcile import InstanceReconciler, SyncReconciler

MANY_FAILURES = 5
"""Where failures are not counted, the pause of so many."""

logger = logging.getLogger(__name__)


class Worker:
    """Takes one object after the other, each in a task of its own."""

    def __init__(
        self,
        cache: Cache,
        *,
        queue: WorkQueue,
        status_writer: StatusWriter,
        reporter: Reporter,
        secrets: Secrets,
        terms: Terms,
        metrics: OperatorMetrics,
        controller_class: str,
    ) -> None:
        """Everything is the caller's."""
        self._cache = cache
        self._queue = agenda
        self._status_writer = status_writer
        self._reporter = reporter
        self._metrics = metrics
        self._class = controller_class
        self._syncs = SyncReconciler(cache, secrets=secrets, terms=terms, begins=reporter.begins)
        self._instances = InstanceReconciler(cache, secrets=secrets, terms=terms)

    async def take(self, tracked: TrackedObject, slot: Slot) -> None:
        """One turn, in a slot that is given back."""
        controller = tracked.key[0]
        began = time.monotonic()
        result, mode = "error", "none"
        try:
            if controller == INSTANCES:
                result = await self._instance(tracked)
            else:
                result, mode = await self._sync(tracked, slot)
        except asyncio.CancelledError:
            result = "cancelled"
            if self._cache.get(tracked.key) is tracked:
                self._queue.enqueue(tracked)
            raise
        except Exception:
            logger.exception("visit failed", extra={"object": "/".join(tracked.at)})
            pause = self._queue.retry_after(MANY_FAILURES)
            self._queue.schedule(tracked, min(tracked.due_at, time.monotonic() + pause))
        finally:
            tracked.task = None
            self._reporter.stop(tracked)
            self._metrics.reconciles.labels(controller, result).inc()
            self._metrics.duration.labels(controller, mode).observe(time.monotonic() - began)
            self._queue.release(slot)

    async def _sync(self, tracked: TrackedObject, slot: Slot) -> tuple[str, str]:
        sync, generation = tracked.sync, tracked.generation
        suspended = sync is not None and sync.suspend
        if suspended or (slot == "check" and sync is not None):  # the latter waits for a run's place
            now = datetime.now(UTC)
            first = status.initial(tracked.status, generation=generation, suspended=suspended, now=now)
            if first != tracked.status:
                await self._status_writer.write(tracked, first)
            tracked.reconciled = tracked.reconciled or suspended
            self._queue.finish(tracked)
            return ("suspended" if suspended else "waiting"), "none"
        tracked.reconciled = True
        known = tracked.database_address, tracked.database_identity
        self._reporter.reconcile_begins(tracked)
        reconcile = await self._syncs.reconcile(tracked)
        self._reporter.stop(tracked)
        before = tracked.status
        fresh = status.after(before, reconcile.outcome, sync=sync, generation=generation, now=datetime.now(UTC))
        trouble = reconcile.outcome.trouble
        pause = self._queue.retry_after(fresh["consecutiveFailures"]) if trouble is not None else None
        if pause is not None:
            fresh = status.retrying(fresh, at=datetime.now(UTC) + timedelta(seconds=pause))
        self._reporter.count(tracked, reconcile)
        await self._status_writer.write(tracked, fresh)
        await self._reporter.sync_changed(tracked, before, reconcile)
        if (tracked.database_address, tracked.database_identity) != known:
            for rival in self._cache.younger_conflicts(tracked):
                self._queue.enqueue(rival)
        self._queue.finish(tracked, pause=pause)
        return ("error" if trouble is not None else "success"), (reconcile.runs[-1].mode if reconcile.runs else "none")

    async def _instance(self, tracked: TrackedObject) -> str:
        generation = tracked.generation
        syncs = self._cache.syncs_of(tracked)
        if not syncs and self._class:
            self._queue.finish(tracked)  # another class's operator looks after it
            return "skipped"
        instance_id, trouble = await self._instances.reconcile(tracked)
        before = tracked.status
        fresh = instance_status.after(
            before,
            of=tracked.instance,
            instance_id=instance_id,
            trouble=trouble,
            syncs=len(syncs),
            generation=generation,
            now=datetime.now(UTC),
        )
        was_visited, tracked.reconciled = tracked.reconciled, True
        await self._status_writer.write(tracked, fresh)
        await self._reporter.instance_changed(tracked, before, trouble)
        if was_visited and _ready(tracked.status) != _ready(before):
            for sync in syncs:
                self._queue.enqueue(sync)
        self._queue.finish(tracked, pause=self._queue.retry_after(MANY_FAILURES) if trouble is not None else None)
        return "error" if trouble is not None else "success"


def _ready(of: status.Status) -> str | None:
    ready = find(of.get("conditions", []), "Ready")
    return ready["status"] if ready is not None else None
