"""What happened so far, for whoever decides what happens next."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from typing import Any

HISTORY = files("nexus_auth.store").joinpath("history.sql").read_text("utf-8")


@dataclass(frozen=True, slots=True)
class History:
    """Moments by the database's clock, which also says `now`."""

    now: datetime
    incremental_at: datetime | None
    deep_at: datetime | None
    full_at: Mapping[str, float]
    """By kind, seconds since 1970: when the last run that listed all of it began."""
    failed_at: datetime | None
    """When a full or deep run last failed: the next one waits a little."""
    in_vain_at: datetime | None
    """When the newest incremental run ended, if it came to nothing: what presses waits a little, too."""
    running: str | None
    """Mode and kinds of a run that was not finished: it is resumed first."""
    counts_differ: Sequence[str]
    """Kinds of which Clerk counts more or fewer, for certain, than the last full sweep left."""
    counts_doubted_at: datetime | None
    """Since when counts differ that a second look is still to confirm."""
    approved: bool
    doubts_due: bool
    requested_at: datetime | None
    """The webhook service asks for a sweep since then."""


async def read_history(connection: Any, *, sync: str) -> History:
    """The history of one sync."""
    row = dict(await connection.fetchrow(HISTORY, sync))
    row["full_at"] = json.loads(row["full_at"])
    return History(**row)


async def request_answered(connection: Any, *, requested_at: datetime) -> None:
    """Takes the webhook service's mark away, unless it was set anew meanwhile."""
    await connection.execute(
        "update clerk_private.instance set sweep_requested_at = null where sweep_requested_at = $1", requested_at
    )
