"""`kubectl nexus findings`: the list from Postgres; the status holds only its first twenty entries.

By default it is read there, with the login of the ClerkSync's own Secret. Where the caller may not read that Secret, or
cannot reach the database from where they are, `--from-status` shows what the status says.
"""

from typing import Any

import click

from nexus_auth.store import overview
from services.cli.database import RECONCILER, DatabaseFailed, Failed, opened, run
from services.cli.findings import print_findings
from services.cli.kubernetes.access import database_settings
from services.cli.kubernetes.cluster import ClusterFailed
from services.cli.kubernetes.objects import Object, name_of, status_of
from services.cli.kubernetes.options import chosen_sync, cluster_of, cluster_options
from services.cli.output import print_json, print_table, tell
from services.cli.selection import output_option
from services.cli.settings import CliSettings
from services.cli.wording import KINDS

FROM_STATUS = "--from-status shows the first twenty without the database"


@click.command()
@click.argument("name", required=False)
@click.option("--run", "run_id", type=click.IntRange(1, 2**63 - 1), help="Of this run; else of the newest with any.")
@click.option("--kind", type=click.Choice(tuple(KINDS)), help="Of one kind of object.")
@click.option("--problem", type=click.Choice(overview.PROBLEMS), help="Of one sort.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="Findings at most.")
@click.option("--from-status", is_flag=True, help="What the status holds, twenty at most; reads no Secret.")
@cluster_options
@output_option
def findings(
    *,
    name: str | None,
    run_id: int | None,
    kind: str | None,
    problem: str | None,
    limit: int,
    from_status: bool,
    output: str,
    **options: Any,
) -> None:
    """List the differences that a run of the ClerkSync NAME found, with causes; exit 1 if one of them is not
    repaired."""
    cluster = cluster_of(options)
    sync = chosen_sync(cluster, name)
    if from_status:
        if run_id is not None:
            raise click.UsageError("the status holds the findings of no single run; leave out --run or --from-status")
        _from_status(sync, kind=kind, problem=problem, limit=limit, output=output)
        return
    try:
        settings = database_settings(cluster, sync)
    except ClusterFailed as error:
        raise ClusterFailed(f"{error.message}; {FROM_STATUS}", status=error.status) from None
    chosen = sync["metadata"]["name"]
    try:
        run(_findings(settings, sync=chosen, run_id=run_id, kind=kind, problem=problem, limit=limit, output=output))
    except DatabaseFailed as error:
        raise DatabaseFailed(f"{error.message}; {FROM_STATUS}") from None


async def _findings(
    settings: CliSettings,
    *,
    sync: str,
    run_id: int | None,
    kind: str | None,
    problem: str | None,
    limit: int,
    output: str,
) -> None:
    async with opened(settings, login=RECONCILER) as pool, pool.acquire() as connection:
        if run_id is None:
            run_id = await overview.newest_with_findings(connection, sync=sync)
        elif await overview.run_of(connection, run_id) is None:
            raise Failed(f"there is no run {run_id}")
        found = (
            await overview.findings(
                connection, run=run_id, kind=KINDS[kind] if kind else None, problem=problem, limit=limit
            )
            if run_id is not None
            else overview.Found()
        )
    print_findings(found, output=output)


def _from_status(sync: Object, *, kind: str | None, problem: str | None, limit: int, output: str) -> None:
    drift = status_of(sync).get("drift") or {}
    items = [
        item
        for item in drift.get("items") or ()
        if kind in (None, item.get("resource")) and problem in (None, item.get("problem"))
    ][:limit]
    total = drift.get("total", 0)
    if output == "json":
        print_json({"sync": name_of(sync), "total": total, "since": drift.get("since"), "items": items})
    elif items:
        columns = ("resource", "id", "problem", "cause")
        print_table(columns, ([item.get(column) for column in columns] for item in items))
    else:
        tell("no finding matches")
    if total:
        raise Failed(f"{total:,} objects differ, {len(items)} shown")
