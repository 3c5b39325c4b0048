"""`kubectl nexus approve`: a person approves the deletions of a parked run.

Whoever may change a ClerkSync may approve. The name stored with the approval is the one under which the API server
knows the caller. It is a note, not a proof: anybody who may approve can write another name; the API server's audit
log has the true one.
"""

import sys
from typing import Any

import click

from services.cli.database import Failed
from services.cli.kubernetes.cluster import SYNCS, Cluster
from services.cli.kubernetes.objects import Object, condition, name_of, status_of
from services.cli.kubernetes.options import cluster_of, cluster_options
from services.cli.kubernetes.waiting import wait_until
from services.cli.output import print_json, say, tell
from services.cli.selection import output_option


@click.command()
@click.argument("run_id", metavar="RUN", type=click.IntRange(1, 10**18 - 1))
@click.option("--sync", "name", metavar="NAME", help="Its ClerkSync; else the one that names RUN in status.parkedRuns.")
@click.option("--yes", is_flag=True, help="Approve without a question.")
@click.option("--wait/--no-wait", default=True, help="Wait until the operator has taken it.  [default: wait]")
@click.option(
    "--timeout", type=click.IntRange(1, 86_400), default=300, show_default=True, metavar="SECONDS", help="For --wait."
)
@cluster_options
@output_option
def approve(*, run_id: int, name: str | None, yes: bool, wait: bool, timeout: int, output: str, **options: Any) -> None:
    """Approve the deletions that RUN parked: exactly these ids, for 24 hours. Who approved is stored.

    Clerk is asked for each once more before it is deleted.
    """
    cluster = cluster_of(options)
    of = _parked(cluster, run_id, name=name)
    chosen = of["metadata"]["name"]
    tell(f"{name_of(of)}: {condition(of, 'Ready')['message']}")
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("approve them? say --yes")
        click.confirm(f"approve the deletions of run {run_id}?", abort=True, err=True)
    who = cluster.whoami()
    cluster.annotate(chosen, {"approve": str(run_id), "approved-by": who})
    if not wait:
        _tell({"sync": name_of(of), "run": run_id, "approved_by": who, "handled": False}, output=output)
        return
    answered = wait_until(
        cluster,
        chosen,
        lambda status: status.get("lastHandledApproval") == str(run_id),
        seconds=timeout,
        what=f"the approval of run {run_id}",
    )
    if run_id in [run["id"] for run in _waiting(answered) if not run.get("approved")]:
        raise Failed(f"run {run_id} still waits; kubectl describe clerksync {chosen} shows the Event that says why")
    _tell({"sync": name_of(of), "run": run_id, "approved_by": who, "handled": True}, output=output)


def _parked(cluster: Cluster, run_id: int, *, name: str | None) -> Object:
    candidates = [cluster.sync(name)] if name else cluster.objects(SYNCS, namespace=cluster.namespace)
    found = [of for of in candidates if run_id in [run["id"] for run in _waiting(of)]]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(sorted(of["metadata"]["name"] for of in found))
        raise click.UsageError(f"run {run_id} is parked in several databases, name one with --sync: {names}")
    for of in candidates:
        later = _superseded_by(of, run_id)
        if later is not None:
            raise Failed(f"run {run_id} of {name_of(of)} was superseded by {later}: look at it, then approve {later}")
    waits = ", ".join(f"{run['id']} ({of['metadata']['name']})" for of in candidates for run in _waiting(of))
    where = name or f"namespace {cluster.namespace}"
    raise Failed(f"no run {run_id} of {where} waits for an approval; what waits: {waits or 'nothing'}")


def _waiting(of: Object) -> list[dict[str, Any]]:
    """The runs of a ClerkSync whose deletions wait."""
    return [dict(run) for run in status_of(of).get("parkedRuns") or ()]


def _superseded_by(of: Object, run_id: int) -> int | None:
    """The run that superseded an older one of the same resource; None where none did."""
    runs = [run for sweep in status_of(of).get("history") or () for run in sweep.get("runs") or ()]
    resources = {run.get("resource") for run in runs if run.get("id") == run_id and run.get("state") == "parked"}
    later = (run["id"] for run in _waiting(of) if run.get("resource") in resources and run["id"] > run_id)
    return next(later, None)


def _tell(said: dict[str, Any], *, output: str) -> None:
    if output == "json":
        print_json(said)
    else:
        verb = "is approved" if said["handled"] else "is approved as soon as the operator sees it"
        say(f"run {said['run']} of {said['sync']} {verb} by {said['approved_by']}, for 24 hours")
