"""`nexus-auth replay`: stored events applied again, after a fix. Harmless however often it is run."""

from collections import Counter
from dataclasses import replace
from typing import Any

import click

from nexus_auth.store import session
from nexus_auth.store.inbox import Selection, count, unknown
from nexus_auth.store.instance import holder
from nexus_auth.store.replay import FOREIGN, Replayed
from nexus_auth.store.replay import replay as replay_events
from services.cli.database import DatabaseFailed, Failed, connected, run
from services.cli.output import print_json, print_table, tell
from services.cli.progress import progress
from services.cli.selection import output_option, selection_of, selects
from services.cli.settings import CliSettings, read_settings

MOST_PARKED = 20
"""Parked events that are named at the end; `nexus-auth inbox list --state parked` names all."""


@click.command()
@selects
@click.option("--all", "everything", is_flag=True, help="Every event in the inbox.")
@click.option("--dry-run", is_flag=True, help="Do the work and take it back: shows what would happen.")
@output_option
def replay(*, everything: bool, dry_run: bool, output: str, **filters: Any) -> None:
    """Apply stored events again, oldest first; exit 1 if one is still parked, or no event has an id that was named.

    Every event keeps its version, so an old one changes nothing that is newer.
    """
    selection = selection_of(**filters)
    if selection.everything and not everything:
        raise click.UsageError("say which events: --since, --until, --type, --id, --state, or --all")
    if everything and not selection.everything:
        raise click.UsageError("--all and a filter contradict each other")
    run(_replay(read_settings(), selection=selection, dry_run=dry_run, output=output))


async def _replay(settings: CliSettings, *, selection: Selection, dry_run: bool, output: str) -> None:
    counts: Counter[str] = Counter()
    parked: list[Replayed] = []
    try:
        async with connected(settings) as connection:
            instance_id = await _instance(connection, expected=settings.clerk_instance_id)
            now = await session.clock(connection)
            selection = replace(selection, until=min(selection.until or now, now))
            missing = await unknown(connection, selection=selection)
            with progress("replayed", total=await count(connection, selection=selection)) as advance:
                batches = replay_events(connection, selection=selection, instance_id=instance_id, dry_run=dry_run)
                async for batch in batches:
                    counts.update(event.outcome for event in batch)
                    parked += [event for event in batch if event.parked][: MOST_PARKED - len(parked)]
                    advance(len(batch))
    except DatabaseFailed:
        if counts and not dry_run:
            tell(f"stopped after {counts.total()} events, which are applied; the same command does the rest")
        raise
    _tell(counts, parked, instance_id=instance_id, dry_run=dry_run, output=output)
    left = sum(number for outcome, number in counts.items() if Replayed("", "", outcome).parked)
    if left:
        raise Failed(f"{left} of {counts.total()} events {'would stay' if dry_run else 'are still'} parked")
    if missing:
        raise Failed(f"no event that matches is, or speaks of, {' '.join(missing)}")


async def _instance(connection: Any, *, expected: str | None) -> str:
    """The instance that the database belongs to. Replaying is no reason to claim it."""
    held = await holder(connection)
    if held is None:
        raise DatabaseFailed(
            "this database belongs to no Clerk instance yet: start the webhook, or nexus-auth instance claim ins_…"
        )
    if expected is not None and held[0] != expected:
        raise DatabaseFailed(f"this database belongs to {held[0]}, and CLERK_INSTANCE_ID says {expected}")
    return held[0]


def _tell(counts: Counter[str], parked: list[Replayed], *, instance_id: str, dry_run: bool, output: str) -> None:
    if output == "json":
        print_json(
            {
                "events": counts.total(),
                "dry_run": dry_run,
                "outcomes": dict(sorted(counts.items())),
                "parked": [{"svix_id": e.svix_id, "type": e.type, "error": e.error} for e in parked],
            }
        )
    elif not counts:
        tell("no event matches")
    else:
        print_table(("outcome", "events"), counts.most_common())
        if parked:
            print_table(
                ("still parked", "type", "why"), ((e.svix_id, e.type or "(unreadable)", e.error) for e in parked)
            )
    if counts[FOREIGN]:
        tell(f"{counts[FOREIGN]} events of another Clerk instance than {instance_id} were left alone")
    if dry_run and output != "json":
        tell("dry run: nothing was changed")
