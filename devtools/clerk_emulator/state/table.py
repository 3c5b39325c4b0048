"""One kind of object, by id and in order of creation, with the seeded ones computed on demand.

A million users must start at once and stay small, so a table keeps per object no more than a few machine words: two
times and a place in each order. Seeded records are derived again whenever they are asked for; only objects that were
created or changed since the start are held as records. Every object has a *slot*, its number within the kind; seeded
ones have the first slots.

What lists show may differ from what is: an object *lingers* where a replica still lists it after its deletion, and is
*hidden* where the replica does not have it yet. Everything here means what is, unless it says ``listed``.
"""

import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from devtools.clerk_emulator.state.identifiers import IdentifierSpace
from devtools.clerk_emulator.state.order import Order


class Record(Protocol):
    """What a table needs to know of a record."""

    @property
    def id(self) -> str:
        """The object's id."""

    @property
    def created_at(self) -> int:
        """Creation in ms."""

    @property
    def updated_at(self) -> int:
        """Last change in ms."""


R = TypeVar("R", bound=Record)
T = TypeVar("T")


@dataclass(frozen=True)
class TableChanges(Generic[T]):
    """What differs from the seed."""

    salt: int
    created: list[int]
    """Creation times of the objects that came after the seed, in order of their slots."""
    held: dict[int, T]
    """Records that were created or changed, by slot."""
    removed: list[int]
    """Slots of what was deleted."""


#: The slot's part of the number inside an id. What is created later than the seed carries the time of the start above
#: it, so that two runs with one seed, within one second, do not give out the same ids.
_SLOT_BITS = 48


