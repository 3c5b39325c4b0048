"""`kubectl nexus logs`: the logs of the chart's pods, found by its labels in any namespace."""

import queue
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import click

from services.cli.database import Failed
from services.cli.kubernetes.cluster import Cluster, ClusterFailed
from services.cli.kubernetes.options import cluster_of, cluster_options
from services.cli.output import printable, say, tell

PRODUCT = "app.kubernetes.io/name=nexus-auth"
FORBIDDEN = 403


@click.command()
@click.option(
    "--component",
    type=click.Choice(("operator", "webhook", "migrations")),
    default="operator",
    show_default=True,
    help="Whose.",
)
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes.")
@click.option("--tail", type=click.IntRange(1, 100_000), default=100, show_default=True, help="Lines of each pod.")
@click.option("--since", type=click.IntRange(1, 10_000_000), metavar="SECONDS", help="Not older than this.")
@click.option("--previous", is_flag=True, help="Of the container that ran before.")
@cluster_options
def logs(*, component: str, follow: bool, tail: int, since: int | None, previous: bool, **options: Any) -> None:
    """Show the logs of the operator's pods; without -n, of every namespace that you may read."""
    anywhere = options["namespace"] is None
    cluster = cluster_of(options)
    pods = pods_of(cluster, component=component, anywhere=anywhere)
    if not pods:
        raise Failed(f"no pod has the labels {PRODUCT}, app.kubernetes.io/component={component}; -n names a namespace")
    query = {"tailLines": str(tail)}
    query |= {"sinceSeconds": str(since)} if since else {}
    query |= {"previous": "true"} if previous else {}
    for name, line in _lines(cluster, pods, follow=follow, query=query):
        say(f"{name} {printable(line)}" if len(pods) > 1 else printable(line))


def pods_of(cluster: Cluster, *, component: str | None, anywhere: bool) -> list[dict[str, Any]]:
    """Pods of the chart; `anywhere`: of all namespaces, or where that is not allowed, of the cluster's own."""
    selector = PRODUCT + (f",app.kubernetes.io/component={component}" if component else "")
    query = {"labelSelector": selector}
    if anywhere:
        try:
            return cluster.list("/api/v1", "pods", namespace=None, query=query)
        except ClusterFailed as error:
            if error.status != FORBIDDEN:
                raise
    return cluster.list("/api/v1", "pods", namespace=cluster.namespace, query=query)


def _lines(
    cluster: Cluster, pods: list[dict[str, Any]], *, follow: bool, query: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Pod and line; pod after pod, or where they are followed, as they come."""
    if not follow:
        for pod in pods:
            yield from _of_pod(cluster, pod, follow=False, query=query)
        return
    lines: queue.Queue[tuple[str, str] | None] = queue.Queue()

    def read(pod: Mapping[str, Any]) -> None:
        try:
            for found in _of_pod(cluster, pod, follow=True, query=query):
                lines.put(found)
        finally:
            lines.put(None)

    for pod in pods:
        threading.Thread(target=read, args=(pod,), daemon=True).start()
    ended = 0
    while ended < len(pods):
        found = lines.get()
        if found is None:
            ended += 1
        else:
            yield found


def _of_pod(
    cluster: Cluster, pod: Mapping[str, Any], *, follow: bool, query: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    name = pod["metadata"]["name"]
    try:
        for line in cluster.log(pod, follow=follow, query=query):
            yield name, line
    except ClusterFailed as error:  # one pod that has not begun hides no other
        tell(f"{name}: {error.message}")
