"""How many connections to Postgres a release may open: the sum of what the chart notes on each Deployment."""

from collections.abc import Sequence
from typing import Any

from services.cli.kubernetes.cluster import GROUP, Cluster, ClusterFailed
from services.cli.kubernetes.objects import Object
from services.cli.output import print_table, tell

ANNOTATION = f"{GROUP}/connections"
OURS = "app.kubernetes.io/part-of=nexus-auth"


def deployments(cluster: Cluster, *, namespace: str | None) -> list[Object]:
    """Deployments that note their connections. Where they may not be listed: none, and a line says so."""
    try:
        found = cluster.list("/apis/apps/v1", "deployments", namespace=namespace, query={"labelSelector": OURS})
    except ClusterFailed as error:
        if error.status != 403:
            raise
        tell(f"connections are not counted: {error.message}")
        return []
    return [of for of in found if at_most(of) is not None]


def at_most(of: Object) -> int | None:
    """Connections that a Deployment opens at most, as the chart notes them."""
    said = str((of["metadata"].get("annotations") or {}).get(ANNOTATION, ""))
    return int(said) if said.isdecimal() else None


def counted(of: Object) -> dict[str, Any]:
    """A Deployment for JSON output."""
    meta = of["metadata"]
    kept = {"namespace": meta["namespace"], "name": meta["name"], "ready": _ready(of)}
    return {**kept, "replicas": of["spec"].get("replicas"), "connections_at_most": at_most(of)}


def print_connections(found: Sequence[Object]) -> None:
    """A row for each Deployment, and their sum."""
    if not found:
        return
    rows: list[tuple[object, ...]] = [
        (of["metadata"]["name"], f"{_ready(of)} of {of['spec'].get('replicas')}", f"{at_most(of):,}") for of in found
    ]
    total = f"{sum(at_most(of) or 0 for of in found):,}"
    rows.append(("together (compare with max_connections)", "", total))
    print_table(("deployment", "pods ready", "at most"), rows, title="\nConnections to Postgres")


def _ready(of: Object) -> int:
    return int((of.get("status") or {}).get("readyReplicas") or 0)
