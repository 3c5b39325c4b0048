"""What the database holds, set beside what Clerk lists: by window of `created_at`, by digest, by id."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nexus_auth.store.queries import load

SQL = load("comparison")


@dataclass(frozen=True, slots=True)
class State:
    """An arbiter row."""

    dead: bool
    """A tombstone."""
    buried_by: str | None
    updated_at: int
    observed_at: int
    tombstone_seq: int | None


async def held(connection: Any, kind: str, *, start: int, end: int) -> dict[str, int]:
    """Ids of typed rows with `created_at` in [start, end) ms, and their `updated_at`, ms."""
    return {row[0]: row[1] for row in await connection.fetch(SQL["held"], kind, start, end)}


async def states(connection: Any, kind: str, ids: Sequence[str]) -> dict[str, State]:
    """Arbiter rows of some ids; times in ms."""
    if not ids:
        return {}
    rows = await connection.fetch(SQL["states"], kind, list(ids))
    return {row["id"]: State(*tuple(row)[1:]) for row in rows}


async def differing(connection: Any, kind: str, objects: Sequence[tuple[str, str]]) -> set[str]:
    """Of (id, JSON) pairs, the ids whose projection differs from what we hold, whatever their `updated_at` says."""
    if not objects:
        return set()
    rows = await connection.fetch(
        SQL["differing"], kind, [object_id for object_id, _ in objects], [text for _, text in objects]
    )
    return {row[0] for row in rows}


async def unadopted(connection: Any, kind: str, ids: Sequence[str]) -> set[str]:
    """Of these ids the typed rows that no arbiter row stands for."""
    return {row[0] for row in await connection.fetch(SQL["unadopted"], kind, list(ids))} if ids else set()


async def has_unadopted(connection: Any, kind: str) -> bool:
    """Whether there is any such row of a kind."""
    return bool(await connection.fetch(SQL["unadopted"], kind, None))


async def burying(connection: Any, kind: str, ids: Sequence[str]) -> set[str]:
    """Of these ids those whose deletion goes on: they are known to be gone."""
    return {row[0] for row in await connection.fetch(SQL["burying"], kind, list(ids))} if ids else set()


async def parents_of(connection: Any, kind: str, ids: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
    """Ids of the parents of typed rows, in the order of the kind's declaration."""
    rows = await connection.fetch(SQL["parents"], kind, list(ids))
    return {row["id"]: tuple(row["parents"]) for row in rows}


@dataclass(frozen=True, slots=True)
class Edited:
    """A chunk of the local comparison."""

    last_id: str
    problems: dict[str, str]
    """By id: edited, or projection."""


async def edited(connection: Any, kind: str, *, after: str, limit: int) -> Edited | None:
    """Rows that are not what their object projects to, among the next `limit` objects; None after the last."""
    rows = await connection.fetch(SQL["edited"], kind, after, limit)
    if not rows:
        return None
    return Edited(rows[-1]["last_id"], {row["id"]: row["problem"] for row in rows if row["id"] is not None})


async def live(connection: Any, kind: str) -> int:
    """Live objects of a kind."""
    count: int = await connection.fetchval(SQL["live"], kind)
    return count
