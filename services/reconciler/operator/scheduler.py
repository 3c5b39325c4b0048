"""The operator's loop while it leads: what came in is looked into, what could not be saved is, what is due begins.

Keys come from the watch, from a listing of everything every few minutes should the watch have missed something, and
from turns that end. Every decision is made from what there is at that moment.
"""

import asyncio
import time
from collections.abc import Callable

from services.reconciler.leading import Terms
from services.reconciler.operator.agenda import Agenda
from services.reconciler.operator.cluster import Cluster
from services.reconciler.operator.events import Events
from services.reconciler.operator.inventory import Inventory
from services.reconciler.operator.metrics import OperatorMetrics
from services.reconciler.operator.saving import Saver
from services.reconciler.operator.secrets import Secrets
from services.reconciler.operator.standing import Book, Standing
from services.reconciler.operator.telling import Teller
from services.reconciler.operator.turns import Turns
from services.reconciler.operator.watch import Seen

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
        watch_is_deaf: Callable[[], None],
    ) -> None:
        """`watch_is_deaf` is called where a listing brought what the watch had not told."""
        self._metrics = metrics
        self._relist_seconds = relist_seconds
        self._book = Book()
        self._agenda = Agenda(self._book, look_seconds=look_seconds, concurrency=concurrency)
        self._saver = Saver(cluster, book=self._book, metrics=metrics, respecified=self._respecified, put=self.put)
        self._inventory = Inventory(
            cluster,
            book=self._book,
            agenda=self._agenda,
            saver=self._saver,
            metrics=metrics,
            controller_class=controller_class,
            watch_is_deaf=watch_is_deaf,
        )
        self._teller = Teller(self._book, saver=self._saver, events=Events(cluster, identity=identity), metrics=metrics)
        self._turns = Turns(
            self._book,
            agenda=self._agenda,
            saver=self._saver,
            teller=self._teller,
            secrets=Secrets(cluster),
            terms=terms,
            metrics=metrics,
            controller_class=controller_class,
        )
        self._incoming: asyncio.Queue[Seen] = asyncio.Queue()
        self._relist_at = 0.0

    @property
    def complaint(self) -> str | None:
        """Why nothing could be listed."""
        return self._inventory.complaint

    def put(self, seen: Seen) -> None:
        """A key from the watch; called in this loop."""
        self._incoming.put_nowait(seen)
        self._agenda.wake.set()

    def relist(self) -> None:
        """Everything is listed at once: the watch is down."""
        self._relist_at = 0.0
        self._agenda.wake.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        try:
            while True:
                if time.monotonic() >= self._relist_at:
                    listed = await self._inventory.list()
                    pause = self._relist_seconds if listed else min(2.0, self._relist_seconds)
                    self._relist_at = time.monotonic() + pause
                while not self._incoming.empty():
                    if not await self._inventory.take(self._incoming.get_nowait()):
                        self._relist_at = min(self._relist_at, time.monotonic() + 1.0)
                await self._saver.save_unsaved()
                self._start_due()
                await self._rest()
        finally:
            await self._stop()

    def _start_due(self) -> None:
        for standing, place, waited in self._agenda.start():
            self._metrics.delay.observe(waited)
            standing.task = asyncio.create_task(self._turns.take(standing, place), name="/".join(standing.key))
        self._metrics.queue_depth.set(self._agenda.waiting)

    async def _rest(self) -> None:
        """Until a key comes, something is due, a place is free, or a moment has passed."""
        until = min(self._agenda.next(), self._relist_at)
        pause = min(TICK_SECONDS, max(0.0, until - time.monotonic()))
        try:
            async with asyncio.timeout(pause):
                await self._agenda.wake.wait()
        except TimeoutError:
            pass
        self._agenda.wake.clear()

    async def _stop(self) -> None:
        tasks = [standing.task for standing in self._book if standing.task is not None] + self._teller.tasks
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_SECONDS)
        for standing in self._book:
            self._inventory.forget(standing)

    def _respecified(self, standing: Standing) -> None:
        self._inventory.respecified(standing)
