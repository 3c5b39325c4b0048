"""What a run changes in the mirror: thin wrappers of the functions that decide, called inside a run's transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from nexus_auth.store.ingest import Change
from nexus_auth.store.queries import load
from nexus_auth.store.runs import Run

SQL = load("repair")

OVER_GUARD = "NX001"
"""SQLSTATE of deletions that the guard does not allow."""


class OverGuard(Exception):
    """The guard does not allow these deletions; nothing was written."""


@dataclass(frozen=True, slots=True)
class Weight:
    """What deletions weigh for one kind that they touch."""

    kind: str
    more: int
    """Rows that would go, cascades included."""
    deleted: int
    """Rows that went in the last 24 hours and count."""
    live: int
    allowed: int
    """Rows that may go in 24 hours."""
    fits: bool


async def apply(connection: Any, run: Run, changes: Sequence[Change]) -> list[str]:
    """Applies what was read from Clerk: one lock, one order; outcomes as of `nexus_auth.store.ingest.OUTCOMES`."""
    outcomes: list[str] = await connection.fetchval(SQL["repair"], run.id, run.epoch, list(changes))
    return outcomes


async def undo_edits(connection: Any, run: Run, kind: str, ids: Sequence[str]) -> None:
    """Makes typed rows again what their objects project to. Removes none."""
    await connection.execute(SQL["undo_edits"], run.id, run.epoch, kind, list(ids))


async def revive(connection: Any, run: Run, change: Change, *, tombstone_seq: int | None) -> str:
    """Brings a false tombstone back, if it is still the one that was asked about; answers the outcome."""
    outcome: str = await connection.fetchval(SQL["revive"], run.id, run.epoch, change, tombstone_seq)
    return outcome


async def lower_version(connection: Any, run: Run, change: Change) -> str:
    """Lowers a version that is too high, where nothing newer was observed meanwhile; answers the outcome."""
    outcome: str = await connection.fetchval(SQL["lower_version"], run.id, run.epoch, change)
    return outcome


async def set_guard(connection: Any, kind: str, *, floor: int, percent: float) -> None:
    """The sync's limits of deletions; hard ceilings hold in the database whatever is set."""
    await connection.execute(SQL["set_guard"], kind, floor, percent)


async def weigh(connection: Any, kind: str, ids: Sequence[str]) -> list[Weight]:
    """What these deletions and their cascades weigh, one entry for each kind that they touch. Writes nothing."""
    return [Weight(**dict(row)) for row in await connection.fetch(SQL["weigh"], kind, list(ids))]


async def bury(
    connection: Any, run: Run, gone: Mapping[str, int], *, approved_run: int | None = None
) -> dict[str, str]:
    """Tombstones ids of the run's kind that reads by name did not find; answers the outcome of each.

    `gone`: by id, when the last read that did not find it began, ms. Raises `OverGuard`, and nothing is written.
    """
    ids = sorted(gone)
    try:
        outcomes = await connection.fetchval(
            SQL["bury"], run.id, run.epoch, run.kind, ids, [gone[object_id] for object_id in ids], approved_run
        )
    except asyncpg.PostgresError as error:
        if error.sqlstate == OVER_GUARD:
            raise OverGuard(str(error)) from None
        raise
    return dict(zip(ids, outcomes, strict=True))


async def keep_refused(connection: Any, run: Run, refused: Sequence[tuple[str, str, str | None]]) -> None:
    """Keeps objects of the run's kind that cannot be applied: (id, what is wrong, its JSON)."""
    if refused:
        await connection.executemany(
            SQL["keep_refused"], [(run.kind, object_id, error, text, run.id) for object_id, error, text in refused]
        )


async def forget_refused(connection: Any, kind: str, ids: Sequence[str]) -> None:
    """These objects were applied after all."""
    if ids:
        await connection.execute(SQL["forget_refused"], kind, list(ids))


async def refused_ids(connection: Any, kind: str) -> set[str]:
    """Ids of the kind that are kept as refused."""
    return {row["id"] for row in await connection.fetch(SQL["refused_ids"], kind)}
