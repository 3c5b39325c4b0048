"""A pool of connections as one service's role, and the refusal to run with more rights than that.

Every service logs in as a login of its own and becomes its group (`SET ROLE`, here in the start-up packet, so that no
connection is ever anything else). A login that could do more is a mistake of whoever deployed, and is told at start-up
rather than found after a break-in.
"""

from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any

import asyncpg

CONNECT_SECONDS = 5.0
STATEMENT_SECONDS = 10.0
"""Below Svix's patience of 15 s, so that it hears a 503 and not silence."""

LISTING = files("nexus_auth.store").joinpath("privileges.sql").read_text("utf-8")
ALLOWED = files("nexus_auth.store").joinpath("privileges.txt").read_text("utf-8")


class UnsafeDatabase(Exception):
    """The login has more rights than its service needs, or the server would lose what it commits; says which."""


async def open_pool(
    database_url: str,
    *,
    role: str,
    application: str,
    size: int,
    statement_seconds: float = STATEMENT_SECONDS,
    before_use: Callable[[], None] | None = None,
) -> "asyncpg.Pool[asyncpg.Record]":
    """Opens `size` connections at most, all of them as `role`; a statement may take `statement_seconds`.

    `before_use` is called whenever a connection is taken, and says by raising that nothing may be done any more.
    Raises what asyncpg raises when nobody answers, ValueError where the address is none.
    """

    async def allowed(_connection: Any) -> None:
        if before_use is not None:
            before_use()

    try:
        return await asyncpg.create_pool(
            database_url,
            min_size=1,
            max_size=size,
            reset=_keep,
            setup=allowed,
            **_connecting(role, application=application, statement_seconds=statement_seconds),
        )
    except ValueError:  # quotes the address, and with it a password that is not percent-encoded
        raise ValueError(
            "DATABASE_URL is no address of a Postgres database; is its password percent-encoded?"
        ) from None


async def move_pool(
    pool: "asyncpg.Pool[asyncpg.Record]",
    database_url: str,
    *,
    role: str,
    application: str,
    statement_seconds: float = STATEMENT_SECONDS,
) -> None:
    """From now on `pool` connects to `database_url`: a rotated password, another host. What is in use ends its work on
    its old connection, which is closed when it is given back.

    The address must have been tried: nothing is checked here.
    """
    pool.set_connect_args(
        database_url, **_connecting(role, application=application, statement_seconds=statement_seconds)
    )
    await pool.expire_connections()


def _connecting(role: str, *, application: str, statement_seconds: float) -> dict[str, Any]:
    return {
        "timeout": CONNECT_SECONDS,
        "command_timeout": statement_seconds + 2,
        "server_settings": {
            "role": role,
            "application_name": application,
            "timezone": "UTC",
            "synchronous_commit": "on",
            "statement_timeout": str(int(statement_seconds * 1000)),
            "jit": "off",
        },
    }


async def _keep(_connection: Any) -> None:
    """asyncpg's own reset is one more round trip for every use; nothing here changes session state."""


async def refuse_unsafe(connection: Any, *, role_prefix: str, service: str, allow_fsync_off: bool = False) -> None:
    """Raises `UnsafeDatabase` where the login can do more than the service's listed privileges, or fsync is off.

    `service` is the group's name without prefix (webhook, cli, …). Tables, columns and functions that the list does not
    know are not judged: a service accepts a schema that is newer than its own.
    """
    login = await connection.fetchrow(
        "select session_user::text as name, current_user::text as role, r.rolsuper, r.rolbypassrls, r.rolcreaterole,"
        " r.rolcreatedb, r.rolreplication from pg_catalog.pg_roles r where r.rolname = session_user"
    )
    name, role = login["name"], role_prefix + service
    for attribute, word in (
        ("rolsuper", "is a superuser"),
        ("rolbypassrls", "has BYPASSRLS"),
        ("rolcreaterole", "has CREATEROLE"),
        ("rolcreatedb", "has CREATEDB"),
        ("rolreplication", "has REPLICATION"),
    ):
        if login[attribute]:
            raise UnsafeDatabase(f"login {name} {word}; give the service a login that is a member of {role} only")
    if login["role"] != role:
        raise UnsafeDatabase(f"connected as {login['role']}, expected {role}")
    allowed = allowed_lines(service)
    members = {role} | {role_prefix + line.split()[-1] for line in allowed if line.startswith("member of ")}
    others = await connection.fetch(
        "select r.rolname from pg_catalog.pg_roles r where r.rolname <> session_user and r.rolname <> all ($1::name[])"
        " and pg_catalog.pg_has_role(session_user, r.oid, 'member') order by 1",
        sorted(members),
    )
    if others:
        names = ", ".join(row["rolname"] for row in others)
        raise UnsafeDatabase(f"login {name} may become {names}; it should be a member of {role} only")
    known = {_object(line.partition(": ")[2]) for line in ALLOWED.splitlines()}
    for who in (role, name):
        held = [row["line"] for row in await connection.fetch(LISTING, who)]
        extra = sorted(line for line in held if line not in allowed and _object(line) in known)
        if extra:
            raise UnsafeDatabase(f"role {who} has more rights than {service} needs: {'; '.join(extra[:5])}")
    if not allow_fsync_off and await connection.fetchval("show fsync") != "on":
        raise UnsafeDatabase("the server runs with fsync = off: an acknowledged event could be lost")


def allowed_lines(service: str) -> frozenset[str]:
    """The golden list's lines for one group (its name without prefix)."""
    lines: Sequence[str] = ALLOWED.splitlines()
    return frozenset(line.partition(": ")[2] for line in lines if line.startswith(f"{service}: "))


def _object(line: str) -> str:
    """A line without its last word, the privilege. The list has every column, also those that give nothing more."""
    return line.rpartition(" ")[0]
