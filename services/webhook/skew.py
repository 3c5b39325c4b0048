"""Is this machine's clock off? Only then are genuine messages stale as they come, one after the other.

A single old message says nothing: anybody who has kept one may send it again. So the alarm needs several different
messages, within a time, and no message meanwhile that was fresh by the same clock.
"""

import time
from collections.abc import Callable

DISTINCT = 3
"""Different svix-ids."""
SECONDS = 3_600.0
"""Within this time; Svix delivers a refused message again after 5 s, 5 min, 30 min, each time signed anew."""


class SkewAlarm:
    """Remembers stale messages whose signature is right."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` counts seconds."""
        self._clock = clock
        self._stale: dict[str, float] = {}

    def fresh(self) -> None:
        """A verified message was fresh: the clock is right."""
        self._stale.clear()

    def stale(self, svix_id: str) -> bool:
        """A genuine message was stale; True where the clock must be off."""
        now = self._clock()
        self._stale[svix_id] = now
        self._stale = {known: at for known, at in self._stale.items() if now - at < SECONDS}
        while len(self._stale) > 2 * DISTINCT:
            del self._stale[next(iter(self._stale))]
        return len(self._stale) >= DISTINCT
