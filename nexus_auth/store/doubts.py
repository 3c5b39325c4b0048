"""The queue of reads by name that may contradict what we believe.

Purposes: `revive` brings a false tombstone back, `lower` lowers a version that is too high, `bury` tombstones what
Clerk does not know any more. Each takes two reads that agree, some time apart: one may come from a replica that lags.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nexus_auth.store.queries import load

SQL = load("doubts")

Purpose = Literal["revive", "lower", "bury"]


@dataclass(frozen=True, slots=True)
class NewDoubt:
    """An object to ask about."""

    id: str
    parents: tuple[str, ...] = ()
    """In the order of its declaration; what is asked for through them has all of them."""
    tombstone_seq: int | None = None


@dataclass(frozen=True, slots=True)
class Doubt:
    """A read that is due."""

    kind: str
    id: str
    purpose: Purpose
    tombstone_seq: int | None
    parents: tuple[str, ...]
    answers: int
    """Reads that agreed so far."""
    answer_at: int | None
    """`updated_at` of the first answer, ms."""
    old: bool
    """Queued more than a day ago."""


async def queue(
    connection: Any, kind: str, doubts: Sequence[NewDoubt], *, purpose: Purpose, seconds: float, answers: int = 0
) -> None:
    """Asks for reads, the next in `seconds`; all of one call are due at the same moment.

    One that is queued for this purpose already stays as it is. `answers`: reads that were made, and agreed.
    """
    if doubts:
        await connection.execute(
            SQL["queue"],
            kind,
            purpose,
            [doubt.id for doubt in doubts],
            [doubt.tombstone_seq for doubt in doubts],
            seconds,
            answers,
            [" ".join(doubt.parents) for doubt in doubts],
        )


async def due(connection: Any, kind: str) -> list[Doubt]:
    """Every read of a kind whose time has come."""
    return [
        Doubt(**{**dict(row), "parents": tuple(row["parents"])}) for row in await connection.fetch(SQL["due"], kind)
    ]


async def answered(connection: Any, doubt: Doubt, *, answer_at: int, seconds: float) -> None:
    """A first read agreed; the second comes in `seconds`."""
    await connection.execute(SQL["answered"], doubt.kind, doubt.id, answer_at, seconds)


async def postpone(connection: Any, kind: str, ids: Sequence[str], *, seconds: float) -> None:
    """A read proved nothing; another one comes in `seconds`, a second at least."""
    if ids:
        await connection.execute(SQL["postpone"], kind, list(ids), max(seconds, 1.0))


async def forget(connection: Any, kind: str, ids: Sequence[str]) -> None:
    """These are settled."""
    if ids:
        await connection.execute(SQL["forget"], kind, list(ids))


async def queued(connection: Any, kind: str, ids: Sequence[str], *, purpose: Purpose) -> Mapping[str, tuple[int, int]]:
    """Of some ids those that are queued: tombstone_seq and answers by id."""
    rows = await connection.fetch(SQL["queued"], kind, list(ids), purpose)
    return {row["id"]: (row["tombstone_seq"], row["answers"]) for row in rows}
