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
from services.reconciler.operator.saving import Saver
from services.reconciler.operator.standing import Book, Key, Standing
from services.reconciler.operator.status import Ran, Status
from services.reconciler.operator.visits import Visit

FIRST_WORD_AFTER = 0.5
"""A first visit that is over sooner writes one status; of one that waits for its database, something is said."""
TELL_AFTER = 10.0
"""A periodic run that is over sooner leaves no trace of its beginning."""
AWAITED = frozenset({"Requested", "SpecChanged", "first sweep", "an approval"})
"""Reasons of runs that somebody waits for: their beginning is told at once."""

logger = logging.getLogger(__name__)


class Teller:
    """Tells what goes on, in tasks of its own, and what has happened."""

    def __init__(self, book: Book, *, saver: Saver, events: Events, metrics: OperatorMetrics) -> None:
        """Everything is the caller's."""
        self._book = book
        self._saver = saver
        self._events = events
        self._metrics = metrics
        self._tasks: dict[Key, asyncio.Task[None]] = {}

    @property
    def tasks(self) -> list["asyncio.Task[None]"]:
        """What is still to be told."""
        return list(self._tasks.values())

    def visited(self, standing: Standing) -> None:
        """A visit begins."""
        self._later(standing, None, FIRST_WORD_AFTER)

    async def begins(self, standing: Standing, reason: str) -> None:
        """A run begins: told at once where somebody waits for it, else when it has lasted."""
        self.stop(standing)
        if reason in AWAITED:
            await self._tell(standing, reason, 0.0)
        else:
            self._later(standing, reason, TELL_AFTER)

    def stop(self, standing: Standing) -> None:
        """It is over."""
        task = self._tasks.pop(standing.key, None)
        if task is not None:
            task.cancel()

    def _later(self, standing: Standing, reason: str | None, pause: float) -> None:
        self._tasks[standing.key] = asyncio.create_task(self._tell(standing, reason, pause))

    async def _tell(self, standing: Standing, reason: str | None, pause: float) -> None:
        await asyncio.sleep(pause)
        generation, now = standing.generation, datetime.now(UTC)
        suspended = standing.sync is not None and standing.sync.suspend
        fresh = status.initial(standing.status, generation=generation, suspended=suspended, now=now)
        if reason is not None:
            fresh = status.reconciling(fresh, reason=reason, generation=generation, now=now)
        if fresh != standing.status:
            await self._saver.save(standing, fresh)

    def count(self, standing: Standing, visit: Visit) -> None:
        """Metrics and log lines of a visit's runs."""
        if self._book.get(standing.key) is not standing or standing.sync is None:
            return
        for ran in visit.runs:
            result = ran.result
            self._metrics.ran(
                standing.at,
                instance=standing.sync.instance,
                mode=ran.mode,
                state=result.state,
                requests=result.requests,
            )
            self._metrics.repaired(standing.at, result.counts)
            if result.deletions_parked:
                self._metrics.deletions_blocked(standing.at)
            extra = {"object": "/".join(standing.at), "run": result.run_id, "mode": ran.mode, "reason": ran.reason}
            logger.info(
                "run",
                extra={**extra, "state": result.state, "why": result.message, "requests": result.requests},
            )

    async def sync_changed(self, standing: Standing, before: Status, visit: Visit) -> None:
        """Events for what a visit changed."""
        if self._book.get(standing.key) is not standing:
            return
        if visit.refused is not None:
            await self._events.post(standing, "Warning", reason="ApprovalRefused", message=visit.refused)
        if visit.approved is not None:
            await self._events.post(standing, "Normal", reason="Approved", message=visit.approved)
            logger.info("approved", extra={"object": "/".join(standing.at), "what": visit.approved})
        for type_ in ("Ready", "DriftDetected"):
            new = find(standing.status.get("conditions", []), type_)
            old = find(before.get("conditions", []), type_)
            if new is None or (old is not None and _said(old) == _said(new)):
                continue
            if type_ == "DriftDetected" and new["status"] != "True":
                continue
            bad = new["status"] == ("False" if type_ == "Ready" else "True")
            reason = "DriftDetected" if type_ == "DriftDetected" else new["reason"]
            await self._events.post(standing, "Warning" if bad else "Normal", reason=reason, message=new["message"])
        for ran in visit.runs:
            words = _done(ran)
            if words and ran.result.state == "completed":
                what = f"run {ran.result.run_id} ({ran.mode}): {words}"
                await self._events.post(standing, "Normal", reason="Repaired", message=what)

    async def instance_changed(self, standing: Standing, before: Status, trouble: Trouble | None) -> None:
        """An Event for a trouble that is new."""
        new, old = (find(of.get("conditions", []), "Ready") or {} for of in (standing.status, before))
        if trouble is not None and (new.get("reason"), new.get("message")) != (old.get("reason"), old.get("message")):
            await self._events.post(standing, "Warning", reason=trouble.reason, message=str(trouble))


def _said(condition: dict[str, Any]) -> tuple[str, ...]:
    """What makes a condition news; where a run waits for an approval, which one."""
    of = (condition["status"], condition["reason"])
    return (*of, condition["message"]) if condition["reason"] == "DeletionGuardTripped" else of


def _done(ran: Ran) -> str:
    """What a run did, deletions apart; empty for nothing."""
    counts = ran.result.counts.values()
    put_right = sum(of.get(what, 0) for of in counts for what in ("repaired", "revived", "lowered"))
    deleted = sum(of.get("tombstoned", 0) for of in counts)
    words = [f"{_objects(put_right)} put right"] if put_right else []
    return ", ".join(words + ([f"{_objects(deleted)} deleted"] if deleted else []))


def _objects(number: int) -> str:
    return f"{number:,} object{'' if number == 1 else 's'}"
