"""The version of an object's state: what decides which of two states is the later one.

Compared as a row, in SQL and here alike: Clerk's `updated_at`, then when the state was observed, then who observed it
(an API read outranks a webhook), then the svix-id, so that even two events of one millisecond have one order.
"""

from dataclasses import dataclass
from decimal import Decimal

WEBHOOK = 0
API = 1

SECONDS_BELOW = 100_000_000_000
"""Clerk's prose says milliseconds, its examples show seconds; 10^11 ms is 1973, 10^11 s is the year 5138."""

LATEST = 2**53
"""Milliseconds: beyond it a time is noise, not a date."""


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """Orderable as written: a later version compares greater."""

    updated_at: int
    """Clerk's `updated_at`, ms."""
    observed_at: int
    """The event's own timestamp, or the start of the API request, ms; 0 where unknown."""
    source_rank: int
    """`WEBHOOK` or `API`."""
    svix_id: str
    """Empty for an API read, never None: a NULL would make the comparison NULL."""


def milliseconds(value: object) -> int:
    """An envelope's timestamp in ms, given in seconds or milliseconds; 0 for anything that is no time."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return 0
    if isinstance(value, Decimal) and value.is_nan():  # comparing it raises
        return 0
    if not 0 <= value <= LATEST:
        return 0
    return int(value * 1000) if value < SECONDS_BELOW else int(value)
