"""The command line's connection, and its failures as sentences: what is wrong, where, what to do.

Exit code 3 stands for a database that cannot be reached or used, whatever the command; 4 for a Clerk that refuses
or does not answer.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

import asyncpg
import click

from nexus_auth.store.ingest import describe
from nexus_auth.store.pool import UnsafeDatabase, open_pool, refuse_unsafe
from services.cli.output import printable, tell
from services.cli.settings import CliSettings

UNREADABLE = "an unreadable address"
INTERRUPTED = 130
"""What a shell reports for SIGINT."""

STATEMENT_SECONDS = 600.0
"""One page of a rare id may mean a walk through two weeks of deliveries."""

_AWAY = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
)
_SCHEMA = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
    asyncpg.UndefinedFunctionError,
    asyncpg.UndefinedObjectError,
    asyncpg.InvalidSchemaNameError,
)
_LOGIN = (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError)


class Failed(click.ClickException):
    """Ends the program with a sentence and exit code 1: something is parked, altered or refused."""

    def __init__(self, message: str) -> None:
        """The message goes to standard error after "Error: "."""
        super().__init__(printable(message))


class DatabaseFailed(Failed):
    """The database cannot be reached or used: exit code 3."""

    exit_code = 3


class ClerkFailed(Failed):
    """Clerk cannot be reached, or refuses the key: exit code 4."""

    exit_code = 4


@dataclass(frozen=True, slots=True)
class Login:
    """Whose rights a command works with."""

    service: str
    """The group's name without prefix."""
    variable: str
    """Where its URL comes from, for sentences."""
    connections: int = 1


CLI = Login("cli", "CLI_DATABASE_URL")
RECONCILER = Login("reconciler", "RECONCILER_DATABASE_URL", connections=12)


@asynccontextmanager
async def connected(settings: CliSettings) -> AsyncIterator[Any]:
    """One connection as the command line's role; whatever the database has against it becomes a `DatabaseFailed`."""
    async with opened(settings) as pool, pool.acquire() as connection:
        yield connection


@asynccontextmanager
async def opened(settings: CliSettings, *, login: Login = CLI) -> AsyncIterator[Any]:
    """A pool as the login's role; whatever the database has against it becomes a `DatabaseFailed`."""
    secret = settings.database_url if login is CLI else settings.reconciler_database_url
    url = secret.get_secret_value()
    where = address(url)
    if where == UNREADABLE:
        raise DatabaseFailed(no_url(login))
    try:
        pool = await open_pool(
            url,
            role=f"{settings.role_prefix}{login.service}",
            application="nexus-auth cli",
            size=login.connections,
            statement_seconds=STATEMENT_SECONDS,
        )
    except ValueError:  # its text may quote the password
        raise DatabaseFailed(no_url(login)) from None
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise failure_of(error, where=where, settings=settings, login=login) from None
    try:
        async with pool.acquire() as connection:
            await refuse_unsafe(
                connection,
                role_prefix=settings.role_prefix,
                service=login.service,
                allow_fsync_off=settings.allow_fsync_off,
            )
        yield pool
    except BrokenPipeError:
        raise
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, UnsafeDatabase) as error:
        raise failure_of(error, where=where, settings=settings, login=login) from None
    finally:
        pool.terminate()


def no_url(login: Login) -> str:
    """The sentence for an address that is none."""
    return (
        f"{login.variable} is no Postgres URL: postgresql://login:password@host:port/database,"
        " special characters of the password percent-encoded"
    )


def run(command: Coroutine[Any, Any, None]) -> None:
    """Runs a command to its end. Ctrl-C takes back the batch that is under way; what was committed before stays."""
    try:
        asyncio.run(command)
    except KeyboardInterrupt:
        tell("interrupted")
        sys.exit(INTERRUPTED)


def address(url: str) -> str:
    """Where a database URL leads, as `login@host:port/database`: never the password, nor a part of one that was not
    percent-encoded and so reaches into the rest.
    """
    try:
        parts = urlsplit(url)
        if "@" in url.removeprefix(f"{parts.scheme}://{parts.netloc}"):
            return UNREADABLE
        host, port = parts.hostname or "localhost", parts.port or 5432
        login = f"{unquote(parts.username)}@" if parts.username else ""
        return f"{login}{host}:{port}{unquote(parts.path)}"
    except ValueError:
        return UNREADABLE


def failure_of(error: Exception, *, where: str, settings: CliSettings, login: Login) -> DatabaseFailed:
    """The sentence for what a database, or the way to it, has said. No text of the server's goes through."""
    role = f"{settings.role_prefix}{login.service}"
    match error:
        case UnsafeDatabase():
            said = f"refused to work on {where}: {error}"
        case asyncpg.QueryCanceledError():
            said = f"{where} took too long; narrow the search with --since and --until"
        case TimeoutError():
            said = f"the database {where} does not answer; is it running, and is the way to it open?"
        case OSError():
            said = f"the database {where} cannot be reached ({error.strerror or type(error).__name__}); is it running?"
        case asyncpg.InvalidCatalogNameError():
            said = f"there is no database at {where}; create it, then run nexus-auth migrate"
        case _ if isinstance(error, _LOGIN):
            said = f"{where} refused the login or its password; check {login.variable}"
        case asyncpg.InvalidParameterValueError() if "role" in str(error):
            said = f"{where} has no role {role}; run nexus-auth migrate, or set NEXUS_AUTH_ROLE_PREFIX"
        case asyncpg.InsufficientPrivilegeError():
            said = f"the login of {where} may not do this; it must be a member of {role}, of the same database"
        case _ if isinstance(error, _SCHEMA):
            said = f"{where} has no schema of nexus-auth, or an older one than this program; run nexus-auth migrate"
        case _ if isinstance(error, (*_AWAY, asyncpg.InterfaceError)):
            said = f"the database {where} went away ({describe(error)}); the same command can be run again"
        case _:
            said = f"the database {where} refused: {describe(error)}"
    return DatabaseFailed(said)
