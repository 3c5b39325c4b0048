"""Clerk's counts beside ours, from check to check: when a difference is one, and not an event on its way.

A difference stands when two checks, far enough apart, saw one of the same sign and no event came between them. Of the
same sign, not of the same size: where the webhook has stopped altogether it grows from check to check.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from typing import Any

from nexus_auth.store.runs import Run

EXPECTED = files("nexus_auth.store").joinpath("counts.sql").read_text("utf-8")
NOTE = files("nexus_auth.store").joinpath("counts_note.sql").read_text("utf-8")


@dataclass(frozen=True, slots=True)
class Expected:
    """What Clerk should count, by kind."""

    rows: Mapping[str, int]
    inbox_mark: datetime | None
    """When the newest event came."""


async def expected(connection: Any, kinds: Sequence[str]) -> Expected:
    """Live rows of these kinds, as if all that is parked and all that is being buried were done; one snapshot."""
    rows = await connection.fetch(EXPECTED, list(kinds))
    return Expected({row["kind"]: row["expected"] for row in rows}, rows[0]["inbox_mark"] if rows else None)


async def differed(connection: Any) -> set[str]:
    """Kinds of which somebody's last check, under whatever name, found a difference."""
    rows = await connection.fetch("select distinct kind from clerk_private.count_checks where difference <> 0")
    return {row["kind"] for row in rows}


async def begin_anew(connection: Any, run: Run, *, kinds: Sequence[str]) -> None:
    """No difference of these kinds stands any more, until two checks say so again; inside `runs.writing`."""
    await connection.execute(
        "update clerk_private.count_checks set stands = false, first_seen_at = now()"
        " where sync = $1 and kind = any ($2)",
        run.sync,
        list(kinds),
    )


async def note(
    connection: Any,
    run: Run,
    *,
    differences: Mapping[str, int],
    inbox_mark: datetime | None,
    verify_after: float,
    swept: bool,
) -> None:
    """Keeps a check, inside `runs.writing`. `swept`: a full sweep has just left these differences."""
    await connection.executemany(
        NOTE,
        [(run.sync, kind, by, inbox_mark, verify_after, swept) for kind, by in differences.items()],
    )
