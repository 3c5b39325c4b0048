"""What must be done now and then: partitions, unfinished deletions, and the numbers that alerts look at."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits, in rows."""

    parked: int
    waiting: int
    burying: int
    blocking_constraints: tuple[str, ...]
    """Foreign keys of others that hold a typed row which should be gone."""
    default_rows: int
    """Rows of the inbox without a partition of their own: maintenance has not run."""
    overdue_partitions: int
    """Partitions past keeping that still hold parked, waiting or held events."""
    held: int
    """Deletion events that are held until Clerk's API, or a human, confirms or refuses them."""
    held_oldest_seconds: float | None
    """Age of the oldest of them; beyond 300 s its row is hidden from readers."""
    distrusted_secrets: int
    """Signing secrets whose deletions were refused and that no human has cleared."""
    unverified_deletions: int
    """Deletions beyond the guard's share that were applied because nobody was there to verify them; only grows."""
    verifier_seconds: float | None
    """Since a process that can verify held deletions last said that it is there; None: never."""


@dataclass(frozen=True, slots=True)
class Maintained:
    """What one call of `maintain` did; all zero where another one was at it."""

    created: int
    moved: int
    dropped: int
    overdue: int
    forgotten: int


async def maintain(connection: Any) -> Maintained:
    """Makes partitions ahead, moves what came before its partition, drops what is past keeping."""
    row = await connection.fetchrow("select * from clerk_private.maintain()")
    return Maintained(**dict(row))


async def bury(connection: Any) -> int:
    """Goes on, chunk by chunk, with deletions that one transaction could not finish; answers how many are left."""
    while await connection.fetchval("select clerk_private.bury()"):
        pass
    left: int = await connection.fetchval("select count(distinct (kind, id)) from clerk_private.burying")
    return left


async def backlog(connection: Any) -> Backlog:
    """Counts what waits."""
    row = dict(await connection.fetchrow("select * from clerk_private.backlog()"))
    row["blocking_constraints"] = tuple(row["blocking_constraints"] or ())
    return Backlog(**row)
