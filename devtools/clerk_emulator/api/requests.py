"""The log of API requests: what a client really asked, when, and what it was told."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class RequestEntry:
    """One request."""

    at_ms: float
    """When it arrived, ms with fractions."""
    method: str
    route: str
    """The path's pattern, ``/v1/users/{user_id}``; empty for an unknown path."""
    path: str
    query: str
    status: int
    duration_ms: float
    version: str | None
    """What ``Clerk-API-Version`` said."""

    def as_json(self) -> dict[str, Any]:
        """Return what the control API shows."""
        return {name: getattr(self, name) for name in self.__slots__}


class RequestLog:
    """The last requests."""

    def __init__(self, *, limit: int) -> None:
        """Keep at most ``limit`` entries."""
        self._entries: deque[RequestEntry] = deque(maxlen=limit)
        self.total = 0

    def add(self, entry: RequestEntry) -> None:
        """Remember a request."""
        self._entries.append(entry)
        self.total += 1

    def since(self, at_ms: float) -> Iterator[RequestEntry]:
        """Yield the remembered requests from then on, the oldest first."""
        return (entry for entry in self._entries if entry.at_ms >= at_ms)

    def clear(self) -> None:
        """Forget all."""
        self._entries.clear()
