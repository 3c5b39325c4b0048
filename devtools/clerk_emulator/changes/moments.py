"""Times of changes: ``updated_at`` never goes back, and stands still only for fields that were declared still."""

from collections.abc import Collection
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from devtools.clerk_emulator.clerk_errors import invalid_parameter
from devtools.clerk_emulator.delivery.messages import now_ms


def after(updated_at: int) -> int:
    """Return the present in ms, or the next ms after the last change where the clock has not moved on."""
    return max(now_ms(), updated_at + 1)


def of_change(old: Any, new: Any, *, still_fields: Collection[str]) -> int:
    """Return the ``updated_at`` of a changed record: the old one where nothing but still fields changed."""
    if still_fields:
        names = {one.name for one in fields(old) if getattr(old, one.name) != getattr(new, one.name)}
        if names and names.issubset(still_fields):
            return int(old.updated_at)
    return after(old.updated_at)


def parse(name: str, value: str) -> int:
    """Read an RFC 3339 time into ms; raise ClerkError (422)."""
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise invalid_parameter(name, "must be a date in RFC3339 format") from None
    whole = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return round(whole.timestamp() * 1000)


def text(moment: int) -> str:
    """Return a time in ms as an RFC 3339 time."""
    seconds, thousandths = divmod(moment, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{thousandths:03}Z"
