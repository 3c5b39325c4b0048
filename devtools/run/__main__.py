"""`python -m devtools.run`: everything on one machine until Ctrl-C; `… psql` looks into its database meanwhile.

Exit codes: 0 after Ctrl-C or SIGTERM, 1 when a part failed, 2 when the environment or the command line is wrong.
"""

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from devtools.postgres import ForeignServer, Server, home_for
from devtools.postgres.places import CHECKOUT
from devtools.run import BEGAN
from devtools.run.choice import Choice, Unusable, choose
from devtools.run.clerk import Clerk, ClerkOutThere, EmulatedClerk
from devtools.run.database import RunDatabase
from devtools.run.folder import RunFolder
from devtools.run.output import Output
from devtools.run.psql import become_psql
from devtools.run.reconciler import Reconciler
from devtools.run.supervisor import Supervisor
from devtools.run.webhook import Webhook
from nexus_auth.signals import take_over


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--home", type=click.Path(path_type=Path), default=CHECKOUT, hidden=True, help="A folder for .run.")
@click.option("--fresh", is_flag=True, help="Begin anew: an empty database, and an emulator without earlier changes.")
@click.pass_context
def main(context: click.Context, home: Path, fresh: bool) -> None:
    """Start Postgres, a Clerk of our own, the webhook service and the reconciler; Ctrl-C ends all of it."""
    take_over()
    context.obj = RunFolder(home.absolute())
    if context.invoked_subcommand is None:
        sys.exit(run(context.obj, fresh=fresh))


@main.command(context_settings={"ignore_unknown_options": True})
@click.option("--as", "user_id", metavar="USER", help="A user's id: role authenticated with this user's claims.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def psql(folder: RunFolder, user_id: str | None, arguments: Sequence[str]) -> None:
    """psql on the running database, as administrator or --as one of its users; ARGUMENTS are psql's own."""
    try:
        become_psql(folder, user_id=user_id, arguments=arguments)
    except Unusable as error:
        sys.exit(_refuse(error))


def run(folder: RunFolder, *, fresh: bool = False) -> int:
    """One run in this folder; answers the exit code."""
    try:
        choice = choose(os.environ)
        if fresh and not choice.begins_anew:
            raise Unusable("FRESH=1 is for the emulator and the embedded Postgres; empty your own database yourself")
        folder.claim()
        return asyncio.run(_run(choice, folder, fresh=fresh))
    except KeyboardInterrupt:
        return 0
    except Unusable as error:
        return _refuse(error)
    finally:
        folder.release()


async def _run(choice: Choice, folder: RunFolder, *, fresh: bool) -> int:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def end_soon() -> None:
        loop.call_soon_threadsafe(stop.set)

    output = Output(sys.stdout, on_closed=end_soon)
    keys, ports = folder.keys(), folder.ports()
    webhook = Webhook(port=ports["webhook"], metrics_port=ports["metrics"], output=output)
    reconciler = Reconciler(port=ports["reconciler"], repairs=choice.repairs, output=output)
    clerk: Clerk
    state_file = folder.emulator_state(choice.database_url)
    if fresh:
        state_file.unlink(missing_ok=True)
    # A database that knows of changes which the emulator does not would have its deleted users come back.
    anew = choice.begins_anew and not state_file.exists()
    if choice.clerk is not None:
        clerk = ClerkOutThere(choice.clerk)
    else:
        clerk = EmulatedClerk(
            keys,
            port=ports["emulator"],
            webhook_url=webhook.url,
            state_file=state_file,
            output=output,
        )
    foreign = ForeignServer(choice.database_url) if choice.database_url else None
    database = RunDatabase(foreign or Server(home_for("run", checkout=folder.home)), fresh=anew)
    supervisor = Supervisor(
        clerk=clerk,
        database=database,
        webhook=webhook,
        reconciler=reconciler,
        folder=folder,
        keys=keys,
        output=output,
    )
    try:
        return await supervisor.run(stop, began=BEGAN)
    finally:
        output.close()


def _refuse(error: Unusable) -> int:
    print(f"make run: {error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main(prog_name="python -m devtools.run")
