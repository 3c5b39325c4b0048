"""`nexus-auth`, also `python -m services.cli`: puts the commands together."""

import click

from services.cli.approve import approve
from services.cli.explain import explain
from services.cli.findings import findings
from services.cli.inbox import inbox
from services.cli.instance import instance
from services.cli.migrate import migrate
from services.cli.plan import plan
from services.cli.replay import replay
from services.cli.status import status
from services.cli.sync import sync


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Keep a Postgres database in step with Clerk.

    The database is that of CLI_DATABASE_URL (or DATABASE_URL), or of a running `make run` in this folder or above it.
    plan and sync work with the reconciler's login instead, RECONCILER_DATABASE_URL.

    \b
    Exit codes:
      0  fine, or in step
      1  drift was found, or something is parked, altered or failed
      2  wrong usage
      3  the database cannot be used
      4  Clerk cannot be reached, or refuses the key
    """


for command in (status, plan, sync, findings, approve, explain, migrate, instance, inbox, replay):
    main.add_command(command)


if __name__ == "__main__":
    main(prog_name="nexus-auth")
