"""How many connections to Postgres a release may open: the chart writes it at each Deployment; here it is added up."""

from collections.abc import Sequence
from typing import Any

from services.cli.kubernetes.cluster import GROUP, Cluster, ClusterFailed
from services.cli.kubernetes.objects import Object
from services.cli.output import print_table, tell

ANNOTATION = f"{GROUP}/connections"
OURS = "app.kubernetes.io/part-of=nexus-auth"


def deployments(cluster: Cluster, *, namespace: str | None) -> list[Object]:
    """Those of releases that say how many they open at most; none where they may not be listed, which is told."""
    try:
        found = cluster.list("/apis/apps/v1", "deployments", namespace=namespace, query={"labelSelector": OURS})
    except ClusterFailed as error:
        if error.status != 403:
            raise
        tell(f"connections are not counted: {error.message}")
        return []
    return [of for of in found if at_most(of) is not None]


def at_most(of: Object) -> int | None:
    """What the chart says of a Deployment."""
    said = str((of["metadata"].get("annotations") or {}).get(ANNOTATION, ""))
    return int(said) if said.isdecimal() else None


def counted(of: Object) -> dict[str, Any]:
    """For programs."""
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
