"""Slots in order of a time: where a page, a window between two times and a cursor are found without looking at rows.

A million slots in one array of machine words: a place is found by bisection, an insertion moves memory and no objects.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Collection


class Span:
    """A run of slots in ascending order of (key, slot), to take pages from in either direction."""

    __slots__ = ("_high", "_keys", "_low", "_slots")

    def __init__(self, slots: "array[int]", *, keys: "array[int]", low: int = 0, high: int | None = None) -> None:
        """Take the places from ``low`` up to, not including, ``high``."""
        self._slots = slots
        self._keys = keys
        self._low = low
        self._high = max(low, len(slots) if high is None else high)

    def __len__(self) -> int:
        """Return the number of slots."""
        return self._high - self._low

    def page(self, *, offset: int, limit: int, newest_first: bool) -> "array[int]":
        """Return at most ``limit`` slots after skipping ``offset``, from either end."""
        if newest_first:
            end = max(self._high - offset, self._low)
            page = self._slots[max(end - limit, self._low) : end]
            page.reverse()
            return page
        return self._slots[self._low + offset : min(self._low + offset + limit, self._high)]

    def whole(self) -> "array[int]":
        """Return all slots, ascending."""
        return self._slots[self._low : self._high]

    def following(self, slot: int, *, newest_first: bool) -> "Span":
        """Return what comes after a slot in this direction; the slot itself need not be among them."""
        keys, wanted = self._keys, (self._keys[slot], slot)
        place = bisect_left(self._slots, wanted, self._low, self._high, key=lambda other: (keys[other], other))
        if newest_first:
            return Span(self._slots, keys=keys, low=self._low, high=place)
        present = place < self._high and self._slots[place] == slot
        return Span(self._slots, keys=keys, low=place + present, high=self._high)


class Order:
    """All slots of a table, ascending by a key that an array holds per slot."""

    def __init__(self, keys: "array[int]") -> None:
        """Begin with every slot that has a key; the array belongs to the caller, who appends to it."""
        self.keys = keys
        ascending = all(one <= other for one, other in zip(keys, memoryview(keys)[1:], strict=False))
        self._slots = array("l", range(len(keys)) if ascending else sorted(range(len(keys)), key=keys.__getitem__))

    def __len__(self) -> int:
        """Return the number of slots."""
        return len(self._slots)

    def add(self, slot: int) -> None:
        """Enter a slot at the place that its key gives it."""
        self._slots.insert(self._place(slot), slot)

    def discard(self, slot: int) -> None:
        """Take a slot out; its key is still the one that it was entered with."""
        del self._slots[self._place(slot)]

    def span(
        self, *, least: int | None = None, most: int | None = None, without: Collection[int] = frozenset()
    ) -> Span:
        """Return the slots whose key lies between two values (both included), leaving out some."""
        slots, keys = self._slots, self.keys
        low = 0 if least is None else bisect_left(slots, least, key=keys.__getitem__)
        high = len(slots) if most is None else bisect_right(slots, most, key=keys.__getitem__)
        if not without:
            return Span(slots, keys=keys, low=low, high=high)
        kept, begin = array("l"), low
        for place in sorted(self._place(slot) for slot in without):
            if begin <= place < high:
                kept.extend(slots[begin:place])
                begin = place + 1
        kept.extend(slots[begin : max(begin, high)])
        return Span(kept, keys=keys)

    def of(self, slots: Collection[int]) -> Span:
        """Return these slots as a span."""
        keys = self.keys
        return Span(array("l", sorted(slots, key=lambda slot: (keys[slot], slot))), keys=keys)

    def _place(self, slot: int) -> int:
        keys = self.keys
        return bisect_left(self._slots, (keys[slot], slot), key=lambda other: (keys[other], other))
