"""Acknowledged = stored: a figure counts only where every 204 has its row and the mirror shows what it must."""

from collections.abc import Iterable, Sequence

import asyncpg

from bench.workload import Planned, expected

SHOWN = 3
"""Ids that a difference names."""

MIRROR = """
select u.id, u.first_name, u.primary_email, (extract(epoch from u.updated_at) * 1000)::bigint as updated_at,
  o.svix_id, (select count(*) from clerk.user_emails e where e.user_id = u.id and e.email = u.primary_email) as emails
from clerk.users u join clerk_private.objects o on o.kind = 'user' and o.id = u.id
"""


class Wrong(Exception):
    """What the database holds is not what was acknowledged; the text says where they differ."""


async def compare(admin_url: str, acknowledged: Sequence[Planned]) -> None:
    """Compares a database with the 204s that it got, a duplicate's included. Raises `Wrong`."""
    connection = await asyncpg.connect(admin_url)
    try:
        seen = [row[0] for row in await connection.fetch("select svix_id from clerk_private.inbox_seen")]
        inbox = [row[0] for row in await connection.fetch("select svix_id from clerk_private.inbox")]
        users = {row["id"]: tuple(row)[1:] for row in await connection.fetch(MIRROR)}
        rows = await connection.fetchval("select count(*) from clerk.users")
    finally:
        await connection.close()
    ids = {planned.svix_id for planned in acknowledged}
    _same("inbox_seen", seen, ids)
    _same("inbox", inbox, ids)
    latest = expected(acknowledged)
    _same("clerk.users", users, latest)
    if rows != len(users):
        raise Wrong(f"clerk.users has {rows} rows, of which {len(users)} have an arbiter row")
    for user_id, planned in latest.items():
        wanted = (planned.first_name, planned.email, planned.updated_at, planned.svix_id, 1 if planned.email else 0)
        if users[user_id] != wanted:
            raise Wrong(f"clerk.users shows {users[user_id]} for {user_id}; the events say {wanted}")


def _same(table: str, found: Iterable[str], wanted: Iterable[str]) -> None:
    held = list(found)
    missing, extra = set(wanted) - set(held), set(held) - set(wanted)
    if len(held) != len(set(held)):
        raise Wrong(f"{table} holds {len(held) - len(set(held))} ids twice")
    if missing or extra:
        named = ", ".join(sorted(missing or extra)[:SHOWN])
        raise Wrong(f"{table}: {len(missing)} acknowledged are missing, {len(extra)} were never acknowledged: {named}")
