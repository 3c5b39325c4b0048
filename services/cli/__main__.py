"""`nexus-auth`, also `python -m services.cli`: puts the commands together."""

from importlib.metadata import version

import click

from services.cli.approve import approve
from services.cli.doctor.command import doctor
from services.cli.explain import explain
from services.cli.findings import findings
from services.cli.forget import forget
from services.cli.held import held
from services.cli.inbox import inbox
from services.cli.instance import instance
from services.cli.migrate import migrate
from services.cli.plan import plan
from services.cli.replay import replay
from services.cli.status import status
from services.cli.sync import sync


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("nexus-auth"), message="nexus-auth %(version)s")
def main() -> None:
    """Keep a Postgres database in step with Clerk.

    The database is that of CLI_DATABASE_URL (or DATABASE_URL), or of a running `make run` in this folder or above it.
    plan and sync work with the reconciler's login instead, RECONCILER_DATABASE_URL.

    \b
    Exit codes (docs/reference/exit-codes.md):
      0    done, and nothing waits for you
      1    not so: drift, something parked or failed, or what you named does not exist
      2    the command line or a setting is wrong
      3    the database cannot be reached or used
      4    Clerk cannot be reached, or refuses the key
      130  interrupted
    """


for command in (doctor, status, plan, sync, findings, approve, explain, migrate, instance, inbox, replay, held, forget):
    main.add_command(command)


if __name__ == "__main__":
    main(prog_name="nexus-auth")
