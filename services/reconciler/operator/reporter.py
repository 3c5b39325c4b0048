"""Reports on reconciles: that a run is in progress, Events for what changed, metrics and log lines."""

import asyncio
import logging
from datetime import UTC, datetime
from typing import Any

from services.reconciler.leading import Trouble
from services.reconciler.operator import status
from services.reconciler.operator.cache import Cache, Key, TrackedObject
from services.reconciler.operator.cluster import SYNCS
from services.reconciler.operator.conditions import find
from services.reconciler.operator.events import Events
from services.reconciler.operator.metrics import OperatorMetrics
from services.reconciler.operator.reconcile import Reconcile
from services.reconciler.operator.status import FinishedSweep, Status
from services.reconciler.operator.status_writer import StatusWriter

FIRST_STATUS_AFTER = 0.5
"""Seconds before a first reconcile writes a status with conditions Unknown; a shorter one writes its result only."""
PROGRESS_AFTER = 10.0
"""Seconds before a periodic run sets the condition Reconciling; a shorter one never sets it."""
AWAITED = frozenset({"Requested", "SpecChanged", "first sweep", "an approval"})
"""Reasons of runs that somebody waits for: these set the condition Reconciling at once."""

logger = logging.getLogger(__name__)


class Reporter:
    """Progress is reported by tasks of its own, one for each object at most."""

    def __init__(self, cache: Cache, *, status_writer: StatusWriter, events: Events, metrics: OperatorMetrics) -> None:
        """Keeps what it is given."""
        self._cache = cache
        self._status_writer = status_writer
        self._events = events
        self._metrics = metrics
        self._tasks: dict[Key, asyncio.Task[None]] = {}

    @property
    def tasks(self) -> list["asyncio.Task[None]"]:
        """The tasks that report progress."""
        return list(self._tasks.values())

    def reconcile_begins(self, tracked: TrackedObject) -> None:
        """Call it when a reconcile begins."""
        self._report_later(tracked, None, FIRST_STATUS_AFTER)

    async def run_begins(self, tracked: TrackedObject, reason: str) -> None:
        """Call it when a run begins: it sets Reconciling, at once or after a while."""
        self.cancel_progress(tracked)
        if reason in AWAITED:
            await self._report_progress(tracked, reason, 0.0)
        else:
            self._report_later(tracked, reason, PROGRESS_AFTER)

    def cancel_progress(self, tracked: TrackedObject) -> None:
        """Ends the progress report of an object."""
        task = self._tasks.pop(tracked.key, None)
        if task is not None:
            task.cancel()

    def _report_later(self, tracked: TrackedObject, reason: str | None, pause: float) -> None:
        task = asyncio.create_task(self._report_progress(tracked, reason, pause), name=f"progress {tracked.name}")
        self._tasks[tracked.key] = task
        task.add_done_callback(self._log_failure)

    def _log_failure(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("progress not reported", extra={"task": task.get_name()}, exc_info=error)
            self._metrics.internal_errors.labels(SYNCS).inc()

    async def _report_progress(self, tracked: TrackedObject, reason: str | None, pause: float) -> None:
        await asyncio.sleep(pause)
        generation, now = tracked.generation, datetime.now(UTC)
        suspended = tracked.sync is not None and tracked.sync.suspend
        fresh = status.initial(tracked.status, generation=generation, suspended=suspended, now=now)
        if reason is not None:
            fresh = status.reconciling(fresh, reason=reason, generation=generation, now=now)
        if fresh != tracked.status:
            await self._status_writer.write(tracked, fresh)

    def count_runs(self, tracked: TrackedObject, reconcile: Reconcile) -> None:
        """Metrics and log lines for the runs of a reconcile."""
        if self._cache.get(tracked.key) is not tracked or tracked.sync is None:
            return
        for sweep in reconcile.sweeps:
            result = sweep.result
            for run in result.runs:
                self._metrics.ran(
                    tracked.at,
                    instance=tracked.sync.instance,
                    mode=run.mode,
                    state=run.state,
                    requests=run.requests,
                )
                if run.deletions_parked:
                    self._metrics.deletions_blocked(tracked.at)
            self._metrics.repaired(tracked.at, result.counts)
            extra = {"object": "/".join(tracked.at), "sweep": result.sweep_id, "mode": result.mode}
            more = {"reason": sweep.reason, "state": result.state, "why": result.message, "requests": result.requests}
            logger.info("run", extra={**extra, "runs": [run.run_id for run in result.runs], **more})

    async def report_sync(self, tracked: TrackedObject, before: Status, reconcile: Reconcile) -> None:
        """Events for what a reconcile changed."""
        if self._cache.get(tracked.key) is not tracked:
            return
        if reconcile.refused is not None:
            await self._events.post(tracked, "Warning", reason="ApprovalRefused", message=reconcile.refused)
        if reconcile.approved is not None:
            await self._events.post(tracked, "Normal", reason="Approved", message=reconcile.approved)
            logger.info("approved", extra={"object": "/".join(tracked.at), "what": reconcile.approved})
        for type_ in ("Ready", "DriftDetected"):
            new = find(tracked.status.get("conditions", []), type_)
            old = find(before.get("conditions", []), type_)
            if new is None or (old is not None and _said(old) == _said(new)):
                continue
            if type_ == "DriftDetected" and new["status"] != "True":
                continue
            bad = new["status"] == ("False" if type_ == "Ready" else "True")
            reason = "DriftDetected" if type_ == "DriftDetected" else new["reason"]
            await self._events.post(tracked, "Warning" if bad else "Normal", reason=reason, message=new["message"])
        for sweep in reconcile.sweeps:
            words = _done(sweep)
            if words:
                what = f"sweep {sweep.result.sweep_id} ({sweep.result.mode}): {words}"
                await self._events.post(tracked, "Normal", reason="Repaired", message=what)

    async def report_instance(self, tracked: TrackedObject, before: Status, trouble: Trouble | None) -> None:
        """An Event for a new trouble."""
        new, old = (find(of.get("conditions", []), "Ready") or {} for of in (tracked.status, before))
        if trouble is not None and (new.get("reason"), new.get("message")) != (old.get("reason"), old.get("message")):
            await self._events.post(tracked, "Warning", reason=trouble.reason, message=str(trouble))


def _said(condition: dict[str, Any]) -> tuple[str, ...]:
    """What makes a condition worth an Event. A run that waits for an approval is part of it."""
    of = (condition["status"], condition["reason"])
    return (*of, condition["message"]) if condition["reason"] == "DeletionGuardTripped" else of


def _done(sweep: FinishedSweep) -> str:
    """What a run repaired and deleted; empty where nothing."""
    counts = sweep.result.counts.values()
    repaired = sum(of.get(what, 0) for of in counts for what in ("repaired", "adopted", "revived", "lowered"))
    deleted = sum(of.get("tombstoned", 0) for of in counts)
    words = [f"{_objects(repaired)} repaired"] if repaired else []
    return ", ".join(words + ([f"{_objects(deleted)} deleted"] if deleted else []))


def _objects(number: int) -> str:
    return f"{number:,} object{'' if number == 1 else 's'}"