class Table(Generic[R]):
    """The objects of one kind."""

    def __init__(
        self,
        space: IdentifierSpace,
        *,
        created: "array[int]",
        derive: Callable[[int], R],
        updated: Callable[[int], int] | None = None,
    ) -> None:
        """Begin with the seeded objects: creation times (ascending), and record and last change from the slot.

        Without ``updated`` there is no order by last change.
        """
        self._space = space
        self._derive = derive
        self._created = created
        self._seeded = len(created)
        self.by_created = Order(created)
        self._seeded_updated = updated
        self._by_updated: Order | None = None
        self._held: dict[int, R] = {}
        self._removed: set[int] = set()
        self._lingering: dict[int, float | None] = {}
        self._hidden: set[int] = set()
        self._salt = time.time_ns()
        self.edits = 0
        """How often something was inserted, replaced or removed."""

    def __len__(self) -> int:
        """Return the number of live objects."""
        return len(self.by_created) - len(self._lingering)

    def __contains__(self, identifier: str) -> bool:
        """Tell whether an object with this id lives."""
        return self.slot(identifier) is not None

    @property
    def slots(self) -> int:
        """How many slots were ever given out."""
        return len(self._created)

    @property
    def by_updated(self) -> Order:
        """The order by last change; made when it is first asked for, kept from then on."""
        if self._by_updated is None:
            if self._seeded_updated is None:
                raise ValueError("this kind has no order by last change")
            updated = self._seeded_updated
            keys = array("q", (updated(slot) for slot in range(self._seeded)))
            keys.extend([0] * (len(self._created) - self._seeded))
            for slot, record in self._held.items():
                keys[slot] = record.updated_at
            order = Order(keys)
            for slot in self._removed - self._lingering.keys():
                order.discard(slot)
            self._by_updated = order
        return self._by_updated

    def lives(self, slot: int) -> bool:
        """Tell whether the object of a slot that was given out still exists."""
        return slot not in self._removed

    def identifier(self, slot: int) -> str:
        """Return the id of a live object by its slot."""
        held = self._held.get(slot)
        return held.id if held is not None else self._space.make(slot, at_ms=self._created[slot])

    def slot(self, identifier: str) -> int | None:
        """Return the slot of a live object, or None."""
        slot = self.slot_ever(identifier)
        return None if slot is None or slot in self._removed else slot

    def slot_ever(self, identifier: str) -> int | None:
        """Return the slot of an object that lives or lived, or None."""
        slot = self._slot_in(identifier)
        if slot is None or slot >= len(self._created):
            return None
        if slot in self._removed and slot not in self._held:
            payload = slot if slot < self._seeded else slot | self._salt << _SLOT_BITS
            return slot if self._space.number(identifier) == payload else None
        return slot if self.identifier(slot) == identifier else None

    def at(self, slot: int) -> R:
        """Return the record in a slot; the slot is a live or lingering one."""
        held = self._held.get(slot)
        return held if held is not None else self._derive(slot)

    def held_record(self, slot: int) -> R | None:
        """Return the record of a slot that was created or changed since the start; None for a seeded one."""
        return self._held.get(slot)

    def get(self, identifier: str) -> R | None:
        """Return the record with this id, or None."""
        slot = self.slot(identifier)
        return None if slot is None else self.at(slot)

    def next_identifier(self, *, now_ms: int) -> str:
        """Return the id that the next inserted record has to carry."""
        return self._space.make(len(self._created) | self._salt << _SLOT_BITS, at_ms=now_ms)

    def insert(self, record: R) -> int:
        """Add a record whose id is :meth:`next_identifier`; return its slot."""
        slot = len(self._created)
        if self._slot_in(record.id) != slot:
            raise ValueError(f"{record.id} is not the next id")
        self.edits += 1
        self._created.append(record.created_at)
        self._held[slot] = record
        self.by_created.add(slot)
        if self._by_updated is not None:
            self._by_updated.keys.append(record.updated_at)
            self._by_updated.add(slot)
        return slot

    def replace(self, record: R) -> None:
        """Put a changed record in the place of the one with the same id; raise KeyError where none lives."""
        slot = self.slot(record.id)
        if slot is None:
            raise KeyError(record.id)
        self.edits += 1
        _move(self.by_created, slot, record.created_at)
        if self._by_updated is not None:
            _move(self._by_updated, slot, record.updated_at)
        self._held[slot] = record

    def remove(self, identifier: str, *, linger_seconds: float | None = 0) -> R:
        """Take an object out for good and return its last record; raise KeyError where none lives.

        Lists go on showing it for so many seconds, or (None) until :meth:`catch_up`.
        """
        slot = self.slot(identifier)
        if slot is None:
            raise KeyError(identifier)
        record = self.at(slot)
        self.edits += 1
        self._removed.add(slot)
        if linger_seconds == 0:
            self._forget(slot)
        else:
            self._held[slot] = record
            self._lingering[slot] = None if linger_seconds is None else time.monotonic() + linger_seconds
        return record

    def changes(self) -> "TableChanges[R]":
        """Return what differs from the seed."""
        held = {slot: record for slot, record in self._held.items() if slot not in self._removed}
        later = list(self._created[self._seeded :])
        return TableChanges(salt=self._salt, created=later, held=held, removed=sorted(self._removed))

    def restore(self, changes: "TableChanges[R]") -> None:
        """Bring a table that holds its seeded objects only to where another one was."""
        self._salt = changes.salt
        self._created.extend(changes.created)
        self._held = dict(changes.held)
        for slot, record in self._held.items():
            self._created[slot] = record.created_at
        self._removed = set(changes.removed)
        self.by_created = Order(self._created)
        for slot in self._removed:
            self.by_created.discard(slot)
        self._by_updated = None

    def page(self, *, offset: int, limit: int, newest_first: bool = True) -> list[R]:
        """Return a page in order of creation."""
        span = self.by_created.span(without=self._lingering)
        return [self.at(slot) for slot in span.page(offset=offset, limit=limit, newest_first=newest_first)]

    def __iter__(self) -> Iterator[R]:
        """Yield every record, oldest first."""
        for slot in self.by_created.span(without=self._lingering).whole():
            yield self.at(slot)

    @property
    def not_listed(self) -> frozenset[int]:
        """Slots that lists leave out although they are in the orders."""
        return frozenset(self._hidden)

    @property
    def not_real(self) -> frozenset[int]:
        """Slots that are in the orders although nothing lives there any more."""
        return frozenset(self._lingering)

    def listed(self, slot: int) -> bool:
        """Tell whether lists show the object of a slot that was given out."""
        return slot not in self._hidden and (slot not in self._removed or slot in self._lingering)

    def listed_slot(self, identifier: str) -> int | None:
        """Return the slot of an object that lists show, or None."""
        slot = self.slot_ever(identifier)
        return slot if slot is not None and self.listed(slot) else None

    def known(self, slot: int) -> bool:
        """Tell whether the object of a slot lives or lingers, hidden or not: :meth:`at` has its record."""
        return slot not in self._removed or slot in self._lingering

    def known_record(self, identifier: str) -> R | None:
        """Return the record of an object that lives or lingers, hidden or not."""
        slot = self.slot_ever(identifier)
        return self.at(slot) if slot is not None and self.known(slot) else None

    def hide(self, identifier: str) -> None:
        """Leave an object out of lists until :meth:`catch_up`; raise KeyError where none lives."""
        slot = self.slot(identifier)
        if slot is None:
            raise KeyError(identifier)
        self._hidden.add(slot)

    def linger_over(self) -> None:
        """Forget what lingers and whose time is up."""
        if not self._lingering:
            return
        now = time.monotonic()
        for slot in [slot for slot, end in self._lingering.items() if end is not None and end <= now]:
            self._stop_lingering(slot)

    def catch_up(self) -> None:
        """Let lists show what is."""
        for slot in list(self._lingering):
            self._stop_lingering(slot)
        self._hidden.clear()

    def _stop_lingering(self, slot: int) -> None:
        del self._lingering[slot]
        self._forget(slot)

    def _forget(self, slot: int) -> None:
        self.by_created.discard(slot)
        if self._by_updated is not None:
            self._by_updated.discard(slot)
        self._held.pop(slot, None)
        self._hidden.discard(slot)

    def _slot_in(self, identifier: str) -> int | None:
        number = self._space.number(identifier)
        return None if number is None else number % (1 << _SLOT_BITS)


def _move(order: Order, slot: int, key: int) -> None:
    if order.keys[slot] != key:
        order.discard(slot)
        order.keys[slot] = key
        order.add(slot)
