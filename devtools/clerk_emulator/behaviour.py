"""How the emulator behaves, changeable while it runs: how events are sent, and what the API does where Clerk's
documents are silent or a server may be at fault.

One frozen value, replaced as a whole by ``PATCH /_emulator/behaviour``, so that no part of the emulator changes it
behind another's back.
"""

from dataclasses import dataclass
from typing import Literal

HeaderFamily = Literal["svix", "webhook"]
DeletedCursor = Literal["refuse", "continue", "empty", "restart"]

#: Requests in ten seconds that Clerk allows an instance, by the kind of instance.
RATE_LIMITS = {"production": 1_000, "development": 100}


@dataclass(frozen=True)
class EventBehaviour:
    """How events are sent."""

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

    def check_events(self) -> None:
        """Raise ValueError for a value that cannot work."""
        if self.retry_scale < 0 or self.timeout_seconds <= 0 or not 0 <= self.retry_jitter < 1:
            raise ValueError("retry_scale >= 0, timeout_seconds > 0 and 0 <= retry_jitter < 1")
        if not self.header_families or set(self.header_families) - {"svix", "webhook"}:
            raise ValueError("header_families holds 'svix', 'webhook' or both")
        if self.timestamp_unit not in ("ms", "s"):
            raise ValueError("timestamp_unit is 'ms' or 's'")
        if not 1 <= self.concurrency <= 1_000:
            raise ValueError("concurrency is between 1 and 1000")


@dataclass(frozen=True)
class ApiBehaviour:
    """What the API does where nobody documents it, and how it limits."""

    after_inclusive: bool = False
    """Whether ``created_at_after`` and its like include the given moment."""
    before_inclusive: bool = False
    """Whether ``created_at_before`` and its like include the given moment."""
    ignore_starting_after: bool = False
    """A server that does not know the cursor: it answers with the first page, however often it is asked."""
    deleted_cursor: DeletedCursor = "refuse"
    """A cursor whose user was deleted: a 422, the rows that would have followed, no rows, or the first page."""
    stale_deleted_seconds: float | None = 0
    """How long a replica still lists what was deleted; null until ``POST /_emulator/replica`` lets it catch up."""
    stale_counts: bool = False
    """Whether counts, too, come from that replica."""
    stale_single_reads: bool = False
    """Whether ``GET /users/{id}``, too, is answered by that replica."""
    still_fields: tuple[str, ...] = ()
    """A change of nothing but these members (``public_metadata``, ``role`` …) does not move ``updated_at``."""
    answered_instance_id: str = ""
    """What ``GET /instance`` says instead of the truth."""
    date_minutes: float = 0.0
    """How far the ``Date`` header of every answer is off; negative is the past."""
    rate_limit: int | None = None
    """Requests per window; null takes Clerk's 1000 (production) or 100 (development), 0 is no limit."""
    rate_window_seconds: float = 10.0
    """The window of the rate limit, a sliding one."""
    rate_counts_refused: bool = False
    """Whether a request that was answered 429 counts as well, so that insisting prolongs the wait."""

    def check_api(self) -> None:
        """Raise ValueError for a value that cannot work."""
        if self.deleted_cursor not in ("refuse", "continue", "empty", "restart"):
            raise ValueError("deleted_cursor is 'refuse', 'continue', 'empty' or 'restart'")
        if self.stale_deleted_seconds is not None and self.stale_deleted_seconds < 0:
            raise ValueError("stale_deleted_seconds is null or at least 0")
        if self.rate_limit is not None and self.rate_limit < 0:
            raise ValueError("rate_limit is null or at least 0")
        if self.rate_window_seconds <= 0:
            raise ValueError("rate_window_seconds > 0")


@dataclass(frozen=True)
class Behaviour(EventBehaviour, ApiBehaviour):
    """Everything that may be changed while the emulator runs."""

    def __post_init__(self) -> None:
        """Raise ValueError for a value that cannot work."""
        self.check_events()
        self.check_api()
