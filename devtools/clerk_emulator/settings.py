"""What an emulator is started with, and what may be changed while it runs.

Two values, kept apart on purpose: :class:`Settings` is fixed for a run (seed, sizes, keys), :class:`Behaviour` is
replaced as a whole by ``PATCH /_emulator/behaviour``. Both are frozen, so that no part of the emulator changes them
behind another's back.
"""

import base64
import hashlib
from dataclasses import dataclass, field
from typing import Literal

HeaderFamily = Literal["svix", "webhook"]

#: Seconds from each failure to the next attempt; with the first one that makes eight attempts over about 27 h.
SVIX_SCHEDULE: tuple[float, ...] = (5, 300, 1_800, 7_200, 18_000, 36_000, 36_000)


@dataclass(frozen=True)
class Behaviour:
    """How events are sent, changeable while the emulator runs."""

    retry_scale: float = 0.01
    """Factor on the retry schedule: 5 s, 5 min, 30 min … become 50 ms, 3 s, 18 s …"""
    retry_jitter: float = 0.0
    """Share of each delay that is drawn at random (0.2 = ±20 %); off, so that runs can be compared."""
    timeout_seconds: float = 15.0
    """How long an endpoint may take to answer, not scaled."""
    header_families: tuple[HeaderFamily, ...] = ("svix",)
    """Which header names carry id, timestamp and signature: ``svix-*``, ``webhook-*`` or both."""
    timestamp_unit: Literal["ms", "s"] = "ms"
    """Unit of the envelope's ``timestamp``: Clerk's documents say milliseconds, its examples show seconds."""
    event_attributes: bool = True
    """Whether the envelope tells the client's address and user agent."""
    cascade_events: bool = False
    """Whether deleting a user or an organization also sends ``organizationMembership.deleted`` (undocumented)."""
    concurrency: int = 64
    """Requests in flight to one endpoint."""

    def __post_init__(self) -> None:
        """Raise ValueError for a value that cannot work."""
        if self.retry_scale < 0 or self.timeout_seconds <= 0 or not 0 <= self.retry_jitter < 1:
            raise ValueError("retry_scale >= 0, timeout_seconds > 0 and 0 <= retry_jitter < 1")
        if not self.header_families or set(self.header_families) - {"svix", "webhook"}:
            raise ValueError("header_families holds 'svix', 'webhook' or both")
        if self.timestamp_unit not in ("ms", "s"):
            raise ValueError("timestamp_unit is 'ms' or 's'")
        if not 1 <= self.concurrency <= 1_000:
            raise ValueError("concurrency is between 1 and 1000")


def derived_token(prefix: str, *, seed: int, length: int = 42) -> str:
    """Return a key that depends on the seed only: a stand-in for what Clerk's dashboard would show."""
    digest = hashlib.blake2b(f"{seed}/{prefix}".encode(), digest_size=48).digest()
    return prefix + base64.b64encode(digest, altchars=b"xy").decode()[:length]


@dataclass(frozen=True)
class Settings:
    """What an emulator is started with."""

    seed: int = 1
    """Decides every seeded object, id and random choice of a run."""
    users: int = 5_000
    organizations: int = 200
    memberships: int = 12_000
    host: str = "127.0.0.1"
    port: int = 0
    """0 takes a free port."""
    secret_key: str = field(default="", repr=False)
    """The API key that is accepted; derived from the seed where empty."""
    instance_id: str = ""
    """``ins_…``; derived from the seed where empty."""
    environment_type: Literal["development", "production"] = "development"
    message_log: int = 10_000
    """Finished messages that are remembered."""
    request_log: int = 100_000
    """API requests that are remembered."""
    behaviour: Behaviour = field(default_factory=Behaviour)

    def __post_init__(self) -> None:
        """Fill in what the seed decides; raise ValueError for sizes that cannot be."""
        if min(self.users, self.organizations, self.memberships) < 0:
            raise ValueError("sizes are not negative")
        if self.memberships > self.users * self.organizations:
            raise ValueError("more memberships than pairs of users and organizations")
        if not self.secret_key:
            object.__setattr__(self, "secret_key", derived_token("sk_test_", seed=self.seed))
        if not self.instance_id:
            object.__setattr__(self, "instance_id", derived_token("ins_", seed=self.seed, length=27))
