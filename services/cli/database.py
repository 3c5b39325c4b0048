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

import asyncpg
import click

from nexus_auth.store.address import AddressRefused, read_address
from nexus_auth.store.failure import explain
from nexus_auth.store.pool import UnsafeDatabase, open_pool, refuse_unsafe
from services.cli.output import printable, tell
from services.cli.settings import CliSettings

INTERRUPTED = 130
"""What a shell reports for SIGINT."""

STATEMENT_SECONDS = 600.0
"""One page of a rare id may mean a walk through two weeks of deliveries."""


LINE = "\n       "
"""Below the first sentence after "Error: "."""


class Failed(click.ClickException):
    """Ends the program with a sentence and exit code 1: something is parked, altered or refused."""

    def __init__(self, *sentences: str) -> None:
        """They go to standard error after "Error: ", a line each."""
        super().__init__(LINE.join(printable(sentence) for sentence in sentences))


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
    where = address(url, variable=login.variable)
    try:
        pool = await open_pool(
            url,
            role=f"{settings.role_prefix}{login.service}",
            application="nexus-auth cli",
            size=login.connections,
            statement_seconds=STATEMENT_SECONDS,
        )
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


def run(command: Coroutine[Any, Any, None]) -> None:
    """Runs a command to its end. Ctrl-C takes back the batch that is under way; what was committed before stays."""
    try:
        asyncio.run(command)
    except KeyboardInterrupt:
        tell("interrupted")
        sys.exit(INTERRUPTED)


def address(url: str, *, variable: str) -> str:
    """Where a database URL leads, as `login@host:port/database`. Raises `DatabaseFailed` where it cannot be used."""
    try:
        return str(read_address(url))
    except AddressRefused as error:
        raise DatabaseFailed(f"{variable} is no Postgres URL that can be used: {error}") from None


def failure_of(error: Exception, *, where: str, settings: CliSettings, login: Login) -> DatabaseFailed:
    """The sentence for what a database, or the way to it, has said."""
    failure = explain(error, role=f"{settings.role_prefix}{login.service}")
    if isinstance(error, asyncpg.QueryCanceledError):
        return DatabaseFailed(f"{where} took too long; narrow the search with --since and --until")
    if failure.kind == "away" and not isinstance(error, OSError):
        return DatabaseFailed(f"{where} went away: {failure.sentence}; the same command can be run again")
    return DatabaseFailed(f"{where}: {failure}")
