"""What people are told besides a status at rest: that a run goes on, Events for what changed, counters."""

import asyncio
import logging
from datetime import UTC, datetime
from typing import Any

from services.reconciler.leading import Trouble
from services.reconciler.operator import status
from services.reconciler.operator.conditions import find
from services.reconciler.operator.events import Events
from services.reconciler.operator.metrics import OperatorMetrics
from services.reconciler.operator.status_writer import StatusWriter
from services.reconciler.operator.cache import Cache, Key, TrackedObject
from services.reconciler.operator.status import FinishedRun, Status
from services.reconciler.operator.reconcile import Reconcile

FIRST_WORD_AFTER = 0.5
"""A first visit that is over sooner writes one status; of one that waits for its database, something is said."""
TELL_AFTER = 10.0
"""A periodic run that is over sooner leaves no trace of its beginning."""
AWAITED = frozenset({"Requested", "SpecChanged", "first sweep", "an approval"})
"""Reasons of runs that somebody waits for: their beginning is told at once."""

logger = logging.getLogger(__name__)


class Reporter:
    """Tells what goes on, in tasks of its own, and what has happened."""

    def __init__(self, cache: Cache, *, status_writer: StatusWriter, events: Events, metrics: OperatorMetrics) -> None:
        """Everything is the caller's."""
        self._cache = cache
        self._status_writer = status_writer
        self._events = events
        self._metrics = metrics
        self._tasks: dict[Key, asyncio.Task[None]] = {}

    @property
    def tasks(self) -> list["asyncio.Task[None]"]:
        """What is still to be told."""
        return list(self._tasks.values())

    def reconcile_begins(self, tracked: TrackedObject) -> None:
        """A visit begins."""
        self._later(tracked, None, FIRST_WORD_AFTER)

    async def begins(self, tracked: TrackedObject, reason: str) -> None:
        """A run begins: told at once where somebody waits for it, else when it has lasted."""
        self.stop(tracked)
        if reason in AWAITED:
            await self._tell(tracked, reason, 0.0)
        else:
            self._later(tracked, reason, TELL_AFTER)

    def stop(self, tracked: TrackedObject) -> None:
        """It is over."""
        task = self._tasks.pop(tracked.key, None)
        if task is not None:
            task.cancel()

    def _later(self, tracked: TrackedObject, reason: str | None, pause: float) -> None:
        self._tasks[tracked.key] = asyncio.create_task(self._tell(tracked, reason, pause))

    async def _tell(self, tracked: TrackedObject, reason: str | None, pause: float) -> None:
        await asyncio.sleep(pause)
        generation, now = tracked.generation, datetime.now(UTC)
        suspended = tracked.sync is not None and tracked.sync.suspend
        fresh = status.initial(tracked.status, generation=generation, suspended=suspended, now=now)
        if reason is not None:
            fresh = status.reconciling(fresh, reason=reason, generation=generation, now=now)
        if fresh != tracked.status:
            await self._status_writer.write(tracked, fresh)

    def count(self, tracked: TrackedObject, reconcile: Reconcile) -> None:
        """Metrics and log lines of a visit's runs."""
        if self._cache.get(tracked.key) is not tracked or tracked.sync is None:
            return
        for ran in reconcile.runs:
            result = ran.result
            self._metrics.ran(
                tracked.at,
                instance=tracked.sync.instance,
                mode=ran.mode,
                state=result.state,
                requests=result.requests,
            )
            self._metrics.repaired(tracked.at, result.counts)
            if result.deletions_parked:
                self._metrics.deletions_blocked(tracked.at)
            extra = {"object": "/".join(tracked.at), "run": result.run_id, "mode": ran.mode, "reason": ran.reason}
            logger.info(
                "run",
                extra={**extra, "state": result.state, "why": result.message, "requests": result.requests},
            )

    async def sync_changed(self, tracked: TrackedObject, before: Status, reconcile: Reconcile) -> None:
        """Events for what a visit changed."""
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
        for ran in reconcile.runs:
            words = _done(ran)
            if words and ran.result.state == "completed":
                what = f"run {ran.result.run_id} ({ran.mode}): {words}"
                await self._events.post(tracked, "Normal", reason="Repaired", message=what)

    async def instance_changed(self, tracked: TrackedObject, before: Status, trouble: Trouble | None) -> None:
        """An Event for a trouble that is new."""
        new, old = (find(of.get("conditions", []), "Ready") or {} for of in (tracked.status, before))
        if trouble is not None and (new.get("reason"), new.get("message")) != (old.get("reason"), old.get("message")):
            await self._events.post(tracked, "Warning", reason=trouble.reason, message=str(trouble))


def _said(condition: dict[str, Any]) -> tuple[str, ...]:
    """What makes a condition news; where a run waits for an approval, which one."""
    of = (condition["status"], condition["reason"])
    return (*of, condition["message"]) if condition["reason"] == "DeletionGuardTripped" else of


def _done(ran: FinishedRun) -> str:
    """What a run did, deletions apart; empty for nothing."""
    counts = ran.result.counts.values()
    put_right = sum(of.get(what, 0) for of in counts for what in ("repaired", "revived", "lowered"))
    deleted = sum(of.get("tombstoned", 0) for of in counts)
    words = [f"{_objects(put_right)} put right"] if put_right else []
    return ", ".join(words + ([f"{_objects(deleted)} deleted"] if deleted else []))


def _objects(number: int) -> str:
    return f"{number:,} object{'' if number == 1 else 's'}"
