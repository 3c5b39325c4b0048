"""The log of API requests: what a client really asked, when, and what it was told.

Precise enough to prove a budget: every request is entered when it arrives, by a clock that never jumps, whatever
becomes of it.
"""

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class RequestEntry:
    """One request; entered at its arrival and completed with its answer."""

    at_ms: float
    """When it arrived, ms since 1970 with fractions."""
    monotonic_ms: float
    """When it arrived, ms with fractions on a clock that only goes forward; differences are what they seem."""
    method: str
    route: str
    """The path's pattern, ``/v1/users/{user_id}``; empty for an unknown path."""
    path: str
    query: str
    version: str | None
    """What ``Clerk-API-Version`` said."""
    status: int = 0
    """0 while there is no answer, or where there never was a whole one."""
    duration_ms: float = 0.0
    fault: str = ""
    """The kind of the fault that was put on it."""

    def as_json(self) -> dict[str, Any]:
        """Return what the control API shows."""
        return {name: getattr(self, name) for name in self.__slots__}


class RequestLog:
    """The last requests, in order of arrival."""

    def __init__(self, *, limit: int) -> None:
        """Keep at most ``limit`` entries."""
        self._entries: deque[RequestEntry] = deque(maxlen=limit)
        self.total = 0

    def begin(self, *, method: str, route: str, path: str, query: str, version: str | None) -> RequestEntry:
        """Enter a request that has just arrived."""
        entry = RequestEntry(
            at_ms=time.time() * 1000,
            monotonic_ms=time.monotonic() * 1000,
            method=method,
            route=route,
            path=path,
            query=query,
            version=version,
        )
        self._entries.append(entry)
        self.total += 1
        return entry

    def end(self, entry: RequestEntry, *, status: int) -> None:
        """Complete a request with its answer."""
        entry.status = status
        entry.duration_ms = time.monotonic() * 1000 - entry.monotonic_ms

    def since(self, at_ms: float) -> Iterator[RequestEntry]:
        """Yield the remembered requests from then on, the oldest first."""
        return (entry for entry in self._entries if entry.at_ms >= at_ms)

    def most_in_window(self, *, seconds: float = 10.0, but_not: frozenset[str] = frozenset({"/v1/jwks"})) -> int:
        """Return the largest number of remembered requests that arrived in any window of so many seconds.

        Every answer counts, 429 too; a request exactly ``seconds`` after another lies in the next window.
        """
        most, window = 0, deque[float]()
        for entry in self._entries:
            if entry.route in but_not:
                continue
            window.append(entry.monotonic_ms)
            while window[0] <= entry.monotonic_ms - seconds * 1000:
                window.popleft()
            most = max(most, len(window))
        return most

    def clear(self) -> None:
        """Forget all."""
        self._entries.clear()
