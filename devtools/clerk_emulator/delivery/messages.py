"""Messages, what became of each, and a log of bounded length."""

import json
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

#: ``pending`` is the only state that is not final.
Fate = Literal["pending", "delivered", "failed", "lost", "disabled"]
Trigger = Literal["schedule", "duplicate", "resend"]


def now_ms() -> int:
    """Return the wall clock in ms."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request to an endpoint."""

    at_ms: int
    timestamp: int
    """The signed timestamp, seconds."""
    signature: str
    duration_ms: float
    status: int | None = None
    error: str | None = None
    trigger: Trigger = "schedule"
    at_once: bool = False
    """Whether this repeats, unchanged, a request whose connection broke."""
    faults: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return what the control API shows."""
        return {
            "at_ms": self.at_ms,
            "svix_timestamp": self.timestamp,
            "svix_signature": self.signature,
            "duration_ms": round(self.duration_ms, 3),
            "status": self.status,
            "error": self.error,
            "trigger": self.trigger,
            "at_once": self.at_once,
            "faults": list(self.faults),
        }


@dataclass(slots=True)
class Delivery:
    """What became of one message at one endpoint."""

    endpoint_id: str
    fate: Fate = "pending"
    failures: int = 0
    next_attempt_ms: int | None = None
    attempts: list[Attempt] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return what the control API shows."""
        return {
            "endpoint_id": self.endpoint_id,
            "fate": self.fate,
            "next_attempt_ms": self.next_attempt_ms,
            "faults": list(self.faults),
            "attempts": [attempt.as_json() for attempt in self.attempts],
        }


@dataclass(slots=True)
class Message:
    """An event on its way: one id for all attempts at all endpoints."""

    id: str
    type: str
    body: bytes
    created_ms: int
    deliveries: dict[str, Delivery] = field(default_factory=dict)
    open_tasks: int = 0
    """Deliveries, retries and duplicates of it that are still to be made."""

    @property
    def object_id(self) -> str | None:
        """The id of the object that the event is about, where its body names one."""
        try:
            event = json.loads(self.body)
        except ValueError:
            return None
        data = event.get("data") if isinstance(event, dict) else None
        identifier = data.get("id") if isinstance(data, dict) else None
        return identifier if isinstance(identifier, str) else None

    @property
    def fate(self) -> str:
        """The worst that can be said of the message: pending, failed, lost, disabled, delivered, or unsent."""
        fates = {delivery.fate for delivery in self.deliveries.values()}
        if self.open_tasks:
            return "pending"
        worst_first = ("pending", "failed", "lost", "disabled", "delivered")
        return next((fate for fate in worst_first if fate in fates), "unsent")

    def as_json(self, *, with_body: bool = False) -> dict[str, Any]:
        """Return what the control API shows; the body as text where it is wanted."""
        shape: dict[str, Any] = {
            "id": self.id,
            "type": self.type,
            "object_id": self.object_id,
            "created_ms": self.created_ms,
            "bytes": len(self.body),
            "fate": self.fate,
            "deliveries": [delivery.as_json() for delivery in self.deliveries.values()],
        }
        if with_body:
            shape["body"] = self.body.decode("utf-8", "backslashreplace")
        return shape


class MessageLog:
    """Every pending message, and the last finished ones."""

    def __init__(self, *, limit: int) -> None:
        """Keep at most ``limit`` finished messages."""
        self._limit = limit
        self._messages: dict[str, Message] = {}
        self._finished: deque[Message] = deque()
        self.total = 0

    def add(self, message: Message) -> None:
        """Remember a message."""
        self._messages[message.id] = message
        self.total += 1

    def finished(self, message: Message) -> None:
        """Be told that nothing is left to do for a message; forget those that finished longest ago."""
        self._finished.append(message)
        while len(self._finished) > self._limit:
            oldest = self._finished.popleft()
            if not oldest.open_tasks and self._messages.get(oldest.id) is oldest:
                del self._messages[oldest.id]

    def get(self, identifier: str) -> Message | None:
        """Return a remembered message."""
        return self._messages.get(identifier)

    def newest_first(self) -> Iterator[Message]:
        """Yield the remembered messages."""
        return reversed(self._messages.values())
