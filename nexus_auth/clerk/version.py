"""The version of an object's state: what decides which of two states is the later one.

Compared as a row, in SQL and here alike: Clerk's `updated_at`, then when the state was observed, then who observed it
(an API read outranks a webhook), then the svix-id, so that even two events of one millisecond have one order.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

WEBHOOK = 0
API = 1

SECONDS_BELOW = 100_000_000_000
"""Clerk's prose says milliseconds, its examples show seconds; 10^11 ms is 1973, 10^11 s is the year 5138."""

SECONDS_FROM = 1_000_000_000
"""Members of objects are read as seconds from here: 10^9 s is 2001, before Clerk; 10^9 ms is January 1970."""

_SECONDS = re.compile(rb'_at"\s*:\s*[1-9][0-9]{9,10}\s*[,}]')
"""A member named like a time whose number has 10 or 11 digits."""

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


def object_time(value: int) -> int:
    """A time that is a member of an object, in ms. Old samples of Clerk's have seconds there.

    Numbers below 10^9 are no time of Clerk's in either unit: they stay as they are and compare as early.
    """
    return value * 1000 if SECONDS_FROM <= value < SECONDS_BELOW else value


def may_hold_seconds(part: bytes) -> bool:
    """A cheap test on plain bytes: False means that no member `…_at` outside of texts is in seconds."""
    return _SECONDS.search(part) is not None


def in_milliseconds(value: Any) -> Any:
    """A parsed object with its times in ms: every integer member `…_at` at any depth outside metadata."""
    if isinstance(value, dict):
        return {
            key: object_time(member)
            if key.endswith("_at") and isinstance(member, int) and not isinstance(member, bool)
            else member
            if key.endswith("_metadata")
            else in_milliseconds(member)
            for key, member in value.items()
        }
    if isinstance(value, list):
        return [in_milliseconds(member) for member in value]
    return value
