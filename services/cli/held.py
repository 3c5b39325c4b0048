"""`nexus-auth held`: deletion events that are not believed yet, and a human's word about them."""

import getpass
import sys
from collections.abc import Sequence

import click

from nexus_auth.store import held as store
from nexus_auth.store import session
from services.cli.database import Failed, connected, run
from services.cli.moments import iso
from services.cli.output import print_json, print_table, say, tell
from services.cli.selection import output_option
from services.cli.settings import CliSettings, read_settings

MOST = 1_000
REASONS = {"share": "too many an hour", "secret": "distrusted secret", "replaced": "replaced by a newer one"}


@click.group(name="held")
def held() -> None:
    """Deletion events that are held until Clerk's API, or you, confirm or refuse them.

    The rows stand meanwhile. A deletion is held when an hour brings more of them than the guard's share, or when its
    signing secret has sent deletions that Clerk's API contradicted.
    """


@held.command(name="list")
@click.option("--all", "every", is_flag=True, help="Decided ones too.")
@output_option
def listed(*, every: bool, output: str) -> None:
    """Show what is held, and which signing secrets are not believed. Exit code 1 while anything is."""
    run(_list(read_settings(), every=every, output=output))


@held.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Without a question.")
def release(*, ids: Sequence[str], yes: bool) -> None:
    """Delete what these held events say is deleted. ID is a svix-id or the id of an object."""
    run(_settle(read_settings(), ids=ids, release=True, yes=yes))


@held.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Without a question.")
def refuse(*, ids: Sequence[str], yes: bool) -> None:
    """Keep the rows. Every further deletion under the same signing secret is held from now on."""
    run(_settle(read_settings(), ids=ids, release=False, yes=yes))


@held.command()
@click.argument("secret", metavar="FINGERPRINT")
def clear(*, secret: str) -> None:
    """Believe the deletions of a signing secret again, after you rotated it or found the mistake."""
    run(_clear(read_settings(), secret=secret))


async def _list(settings: CliSettings, *, every: bool, output: str) -> None:
    async with connected(settings) as connection:
        events = await store.listing(connection, every=every, limit=MOST)
        secrets = await store.distrusted(connection)
    if output == "json":
        print_json(
            {
                "held": [
                    {
                        "svix_id": one.svix_id,
                        "kind": one.kind,
                        "id": one.id,
                        "secret": one.secret,
                        "reason": one.reason,
                        "state": one.state,
                        "held_at": one.held_at.isoformat(),
                        "found_once": one.found_once,
                        "decided_by": one.decided_by,
                    }
                    for one in events
                ],
                "distrusted_secrets": {secret: since.isoformat() for secret, since in secrets.items()},
            }
        )
    else:
        if events:
            print_table(
                ("object", "state", "why", "held", "secret", "event"),
                [
                    (
                        one.id,
                        _state(one),
                        REASONS[one.reason],
                        iso(one.held_at),
                        one.secret,
                        one.svix_id,
                    )
                    for one in events
                ],
            )
        else:
            say("no deletion is held")
        for secret, since in secrets.items():
            say(
                f"deletions under secret {secret} are held since {iso(since)}:"
                f" rotate it, then `nexus-auth held clear {secret}`"
            )
    if secrets or any(one.state == "held" for one in events):
        sys.exit(1)


def _state(one: store.Held) -> str:
    if one.state == "held":
        return "held, Clerk found it once" if one.found_once else "held"
    return f"{one.state} by {one.decided_by}" if one.decided_by else one.state


async def _settle(settings: CliSettings, *, ids: Sequence[str], release: bool, yes: bool) -> None:
    async with connected(settings) as connection:
        events = await store.chosen(connection, ids)
        if not events:
            raise Failed("none of these is held: nexus-auth held list")
        what = "release" if release else "refuse"
        if not yes:
            if not sys.stdin.isatty():
                raise click.UsageError(f"{what} them? say --yes")
            click.confirm(f"{what} {len(events):,} held deletion{'s' * (len(events) > 1)}?", abort=True, err=True)
        login = await session.login(connection)
        async with connection.transaction():
            decided = await store.settle(connection, events, release=release, by=f"{login} ({getpass.getuser()})")
    say(f"{what}d {decided:,} held deletion{'s' * (decided != 1)}")
    if not release:
        tell("further deletions under the same secret are held; nexus-auth held list names it")


async def _clear(settings: CliSettings, *, secret: str) -> None:
    async with connected(settings) as connection:
        login = await session.login(connection)
        async with connection.transaction():
            if not await store.clear(connection, secret, by=f"{login} ({getpass.getuser()})"):
                raise Failed(f"secret {secret} is not distrusted: nexus-auth held list")
    say(f"deletions under secret {secret} are believed again")
