"""Which memberships belong to one user or one organization: the seeded ones in one array, later ones in lists."""

from array import array
from bisect import bisect_left, bisect_right
from functools import cached_property


class Groups:
    """Slots of memberships, by the slot of what they belong to."""

    def __init__(self, keys: "array[int]") -> None:
        """Begin with the seeded memberships: for each its user's or organization's slot."""
        self._keys = keys
        self._later: dict[int, list[int]] = {}
        self._later_keys: dict[int, int] = {}

    def add(self, key: int, slot: int) -> None:
        """Enter a membership that was created later."""
        self._later_keys[slot] = key
        self._later.setdefault(key, []).append(slot)

    def later(self) -> list[tuple[int, int]]:
        """Return slot and key of each membership that was created later."""
        return list(self._later_keys.items())

    def of(self, key: int) -> list[int]:
        """Return a group's slots, ascending; those of ended memberships among them."""
        low = bisect_left(self._sorted, key, key=self._keys.__getitem__)
        high = bisect_right(self._sorted, key, low, key=self._keys.__getitem__)
        return [*self._sorted[low:high], *self._later.get(key, ())]

    def key(self, slot: int) -> int | None:
        """Return what a membership belongs to."""
        return self._keys[slot] if slot < len(self._keys) else self._later_keys.get(slot)

    @cached_property
    def _sorted(self) -> "array[int]":
        return array("l", sorted(range(len(self._keys)), key=self._keys.__getitem__))
