"""`kubectl nexus suspend` and `resume`: they set spec.suspend, as in Flux. A run in progress ends by itself."""

from typing import Any

import click

from services.cli.kubernetes.objects import name_of
from services.cli.kubernetes.options import chosen_sync, cluster_of, cluster_options
from services.cli.output import say


@click.command()
@click.argument("name", required=False)
@cluster_options
def suspend(*, name: str | None, **options: Any) -> None:
    """Let no new run of the ClerkSync NAME begin. Webhooks go on; what they miss waits until resume."""
    _set(name, options, suspended=True)


@click.command()
@click.argument("name", required=False)
@cluster_options
def resume(*, name: str | None, **options: Any) -> None:
    """Let runs of the ClerkSync NAME begin again; the next one is due at once."""
    _set(name, options, suspended=False)


def _set(name: str | None, options: dict[str, Any], *, suspended: bool) -> None:
    cluster = cluster_of(options)
    of = chosen_sync(cluster, name)
    word = "suspended" if suspended else "resumed"
    if bool(of["spec"].get("suspend")) == suspended:
        say(f"{name_of(of)} was {word} already")
        return
    cluster.patch(of["metadata"]["name"], {"spec": {"suspend": suspended}})
    say(f"{name_of(of)} is {word}")
