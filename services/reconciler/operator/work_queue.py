"""When each object is due, and who of those that are due has a slot.

There are two kinds of places. A run may last for hours; what is over at once (a key to try, a status that says that a
sync is suspended, or that it waits for a run's slot) does not wait behind runs.
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

from services.reconciler.operator.cluster import INSTANCES
from services.reconciler.operator.conditions import find
from services.reconciler.operator.cache import Cache, Key, TrackedObject, parse_moment

Slot = Literal["run", "check"]

CHECKS_AT_ONCE = 16
CHECKS_A_SECOND = 1.0
"""Of all syncs together: with many of them, each is looked at less often."""
INSTANCE_SECONDS = 600.0


class WorkQueue:
    """Moments by a monotonic clock."""

    def __init__(
        self, cache: Cache, *, look_seconds: float, concurrency: int, now: Callable[[], float] = time.monotonic
    ) -> None:
        """`concurrency`: runs at once."""
        self._cache = cache
        self._look_seconds = look_seconds
        self._now = now
        self._moments: list[tuple[float, int, TrackedObject]] = []
        self._order = itertools.count()
        self._waiting: dict[Slot, dict[Key, TrackedObject]] = {"check": {}, "run": {}}
        self._free: dict[Slot, int] = {"check": CHECKS_AT_ONCE, "run": concurrency}
        self.wake = asyncio.Event()
        """Set whenever something may have become due, or a slot free."""

    @property
    def waiting(self) -> int:
        """How many are due and have no slot."""
        return sum(map(len, self._waiting.values()))

    def next_due(self) -> float:
        """When somebody more becomes due."""
        while self._moments and not self._counts(*self._moments[0]):
            heapq.heappop(self._moments)
        return self._moments[0][0] if self._moments else math.inf

    def pop_due(self) -> Iterator[tuple[TrackedObject, Slot, float]]:
        """Takes whoever is due and has a slot off the agenda, with the seconds that it waited."""
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
        """A slot is free again."""
        self._free[slot] += 1
        self.wake.set()

    def schedule(self, tracked: TrackedObject, moment: float) -> None:
        """Sets when an object is due."""
        tracked.due_at = moment
        if moment < math.inf:
            heapq.heappush(self._moments, (moment, next(self._order), tracked))

    def enqueue(self, tracked: TrackedObject) -> None:
        """It is due at once; one that is being visited, as soon as that is over."""
        self.schedule(tracked, min(tracked.due_at, self._now()))
        self.wake.set()

    def schedule_next(self, tracked: TrackedObject) -> None:
        """Sets when an object is due, from what it says and from what was said of it."""
        now = self._now()
        if tracked.key[0] == INSTANCES:
            self.schedule(tracked, now if not tracked.reconciled else now + jittered(INSTANCE_SECONDS))
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
            look *= random.random()  # noqa: S311 - after a start, not all at once
        self.schedule(tracked, now + max(0.0, min(left, look)))

    def finish(self, tracked: TrackedObject, *, pause: float | None = None) -> None:
        """Sets the next visit at the end of one, unless something came in meanwhile that makes it due at once."""
        came_in = tracked.due_at
        if pause is not None and tracked.request is None and tracked.approval is None:
            self.schedule(tracked, self._now() + pause)
        else:
            self.schedule_next(tracked)
        if came_in < tracked.due_at:
            self.schedule(tracked, came_in)

    def retry_after(self, failures: int) -> float:
        """Seconds: the more in a row, the longer."""
        first = min(5.0, self._look_seconds / 12)
        return jittered(min(first * 2.0 ** min(failures - 1, 20), 5 * self._look_seconds))

    def _counts(self, moment: float, _order: int, tracked: TrackedObject) -> bool:
        """Whether a moment is still the one when the object is due; a visit sets it anew when it ends."""
        return moment == tracked.due_at and tracked.task is None and self._cache.get(tracked.key) is tracked

    def _slot(self, tracked: TrackedObject) -> Slot:
        sync = tracked.sync
        if sync is None or sync.suspend:
            return "check"
        busy = self._free["run"] <= len(self._waiting["run"])
        told = tracked.status.get("observedGeneration") == tracked.generation
        return "check" if busy and not told else "run"


def jittered(seconds: float) -> float:
    """Up to a tenth longer."""
    return seconds * random.uniform(1.0, 1.1)  # noqa: S311 - spreads load, hides nothing
