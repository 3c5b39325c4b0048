"""What a session is: its login, its database, its groups and settings, as the server sees them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from nexus_auth.store.queries import load

SQL = load("session")


@dataclass(frozen=True, slots=True)
class Groups:
    """Of some services the names whose groups the server knows, and whose groups the login is a member of."""

    known: tuple[str, ...]
    member: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Settings:
    """What decides whether an acknowledged event is kept."""

    durable: str
    """synchronous_commit."""
    fsync: str
    isolation: str


async def login(connection: Any) -> str:
    """The login, whatever role it has taken."""
    name: str = await connection.fetchval(SQL["login"])
    return name


async def database(connection: Any) -> str:
    """The database's name."""
    name: str = await connection.fetchval(SQL["database"])
    return name


async def clock(connection: Any) -> datetime:
    """The server's clock."""
    now: datetime = await connection.fetchval(SQL["clock"])
    return now


async def is_superuser(connection: Any) -> bool:
    """Whether the login is a superuser."""
    yes: bool = await connection.fetchval(SQL["is_superuser"])
    return yes


async def groups(connection: Any, services: Sequence[str], *, role_prefix: str) -> Groups:
    """Which of the services' groups exist, and which the login is a member of."""
    rows = await connection.fetch(SQL["groups"], list(services), role_prefix)
    return Groups(
        known=tuple(row["name"] for row in rows if row["known"]),
        member=tuple(row["name"] for row in rows if row["member"]),
    )


async def settings(connection: Any) -> Settings:
    """The session's settings."""
    return Settings(**dict(await connection.fetchrow(SQL["settings"])))
