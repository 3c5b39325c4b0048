"""One kind of object, by id and in order of creation, with the seeded ones computed on demand.

A million users must start at once and stay small, so a table keeps per object no more than a few machine words: two
times and a place in the order. Seeded records are derived again whenever they are asked for; only objects that were
created or changed since the start are held as records. Every object has a *slot*, its number within the kind; seeded
ones have the first slots.
"""

import time
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from devtools.clerk_emulator.state.identifiers import IdentifierSpace


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
#: The slot's part of the number inside an id. What is created later than the seed carries the time of the start above
#: it, so that two runs with one seed, within one second, do not give out the same ids.
_SLOT_BITS = 48


class Table(Generic[R]):
    """The objects of one kind."""

    def __init__(self, space: IdentifierSpace, *, created: "array[int]", derive: Callable[[int], R]) -> None:
        """Begin with the seeded objects: their creation times (ascending) and how each is derived from its slot."""
        self._space = space
        self._derive = derive
        self._created = created
        self._order = array("l", range(len(created)))
        self._held: dict[int, R] = {}
        self._removed: set[int] = set()
        self._salt = time.time_ns()

    def __len__(self) -> int:
        """Return the number of live objects."""
        return len(self._order)

    def __contains__(self, identifier: str) -> bool:
        """Tell whether an object with this id lives."""
        return self.slot(identifier) is not None

    @property
    def slots(self) -> int:
        """How many slots were ever given out."""
        return len(self._created)

    def lives(self, slot: int) -> bool:
        """Tell whether the object of a slot that was given out still exists."""
        return slot not in self._removed

    def identifier(self, slot: int) -> str:
        """Return the id of a live object by its slot."""
        held = self._held.get(slot)
        return held.id if held is not None else self._space.make(slot, at_ms=self._created[slot])

    def slot(self, identifier: str) -> int | None:
        """Return the slot of a live object, or None."""
        slot = self._slot_in(identifier)
        if slot is None or slot >= len(self._created) or slot in self._removed or self.identifier(slot) != identifier:
            return None
        return slot

    def at(self, slot: int) -> R:
        """Return the record in a slot; the slot is a live one."""
        held = self._held.get(slot)
        return held if held is not None else self._derive(slot)

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
        self._created.append(record.created_at)
        self._held[slot] = record
        self._order.insert(self._place(slot), slot)
        return slot

    def replace(self, record: R) -> None:
        """Put a changed record in the place of the one with the same id; raise KeyError where none lives."""
        slot = self.slot(record.id)
        if slot is None:
            raise KeyError(record.id)
        if record.created_at != self._created[slot]:
            del self._order[self._place(slot)]
            self._created[slot] = record.created_at
            self._order.insert(self._place(slot), slot)
        self._held[slot] = record

    def remove(self, identifier: str) -> R:
        """Take an object out for good and return its last record; raise KeyError where none lives."""
        slot = self.slot(identifier)
        if slot is None:
            raise KeyError(identifier)
        record = self.at(slot)
        del self._order[self._place(slot)]
        self._removed.add(slot)
        self._held.pop(slot, None)
        return record

    def page(self, *, offset: int, limit: int, newest_first: bool = True) -> list[R]:
        """Return a page in order of creation."""
        if newest_first:
            end = max(len(self._order) - offset, 0)
            slots = self._order[max(end - limit, 0) : end]
            slots.reverse()
        else:
            slots = self._order[offset : offset + limit]
        return [self.at(slot) for slot in slots]

    def __iter__(self) -> Iterator[R]:
        """Yield every record, oldest first."""
        for slot in array("l", self._order):
            yield self.at(slot)

    def _slot_in(self, identifier: str) -> int | None:
        number = self._space.number(identifier)
        return None if number is None else number % (1 << _SLOT_BITS)

    def _place(self, slot: int) -> int:
        created = self._created
        return bisect_left(self._order, (created[slot], slot), key=lambda other: (created[other], other))
