"""The one Clerk instance that a database belongs to, and the mark that asks for a sweep.

Claimed by insert-or-compare from configuration or from the API key, never by a webhook: a development endpoint pointed
here by mistake would claim production.
"""

from datetime import datetime
from typing import Any


class WrongInstance(Exception):
    """The database belongs to another Clerk instance."""


async def claim(connection: Any, instance_id: str) -> None:
    """Makes the database this instance's if it is nobody's. Raises `WrongInstance`."""
    holder = await connection.fetchval("select clerk_private.claim_instance($1)", instance_id)
    if holder != instance_id:
        raise WrongInstance(
            f"this database belongs to {holder}, not to {instance_id};"
            f" if that claim is wrong: nexus-auth instance claim {instance_id}"
        )


async def holder(connection: Any) -> tuple[str, datetime, str] | None:
    """The instance that holds the database, since when, and the login that claimed it; None where nobody has."""
    row = await connection.fetchrow("select id, claimed_at, claimed_by from clerk_private.instance")
    return (row["id"], row["claimed_at"], row["claimed_by"]) if row else None


async def holder_id(connection: Any) -> str | None:
    """The instance that holds the database, for whoever may read no more than that."""
    held: str | None = await connection.fetchval("select id from clerk_private.instance")
    return held


async def reclaim(connection: Any, instance_id: str) -> None:
    """Gives the database to another instance: the way out of a wrong claim."""
    await connection.execute(
        "update clerk_private.instance set id = $1, claimed_at = now(), claimed_by = session_user", instance_id
    )


async def request_sweep(connection: Any) -> None:
    """Marks that events may have been missed; the reconciler's next look answers with an incremental sweep."""
    await connection.execute(
        "update clerk_private.instance set sweep_requested_at = now() where sweep_requested_at is null"
    )
