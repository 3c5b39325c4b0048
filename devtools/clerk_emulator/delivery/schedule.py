"""When a failed message is tried again."""

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from devtools.clerk_emulator.behaviour import Behaviour
from devtools.clerk_emulator.delivery.transport import Outcome
from devtools.clerk_emulator.settings import SVIX_SCHEDULE

#: After a timeout the next attempt waits at least this long, whatever the schedule says.
AFTER_TIMEOUT_SECONDS = 60.0


def next_delay(failures: int, *, outcome: Outcome, behaviour: Behaviour, draw: random.Random) -> float | None:
    """Return the scaled seconds to the next attempt after so many failures, or None when it was the last one.

    ``Retry-After`` counts between once and twice the scheduled delay, and is scaled like it.
    """
    if failures > len(SVIX_SCHEDULE):
        return None
    delay = SVIX_SCHEDULE[failures - 1]
    wished = _retry_after_seconds(outcome.retry_after)
    if wished is not None:
        delay = min(max(wished, delay), 2 * delay)
    if outcome.timed_out:
        delay = max(delay, AFTER_TIMEOUT_SECONDS)
    if behaviour.retry_jitter:
        delay *= 1 + behaviour.retry_jitter * (2 * draw.random() - 1)
    return delay * behaviour.retry_scale


def _retry_after_seconds(value: str | None) -> float | None:
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max((moment - datetime.now(tz=UTC)).total_seconds(), 0.0)
