"""`nexus-auth status`: rows, sweeps, and what waits for a human."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import click

from nexus_auth.store import overview
from nexus_auth.store.instance import holder
from services.cli.database import Failed, connected, run
from services.cli.moments import iso, iso_ms
from services.cli.output import print_json, print_pairs, print_table, say
from services.cli.selection import output_option
from services.cli.settings import CliSettings, read_settings
from services.cli.wording import BY_HAND, KINDS, REPORTED, found_of, kind_words, repaired_of

STATES = ("aborted", "superseded", "completed", "running", "parked", "failed")
"""Of a sweep's runs, that which says most about it last."""


@click.command()
@output_option
def status(*, output: str) -> None:
    """Show instance, rows, last runs and whatever waits; exit 1 if some of it waits for a human or a run failed."""
    run(_status(read_settings(), output=output))


async def _status(settings: CliSettings, *, output: str) -> None:
    async with connected(settings) as connection:
        held = await holder(connection)
        seen = Seen(
            instance_id=held[0] if held else None,
            rows=await overview.rows(connection),
            standing=await overview.standing(connection),
            runs=await overview.recent_runs(connection),
            budget=await overview.budget(connection, held[0]) if held else None,
            differing=await overview.standing_differences(connection),
            connections=await overview.connections(connection, role_prefix=settings.role_prefix),
        )
    trouble = list(_trouble(seen))
    if output == "json":
        print_json(_shown(seen, trouble=trouble))
    else:
        _print(seen)
    if trouble:
        raise Failed(*trouble)


@dataclass(frozen=True)
class Seen:
    """What one look found."""

    instance_id: str | None
    rows: Mapping[str, int]
    standing: Mapping[str, Any]
    runs: Sequence[Mapping[str, Any]]
    budget: Mapping[str, Any] | None
    differing: Sequence[Mapping[str, Any]]
    connections: Mapping[str, Any]


def _trouble(seen: Seen) -> Iterator[str]:
    """Sentences about what does not mend itself."""
    standing = seen.standing
    if standing["parked"]:
        yield f"{standing['parked']} events are parked: nexus-auth inbox list --state parked"
    if standing["distrusted"]:
        yield "a signing secret is not believed any more, and its deletions are held: nexus-auth held list"
    if standing["refused"]:
        yield f"Postgres refuses {standing['refused']} of Clerk's objects: nexus-auth findings --problem refused"
    newest: dict[tuple[str, str], Mapping[str, Any]] = {}
    for of in seen.runs:
        newest.setdefault((of["sync"], of["kind"]), of)
        if of["state"] == "parked" and of["deletions_parked"] and of["approved_at"] is None:
            yield f"run {of['id']} waits for an approval: {of['message']}"
    stopped: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for last in newest.values():
        stands = last["state"] == "failed" or (last["state"] == "parked" and last["waits_for"] is None)
        if stands and not _passed(last, seen.runs):
            stopped.setdefault((last["state"], last["message"]), []).append(last)
    for (state, message), runs in stopped.items():  # one cause stops every kind: it is said once
        which = ", ".join(f"{of['id']} ({kind_words(of['kind'], 2)})" for of in reversed(runs))
        yield f"run{'s' * (len(runs) > 1)} {which} {state}: {message}"


