"""`nexus-auth forget`: what past events said of somebody who was deleted goes; ids and times stay."""

import sys

import asyncpg
import click

from nexus_auth.store import erasure
from services.cli.database import Failed, connected, run
from services.cli.output import print_json, say
from services.cli.selection import output_option
from services.cli.settings import CliSettings, read_settings


@click.command()
@click.argument("object_id", metavar="ID")
@click.option("--yes", is_flag=True, help="Do it without a question.")
@output_option
def forget(*, object_id: str, yes: bool, output: str) -> None:
    """Erase what stored events say of ID (user_…, org_…), in every partition, and say how many were emptied.

    The object must be deleted already: delete it in Clerk first. Other people's events that name it are emptied, too.
    """
    if "\0" in object_id or not object_id.strip():
        raise click.UsageError("that is no id")
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("erase for good? say --yes")
        click.confirm(f"erase for good what stored events say of {object_id}?", abort=True, err=True)
    run(_forget(read_settings(), object_id=object_id, output=output))


async def _forget(settings: CliSettings, *, object_id: str, output: str) -> None:
    async with connected(settings) as connection:
        try:
            erased = await erasure.forget(connection, object_id)
        except erasure.StillLive:
            raise Failed(f"{object_id} is live: delete it in Clerk first; nothing was erased") from None
        except asyncpg.LockNotAvailableError:
            raise Failed("another session holds a lock on these events; nothing was erased, try again") from None
    if output == "json":
        print_json({"id": object_id, "events": erased.events, "refused_objects": erased.refused})
        return
    say(f"{object_id}: {erased.events:,} events were emptied, {erased.refused:,} refused objects were removed")
