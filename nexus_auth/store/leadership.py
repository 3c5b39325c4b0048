"""Who leads a sync: an advisory lock by the sync's name, which ends with the connection that took it.

It keeps a second process waiting and fences nothing: the epoch of the run does that. Any session of the database may
hold such a lock, so whoever waits is told which one does. Why no lease in a row: docs/decisions/008.
"""

from dataclasses import dataclass
from typing import Any

import asyncpg

from nexus_auth.store.pool import UnsafeDatabase

LEADER_LOCK = 1852143991
"""Class of the advisory lock that the leader of a sync holds; its second key is the hash of the sync's name."""


@dataclass(frozen=True, slots=True)
class Leader:
    """The session that holds a sync's lock."""

    pid: int
    login: str


async def take_lead(connection: Any, sync: str) -> bool:
    """Takes the sync's lead for as long as this connection lives, unless somebody else has it.

    Raises `UnsafeDatabase` where a pooler shares its connections by transaction: the lock would stay with the pooler.
    """
    if getattr(connection, "begin_with", None) is not None:
        raise UnsafeDatabase(
            "the reconciler needs a session, and a pooler shares its connections by transaction: give it a direct URL,"
            " or one of a pooler that shares by session"
        )
    taken: bool = await connection.fetchval(
        "select pg_catalog.pg_try_advisory_lock($1, pg_catalog.hashtext($2))", LEADER_LOCK, sync
    )
    return taken


async def place(connection: Any) -> str | None:
    """Which database of which server this is, whatever name led to it: the same words for the same database.

    A copy of a whole server has the identifiers of its origin, but not its address. None where a provider has taken
    the right to ask away.
    """
    try:
        said: str = await connection.fetchval(
            "select concat((pg_catalog.pg_control_system()).system_identifier, '/', d.oid, '@',"
            " pg_catalog.host(pg_catalog.inet_server_addr()), ':', pg_catalog.inet_server_port())"
            " from pg_catalog.pg_database d where d.datname = current_database()"
        )
    except asyncpg.InsufficientPrivilegeError:
        return None
    return said


async def is_led(connection: Any, sync: str) -> bool:
    """Whether a reconciler, any process, holds the sync's leader lock at this moment."""
    return await led_by(connection, sync) is not None


async def led_by(connection: Any, sync: str) -> Leader | None:
    """The session that holds the sync's leader lock, whoever it is; None where nobody does."""
    row = await connection.fetchrow(
        "select l.pid, coalesce(a.usename::text, '?') as login from pg_catalog.pg_locks l"
        " left join pg_catalog.pg_stat_activity a on a.pid = l.pid where l.locktype = 'advisory' and l.granted"
        " and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = current_database())"
        " and l.classid::bigint = $1 and l.objid::bigint = (pg_catalog.hashtext($2)::bigint & 4294967295)"
        " and l.objsubid = 2 limit 1",
        LEADER_LOCK,
        sync,
    )
    return Leader(**dict(row)) if row else None
