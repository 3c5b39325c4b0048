"""Clerk's counts beside ours, from check to check: when a difference is one, and not an event on its way.

A difference stands when two checks, far enough apart, saw one of the same sign and no event came between them. Of the
same sign, not of the same size: where the webhook has stopped altogether it grows from check to check.
"""

from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from typing import Any

from nexus_auth.store.runs import Run

EXPECTED = files("nexus_auth.store").joinpath("counts.sql").read_text("utf-8")
NOTE = files("nexus_auth.store").joinpath("counts_note.sql").read_text("utf-8")
BEGIN_ANEW = files("nexus_auth.store").joinpath("counts_begin_anew.sql").read_text("utf-8")


@dataclass(frozen=True, slots=True)
class Expected:
    """What Clerk should count of a kind."""

    rows: int
    inbox_mark: datetime | None
    """When the newest event came."""


async def expected(connection: Any, kind: str) -> Expected:
    """Rows of a kind, as if all that is parked, queued and being buried were done; one snapshot."""
    row = await connection.fetchrow(EXPECTED, kind)
    return Expected(row["expected"], row["inbox_mark"])


async def differed(connection: Any, kind: str) -> bool:
    """Whether somebody's last check of a kind, under whatever name, found a difference."""
    found: bool = await connection.fetchval(
        "select exists (select from clerk_private.count_checks where kind = $1 and difference <> 0)", kind
    )
    return found


async def begin_anew(connection: Any, run: Run) -> None:
    """No difference of the run's kind stands any more, until two checks say so again."""
    await connection.execute(BEGIN_ANEW, run.sync, run.kind)


async def note(
    connection: Any,
    run: Run,
    *,
    difference: int,
    inbox_mark: datetime | None,
    verify_after: float,
    swept: bool,
) -> None:
    """Keeps a check, inside a transaction of the run. `swept`: a full sweep has just left this difference."""
    await connection.execute(NOTE, run.sync, run.kind, difference, inbox_mark, verify_after, swept)
