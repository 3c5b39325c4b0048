"""`kubectl nexus status`: the state of all custom resources, read from their status; no database is asked."""

from datetime import UTC, datetime
from typing import Any

import click

from services.cli.database import Failed
from services.cli.kubernetes.cluster import INSTANCES, SYNCS
from services.cli.kubernetes.connections import counted, deployments, print_connections
from services.cli.kubernetes.options import cluster_of, cluster_options
from services.cli.kubernetes.page import print_page, shown, troubles
from services.cli.output import print_json, tell
from services.cli.selection import output_option


@click.command()
@click.option("-A", "--all-namespaces", is_flag=True, help="All namespaces.")
@cluster_options
@output_option
def status(*, all_namespaces: bool, output: str, **options: Any) -> None:
    """Show instances, syncs, last runs, drift, budget and lag; exit 1 if one is not Ready or overdue.

    "in step" is how long ago a run last completed: the lag, if every event since were lost. Connections are those that
    the releases in view may open at most; `nexus-auth status` asks the server who holds how many.
    """
    cluster = cluster_of(options)
    namespace = None if all_namespaces else cluster.namespace
    instances = cluster.objects(INSTANCES, namespace=namespace)
    syncs = cluster.objects(SYNCS, namespace=namespace)
    releases = deployments(cluster, namespace=namespace)
    now = datetime.now(UTC)
    found = list(troubles(instances, syncs, now=now))
    if output == "json":
        listed = {"instances": [shown(of) for of in instances], "syncs": [shown(of) for of in syncs]}
        print_json({**listed, "deployments": [counted(of) for of in releases], "trouble": found})
    else:
        if instances or syncs:
            print_page(instances, syncs, now=now)
        else:
            where = "the cluster" if all_namespaces else f"namespace {cluster.namespace}"
            tell(f"{where} has no ClerkInstance and no ClerkSync" + ("" if all_namespaces else " (-A shows all)"))
        print_connections(releases)
    if found:
        for sentence in found:
            tell(sentence)
        raise Failed(f"{len(found)} of {len(instances) + len(syncs)} are not well")
