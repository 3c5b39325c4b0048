"""Faults on command: what is lost, late, doubled, out of order, badly signed or cut off, and for which messages.

A fault is a rule: a kind, how often it applies (a rate, or the next n occasions), and optionally to which event types
or endpoint. Choices come from one stream seeded with the emulator's seed, so that a run can be repeated.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from itertools import count
from typing import Any, Literal, get_args

FaultKind = Literal["lose", "delay", "duplicate", "reorder", "wrong_signature", "break_connection", "clock"]
FAULT_KINDS: tuple[FaultKind, ...] = get_args(FaultKind)


@dataclass(frozen=True)
class Fault:
    """A rule."""

    kind: FaultKind
    """``lose``, ``delay``, ``duplicate`` and ``reorder`` apply to a message at an endpoint; ``wrong_signature``,
    ``break_connection`` and ``clock`` to a single attempt (``clock`` with ``event_minutes`` to the event itself)."""
    rate: float = 1.0
    """Share of the occasions on which the rule applies."""
    next: int | None = None
    """After so many applications the rule is gone; None means it stays."""
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
    id: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        """Raise ValueError for a rule that cannot work."""
        if self.kind not in FAULT_KINDS:
            raise ValueError(f"kind is one of {', '.join(FAULT_KINDS)}")
        if not 0 <= self.rate <= 1 or (self.next is not None and self.next < 1):
            raise ValueError("rate is between 0 and 1, next at least 1")
        if self.seconds < 0 or self.copies < 1 or self.window < 2:
            raise ValueError("seconds >= 0, copies >= 1, window >= 2")
        if self.kind == "clock" and not (self.signature_minutes or self.event_minutes):
            raise ValueError("a clock fault needs signature_minutes or event_minutes")
        if self.signature_minutes and self.event_minutes and self.next is not None:
            raise ValueError("a counted clock fault is about the signature or about the event: make two")

    def as_json(self) -> dict[str, Any]:
        """Return what the control API shows."""
        return dict(vars(self))


class Faults:
    """The rules in force."""

    def __init__(self, *, seed: int) -> None:
        """Begin without any."""
        self.random = random.Random(seed)
        self._rules: dict[str, Fault] = {}
        self._numbers = count(1)

    def add(self, fault: Fault) -> Fault:
        """Put a rule in force and return it with its id."""
        named = replace(fault, id=f"fault_{next(self._numbers)}")
        self._rules[named.id] = named
        return named

    def remove(self, identifier: str) -> bool:
        """Lift a rule; tell whether there was one."""
        return self._rules.pop(identifier, None) is not None

    def clear(self) -> None:
        """Lift all rules."""
        self._rules.clear()

    def __iter__(self) -> Iterator[Fault]:
        """Yield the rules, the oldest first."""
        return iter(list(self._rules.values()))

    def take(self, kind: FaultKind, *, event_type: str, endpoint_id: str | None = None) -> Fault | None:
        """Return the first rule that applies on this occasion, and count it.

        An occasion is a message or an attempt at an endpoint; without an endpoint it is the event as such, which only
        a ``clock`` rule with ``event_minutes`` concerns.
        """
        for fault in self._rules.values():
            if fault.kind != kind or not _concerns(fault, event_type=event_type, endpoint_id=endpoint_id):
                continue
            if fault.rate < 1 and self.random.random() >= fault.rate:
                continue
            self._count(fault)
            return fault
        return None

    def _count(self, fault: Fault) -> None:
        if fault.next is None:
            return
        if fault.next == 1:
            del self._rules[fault.id]
        else:
            self._rules[fault.id] = replace(fault, next=fault.next - 1)


def _concerns(fault: Fault, *, event_type: str, endpoint_id: str | None) -> bool:
    if fault.kind == "clock" and not (fault.event_minutes if endpoint_id is None else fault.signature_minutes):
        return False
    elsewhere = fault.endpoint_id is not None and fault.endpoint_id != endpoint_id
    return fnmatchcase(event_type, fault.types) and not elsewhere
