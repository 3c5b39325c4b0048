"""`nexus-auth findings`: what a run found, what was done about it, and why it had come to that."""

import click

from nexus_auth.store import overview
from services.cli.database import Failed, connected, run
from services.cli.moments import iso, iso_ms
from services.cli.output import print_json, print_table, tell
from services.cli.selection import output_option
from services.cli.settings import CliSettings, read_settings
from services.cli.wording import KINDS, kind_words


@click.command()
@click.option("--run", "run_id", type=click.IntRange(1, 2**63 - 1), help="Of this run; else of the newest with any.")
@click.option("--kind", type=click.Choice(tuple(KINDS)), help="Of one kind of object.")
@click.option("--problem", type=click.Choice(overview.PROBLEMS), help="Of one sort.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="Findings at most.")
@output_option
def findings(*, run_id: int | None, kind: str | None, problem: str | None, limit: int, output: str) -> None:
    """List the differences that a run found, each with its cause; exit 1 if one of them still stands.

    \b
    missing     Clerk has it, we did not     stale       ours was older
    extra       Clerk does not list it       edited      a row was changed by hand
    deep        differs, same updated_at     projection  made by an older version
    resurfaced  a tombstone is listed        ahead       ours is newer than Clerk's
    unadopted   a row that we never wrote    refused     Postgres does not take it
    """
    run(_findings(read_settings(), run_id=run_id, kind=kind, problem=problem, limit=limit, output=output))


async def _findings(
    settings: CliSettings, *, run_id: int | None, kind: str | None, problem: str | None, limit: int, output: str
) -> None:
    async with connected(settings) as connection:
        if run_id is not None and await overview.run_of(connection, run_id) is None:
            raise Failed(f"there is no run {run_id}")
        found = await overview.findings(
            connection, run=run_id, kind=KINDS[kind] if kind else None, problem=problem, limit=limit
        )
    print_findings(found, output=output)


def print_findings(found: overview.Found, *, output: str) -> None:
    """Shows findings of a run. Raises `Failed` where one of them, shown or not, still stands."""
    if output == "json":
        print_json(
            [{**row, "found_at": iso(row["found_at"]), "expected_at": iso_ms(row["expected_at"])} for row in found.rows]
        )
    elif found.rows:
        print_table(
            ("id", "problem", "action", "kind", "run", "found", "cause"),
            (
                (
                    row["id"],
                    row["problem"],
                    row["action"],
                    kind_words(row["kind"], 1),
                    row["run_id"],
                    iso(row["found_at"]),
                    row["cause"],
                )
                for row in found.rows
            ),
        )
    elif not found.unlisted:
        tell("no finding matches")
    if len(found.rows) < found.total:
        tell(f"the newest {len(found.rows):,} of {found.total:,} (--limit shows more)")
    if found.unlisted:
        also = "also " if found.total else ""
        tell(f"the run {also}found {found.unlisted:,} missing rows; a backfill counts them and does not list them here")
    if found.open:
        raise Failed(f"{found.open:,} of {found.total:,} findings of the run still stand")
