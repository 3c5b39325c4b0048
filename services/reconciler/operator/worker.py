"""The worker: reconciles one object, writes its status, posts Events, and sets when the object is due again."""

import asyncio
import logging
import time
from datetime import UTC, datetime, timedelta

from services.reconciler.leading import INTERNAL_ERROR, LeadLost, Terms, Trouble, trouble_of
from services.reconciler.manifests import SyncManifest
from services.reconciler.operator import instance_status, status
from services.reconciler.operator.cache import Cache, TrackedObject
from services.reconciler.operator.cluster import INSTANCES
from services.reconciler.operator.conditions import find
from services.reconciler.operator.metrics import OperatorMetrics
from services.reconciler.operator.reconcile import InstanceReconciler, Reconcile, SyncReconciler
from services.reconciler.operator.reporter import Reporter
from services.reconciler.operator.secrets import Secrets
from services.reconciler.operator.status import Outcome
from services.reconciler.operator.status_writer import StatusWriter
from services.reconciler.operator.work_queue import Slot, WorkQueue

MANY_FAILURES = 5
"""Where the status itself could not be made, the pause is that of so many failures in a row."""

logger = logging.getLogger(__name__)


class Worker:
    """Each reconcile runs in a task of its own; the scheduler makes it."""

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
        """Keeps what it is given."""
        self._cache = cache
        self._queue = queue
        self._status_writer = status_writer
        self._reporter = reporter
        self._metrics = metrics
        self._class = controller_class
        self._syncs = SyncReconciler(cache, secrets=secrets, terms=terms, run_begins=reporter.run_begins)
        self._instances = InstanceReconciler(cache, secrets=secrets, terms=terms)

    async def reconcile(self, tracked: TrackedObject, slot: Slot) -> None:
        """Reconciles one object. The caller frees the slot, however this ends."""
        controller = tracked.key[0]
        began = time.monotonic()
        result, mode = "error", "none"
        try:
            if controller == INSTANCES:
                result = await self._instance(tracked)
            else:
                result, mode = await self._sync(tracked, slot)
        except (asyncio.CancelledError, LeadLost):
            result = "cancelled"
            raise
        except Exception as error:
            await self._fail(tracked, trouble_of(error))
        finally:
            self._metrics.reconciles.labels(controller, result).inc()
            self._metrics.duration.labels(controller, mode).observe(time.monotonic() - began)

    async def _fail(self, tracked: TrackedObject, trouble: Trouble) -> None:
        """Shows an error that no reconciler expected, and tries again after a pause."""
        if tracked.key[0] == INSTANCES:
            await self._instance_ended(tracked, None, trouble, generation=tracked.generation)
        else:
            failed = Reconcile(outcome=Outcome(trouble=trouble))
            await self._sync_ended(tracked, failed, sync=tracked.sync, generation=tracked.generation)

    async def _sync(self, tracked: TrackedObject, slot: Slot) -> tuple[str, str]:
        sync, generation = tracked.sync, tracked.generation
        suspended = sync is not None and sync.suspend
        if suspended or (slot == "check" and sync is not None):  # in a check slot, a sync waits for a run slot
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
        self._reporter.cancel_progress(tracked)
        self._reporter.count_runs(tracked, reconcile)
        await self._sync_ended(tracked, reconcile, sync=sync, generation=generation)
        if (tracked.database_address, tracked.database_identity) != known:
            for other in self._cache.younger_conflicts(tracked):
                self._queue.enqueue(other)
        failed = reconcile.outcome.trouble is not None
        return ("error" if failed else "success"), (reconcile.sweeps[-1].result.mode if reconcile.sweeps else "none")

    async def _sync_ended(
        self, tracked: TrackedObject, reconcile: Reconcile, *, sync: SyncManifest | None, generation: int
    ) -> None:
        """Writes the status, posts Events, and sets when the sync is due. `sync` is the spec that was reconciled."""
        before = tracked.status
        now = datetime.now(UTC)
        trouble = reconcile.outcome.trouble
        fresh = status.after(before, reconcile.outcome, sync=sync, generation=generation, now=now)
        pause = None
        if trouble is not None:
            self._log(tracked, trouble)
            pause = self._queue.retry_after(fresh["consecutiveFailures"])
            fresh = status.retrying(fresh, at=now + timedelta(seconds=pause))
        await self._status_writer.write(tracked, fresh)
        await self._reporter.report_sync(tracked, before, reconcile)
        self._queue.finish(tracked, pause=pause)

    def _log(self, tracked: TrackedObject, trouble: Trouble) -> None:
        """The log gets what a status must not show."""
        if trouble.reason == INTERNAL_ERROR:
            self._metrics.internal_errors.labels(tracked.key[0]).inc()
        extra = {
            "object": "/".join(tracked.at),
            "sync": tracked.name,  # the log's limit is for each
            "reason": trouble.reason,
            "why": str(trouble),
            "detail": trouble.detail,
        }
        logger.warning("reconcile failed", extra=extra)

    async def _instance(self, tracked: TrackedObject) -> str:
        generation = tracked.generation
        syncs = self._cache.syncs_of(tracked)
        if not syncs and self._class:
            self._queue.finish(tracked)  # the operator of another class reconciles it
            return "skipped"
        instance_id, trouble = await self._instances.reconcile(tracked)
        await self._instance_ended(tracked, instance_id, trouble, generation=generation)
        return "error" if trouble is not None else "success"

    async def _instance_ended(
        self, tracked: TrackedObject, instance_id: str | None, trouble: Trouble | None, *, generation: int
    ) -> None:
        """Writes the status, posts an Event, and sets when the instance is due; see `_sync_ended`."""
        syncs = self._cache.syncs_of(tracked)
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
        was_reconciled, tracked.reconciled = tracked.reconciled, True
        pause = None
        tracked.failures = tracked.failures + 1 if trouble is not None else 0
        if trouble is not None:
            self._log(tracked, trouble)
            pause = self._queue.retry_after(tracked.failures)
        await self._status_writer.write(tracked, fresh)
        await self._reporter.report_instance(tracked, before, trouble)
        if was_reconciled and _ready(tracked.status) != _ready(before):
            for sync in syncs:
                self._queue.enqueue(sync)
        self._queue.finish(tracked, pause=pause)


def _ready(of: status.Status) -> str | None:
    ready = find(of.get("conditions", []), "Ready")
    return ready["status"] if ready is not None else None
