"""`nexus-auth instance`: which Clerk instance a database belongs to, and the way out of a wrong claim."""

import re
import sys
from typing import Any

import click

from nexus_auth.store.instance import WrongInstance, claim, holder, reclaim
from services.cli.database import ClerkFailed, Failed, connected, run
from services.cli.moments import iso
from services.cli.output import print_json, print_pairs, say, tell
from services.cli.selection import output_option
from services.cli.settings import CliSettings, read_settings


@click.group()
def instance() -> None:
    """Show or change the Clerk instance that the database belongs to."""


@instance.command("show")
@output_option
def show_command(*, output: str) -> None:
    """Show which instance holds the database; exit 1 if none does."""
    run(_show(read_settings(), output=output))


async def _show(settings: CliSettings, *, output: str) -> None:
    async with connected(settings) as connection:
        held = await holder(connection)
    shown = {"id": held[0], "claimed_at": iso(held[1]), "claimed_by": held[2]} if held else None
    if output == "json":
        print_json({"instance": shown})
    elif shown is not None:
        print_pairs(shown.items(), title="Clerk instance")
    if shown is None:
        raise Failed("this database belongs to no Clerk instance yet")


@instance.command("claim")
@click.argument("instance_id", metavar="INS_ID")
@click.option("--yes", is_flag=True, help="Take the database from the instance that holds it without a question.")
@click.option("--no-check", is_flag=True, help="Do not ask Clerk whether CLERK_SECRET_KEY belongs to it.")
def claim_command(*, instance_id: str, yes: bool, no_check: bool) -> None:
    """Make the database INS_ID's. Where CLERK_SECRET_KEY is set, Clerk is asked whether the key is that instance's."""
    if not re.fullmatch(r"ins_[A-Za-z0-9_]{1,100}", instance_id):
        raise click.UsageError(f"{instance_id!r} is no instance: ins_… as Clerk's dashboard shows it")
    run(_claim(read_settings(), instance_id=instance_id, yes=yes, check=not no_check))


async def _claim(settings: CliSettings, *, instance_id: str, yes: bool, check: bool) -> None:
    if check:
        await _compare(settings, instance_id)
    async with connected(settings) as connection:
        held = await holder(connection)
        if held is not None and held[0] == instance_id:
            tell(f"this database belongs to {instance_id} already")
            return
        if held is None:
            await _first(connection, instance_id)
        else:
            _confirm(held[0], instance_id, yes=yes)
            await reclaim(connection, instance_id)
            tell(f"rows and events of {held[0]} are still there; events of another instance are never replayed")
    say(f"this database belongs to {instance_id} now")


async def _compare(settings: CliSettings, instance_id: str) -> None:
    if settings.clerk_secret_key is None:
        return
    from nexus_auth.clerk.api import ClerkApi, ClerkRefused, ClerkUnavailable  # an HTTP client, for this one question

    try:
        async with ClerkApi(settings.clerk_api_url, secret_key=settings.clerk_secret_key.get_secret_value()) as api:
            found = await api.instance_id()
    except (ClerkRefused, ClerkUnavailable, ValueError) as error:
        raise ClerkFailed(f"{error} (--no-check claims without asking Clerk)") from None
    if found != instance_id:
        raise Failed(f"CLERK_SECRET_KEY belongs to {found}, not to {instance_id}; nothing was changed")


async def _first(connection: Any, instance_id: str) -> None:
    try:
        await claim(connection, instance_id)
    except WrongInstance as error:  # another process was first
        raise Failed(str(error)) from None


def _confirm(held: str, instance_id: str, *, yes: bool) -> None:
    if yes:
        return
    question = f"this database belongs to {held}; make it {instance_id}'s?"
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} say --yes")
    click.confirm(question, abort=True, err=True)
