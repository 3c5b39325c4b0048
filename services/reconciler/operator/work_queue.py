"""The work queue: when each object is due, and which of the due objects get a slot.

There are two kinds of slots. A run may last for hours. Short checks (an API key to try, a status that says that a
sync is suspended or waits for a run slot) have slots of their own and do not wait behind runs.
"""

import asyncio
import heapq
import itertools
import math
import random
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Literal

from services.reconciler.operator.cache import Cache, Key, TrackedObject, parse_moment
from services.reconciler.operator.cluster import INSTANCES
from services.reconciler.operator.conditions import find

Slot = Literal["run", "check"]

CHECKS_AT_ONCE = 16
CHECKS_A_SECOND = 1.0
"""Of all syncs together. With many syncs, each is looked at less often."""
INSTANCE_SECONDS = 600.0
"""Between two checks of a ClerkInstance; where its Secrets are not watched, `look_seconds` instead."""


class WorkQueue:
    """All times are by one monotonic clock, in seconds."""

    def __init__(
        self,
        cache: Cache,
        *,
        look_seconds: float,
        concurrency: int,
        secrets_are_watched: bool = True,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`concurrency`: run slots."""
        self._cache = cache
        self._look_seconds = look_seconds
        self._instance_seconds = INSTANCE_SECONDS if secrets_are_watched else look_seconds
        self._now = now
        self._moments: list[tuple[float, int, TrackedObject]] = []
        self._order = itertools.count()
        self._waiting: dict[Slot, dict[Key, TrackedObject]] = {"check": {}, "run": {}}
        self._free: dict[Slot, int] = {"check": CHECKS_AT_ONCE, "run": concurrency}
        self.wake = asyncio.Event()
        """Set whenever an object may have become due, or a slot free."""

    @property
    def waiting(self) -> int:
        """Number of due objects without a slot."""
        return sum(map(len, self._waiting.values()))

    def next_due(self) -> float:
        """When the next object becomes due."""
        while self._moments and not self._counts(*self._moments[0]):
            heapq.heappop(self._moments)
        return self._moments[0][0] if self._moments else math.inf

    def pop_due(self) -> Iterator[tuple[TrackedObject, Slot, float]]:
        """Removes the due objects that get a slot; yields each with its slot and the seconds that it waited."""
        now = self._now()
        while self.next_due() <= now:
            tracked = heapq.heappop(self._moments)[2]
            slot = self._slot(tracked)
            for waiting in self._waiting.values():
                waiting.pop(tracked.key, None)
            self._waiting[slot][tracked.key] = tracked
        for slot, waiting in self._waiting.items():
            while waiting and self._free[slot] > 0:
                tracked = waiting.pop(next(iter(waiting)))
                if tracked.task is None and self._cache.get(tracked.key) is tracked:
                    self._free[slot] -= 1
                    waited, tracked.due_at = max(0.0, now - tracked.due_at), math.inf
                    yield tracked, slot, waited

    def release(self, slot: Slot) -> None:
        """Frees a slot."""
        self._free[slot] += 1
        self.wake.set()

    def schedule(self, tracked: TrackedObject, moment: float) -> None:
        """Sets when an object is due."""
        tracked.due_at = moment
        if moment < math.inf:
            heapq.heappush(self._moments, (moment, next(self._order), tracked))

    def enqueue(self, tracked: TrackedObject) -> None:
        """Makes an object due now; one that is being reconciled is due again right after."""
        self.schedule(tracked, min(tracked.due_at, self._now()))
        self.wake.set()

    def schedule_next(self, tracked: TrackedObject) -> None:
        """Sets when an object is due next, from its spec and its status."""
        now = self._now()
        if tracked.key[0] == INSTANCES:
            self.schedule(tracked, now if not tracked.reconciled else now + jittered(self._instance_seconds))
            return
        if tracked.sync is not None and tracked.sync.suspend:
            self.schedule(tracked, math.inf if tracked.reconciled else now)
            return
        ready = find(tracked.status.get("conditions", []), "Ready")
        handled = ready is not None and ready["observedGeneration"] == tracked.generation
        if not handled or tracked.request is not None or tracked.approval is not None:
            self.schedule(tracked, now)
            return
        next_at = parse_moment(tracked.status.get("nextSyncTime"))
        left = (next_at - datetime.now(UTC)).total_seconds() if next_at is not None else 0.0
        look = jittered(max(self._look_seconds, len(self._cache) / CHECKS_A_SECOND))
        if not tracked.reconciled:
            look *= random.random()  # noqa: S311 - spreads the load after a start
        self.schedule(tracked, now + max(0.0, min(left, look)))

    def finish(self, tracked: TrackedObject, *, pause: float | None = None) -> None:
        """Sets the next reconcile at the end of one. What was enqueued meanwhile stays due."""
        came_in = tracked.due_at
        if pause is not None and tracked.request is None and tracked.approval is None:
            self.schedule(tracked, self._now() + pause)
        else:
            self.schedule_next(tracked)
        if came_in < tracked.due_at:
            self.schedule(tracked, came_in)

    def retry_after(self, failures: int) -> float:
        """Seconds before the next try; they double with each failure in a row, up to five looks."""
        first = min(5.0, self._look_seconds / 12)
        return jittered(min(first * 2.0 ** min(failures - 1, 20), 5 * self._look_seconds))

    def _counts(self, moment: float, _order: int, tracked: TrackedObject) -> bool:
        """Whether an entry of the heap is still valid; a reconcile sets a new one when it ends."""
        return moment == tracked.due_at and tracked.task is None and self._cache.get(tracked.key) is tracked

    def _slot(self, tracked: TrackedObject) -> Slot:
        sync = tracked.sync
        if sync is None or sync.suspend:
            return "check"
        busy = self._free["run"] <= len(self._waiting["run"])
        told = tracked.status.get("observedGeneration") == tracked.generation
        return "check" if busy and not told else "run"


def jittered(seconds: float) -> float:
    """The seconds, lengthened by up to a tenth at random."""
    return seconds * random.uniform(1.0, 1.1)  # noqa: S311 - spreads the load; no secret depends on it
