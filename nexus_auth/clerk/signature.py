"""Signing secrets of webhooks: how they are read, and how one is named without showing it.

The inbox stores which secret verified an event, so that it can be verified again and an old secret be removed safely.
Its name is a fingerprint: secrets are random (24 bytes or more), so that a hash gives nothing back.
"""

import binascii
from base64 import b64decode
from hashlib import sha256

PREFIX = "whsec_"
SHORTEST = 24
"""Bytes of a key: Svix makes 24, and the Standard Webhooks specification asks for 24 to 64. A shorter one is a typing
error, or can be guessed."""

FINGERPRINT_LENGTH = 16
"""Hexadecimal digits: two secrets of one installation do not meet in 64 bits."""


class NoSecret(ValueError):
    """A text that is no signing secret; says which of several, never what stands there."""


def fingerprint(secret: str) -> str:
    """The public name of a secret: the same for every way of writing it (with `whsec_` or not, padded or not).

    Raises `NoSecret`.
    """
    return sha256(_key(secret)).hexdigest()[:FINGERPRINT_LENGTH]


def secrets_from(text: str) -> tuple[str, ...]:
    """The secrets of a text, separated by white space, in order and each once. Raises `NoSecret`."""
    secrets: dict[str, str] = {}
    for position, secret in enumerate(text.split(), start=1):
        try:
            secrets.setdefault(fingerprint(secret), secret)
        except NoSecret as error:
            raise NoSecret(f"secret {position} of {len(text.split())}: {error}") from None
    return tuple(secrets.values())


def _key(secret: str) -> bytes:
    digits = secret.removeprefix(PREFIX)
    try:
        key = b64decode(digits + "=" * (-len(digits) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise NoSecret(f"a signing secret is {PREFIX} and base64, as Clerk's dashboard shows it")
    if len(key) < SHORTEST:
        raise NoSecret(
            f"it has {len(key)} bytes, a signing secret has {SHORTEST} or more; copy the whole secret of the endpoint"
        )
    return key
