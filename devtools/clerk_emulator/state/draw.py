"""A small stream of random numbers that costs nothing to begin (SplitMix64): one per seeded object."""

import re
import unicodedata
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")
_MASK = (1 << 64) - 1


class Draw:
    """Random choices that depend on nothing but the numbers it was begun with."""

    __slots__ = ("_state",)

    def __init__(self, *parts: int) -> None:
        """Begin a stream for these numbers."""
        state = 0x9E3779B97F4A7C15
        for part in parts:
            state = ((state ^ part) * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) & _MASK
            state ^= state >> 29
        self._state = state

    def bits(self) -> int:
        """Return 64 random bits."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        value = self._state
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
        return value ^ (value >> 31)

    def below(self, limit: int) -> int:
        """Return a number from 0 up to, not including, ``limit``."""
        return self.bits() % limit

    def chance(self, percent: int) -> bool:
        """Return True in so many of a hundred cases."""
        return self.below(100) < percent

    def pick(self, choices: Sequence[T]) -> T:
        """Return one of the choices."""
        return choices[self.below(len(choices))]

    def token(self, length: int) -> str:
        """Return lower-case hexadecimal characters."""
        return "".join(f"{self.bits():016x}" for _ in range(length // 16 + 1))[:length]


def ascii_name(name: str) -> str:
    """Return a name as it stands in an address: ``amelie.van.der.berg``."""
    plain = unicodedata.normalize("NFKD", name.lower()).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z]+", ".", plain).strip(".") or "person"
