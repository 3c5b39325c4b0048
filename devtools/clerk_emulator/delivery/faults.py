"""Faults on command: what is lost, late, doubled, out of order, badly signed or cut off, and for which messages.

A fault is a rule: a kind, how often it applies, and optionally to which event types or endpoint.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, get_args

from devtools.clerk_emulator.rules import Rule, Rules

FaultKind = Literal["lose", "delay", "duplicate", "reorder", "wrong_signature", "break_connection", "clock"]
FAULT_KINDS: tuple[FaultKind, ...] = get_args(FaultKind)


@dataclass(frozen=True)
class Fault(Rule):
    """A rule."""

    kind: FaultKind
    """``lose``, ``delay``, ``duplicate`` and ``reorder`` apply to a message at an endpoint; ``wrong_signature``,
    ``break_connection`` and ``clock`` to a single attempt (``clock`` with ``event_minutes`` to the event itself)."""
    types: str = "*"
    """Event types, as a glob: ``user.*``."""
    endpoint_id: str | None = None
    seconds: float = 1.0
    """``delay``: by how much. ``reorder``: how long an incomplete window is held. ``duplicate``: how much later."""
    copies: int = 1
    """``duplicate``: how many more."""
    window: int = 5
    """``reorder``: how many messages are gathered and sent in another order."""
    signature_minutes: float = 0.0
    """``clock``: how far the signed timestamp is off; negative is the past."""
    event_minutes: float = 0.0
    """``clock``: how far the event's own timestamp is off."""

    def __post_init__(self) -> None:
        """Raise ValueError for a rule that cannot work."""
        if self.kind not in FAULT_KINDS:
            raise ValueError(f"kind is one of {', '.join(FAULT_KINDS)}")
        self.check_rule()
        if self.seconds < 0 or self.copies < 1 or self.window < 2:
            raise ValueError("seconds >= 0, copies >= 1, window >= 2")
        if self.kind == "clock" and not (self.signature_minutes or self.event_minutes):
            raise ValueError("a clock fault needs signature_minutes or event_minutes")
        if self.signature_minutes and self.event_minutes and self.next is not None:
            raise ValueError("a counted clock fault is about the signature or about the event: make two")


class Faults(Rules[Fault]):
    """The rules in force."""

    def __init__(self, *, seed: int) -> None:
        """Begin without any."""
        super().__init__(seed=seed, prefix="fault_")

    def take(self, kind: FaultKind, *, event_type: str, endpoint_id: str | None = None) -> Fault | None:
        """Return the first rule that applies on this occasion, and count it.

        An occasion is a message or an attempt at an endpoint; without an endpoint it is the event as such, which only
        a ``clock`` rule with ``event_minutes`` concerns.
        """
        return self.first(
            lambda fault: fault.kind == kind and _concerns(fault, event_type=event_type, endpoint_id=endpoint_id)
        )


def _concerns(fault: Fault, *, event_type: str, endpoint_id: str | None) -> bool:
    if fault.kind == "clock" and not (fault.event_minutes if endpoint_id is None else fault.signature_minutes):
        return False
    elsewhere = fault.endpoint_id is not None and fault.endpoint_id != endpoint_id
    return fnmatchcase(event_type, fault.types) and not elsewhere
