"""Who leads a sync: an advisory lock by the sync's name, which ends with the connection that took it.

It keeps a second process waiting and fences nothing: the epoch of the run does that.
"""

from typing import Any

import asyncpg

LEADER_LOCK = 1852143991
"""Class of the advisory lock that the leader of a sync holds; its second key is the hash of the sync's name."""


async def take_lead(connection: Any, sync: str) -> bool:
    """Takes the sync's lead for as long as this connection lives, unless somebody else has it."""
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
    led: bool = await connection.fetchval(
        "select exists (select from pg_catalog.pg_locks l where l.locktype = 'advisory' and l.granted"
        " and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = current_database())"
        " and l.classid::bigint = $1 and l.objid::bigint = (pg_catalog.hashtext($2)::bigint & 4294967295)"
        " and l.objsubid = 2)",
        LEADER_LOCK,
        sync,
    )
    return led