def _passed(last: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a run by hand did not end well, which nobody repeats, and the sync's own has completed since."""
    sync = next((last["sync"].removesuffix(end) for end in (BY_HAND, REPORTED) if last["sync"].endswith(end)), None)
    return any(
        (of["sync"], of["kind"], of["state"]) == (sync, last["kind"], "completed") and of["id"] > last["id"]
        for of in runs
    )


def _shown(seen: Seen, *, trouble: list[str]) -> dict[str, Any]:
    standing, budget = seen.standing, seen.budget
    waiting = ("parked", "held", "waiting", "burying", "doubts", "runs_to_approve", "refused")
    return {
        "instance": seen.instance_id,
        "rows": {resource: seen.rows[kind] for resource, kind in KINDS.items()},
        "tombstones": standing["tombstones"],
        "waiting": {name: standing[name] for name in waiting},
        "last_event_at": iso(standing["last_event_at"]),
        "watermark": iso_ms(standing["watermark"]),
        "budget": {**budget, "paused_until": iso(budget["paused_until"])} if budget else None,
        "runs": [
            {**of, **{at: iso(of[at]) for at in ("started_at", "finished_at", "approved_at")}} for of in seen.runs
        ],
        "trouble": trouble,
        "connections": seen.connections,
        "counts_differ": [
            {**of, **{at: iso(of[at]) for at in ("first_seen_at", "checked_at")}} for of in seen.differing
        ],
    }


def _print(seen: Seen) -> None:
    standing, now = seen.standing, seen.standing["now"]
    print_pairs(
        [
            ("Clerk instance", seen.instance_id or "none yet"),
            *((kind_words(kind, 2), f"{number:,}") for kind, number in seen.rows.items()),
            ("tombstones", f"{standing['tombstones']:,}"),
            ("last event", ago(standing["last_event_at"], now=now)),
            ("watermark", iso_ms(standing["watermark"]) or "none: no full sweep has completed"),
            ("budget", _budget(seen.budget, now=now)),
            ("connections", _connections(seen.connections)),
            *([("counts differ", _differing(seen.differing))] if seen.differing else []),
        ],
        title="Mirror",
    )
    waiting = {
        "parked events": (standing["parked"], "nexus-auth inbox list --state parked"),
        "deletions held until Clerk's API confirms them": (standing["held"], "nexus-auth held list"),
        "events of kinds that have no table yet": (standing["waiting"], None),
        "rows still to be buried": (standing["burying"], None),
        "objects that await a read by name": (standing["doubts"], None),
        "runs that wait for an approval": (standing["runs_to_approve"], "nexus-auth findings --run N"),
        "objects that Postgres refuses": (standing["refused"], "nexus-auth findings --problem refused"),
    }
    print_pairs(
        [
            (what, f"{number:,}" if shown_by is None else f"{number:,}  {shown_by}")
            for what, (number, shown_by) in waiting.items()
            if number
        ]
        or [("nothing", "")],
        title="\nWaiting",
    )
    if not seen.runs:
        print_pairs([("none", "nexus-auth sync --full --apply, or start the reconciler")], title="\nSweeps")
        return
    print_table(
        (
            "sweep",
            "sync",
            "mode",
            "policy",
            "state",
            "started",
            "took",
            "runs",
            "found",
            "repaired",
            "requests",
            "says",
        ),
        (_sweep(runs, now=now) for runs in _sweeps(seen.runs)),
        title="\nSweeps",
    )
    for of in seen.runs:
        if of["state"] == "running":
            number = f"{of['counts'].get('seen', 0):,} {kind_words(of['kind'], 2)}"
            say(f"run {of['id']} goes on (host and process: {of['holder']}): {number} seen")


def _sweeps(runs: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """The runs of each sweep, in the order in which they ran; the newest sweep first."""
    sweeps: dict[int, list[Mapping[str, Any]]] = {}
    for of in sorted(runs, key=lambda of: of["id"]):
        sweeps.setdefault(of["sweep_id"], []).append(of)
    return [sweeps[number] for number in sorted(sweeps, reverse=True)]


def _sweep(runs: Sequence[Mapping[str, Any]], *, now: datetime) -> tuple[object, ...]:
    first = runs[0]
    counts = {of["kind"]: of["counts"] for of in runs}
    began = min(of["started_at"] for of in runs)
    ended = max(of["finished_at"] or now for of in runs)
    return (
        first["sweep_id"],
        first["sync"],
        first["mode"],
        first["policy"],
        max((of["state"] for of in runs), key=STATES.index),
        ago(began, now=now),
        f"{max(0.0, (ended - began).total_seconds()):.1f} s",
        tuple(f"{of['id']} ({kind_words(of['kind'], 2)})" for of in runs),
        found_of(counts),
        repaired_of(counts),
        f"{sum(of['requests'] for of in runs):,}",
        tuple(dict.fromkeys(of["message"] for of in runs if of["message"])),
    )


def _budget(budget: Mapping[str, Any] | None, *, now: datetime) -> str:
    if budget is None:
        return "none yet"
    text = f"{budget['per_second']:.2f} requests a second, bursts of {budget['burst']:.0f}, {budget['tokens']:.0f} left"
    paused = budget["paused_until"]
    return f"{text}; paused until {iso(paused)}" if paused is not None and paused > now else text


def _connections(held: Mapping[str, Any]) -> str:
    """Of the whole server, without the connections that are reserved for superusers."""
    parts = [f"{login} {number:,}" for login, number in held["by_login"].items()]
    by = ", ".join([*parts, f"others {held['others']:,}"])
    return f"{held['held']:,} of {held['max'] - held['reserved']:,} ({by}); max_connections {held['max']:,}"


def _differing(differing: Sequence[Mapping[str, Any]]) -> str:
    parts = (
        f"{abs(of['difference']):,} {kind_words(of['kind'], abs(of['difference']))}"
        f" {'more' if of['difference'] > 0 else 'fewer'}"
        for of in differing
    )
    left = all(of["left_standing"] == of["difference"] for of in differing)
    end = "a full sweep left it so: nexus-auth findings" if left else "a full sweep is due"
    return f"Clerk has {', '.join(parts)} than the mirror will have once what waits is done; {end}"


def ago(moment: datetime | None, *, now: datetime) -> str:
    """How long ago, in one unit."""
    if moment is None:
        return "never"
    seconds = max(0.0, (now - moment).total_seconds())
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
