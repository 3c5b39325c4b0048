"""`nexus-auth findings`: what a run found, what was done about it, and why it had come to that."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from nexus_auth.store import overview
from services.cli.database import Failed, connected, run
from services.cli.moments import iso, iso_ms
from services.cli.output import print_json, print_table, tell
from services.cli.selection import output_option
from services.cli.settings import CliSettings, read_settings
from services.cli.wording import KINDS

OPEN = ("reported", "parked")
"""Actions that left a difference standing."""


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
    """
    run(_findings(read_settings(), run_id=run_id, kind=kind, problem=problem, limit=limit, output=output))


async def _findings(
    settings: CliSettings, *, run_id: int | None, kind: str | None, problem: str | None, limit: int, output: str
) -> None:
    async with connected(settings) as connection:
        if run_id is not None and await overview.run_of(connection, run_id) is None:
            raise click.UsageError(f"there is no run {run_id}")
        found = await overview.findings(
            connection, run=run_id, kind=KINDS[kind] if kind else None, problem=problem, limit=limit
        )
    print_findings(found, limit=limit, output=output)


def print_findings(found: Sequence[Mapping[str, Any]], *, limit: int, output: str) -> None:
    """Shows rows of `overview.findings`. Raises `Failed` where one of them still stands."""
    if output == "json":
        print_json(
            [{**row, "found_at": iso(row["found_at"]), "expected_at": iso_ms(row["expected_at"])} for row in found]
        )
    elif found:
        print_table(
            ("found", "run", "kind", "id", "problem", "action", "cause"),
            (
                (
                    iso(row["found_at"]),
                    row["run_id"],
                    row["kind"],
                    row["id"],
                    row["problem"],
                    row["action"],
                    row["cause"],
                )
                for row in found
            ),
        )
    else:
        tell("no finding matches")
    if len(found) == limit:
        tell(f"the newest {limit}; there may be more (--limit)")
    left = sum(row["action"] in OPEN for row in found)
    if left:
        raise Failed(f"{left} of {len(found)} were left standing")
