"""`nexus-auth`, also `python -m services.cli`: puts the commands together."""

import click

from services.cli.inbox import inbox
from services.cli.instance import instance
from services.cli.migrate import migrate
from services.cli.replay import replay


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Keep a Postgres database in step with Clerk.

    The database is that of CLI_DATABASE_URL (or DATABASE_URL), or of a running `make run` in this folder or above it.
    Exit codes: 0 fine; 1 something is parked, altered or refused; 2 wrong usage; 3 the database cannot be used.
    """


for command in (migrate, instance, inbox, replay):
    main.add_command(command)


if __name__ == "__main__":
    main(prog_name="nexus-auth")
