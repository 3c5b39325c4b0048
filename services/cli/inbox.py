"""`nexus-auth inbox`: which events came, what became of them, and whether they are still what Clerk signed."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import click

from nexus_auth.clerk import json_safety
from nexus_auth.store.inbox import Listed, Selection, newest, show
from services.cli.database import Failed, connected, run
from services.cli.moments import iso, iso_ms
from services.cli.output import print_json, print_pairs, print_table, printable, say, say_bytes, tell
from services.cli.selection import output_option, selection_of, selects
from services.cli.settings import CliSettings, read_settings
from services.cli.verification import verify


@click.group()
def inbox() -> None:
    """Look into what Clerk delivered."""


@inbox.command("list")
@selects
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Events at most.")
@output_option
def list_command(*, limit: int, output: str, **filters: Any) -> None:
    """List events, newest first."""
    selection = selection_of(**filters)
    run(_list(read_settings(), selection=selection, limit=limit, output=output))


async def _list(settings: CliSettings, *, selection: Selection, limit: int, output: str) -> None:
    async with connected(settings) as connection:
        found = await newest(connection, selection=selection, limit=limit)
    if output == "json":
        print_json([_listed(event) for event in found])
        return
    print_table(
        ("received", "type", "state", "outcome", "svix id", "object", "error"),
        (
            (iso(e.received_at), e.type or "(unreadable)", e.state, e.outcome, e.svix_id, e.object_id, e.error)
            for e in found
        ),
    )
    if len(found) == limit:
        tell(f"the newest {limit}; there may be more (--limit)")
    elif not found:
        tell("no event matches")


def _listed(event: Listed) -> dict[str, Any]:
    return {
        **dataclasses.asdict(event),
        "received_at": iso(event.received_at),
        "observed_at": iso_ms(event.observed_at),
        "subjects": list(event.subjects),
    }


inbox.add_command(verify)


@inbox.command("show")
@click.argument("svix_id")
@click.option("--body", "only_body", is_flag=True, help="Only the stored body, byte by byte.")
@output_option
def show_command(*, svix_id: str, only_body: bool, output: str) -> None:
    """Show everything about one event."""
    run(_show(read_settings(), svix_id=svix_id, only_body=only_body, output=output))


async def _show(settings: CliSettings, *, svix_id: str, only_body: bool, output: str) -> None:
    async with connected(settings) as connection:
        row = await show(connection, svix_id) if "\0" not in svix_id else None
    if row is None:
        raise Failed(f"no event {svix_id} was ever received, or it is forgotten by now")
    if not row["stored"]:
        at = iso(row["received_at"])
        raise Failed(f"{svix_id} was received at {at}; the event itself is past keeping")
    if only_body:
        say_bytes(row["body"])
    elif output == "json":
        print_json(_shown(row))
    else:
        _print_shown(row)


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "svix_id": row["svix_id"],
        "received_at": iso(row["received_at"]),
        "type": row["type"] or "",
        "state": row["state"],
        "outcome": row["outcome"],
        "instance_id": row["instance_id"],
        "observed_at": iso_ms(row["observed_at"]),
        "kind": row["kind"],
        "object_id": row["object_id"],
        "subjects": list(row["subjects"]),
        "headers": {"id": row["svix_id"], "timestamp": row["svix_timestamp"], "signature": row["signature"]},
        "secret": row["secret"],
        "withheld": row["withheld"],
        "parked": _parked(row),
        "object": _arbiter(row),
        "body": _body(row["body"]),
    }


def _parked(row: Mapping[str, Any]) -> dict[str, Any] | None:
    if row["parked_at"] is None:
        return None
    return {
        "error": row["error"],
        "attempts": row["attempts"],
        "since": iso(row["parked_at"]),
        "resolved": iso(row["resolved_at"]),
    }


def _arbiter(row: Mapping[str, Any]) -> dict[str, Any] | None:
    if not row["arbitrated"]:
        return None
    return {
        "kind": row["kind"],
        "id": row["object_id"],
        "updated_at": iso_ms(row["object_updated_at"]),
        "observed_at": iso_ms(row["object_observed_at"]),
        "from": "the API" if row["object_source_rank"] else row["object_svix_id"] or None,
        "deleted_at": iso_ms(row["object_deleted_at"]),
        "buried_by": row["object_buried_by"],
        "revived_at": iso_ms(row["object_revived_at"]),
        "source": row["object_source"],
        "projection": row["object_projection"],
        "synced_at": iso(row["object_synced_at"]),
    }


def _body(body: bytes) -> Any:
    """As JSON where it is some, made harmless as for the database; else as text."""
    try:
        return json_safety.parse(body)
    except (json_safety.NotJson, UnicodeDecodeError):
        return body.decode("utf-8", "replace")


def _print_shown(row: Mapping[str, Any]) -> None:
    shown = _shown(row)
    body, headers = shown.pop("body"), shown.pop("headers")
    parked, arbiter = shown.pop("parked"), shown.pop("object")
    shown["subjects"] = " ".join(shown["subjects"]) or None
    shown["withheld"] = "parts of the body are not stored" if shown["withheld"] else None
    print_pairs(shown.items(), title=f"Event {shown.pop('svix_id')}")
    print_pairs(headers.items(), title="\nHeaders")
    if parked is not None:
        print_pairs(parked.items(), title="\nParked" if parked["resolved"] is None else "\nParked, and resolved")
    if arbiter is not None:
        print_pairs(arbiter.items(), title="\nObject as it stands now")
    elif shown["object_id"] is not None:
        print_pairs([("", "never applied")], title="\nObject as it stands now")
    say("\nBody")
    say(printable(_pretty(body), lines=True))


def _pretty(body: Any) -> str:
    """Indented JSON in readable characters, or the text that it is."""
    return body if isinstance(body, str) else json.dumps(body, indent=2, ensure_ascii=False, default=float)
