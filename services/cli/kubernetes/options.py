"""What every command of `kubectl nexus` takes, spelled as kubectl spells it."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from services.cli.kubernetes.cluster import SYNCS, Cluster, open_cluster

Command = TypeVar("Command", bound=Callable[..., Any])


def cluster_options(command: Command) -> Command:
    """Adds --kubeconfig, --context and --namespace; the command is given all three."""
    options = (
        click.option("--kubeconfig", metavar="FILE", help="As kubectl's; else KUBECONFIG, else ~/.kube/config."),
        click.option("--context", metavar="NAME", help="Context of the kubeconfig; else its current one."),
        click.option("-n", "--namespace", metavar="NAME", help="Namespace; else the context's."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def cluster_of(options: dict[str, Any]) -> Cluster:
    """The cluster that the options name; takes them out of what a command was given."""
    return open_cluster(
        kubeconfig=options.pop("kubeconfig"), context=options.pop("context"), namespace=options.pop("namespace")
    )


def chosen_sync(cluster: Cluster, name: str | None) -> dict[str, Any]:
    """The ClerkSync of that name, or the only one that the namespace has."""
    if name is not None:
        return cluster.sync(name.removeprefix("clerksync/").removeprefix("csync/"))
    found = cluster.objects(SYNCS, namespace=cluster.namespace)
    if len(found) == 1:
        return found[0]
    if not found:
        raise click.UsageError(f"namespace {cluster.namespace} has no ClerkSync; -n names another")
    names = ", ".join(sorted(of["metadata"]["name"] for of in found))
    raise click.UsageError(f"namespace {cluster.namespace} has several ClerkSyncs, name one: {names}")
