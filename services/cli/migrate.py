"""`nexus-auth migrate`: brings a database's schema up to date. It needs the owner's rights, hence a URL of its own."""

import asyncio
import os
from pathlib import Path

import asyncpg
import click

from nexus_auth.store.address import AddressRefused, read_address
from nexus_auth.store.failure import explain
from nexus_auth.store.logins import LoginsRefused, ServiceLogin, make_logins, read_logins
from nexus_auth.store.migrations import DEFAULT_PREFIX, NOT_READY, MigrationFailed
from nexus_auth.store.migrations import migrate as apply_migrations
from services.cli.database import DatabaseFailed, Failed
from services.cli.output import say, tell

UNREACHED = ("away", "timeout", "full", "tls")


@click.command()
@click.option(
    "--database-url-env",
    default="DATABASE_URL",
    show_default=True,
    metavar="NAME",
    help="The variable that holds the URL, or with _FILE at its end names a file that does: on a command line,"
    " everybody on the machine could read it.",
)
@click.option(
    "--wait", type=click.FloatRange(0, 3_600), default=30, show_default=True, help="Seconds for a server to come up."
)
@click.option(
    "--logins-from",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Afterwards make or update the services' logins: a file webhook, reconciler, cli or worker holds the Postgres"
    " URL that the service uses, or only a password.",
)
def migrate(*, database_url_env: str, wait: float, logins_from: Path | None) -> None:
    """Apply the migrations that are missing. The database must exist; NEXUS_AUTH_ROLE_PREFIX names the roles."""
    url = _url(database_url_env)
    if not url:
        raise click.UsageError(f"{database_url_env} is not set; migrate takes the owner's database URL from there")
    prefix = os.environ.get("NEXUS_AUTH_ROLE_PREFIX") or DEFAULT_PREFIX
    try:
        where = str(read_address(url))
        logins = read_logins(logins_from, role_prefix=prefix) if logins_from is not None else []
        applied = apply_migrations(url, role_prefix=prefix, timeout=wait)
    except AddressRefused as error:
        raise click.UsageError(f"{database_url_env} is no Postgres URL that can be used: {error}") from None
    except LoginsRefused as error:
        raise click.UsageError(f"--logins-from: {error}") from None
    except MigrationFailed as error:
        if (error.failure is not None and error.failure.kind in UNREACHED) or NOT_READY.search(str(error)):
            raise DatabaseFailed(f"the database {where} cannot be reached: {error}") from None
        if error.failure is not None:
            raise DatabaseFailed(f"{where} was not migrated: {error}") from None
        raise Failed(f"{where} was not migrated: {error}") from None
    except ValueError:
        raise click.UsageError("NEXUS_AUTH_ROLE_PREFIX cannot be read") from None
    for name in applied:
        say(f"applied {name}")
    if not applied:
        tell(f"{where} is up to date")
    if logins:
        _make_logins(url, logins, where=where, prefix=prefix)


def _make_logins(url: str, logins: list[ServiceLogin], *, where: str, prefix: str) -> None:
    try:
        made = asyncio.run(make_logins(url, logins, role_prefix=prefix))
    except LoginsRefused as error:
        raise click.UsageError(f"--logins-from: {error}") from None
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise Failed(f"{where}: the logins were not made: {explain(error)}") from None
    for name, new in made:
        say(f"login {name} {'made' if new else 'updated'}")


def _url(variable: str) -> str:
    """The URL from the variable, or from the file that `<variable>_FILE` names."""
    url, file = os.environ.get(variable, ""), os.environ.get(f"{variable}_FILE")
    if url or not file:
        return url
    try:
        return Path(file).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{variable}_FILE cannot be read ({type(error).__name__})") from None
