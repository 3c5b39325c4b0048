"""`nexus-auth migrate`: brings a database's schema up to date. It needs the owner's rights, hence a URL of its own."""

import os
from pathlib import Path
from urllib.parse import urlsplit

import click

from nexus_auth.store.migrations import DEFAULT_PREFIX, NOT_READY, MigrationFailed
from nexus_auth.store.migrations import migrate as apply_migrations
from services.cli.database import UNREADABLE, DatabaseFailed, Failed, address
from services.cli.output import say, tell


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
def migrate(*, database_url_env: str, wait: float) -> None:
    """Apply the migrations that are missing. The database must exist; NEXUS_AUTH_ROLE_PREFIX names the roles."""
    url = _url(database_url_env)
    if not url:
        raise click.UsageError(f"{database_url_env} is not set; migrate takes the owner's database URL from there")
    prefix = os.environ.get("NEXUS_AUTH_ROLE_PREFIX") or DEFAULT_PREFIX
    where = address(url)
    try:
        if where == UNREADABLE or urlsplit(url).scheme not in ("postgres", "postgresql"):
            raise click.UsageError(f"{database_url_env} is no Postgres URL")
        applied = apply_migrations(url, role_prefix=prefix, timeout=wait)
    except MigrationFailed as error:
        away = NOT_READY.search(str(error)) is not None
        if away:
            raise DatabaseFailed(f"the database {where} cannot be reached: {error}") from None
        raise Failed(f"{where} was not migrated: {error}") from None
    except ValueError:
        raise click.UsageError(f"{database_url_env} or NEXUS_AUTH_ROLE_PREFIX cannot be read") from None
    for name in applied:
        say(f"applied {name}")
    if not applied:
        tell(f"{where} is up to date")


def _url(variable: str) -> str:
    """The URL from the variable, or from the file that `<variable>_FILE` names."""
    url, file = os.environ.get(variable, ""), os.environ.get(f"{variable}_FILE")
    if url or not file:
        return url
    try:
        return Path(file).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{variable}_FILE cannot be read ({type(error).__name__})") from None
