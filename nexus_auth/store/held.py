"""Deletion events that are held: beyond what an hour may bring, or signed with a secret that told untruths before.

The row stays, updates apply, and Clerk's API is asked by name. What `clerk_private.hold_deletions` holds and
`clerk_private.answer_held` decides is written there; here are the words for it in Python.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from nexus_auth.store.queries import load

SQL = load("held")


@dataclass(frozen=True, slots=True)
class Due:
    """An object to ask Clerk about."""

    kind: str
    id: str
    parents: tuple[str, ...]
    """In the order of its declaration; empty where no typed row tells them."""


@dataclass(frozen=True, slots=True)
class Held:
    """One held event."""

    svix_id: str
    kind: str
    id: str
    secret: str
    """Fingerprint of the secret that signed it."""
    reason: str
    """share: beyond what an hour may bring. secret: its secret's deletions were refused before. replaced: the event
    made another object in the place that only one can have."""
    state: str
    """held, confirmed, released or refused."""
    held_at: datetime
    found_once: bool
    """A first read found the object; the second decides."""
    decided_at: datetime | None
    decided_by: str | None


async def beat(connection: Any, *, ahead: float = 0.0) -> None:
    """Says that somebody is there who can verify, and comes back within `ahead` seconds.

    Five minutes after that, nothing is held for its share any more.
    """
    await connection.execute(SQL["seen"], ahead)


async def due(connection: Any, *, limit: int) -> list[Due]:
    """Objects to ask about now."""
    return [Due(row["kind"], row["id"], tuple(row["parents"])) for row in await connection.fetch(SQL["due"], limit)]


async def answer(
    connection: Any, kind: str, answers: Mapping[str, tuple[bool | None, int]], *, spacing: float
) -> dict[str, str]:
    """Takes in what Clerk said; answers each object's state: held, confirmed or refused.

    `answers`: by id, whether it was found (None: nothing was proved) and when the read began, ms. `spacing`: seconds
    between two reads that find the object; the second refuses the deletion.
    """
    ids = list(answers)
    states = await connection.fetchval(
        SQL["answer"], kind, ids, [answers[i][0] for i in ids], [answers[i][1] for i in ids], spacing
    )
    return dict(zip(ids, states or (), strict=True))


async def listing(connection: Any, *, every: bool, limit: int) -> list[Held]:
    """Held events; with `every` the decided ones too."""
    return [Held(**dict(row)) for row in await connection.fetch(SQL["listing"], every, limit)]


async def chosen(connection: Any, names: Sequence[str]) -> list[str]:
    """Which events are meant by these ids, of events or of objects."""
    return [row["svix_id"] for row in await connection.fetch(SQL["chosen"], list(names))]


async def settle(connection: Any, svix_ids: Sequence[str], *, release: bool, by: str) -> int:
    """Releases or refuses what a human decided about; answers how many events that were."""
    decided: int = await connection.fetchval(SQL["settle"], list(svix_ids), release, by)
    return decided


async def distrusted(connection: Any) -> Mapping[str, datetime]:
    """Fingerprints of secrets whose deletions are held until a human clears them, and since when."""
    return {row["secret"]: row["since"] for row in await connection.fetch(SQL["distrusted"])}


async def clear(connection: Any, secret: str, *, by: str) -> bool:
    """Believes a secret's deletions again; False where it was not distrusted."""
    cleared: bool = await connection.fetchval(SQL["clear"], secret, by)
    return cleared
