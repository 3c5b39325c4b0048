"""Times of changes: ``updated_at`` never stands still and never goes back."""

from datetime import UTC, datetime

from devtools.clerk_emulator.clerk_errors import invalid_parameter
from devtools.clerk_emulator.delivery.messages import now_ms


def after(updated_at: int) -> int:
    """Return the present in ms, or the next ms after the last change where the clock has not moved on."""
    return max(now_ms(), updated_at + 1)


def parse(name: str, value: str) -> int:
    """Read an RFC 3339 time into ms; raise ClerkError (422)."""
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise invalid_parameter(name, "must be a date in RFC3339 format") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
