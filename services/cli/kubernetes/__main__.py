"""`kubectl-nexus`: on PATH, kubectl runs it as `kubectl nexus`."""

from importlib.metadata import version

import click

from services.cli.kubernetes.approve import approve
from services.cli.kubernetes.findings import findings
from services.cli.kubernetes.logs import logs
from services.cli.kubernetes.plan import plan
from services.cli.kubernetes.report import report
from services.cli.kubernetes.status import status
from services.cli.kubernetes.suspend import resume, suspend
from services.cli.kubernetes.sync import sync


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("nexus-auth"), message="kubectl-nexus %(version)s")
def main() -> None:
    """Look at ClerkInstances and ClerkSyncs, and tell the operator what to do.

    The cluster is that of kubectl: KUBECONFIG, --context, -n. Every command works with your own rights.

    \b
    Exit codes (docs/reference/exit-codes.md):
      0    done, and nothing waits for you
      1    not so: drift, something is not Ready or failed, or what you named does not exist
      2    the command line or a setting is wrong
      3    the database cannot be reached or used
      4    Clerk cannot be reached, or refuses the key
      5    the cluster cannot be reached, or refuses
      130  interrupted
    """


for command in (status, plan, sync, approve, suspend, resume, findings, logs, report):
    main.add_command(command)


if __name__ == "__main__":
    main(prog_name="kubectl nexus")
