"""When each object is due, and who of those that are due has a place.

There are two kinds of places. A run may last for hours; what is over at once (a key to try, a status that says that a
sync is suspended, or that it waits for a run's place) does not wait behind runs.
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
from services.reconciler.operator.standing import Book, Key, Standing, parse_moment

Place = Literal["run", "look"]

LOOKS_AT_ONCE = 16
LOOKS_A_SECOND = 1.0
"""Of all syncs together: with many of them, each is looked at less often."""
INSTANCE_SECONDS = 600.0


class Agenda:
    """Moments by a monotonic clock."""

    def __init__(
        self, book: Book, *, look_seconds: float, concurrency: int, now: Callable[[], float] = time.monotonic
    ) -> None:
        """`concurrency`: runs at once."""
        self._book = book
        self._look_seconds = look_seconds
        self._now = now
        self._moments: list[tuple[float, int, Standing]] = []
        self._order = itertools.count()
        self._waiting: dict[Place, dict[Key, Standing]] = {"look": {}, "run": {}}
        self._free: dict[Place, int] = {"look": LOOKS_AT_ONCE, "run": concurrency}
        self.wake = asyncio.Event()
        """Set whenever something may have become due, or a place free."""

    @property
    def waiting(self) -> int:
        """How many are due and have no place."""
        return sum(map(len, self._waiting.values()))

    def next(self) -> float:
        """When somebody more becomes due."""
        while self._moments and not self._counts(*self._moments[0]):
            heapq.heappop(self._moments)
        return self._moments[0][0] if self._moments else math.inf

    def start(self) -> Iterator[tuple[Standing, Place, float]]:
        """Takes whoever is due and has a place off the agenda, with the seconds that it waited."""
        now = self._now()
        while self.next() <= now:
            standing = heapq.heappop(self._moments)[2]
            place = self._place(standing)
            for waiting in self._waiting.values():
                waiting.pop(standing.key, None)
            self._waiting[place][standing.key] = standing
        for place, waiting in self._waiting.items():
            while waiting and self._free[place] > 0:
                standing = waiting.pop(next(iter(waiting)))
                if standing.task is None and self._book.get(standing.key) is standing:
                    self._free[place] -= 1
                    waited, standing.due_at = max(0.0, now - standing.due_at), math.inf
                    yield standing, place, waited

    def ended(self, place: Place) -> None:
        """A place is free again."""
        self._free[place] += 1
        self.wake.set()

    def at(self, standing: Standing, moment: float) -> None:
        """Sets when an object is due."""
        standing.due_at = moment
        if moment < math.inf:
            heapq.heappush(self._moments, (moment, next(self._order), standing))

    def soon(self, standing: Standing) -> None:
        """It is due at once; one that is being visited, as soon as that is over."""
        self.at(standing, min(standing.due_at, self._now()))
        self.wake.set()

    def again(self, standing: Standing) -> None:
        """Sets when an object is due, from what it says and from what was said of it."""
        now = self._now()
        if standing.key[0] == INSTANCES:
            self.at(standing, now if not standing.visited else now + jittered(INSTANCE_SECONDS))
            return
        if standing.sync is not None and standing.sync.suspend:
            self.at(standing, math.inf if standing.visited else now)
            return
        ready = find(standing.status.get("conditions", []), "Ready")
        handled = ready is not None and ready["observedGeneration"] == standing.generation
        if not handled or standing.request is not None or standing.approval is not None:
            self.at(standing, now)
            return
        next_at = parse_moment(standing.status.get("nextSyncTime"))
        left = (next_at - datetime.now(UTC)).total_seconds() if next_at is not None else 0.0
        look = jittered(max(self._look_seconds, len(self._book) / LOOKS_A_SECOND))
        if not standing.visited:
            look *= random.random()  # noqa: S311 - after a start, not all at once
        self.at(standing, now + max(0.0, min(left, look)))

    def settle(self, standing: Standing, *, pause: float | None = None) -> None:
        """Sets the next visit at the end of one, unless something came in meanwhile that makes it due at once."""
        came_in = standing.due_at
        if pause is not None and standing.request is None and standing.approval is None:
            self.at(standing, self._now() + pause)
        else:
            self.again(standing)
        if came_in < standing.due_at:
            self.at(standing, came_in)

    def retry_after(self, failures: int) -> float:
        """Seconds: the more in a row, the longer."""
        first = min(5.0, self._look_seconds / 12)
        return jittered(min(first * 2.0 ** min(failures - 1, 20), 5 * self._look_seconds))

    def _counts(self, moment: float, _order: int, standing: Standing) -> bool:
        """Whether a moment is still the one when the object is due; a visit sets it anew when it ends."""
        return moment == standing.due_at and standing.task is None and self._book.get(standing.key) is standing

    def _place(self, standing: Standing) -> Place:
        sync = standing.sync
        if sync is None or sync.suspend:
            return "look"
        busy = self._free["run"] <= len(self._waiting["run"])
        told = standing.status.get("observedGeneration") == standing.generation
        return "look" if busy and not told else "run"


def jittered(seconds: float) -> float:
    """Up to a tenth longer."""
    return seconds * random.uniform(1.0, 1.1)  # noqa: S311 - spreads load, hides nothing
