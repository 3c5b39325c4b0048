"""What the database holds, set beside what Clerk lists: by window of `created_at`, by digest, by count."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

PROJECTIONS = {"user": 1, "organization": 1, "organization_membership": 1}
"""The projection's version that the SQL functions have now, by kind."""


async def held(connection: Any, kind: str, *, start: int, end: int) -> dict[str, int]:
    """Ids of live rows with `created_at` in [start, end) ms, and their `updated_at`, ms."""
    return {
        row[0]: row[1]
        for row in await connection.fetch("select id, updated_at from clerk_private.held($1, $2, $3)", kind, start, end)
    }


async def states(connection: Any, kind: str, ids: Sequence[str]) -> dict[str, tuple[bool, int, int, int | None]]:
    """Arbiter rows of some ids: (tombstoned, updated_at ms, observed_at ms, tombstone_seq)."""
    if not ids:
        return {}
    rows = await connection.fetch(
        "select id, deleted_at is not null, updated_at, observed_at, tombstone_seq from clerk_private.objects"
        " where kind = $1 and id = any ($2)",
        kind,
        list(ids),
    )
    return {row[0]: (row[1], row[2], row[3], row[4]) for row in rows}


async def differing(connection: Any, kind: str, objects: Sequence[tuple[str, str]]) -> set[str]:
    """Of (id, JSON) pairs, the ids whose projection differs from what we hold, whatever their `updated_at` says."""
    rows = await connection.fetch(
        "select * from clerk_private.differing($1, $2, $3::jsonb[])",
        kind,
        [object_id for object_id, _ in objects],
        [text for _, text in objects],
    )
    return {row[0] for row in rows}


@dataclass(frozen=True, slots=True)
class Edited:
    """A chunk of the local comparison."""

    last_id: str
    problems: dict[str, str]
    """By id: edited, or projection."""


async def edited(connection: Any, kind: str, *, after: str, limit: int) -> Edited | None:
    """Rows that are not what their object projects to, among the next `limit` objects; None after the last."""
    rows = await connection.fetch(
        "select last_id, id, problem from clerk_private.edited($1, $2, $3, $4::smallint)",
        kind,
        after,
        limit,
        PROJECTIONS[kind],
    )
    if not rows:
        return None
    return Edited(rows[-1]["last_id"], {row["id"]: row["problem"] for row in rows if row["id"] is not None})


async def live(connection: Any, kind: str) -> int:
    """Live objects of a kind."""
    count: int = await connection.fetchval(
        "select count(*) from clerk_private.objects where kind = $1 and deleted_at is null", kind
    )
    return count
