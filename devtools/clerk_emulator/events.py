"""Events: Clerk's envelope around a payload, handed to the sender.

The envelope's timestamp is when the thing happened; the signed timestamp of each attempt is made later, by the sender.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

from devtools.clerk_emulator import jsontext, samples
from devtools.clerk_emulator.behaviour import Behaviour
from devtools.clerk_emulator.delivery.dispatcher import Dispatcher
from devtools.clerk_emulator.delivery.messages import Message, now_ms
from devtools.clerk_emulator.state.instance import InstanceState

VERBS = ("created", "updated", "deleted")
SENT = (
    *(f"{group}.{what}" for group in ("user", "organization", "organizationMembership") for what in VERBS),
    *samples.SAMPLED,
)
"""Every type that this emulator sends by itself or as a sample."""

DEFAULT_ATTRIBUTES = {"http_request": {"client_ip": "203.0.113.7", "user_agent": "clerk-emulator"}}


def check_types(types: str) -> None:
    """Raises ValueError where a glob of event types matches none that is ever sent."""
    if not any(fnmatchcase(known, types) for known in SENT):
        raise ValueError(f"no event has the type {types!r}; there are {', '.join(SENT)}")


class Events:
    """Builds envelopes and sends them."""

    def __init__(self, *, state: InstanceState, dispatcher: Dispatcher, instance_id: str, behaviour: Behaviour) -> None:
        """Send events of this instance."""
        self._state = state
        self._dispatcher = dispatcher
        self._instance_id = instance_id
        self.behaviour = behaviour
        """How events are sent and the API answers; replaced as a whole."""
        self._silent = False

    @contextmanager
    def silence(self) -> Iterator[None]:
        """Let changes made inside send no events: as if every delivery were lost for good."""
        before, self._silent = self._silent, True
        try:
            yield
        finally:
            self._silent = before

    def emit(
        self, event_type: str, data: Any, *, envelope: dict[str, Any] | None = None, message_id: str | None = None
    ) -> Message:
        """Send an event; ``envelope`` replaces members of the envelope (a value of None leaves one out)."""
        happened = now_ms()
        clock = self._dispatcher.faults.take("clock", event_type=event_type)
        if clock:
            happened += round(clock.event_minutes * 60_000)
        event: dict[str, Any] = {
            "data": data,
            "object": "event",
            "type": event_type,
            "timestamp": happened if self.behaviour.timestamp_unit == "ms" else happened // 1000,
            "instance_id": self._instance_id,
        }
        if self.behaviour.event_attributes:
            event["event_attributes"] = DEFAULT_ATTRIBUTES
        for name, value in (envelope or {}).items():
            if value is None:
                event.pop(name, None)
            else:
                event[name] = value
        return self.emit_raw(jsontext.encode(event), event_type=event_type, message_id=message_id)

    def emit_raw(self, body: bytes, *, event_type: str = "raw", message_id: str | None = None) -> Message:
        """Send bytes as they are, whatever they are; the type only serves filters and the log."""
        identifier = message_id or self._state.fresh_id("msg_", now_ms=now_ms())
        return self._dispatcher.send(message_id=identifier, event_type=event_type, body=body, silently=self._silent)
