"""What happened so far, for whoever decides what happens next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.resources import files
from typing import Any

from nexus_auth.store.runs import Mode

HISTORY = files("nexus_auth.store").joinpath("history.sql").read_text("utf-8")
REQUEST_ANSWERED = files("nexus_auth.store").joinpath("request_answered.sql").read_text("utf-8")


@dataclass(frozen=True, slots=True)
class KindHistory:
    """What happened to one kind of a sync."""

    looked_at: datetime | None = None
    """When the newest incremental run began."""
    look_failures: int = 0
    """Incremental runs in a row that came to nothing."""
    look_failed_at: datetime | None = None
    full_at: datetime | None = None
    """When the newest run that listed everything began."""
    first_full_at: datetime | None = None
    """When the oldest such run began."""
    deep_at: datetime | None = None
    failures: int = 0
    """Full and deep runs in a row that came to nothing."""
    failed_at: datetime | None = None
    running: Mode | None = None
    """The mode of a run that was not finished: it is resumed first."""
    counts_differ: bool = False
    """Clerk counts more or fewer, for certain, than the last full sweep left."""
    counts_doubted_at: datetime | None = None
    """Since when counts differ that a second look is still to confirm."""
    approved: bool = False
    doubts_due: bool = False
    next_doubt_at: datetime | None = None
    """When the next read by name is due."""
    held_due: bool = False
    """Held deletions wait for a read by name, and the webhook service has not made it."""
    requested: bool = False
    """The webhook service asks for a look, and none has been taken since."""


@dataclass(frozen=True, slots=True)
class History:
    """Moments by the database's clock, which also says `now`."""

    now: datetime
    kinds: Mapping[str, KindHistory]
    requested_at: datetime | None = None
    """Since when the webhook service asks for a sweep."""

    def forgiven(self) -> "History":
        """The same without its failures: what caused them may be mended, and the next try need not wait."""
        return replace(self, kinds={kind: replace(of, failures=0, look_failures=0) for kind, of in self.kinds.items()})


async def read_history(connection: Any, *, sync: str, kinds: Sequence[str]) -> History:
    """The history of one sync, for these kinds."""
    rows = [dict(row) for row in await connection.fetch(HISTORY, sync, list(kinds))]
    if not rows:
        raise ValueError("a history is of one kind at least")
    of: dict[str, KindHistory] = {}
    for row in rows:
        kind, now, requested_at = row.pop("kind"), row.pop("now"), row.pop("requested_at")
        of[kind] = KindHistory(**row)
    return History(now=now, kinds=of, requested_at=requested_at)


async def request_answered(connection: Any, *, requested_at: datetime) -> None:
    """Takes the webhook service's mark away, if all that it concerns was looked at and it was not set anew."""
    await connection.execute(REQUEST_ANSWERED, requested_at)
