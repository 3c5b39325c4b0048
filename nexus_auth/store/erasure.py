"""Takes what stored events say of a deleted object out of the inbox. A function of the database decides and does it."""

from dataclasses import dataclass
from typing import Any

import asyncpg

STILL_LIVE = "NX005"
"""SQLSTATE of `clerk_private.forget` where the object has a row."""

ERASED = "erased"
"""Outcome of an event whose body was taken away: there is nothing left to replay."""


class StillLive(Exception):
    """The object is not deleted; what events say of it is still needed."""


@dataclass(frozen=True, slots=True)
class Erased:
    """What was removed."""

    events: int
    """Bodies of stored events."""
    refused: int
    """Listed objects that Postgres had refused, kept with their reason."""


async def forget(connection: Any, object_id: str) -> Erased:
    """Empties every stored event that is, or speaks of, the object. Raises `StillLive`; may be repeated."""
    try:
        row = await connection.fetchrow("select events, refused from clerk_private.forget($1)", object_id)
    except asyncpg.PostgresError as error:
        if error.sqlstate == STILL_LIVE:
            raise StillLive(object_id) from None
        raise
    return Erased(row["events"], row["refused"])
