"""Endpoints: an address and the secrets that events to it are signed with, newest first."""

import base64
import hashlib
from dataclasses import dataclass, field
from typing import Any

from svix.webhooks import Webhook

#: How long the old secret goes on signing after a rotation, as Svix has it by default.
OLD_SECRET_SECONDS = 86_400.0


def new_secret(*, seed: int, number: int) -> str:
    """Return ``whsec_`` and 24 bytes in base64, decided by the seed."""
    digest = hashlib.blake2b(f"{seed}/endpoint/{number}".encode(), digest_size=24).digest()
    return "whsec_" + base64.b64encode(digest).decode()


def checked_url(url: str) -> str:
    """Return the address; raise ValueError for what events cannot be sent to."""
    if not url.startswith(("http://", "https://")):
        raise ValueError("url begins with http:// or https://")
    return url


@dataclass(frozen=True, slots=True)
class SigningSecret:
    """A secret and, once it was rotated out, until when (ms) it still signs."""

    value: str = field(repr=False)
    until_ms: int | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for what the svix library takes for no secret."""
        try:
            Webhook(self.value)
        except Exception as error:
            raise ValueError(f"not a signing secret: {error}") from error


@dataclass(slots=True)
class Endpoint:
    """Where events go."""

    id: str
    url: str
    secrets: tuple[SigningSecret, ...]
    enabled: bool = True
    types: frozenset[str] = frozenset()
    """The event types it takes; empty means all."""

    def takes(self, event_type: str) -> bool:
        """Tell whether the endpoint has subscribed to this type."""
        return not self.types or event_type in self.types

    def rotate(self, secret: str, *, now_ms: int, keep_old_seconds: float = OLD_SECRET_SECONDS) -> None:
        """Sign with a new secret first, and with the present ones for a while longer."""
        until = now_ms + int(keep_old_seconds * 1000)
        old = tuple(SigningSecret(one.value, until_ms=one.until_ms or until) for one in self.secrets)
        self.secrets = (SigningSecret(secret), *old)

    def signing_secrets(self, *, now_ms: int) -> list[str]:
        """Return the secrets that sign at this time, the newest first."""
        return [one.value for one in self.secrets if one.until_ms is None or one.until_ms > now_ms]

    def as_json(self, *, now_ms: int) -> dict[str, Any]:
        """Return what the control API shows, secrets included: it answers on loopback only."""
        secrets = self.signing_secrets(now_ms=now_ms)
        return {
            "id": self.id,
            "url": self.url,
            "enabled": self.enabled,
            "types": sorted(self.types),
            "secret": secrets[0],
            "secrets": secrets,
        }
