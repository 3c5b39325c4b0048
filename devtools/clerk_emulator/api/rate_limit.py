"""Clerk's rate limit: so many requests of an instance in a sliding window; then everything is refused for a time.

Clerk's documents say 1000 requests in 10 s (production) or 100 (development), that all later requests are blocked and
that ``Retry-After`` tells for how long. Where they are silent: the window slides, the block lasts until the oldest
request has left it, rounded up to whole seconds.
"""

import math
import time
from collections import deque
from collections.abc import Callable


class RateLimit:
    """Counts the requests of one instance."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with none; the clock tells seconds."""
        self._clock = clock
        self._counted: deque[float] = deque()
        self._blocked_until = -math.inf

    def refuses(self, *, limit: int, window: float, counts_refused: bool = False) -> int | None:
        """Count a request; return None where it may pass, else the whole seconds until the block ends.

        A limit of 0 is none. Refused requests count only where ``counts_refused`` says so.
        """
        if limit == 0:
            return None
        now, counted = self._clock(), self._counted
        while counted and counted[0] <= now - window:
            counted.popleft()
        blocked = now < self._blocked_until
        if not blocked and len(counted) < limit:
            counted.append(now)
            return None
        if counts_refused:
            counted.append(now)
        if not blocked or counts_refused:
            free = counted[max(len(counted) - limit, 0)] + window if counted else now
            self._blocked_until = max(self._blocked_until, now + max(math.ceil(free - now), 1))
        return math.ceil(self._blocked_until - now)
