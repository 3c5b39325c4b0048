"""`nexus-auth explain`: why an object is as it is, for the one on call: its arbiter, and all that happened to it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from nexus_auth.store.explain import Step, objects, story
from services.cli.database import Failed, connected, run
from services.cli.moments import iso, iso_ms
from services.cli.output import print_json, print_pairs, print_table, tell
from services.cli.selection import output_option
from services.cli.settings import CliSettings, read_settings

MILLISECONDS = ("observed_at", "updated_at", "expected_at", "there_at")
"""Details that are Clerk's moments, in ms."""


@click.command()
@click.argument("object_id", metavar="ID")
@output_option
def explain(*, object_id: str, output: str) -> None:
    """Explain ID (user_…, org_…, orgmem_…): its state, version, events, findings, what is parked, held or queued.

    Everything in the order of time; exit 1 if nothing is known of it.
    """
    if "\0" in object_id or not object_id.strip():
        raise click.UsageError("that is no id")
    run(_explain(read_settings(), object_id=object_id, output=output))


async def _explain(settings: CliSettings, *, object_id: str, output: str) -> None:
    async with connected(settings) as connection:
        arbiters = await objects(connection, object_id)
        steps = await story(connection, object_id)
    if output == "json":
        print_json(
            {
                "id": object_id,
                "objects": [_arbiter(row) for row in arbiters],
                "story": [
                    {"at": iso(s.at), "what": s.what, "kind": s.kind, "id": s.id, **_detail(s.detail)} for s in steps
                ],
            }
        )
    elif arbiters or steps:
        _print(object_id, arbiters=arbiters, steps=steps)
    if not arbiters and not steps:
        raise Failed(f"nothing is known of {object_id}: no event of the last two weeks names it, and no run found it")


def _arbiter(row: Mapping[str, Any]) -> dict[str, Any]:
    if not row["arbitrated"]:
        return {"kind": row["kind"], "state": "unadopted", "typed_row": "present"}
    return {
        "kind": row["kind"],
        "state": "live" if row["deleted_at"] is None else "deleted",
        "typed_row": "present" if row["typed"] else "absent",
        "updated_at": iso_ms(row["updated_at"]),
        "observed_at": iso_ms(row["observed_at"]),
        "from": "the API" if row["source_rank"] else row["svix_id"],
        "source": row["source"],
        "deleted_at": iso_ms(row["deleted_at"]),
        "buried_by": row["buried_by"],
        "tombstone_seq": row["tombstone_seq"],
        "revived_at": iso_ms(row["revived_at"]),
        "projection": row["projection"],
        "synced_at": iso(row["synced_at"]),
    }


def _print(object_id: str, *, arbiters: Sequence[Mapping[str, Any]], steps: Sequence[Step]) -> None:
    for row in arbiters:
        print_pairs(_arbiter(row).items(), title=f"{object_id}, as it stands")
        if not row["arbitrated"]:
            tell("a row that nexus-auth never wrote; a full sweep with the policy Fix takes it over, if Clerk has it")
        elif (row["deleted_at"] is None) != row["typed"]:
            tell("the typed row and the arbiter's disagree: somebody changed it by hand, or its burial is open")
    if not arbiters:
        print_pairs([("", "never applied: there is no arbiter's row")], title=f"{object_id}, as it stands")
    print_table(
        ("time", "what", "of", "details"),
        (
            (
                iso(step.at),
                step.what,
                step.id if step.id != object_id else "",
                tuple(f"{name}={value}" for name, value in _detail(step.detail).items()),
            )
            for step in steps
        ),
        title="\nWhat happened",
    )


def _detail(detail: Mapping[str, Any]) -> dict[str, Any]:
    """Moments as such, and without what is not known."""
    shown = {name: iso_ms(value) if name in MILLISECONDS else _moment(value) for name, value in detail.items()}
    return {name: value for name, value in shown.items() if value is not None}


def _moment(value: Any) -> Any:
    """Postgres's moments inside JSON, written as ours are."""
    if isinstance(value, str) and len(value) > 19 and value[10:11] == "T":
        try:
            return iso(datetime.fromisoformat(value).astimezone(UTC))
        except ValueError:
            return value
    return value
