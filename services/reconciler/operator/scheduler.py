"""The operator's loop while it leads: what came in is looked into, what could not be saved is, what is due begins.

Keys come from the watch, from a listing of everything every few minutes should the watch have missed something, and
from turns that end. Every decision is made from what there is at that moment.
"""

import asyncio
import time
from collections.abc import Callable

from services.reconciler.leading import Terms
from services.reconciler.operator.work_queue import WorkQueue
from services.reconciler.operator.cluster import Cluster
from services.reconciler.operator.events import Events
from services.reconciler.operator.informer import Informer
from services.reconciler.operator.metrics import OperatorMetrics
from services.reconciler.operator.status_writer import StatusWriter
from services.reconciler.operator.secrets import Secrets
from services.reconciler.operator.cache import Cache, TrackedObject
from services.reconciler.operator.reporter import Reporter
from services.reconciler.operator.worker import Worker
from services.reconciler.operator.watch import WatchEvent

TICK_SECONDS = 5.0
STOP_SECONDS = 3.0


class Scheduler:
    """Lives for as long as this process leads, and begins with an empty book each time."""

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
        restart_watch: Callable[[], None],
    ) -> None:
        """`restart_watch` is called where a listing brought what the watch had not told."""
        self._metrics = metrics
        self._relist_seconds = relist_seconds
        self._cache = Cache()
        self._queue = WorkQueue(self._cache, look_seconds=look_seconds, concurrency=concurrency)
        self._status_writer = StatusWriter(cluster, cache=self._cache, metrics=metrics, spec_changed=self._spec_changed, put=self.put)
        self._informer = Informer(
            cluster,
            cache=self._cache,
            queue=self._queue,
            status_writer=self._status_writer,
            metrics=metrics,
            controller_class=controller_class,
            restart_watch=restart_watch,
        )
        self._reporter = Reporter(self._cache, status_writer=self._status_writer, events=Events(cluster, identity=identity), metrics=metrics)
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
        """Why nothing could be listed."""
        return self._informer.list_error

    def put(self, event: WatchEvent) -> None:
        """A key from the watch; called in this loop."""
        self._incoming.put_nowait(event)
        self._queue.wake.set()

    def relist(self) -> None:
        """Everything is listed at once: the watch is down."""
        self._relist_at = 0.0
        self._queue.wake.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        try:
            while True:
                if time.monotonic() >= self._relist_at:
                    listed = await self._informer.list()
                    pause = self._relist_seconds if listed else min(2.0, self._relist_seconds)
                    self._relist_at = time.monotonic() + pause
                while not self._incoming.empty():
                    if not await self._informer.take(self._incoming.get_nowait()):
                        self._relist_at = min(self._relist_at, time.monotonic() + 1.0)
                await self._status_writer.retry_pending()
                self._start_due()
                await self._rest()
        finally:
            await self._stop()

    def _start_due(self) -> None:
        for tracked, slot, waited in self._queue.pop_due():
            self._metrics.delay.observe(waited)
            tracked.task = asyncio.create_task(self._worker.take(tracked, slot), name="/".join(tracked.key))
        self._metrics.queue_depth.set(self._queue.waiting)

    async def _rest(self) -> None:
        """Until a key comes, something is due, a slot is free, or a moment has passed."""
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
