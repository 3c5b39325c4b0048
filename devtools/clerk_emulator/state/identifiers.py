"""Ids as Clerk writes them: a prefix and 27 base-62 characters (a KSUID: 4 bytes of time, 16 bytes of payload).

The payload is a reversible permutation of a number, so that a million seeded objects need no dictionary from id to
object: the number is read back out of the id. It looks random and is none; that is enough for an emulator.
"""

import hashlib

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_DIGITS = {character: value for value, character in enumerate(_ALPHABET)}
_LENGTH = 27
_PAYLOAD = 1 << 128
_EPOCH_SECONDS = 1_400_000_000
_CHUNK = 9
_CHUNK_SIZE = 62**_CHUNK


def _base62(value: int) -> str:
    characters: list[str] = []
    for _ in range(_LENGTH // _CHUNK):
        value, chunk = divmod(value, _CHUNK_SIZE)
        for _ in range(_CHUNK):
            chunk, digit = divmod(chunk, 62)
            characters.append(_ALPHABET[digit])
    return "".join(reversed(characters))


class IdentifierSpace:
    """The ids of one kind of object."""

    def __init__(self, prefix: str, *, seed: int) -> None:
        """Derive the permutation from seed and prefix."""
        digest = hashlib.blake2b(f"{seed}/{prefix}".encode(), digest_size=32).digest()
        self.prefix = prefix
        self._multiplier = int.from_bytes(digest[:16]) | 1
        self._offset = int.from_bytes(digest[16:])
        self._inverse = pow(self._multiplier, -1, _PAYLOAD)

    def make(self, number: int, *, at_ms: int) -> str:
        """Return the id of an object: its number within the kind, and when it came to be."""
        payload = (number * self._multiplier + self._offset) % _PAYLOAD
        return self.prefix + _base62(((at_ms // 1000 - _EPOCH_SECONDS) % (1 << 32)) * _PAYLOAD + payload)

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
