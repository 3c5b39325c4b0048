"""Ids as Clerk writes them: a prefix and 27 base-62 characters (a KSUID: 4 bytes of time, 16 bytes of payload).

The payload is a reversible permutation of a number, so that a million seeded objects need no dictionary from id to
object: the number is read back out of the id. It looks random and is none; that is enough for an emulator.
"""

import hashlib
from functools import cache

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_DIGITS = {character: value for value, character in enumerate(_ALPHABET)}
_LENGTH = 27
_PAYLOAD = 1 << 128
_PAYLOAD_MASK = _PAYLOAD - 1
_EPOCH_SECONDS = 1_400_000_000
_THREE = 62**3
_NINE = 62**9


@cache
def _triples() -> tuple[bytes, ...]:
    """Return all texts of three digits, by their value."""
    digits = [character.encode() for character in _ALPHABET]
    pairs = [one + other for one in digits for other in digits]
    return tuple(pair + digit for pair in pairs for digit in digits)


def _base62(value: int) -> bytes:
    triples = _triples()
    value, low = divmod(value, _NINE)
    high, middle = divmod(value, _NINE)
    low, c = divmod(low, _THREE)
    low, b = divmod(low, _THREE)
    middle, f = divmod(middle, _THREE)
    middle, e = divmod(middle, _THREE)
    high, i = divmod(high, _THREE)
    high, h = divmod(high, _THREE)
    parts = (high, h, i, middle, e, f, low, b, c)
    return b"".join([triples[part] for part in parts])


class IdentifierSpace:
    """The ids of one kind of object."""

    def __init__(self, prefix: str, *, seed: int) -> None:
        """Derive the permutation from seed and prefix."""
        digest = hashlib.blake2b(f"{seed}/{prefix}".encode(), digest_size=32).digest()
        self.prefix = prefix
        self._prefix_bytes = prefix.encode()
        self._multiplier = int.from_bytes(digest[:16]) | 1
        self._offset = int.from_bytes(digest[16:])
        self._inverse = pow(self._multiplier, -1, _PAYLOAD)

    def make(self, number: int, *, at_ms: int) -> str:
        """Return the id of an object: its number within the kind, and when it came to be."""
        return self.make_bytes(number, at_ms=at_ms).decode()

    def make_bytes(self, number: int, *, at_ms: int) -> bytes:
        """Return the same as bytes."""
        payload = (number * self._multiplier + self._offset) & _PAYLOAD_MASK
        return self._prefix_bytes + _base62((at_ms // 1000 - _EPOCH_SECONDS & 0xFFFFFFFF) << 128 | payload)

    def number(self, identifier: str) -> int | None:
        """Return the number inside an id, or None where it is none of this kind's shape.

        A foreign id yields some number too: who asks compares the id of the object found.
        """
        tail = identifier.removeprefix(self.prefix)
        if len(tail) != _LENGTH or tail == identifier:
            return None
        value = 0
        for character in tail:
            digit = _DIGITS.get(character)
            if digit is None:
                return None
            value = value * 62 + digit
        return ((value % _PAYLOAD) - self._offset) * self._inverse % _PAYLOAD
