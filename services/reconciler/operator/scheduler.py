"""The operator's main loop while it leads: handle watch events, write pending statuses, start what is due.

Events come from the watch, and a listing of everything every few minutes finds what the watch missed. Every decision is
made from the state of the objects at that moment, never from the event itself.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial

from services.reconciler.leading import LeadLost, Terms
from services.reconciler.operator.cache import Cache, TrackedObject
from services.reconciler.operator.cluster import Cluster
from services.reconciler.operator.events import Events
from services.reconciler.operator.informer import Informer
from services.reconciler.operator.metrics import OperatorMetrics
from services.reconciler.operator.reporter import Reporter
from services.reconciler.operator.secrets import Secrets
from services.reconciler.operator.status_writer import StatusWriter
from services.reconciler.operator.watch import WatchEvent
from services.reconciler.operator.work_queue import Slot, WorkQueue
from services.reconciler.operator.worker import MANY_FAILURES, Worker

TICK_SECONDS = 5.0
STOP_SECONDS = 3.0

logger = logging.getLogger(__name__)


class Scheduler:
    """Lives while this process leads, and starts with an empty cache each time."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        terms: Terms,
        metrics: OperatorMetrics,
        identity: str,
        controller_class: str,
        concurrency: int,
        look_seconds: float,
        relist_seconds: float,
        secrets_are_watched: bool = True,
    ) -> None:
        """Does nothing before `run`. `relist_seconds`: between two listings of everything."""
        self.restart_watch: Callable[[], None] = lambda: None
        """Called where a listing found a change that the watch had not reported."""
        self._metrics = metrics
        self._relist_seconds = relist_seconds
        self._cache = Cache()
        self._queue = WorkQueue(
            self._cache,
            look_seconds=look_seconds,
            concurrency=concurrency,
            secrets_are_watched=secrets_are_watched,
        )
        self._status_writer = StatusWriter(
            cluster, cache=self._cache, metrics=metrics, spec_changed=self._spec_changed, put=self.put
        )
        self._informer = Informer(
            cluster,
            cache=self._cache,
            queue=self._queue,
            status_writer=self._status_writer,
            metrics=metrics,
            controller_class=controller_class,
            restart_watch=lambda: self.restart_watch(),
        )
        self._reporter = Reporter(
            self._cache,
            status_writer=self._status_writer,
            events=Events(cluster, identity=identity),
            metrics=metrics,
        )
        self._worker = Worker(
            self._cache,
            queue=self._queue,
            status_writer=self._status_writer,
            reporter=self._reporter,
            secrets=Secrets(cluster),
            terms=terms,
            metrics=metrics,
            controller_class=controller_class,
        )
        self._incoming: asyncio.Queue[WatchEvent] = asyncio.Queue()
        self._relist_at = 0.0

    @property
    def list_error(self) -> str | None:
        """Why the objects could not be listed; None where they could."""
        return self._informer.list_error

    def put(self, event: WatchEvent) -> None:
        """Takes an event of the watch; called in this loop."""
        self._incoming.put_nowait(event)
        self._queue.wake.set()

    def relist(self) -> None:
        """Has everything listed at once, for instance because the watch failed."""
        self._relist_at = 0.0
        self._queue.wake.set()

    async def run(self) -> None:
        """Until it is cancelled. It may be run again after it ended."""
        self._relist_at = 0.0
        try:
            while True:
                if time.monotonic() >= self._relist_at:
                    listed = await self._informer.list()
                    pause = self._relist_seconds if listed else min(2.0, self._relist_seconds)
                    self._relist_at = time.monotonic() + pause
                while not self._incoming.empty():
                    if not await self._informer.handle(self._incoming.get_nowait()):
                        self._relist_at = min(self._relist_at, time.monotonic() + 1.0)
                await self._status_writer.retry_pending()
                self._start_due()
                await self._wait()
        finally:
            await self._stop()

    def _start_due(self) -> None:
        for tracked, slot, waited in self._queue.pop_due():
            self._metrics.delay.observe(waited)
            task = asyncio.create_task(self._worker.reconcile(tracked, slot), name="/".join(tracked.key))
            tracked.task = task
            task.add_done_callback(partial(self._ended, tracked=tracked, slot=slot))
        self._metrics.queue_depth.set(self._queue.waiting)

    def _ended(self, task: "asyncio.Task[None]", *, tracked: TrackedObject, slot: Slot) -> None:
        """However a reconcile ended, its slot is free again and the object is due again."""
        tracked.task = None
        self._reporter.cancel_progress(tracked)
        self._queue.release(slot)
        self._queue.schedule(tracked, tracked.due_at)  # the queue drops moments of an object whose task still runs
        if task.cancelled() or isinstance(task.exception(), LeadLost):
            if self._cache.get(tracked.key) is tracked:
                self._queue.enqueue(tracked)
        elif (error := task.exception()) is not None:
            logger.error("reconcile ended", extra={"object": "/".join(tracked.at)}, exc_info=error)
            self._metrics.internal_errors.labels(tracked.key[0]).inc()
            pause = self._queue.retry_after(MANY_FAILURES)
            self._queue.schedule(tracked, min(tracked.due_at, time.monotonic() + pause))

    async def _wait(self) -> None:
        """Until an event comes, something is due, a slot is free, or a tick has passed."""
        until = min(self._queue.next_due(), self._relist_at)
        pause = min(TICK_SECONDS, max(0.0, until - time.monotonic()))
        try:
            async with asyncio.timeout(pause):
                await self._queue.wake.wait()
        except TimeoutError:
            pass
        self._queue.wake.clear()

    async def _stop(self) -> None:
        tasks = [tracked.task for tracked in self._cache if tracked.task is not None] + self._reporter.tasks
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_SECONDS)
        for tracked in self._cache:
            self._informer.forget(tracked)

    def _spec_changed(self, tracked: TrackedObject) -> None:
        self._informer.spec_changed(tracked)
