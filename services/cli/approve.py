"""`nexus-auth approve`: a human says that the deletions which a run parked are right, those and no others.

The engine asks Clerk for each of them once more before it buries anything; the approval lapses after 24 hours.
"""

import getpass
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

import asyncpg
import click

from nexus_auth.store import overview, runs, session
from nexus_auth.store.leadership import is_led
from services.cli.database import Failed, connected, run
from services.cli.output import print_json, say, tell
from services.cli.selection import output_option
from services.cli.settings import CliSettings, read_settings
from services.cli.wording import kind_words

SHOWN = 5


@click.command()
@click.argument("run_id", metavar="RUN", type=click.IntRange(1, 2**63 - 1))
@click.option("--yes", is_flag=True, help="Approve without a question.")
@output_option
def approve(*, run_id: int, yes: bool, output: str) -> None:
    """Approve the deletions that RUN parked, exactly these ids, for 24 hours. Who approved is kept.

    Clerk is asked for each once more before it is deleted.
    """
    run(_approve(read_settings(), run_id=run_id, yes=yes, output=output))


async def _approve(settings: CliSettings, *, run_id: int, yes: bool, output: str) -> None:
    async with connected(settings) as connection:
        of = await overview.run_of(connection, run_id)
        if of is None:
            raise Failed(f"there is no run {run_id}")
        ids = await overview.parked_deletions(connection, run_id)
        if of["state"] == "superseded":
            later = of["superseded_by"]
            raise Failed(f"run {run_id} was superseded by {later}: nothing was approved; look at run {later}")
        if of["state"] == "parked" and of["waits_for"] not in (None, run_id):
            raise Failed(f"the deletions of run {run_id} wait with run {of['waits_for']}: approve that one")
        if of["state"] != "parked" or not ids:
            raise Failed(f"run {run_id} of {of['sync']} is {of['state']} and waits for no approval")
        if runs.digest(ids) != bytes(of["parked_digest"]):
            raise Failed(f"the ids of run {run_id} are not those that it parked; nothing was approved")
        _tell(of["id"], ids, digest=bytes(of["parked_digest"]).hex(), said=of["message"])
        _confirm(ids, yes=yes)
        login = await session.login(connection)
        who = f"{login} ({_os_user()})"
        try:
            async with connection.transaction():
                approved = await runs.approve(connection, run_id, approved_by=who)
                if approved != bytes(of["parked_digest"]):
                    raise LookupError(f"run {run_id} parked other ids meanwhile; nothing was approved")
        except (LookupError, asyncpg.CheckViolationError) as error:
            raise Failed(str(error)) from None
        led = await is_led(connection, of["sync"])
    if output == "json":
        print_json({"run": run_id, "approved_by": who, "digest": approved.hex(), "ids": [list(pair) for pair in ids]})
    else:
        say(f"run {run_id} is approved by {who}, for 24 hours")
    if led:
        tell(f"the reconciler that leads {of['sync']} does it at its next look")
    else:
        tell(f"the next run of {of['sync']} does it: nexus-auth sync --sync {of['sync']} --apply")


def _tell(run_id: int, ids: Sequence[tuple[str, str]], *, digest: str, said: Any) -> None:
    """To standard error: standard output is for the result."""
    numbers = Counter(kind for kind, _ in ids)
    what = ", ".join(f"{number:,} {kind_words(kind, number)}" for kind, number in numbers.items())
    tell(f"run {run_id} would delete {what} (digest {digest[:16]})")
    for kind in numbers:
        some = [object_id for k, object_id in ids if k == kind]
        more = f" and {len(some) - SHOWN:,} more" if len(some) > SHOWN else ""
        tell(f"  {kind}: {', '.join(some[:SHOWN])}{more}")
    if said:
        tell(f"  {said}")


def _confirm(ids: Sequence[tuple[str, str]], *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("approve them? say --yes")
    click.confirm(f"approve the deletion of exactly these {len(ids):,}?", abort=True, err=True)


def _os_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user that has no name
        return "unknown"
