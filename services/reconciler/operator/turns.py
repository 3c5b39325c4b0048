"""One turn of an object: it is visited, its status is made from what was met and saved, and it is due again."""

import asyncio
import logging
import time
from datetime import UTC, datetime, timedelta

from services.reconciler.leading import Terms
from services.reconciler.operator import instance_status, status
from services.reconciler.operator.agenda import Agenda, Place
from services.reconciler.operator.cluster import INSTANCES
from services.reconciler.operator.conditions import find
from services.reconciler.operator.metrics import OperatorMetrics
from services.reconciler.operator.saving import Saver
from services.reconciler.operator.secrets import Secrets
from services.reconciler.operator.standing import Book, Standing
from services.reconciler.operator.telling import Teller
from services.reconciler.operator.visits import InstanceVisits, SyncVisits

MANY_FAILURES = 5
"""Where failures are not counted, the pause of so many."""

logger = logging.getLogger(__name__)


class Turns:
    """Takes one object after the other, each in a task of its own."""

    def __init__(
        self,
        book: Book,
        *,
        agenda: Agenda,
        saver: Saver,
        teller: Teller,
        secrets: Secrets,
        terms: Terms,
        metrics: OperatorMetrics,
        controller_class: str,
    ) -> None:
        """Everything is the caller's."""
        self._book = book
        self._agenda = agenda
        self._saver = saver
        self._teller = teller
        self._metrics = metrics
        self._class = controller_class
        self._syncs = SyncVisits(book, secrets=secrets, terms=terms, begins=teller.begins)
        self._instances = InstanceVisits(book, secrets=secrets, terms=terms)

    async def take(self, standing: Standing, place: Place) -> None:
        """One turn, in a place that is given back."""
        controller = standing.key[0]
        began = time.monotonic()
        result, mode = "error", "none"
        try:
            if controller == INSTANCES:
                result = await self._instance(standing)
            else:
                result, mode = await self._sync(standing, place)
        except asyncio.CancelledError:
            result = "cancelled"
            if self._book.get(standing.key) is standing:
                self._agenda.soon(standing)
            raise
        except Exception:
            logger.exception("visit failed", extra={"object": "/".join(standing.at)})
            pause = self._agenda.retry_after(MANY_FAILURES)
            self._agenda.at(standing, min(standing.due_at, time.monotonic() + pause))
        finally:
            standing.task = None
            self._teller.stop(standing)
            self._metrics.reconciles.labels(controller, result).inc()
            self._metrics.duration.labels(controller, mode).observe(time.monotonic() - began)
            self._agenda.ended(place)

    async def _sync(self, standing: Standing, place: Place) -> tuple[str, str]:
        sync, generation = standing.sync, standing.generation
        suspended = sync is not None and sync.suspend
        if suspended or (place == "look" and sync is not None):  # the latter waits for a run's place
            now = datetime.now(UTC)
            first = status.initial(standing.status, generation=generation, suspended=suspended, now=now)
            if first != standing.status:
                await self._saver.save(standing, first)
            standing.visited = standing.visited or suspended
            self._agenda.settle(standing)
            return ("suspended" if suspended else "waiting"), "none"
        standing.visited = True
        known = standing.database_name, standing.database_place
        self._teller.visited(standing)
        visit = await self._syncs.visit(standing)
        self._teller.stop(standing)
        before = standing.status
        fresh = status.after(before, visit.outcome, sync=sync, generation=generation, now=datetime.now(UTC))
        trouble = visit.outcome.trouble
        pause = self._agenda.retry_after(fresh["consecutiveFailures"]) if trouble is not None else None
        if pause is not None:
            fresh = status.retrying(fresh, at=datetime.now(UTC) + timedelta(seconds=pause))
        self._teller.count(standing, visit)
        await self._saver.save(standing, fresh)
        await self._teller.sync_changed(standing, before, visit)
        if (standing.database_name, standing.database_place) != known:
            for rival in self._book.younger_rivals(standing):
                self._agenda.soon(rival)
        self._agenda.settle(standing, pause=pause)
        return ("error" if trouble is not None else "success"), (visit.runs[-1].mode if visit.runs else "none")

    async def _instance(self, standing: Standing) -> str:
        generation = standing.generation
        syncs = self._book.syncs_of(standing)
        if not syncs and self._class:
            self._agenda.settle(standing)  # another class's operator looks after it
            return "skipped"
        instance_id, trouble = await self._instances.visit(standing)
        before = standing.status
        fresh = instance_status.after(
            before,
            of=standing.instance,
            instance_id=instance_id,
            trouble=trouble,
            syncs=len(syncs),
            generation=generation,
            now=datetime.now(UTC),
        )
        was_visited, standing.visited = standing.visited, True
        await self._saver.save(standing, fresh)
        await self._teller.instance_changed(standing, before, trouble)
        if was_visited and _ready(standing.status) != _ready(before):
            for sync in syncs:
                self._agenda.soon(sync)
        self._agenda.settle(standing, pause=self._agenda.retry_after(MANY_FAILURES) if trouble is not None else None)
        return "error" if trouble is not None else "success"


def _ready(of: status.Status) -> str | None:
    ready = find(of.get("conditions", []), "Ready")
    return ready["status"] if ready is not None else None
