"""`python -m devtools.demo`: the story, told once on a temporary server.

Exit codes: 0 when all of it held, 1 when a check failed, 2 when a part could not be started, 130 after Ctrl-C.
"""

import asyncio
import signal
import sys
import time
from contextlib import ExitStack

import click

from devtools.demo.printer import StoryPrinter
from devtools.demo.stage import SIZES, Stage
from devtools.demo.steps import STEPS
from devtools.demo.story import tell
from devtools.postgres import (
    BinariesMissing,
    Database,
    ServerFailed,
    create_database,
    create_logins,
    temporary_server,
)
from devtools.run.parts import PartFailed
from nexus_auth.store.migrations import migrate


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--sabotage", type=click.Choice([step.name for step in STEPS]), help="The step to break.")
def main(sabotage: str | None) -> None:
    """Tell in a minute what the product promises, and check each word of it."""
    printer = StoryPrinter(sys.stdout)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with ExitStack() as servers:  # outlives the loop: a start that goes on in a thread ends before it is undone
            code = asyncio.run(_tell(servers, printer=printer, sabotage=sabotage))
    except KeyboardInterrupt:
        code = 130
    finally:
        printer.stops_waiting()
    sys.exit(code)


async def _tell(servers: ExitStack, *, printer: StoryPrinter, sabotage: str | None) -> int:
    began = time.monotonic()
    printer.waits("Postgres, a Clerk of our own and the webhook service start")
    try:
        async with Stage(lambda: _prepare(servers)) as stage:
            version = await stage.admin.fetchval("show server_version")
            printer.stops_waiting()
            printer.line("nexus-auth: from drift to repair, on the parts that run in earnest", "bold")
            printer.line(
                f"Postgres {version}, the webhook service as a process, the reconciler's engine, and a Clerk of our own"
            )
            printer.line(
                f"with {SIZES.users} users, {SIZES.organizations} organizations, {SIZES.memberships} memberships;"
                f" ready in {time.monotonic() - began:.1f} s"
            )
            printer.line()
            told = await tell(stage, STEPS, sabotage=sabotage, printer=printer)
            printer.ends(told, steps=len(STEPS), seconds=time.monotonic() - began, sabotage=sabotage)
            return 1 if told[-1].broken else 0
    except (PartFailed, ServerFailed, BinariesMissing, OSError) as error:
        printer.stops_waiting()
        print(f"make demo: {error}", file=sys.stderr)
        for line in getattr(error, "last_lines", ()):
            print(f"    {line}", file=sys.stderr)
        return 2


def _prepare(servers: ExitStack) -> Database:
    server = servers.enter_context(temporary_server())
    url = create_database(server.admin_url(), "demo")
    migrate(url)
    return create_logins(url)


if __name__ == "__main__":
    main(prog_name="python -m devtools.demo")
