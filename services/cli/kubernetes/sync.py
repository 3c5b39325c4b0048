"""`kubectl nexus sync`: asks the operator for a run at once, by the annotation that it answers in the status."""

import secrets
from datetime import UTC, datetime
from typing import Any

import click

from services.cli.database import Failed
from services.cli.kubernetes.objects import Object, condition, name_of, status_of
from services.cli.kubernetes.options import chosen_sync, cluster_of, cluster_options
from services.cli.kubernetes.waiting import wait_until
from services.cli.output import print_json, say, tell
from services.cli.selection import output_option

REQUESTED = "sync-requested-at"


@click.command()
@click.argument("name", required=False)
@click.option("--full", "mode", flag_value="full", help="List everything, instead of what changed since the last look.")
@click.option("--deep", "mode", flag_value="deep", help="Compare every column too, not only updated_at.")
@click.option("--wait", is_flag=True, help="Wait until the run has ended; exit 1 if it found drift that stands.")
@click.option(
    "--timeout", type=click.IntRange(1, 86_400), default=600, show_default=True, metavar="SECONDS", help="For --wait."
)
@cluster_options
@output_option
def sync(*, name: str | None, mode: str | None, wait: bool, timeout: int, output: str, **options: Any) -> None:
    """Ask the operator for a run of the ClerkSync NAME at once.

    NAME may be left out where the namespace has one ClerkSync. What the run does to a difference, drift.policy says.
    """
    cluster = cluster_of(options)
    of = chosen_sync(cluster, name)
    chosen = of["metadata"]["name"]
    if of["spec"].get("suspend"):
        raise Failed(f"{name_of(of)} is suspended; kubectl nexus resume {chosen}")
    token = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}-{secrets.token_hex(3)}"
    request = f"{mode}@{token}" if mode else token
    cluster.annotate(chosen, {REQUESTED: request})
    if not wait:
        _tell(of, output=output, said={"request": request})
        return
    tell(f"asked for {mode or 'incremental'} run of {name_of(of)}")
    answered = wait_until(
        cluster,
        chosen,
        lambda status: status.get("lastHandledSyncRequest") == request,
        seconds=timeout,
        what=f"the request to {name_of(of)}",
    )
    history = status_of(answered).get("history") or ()
    asked = next((of for of in history if of.get("reason") == "Requested"), None)  # others may have run since
    last = dict(asked or status_of(answered).get("lastSync") or {})
    _tell(answered, output=output, said={"request": request, "run": last, "drift": status_of(answered).get("drift")})
    _judge(answered, last)


def _tell(of: Object, *, output: str, said: dict[str, Any]) -> None:
    if output == "json":
        print_json({"sync": name_of(of), **said})
        return
    last = said.get("run")
    if not last:
        say(f"{name_of(of)}: asked for ({said['request']})")
        return
    message = f": {last['message']}" if last.get("message") else ""
    say(
        f"{name_of(of)}: sweep {last.get('id')} ({last.get('mode')}) {last.get('state')}{message};"
        f" {last.get('requests', 0):,} requests"
    )


def _judge(of: Object, last: dict[str, Any]) -> None:
    ready, drift = condition(of, "Ready"), condition(of, "DriftDetected")
    if ready["status"] == "False":
        raise Failed(f"{ready['reason']}: {ready['message']}")
    if last and last.get("state") != "completed":
        raise Failed(f"sweep {last.get('id')} {last.get('state')}")
    if drift["status"] == "True":
        raise Failed(str(drift["message"]))
