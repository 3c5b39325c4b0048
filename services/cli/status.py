"""`nexus-auth status`: one look at how a database stands, and what waits for somebody."""

from collections.abc import Iterator, Mapping
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
from services.cli.wording import found_of, kind_words, repaired_of


@click.command()
@output_option
def status(*, output: str) -> None:
    """Show instance, rows, last runs and whatever waits; exit 1 if some of it waits for a human or a run failed."""
    run(_status(read_settings(), output=output))


async def _status(settings: CliSettings, *, output: str) -> None:
    async with connected(settings) as connection:
        held = await holder(connection)
        standing = await overview.standing(connection)
        runs = await overview.recent_runs(connection)
        budget = await overview.budget(connection, held[0]) if held else None
        differing = await overview.standing_differences(connection)
        connections = await overview.connections(connection, role_prefix=settings.role_prefix)
    trouble = list(_trouble(standing, runs))
    if output == "json":
        print_json(
            {
                **_shown(held, standing=standing, runs=runs, budget=budget, trouble=trouble),
                "connections": connections,
                "counts_differ": [
                    {**of, **{at: iso(of[at]) for at in ("first_seen_at", "checked_at")}} for of in differing
                ],
            }
        )
    else:
        _print(held, standing=standing, runs=runs, budget=budget, differing=differing, connections=connections)
    if trouble:
        raise Failed("; ".join(trouble))


def _trouble(standing: Mapping[str, Any], runs: list[dict[str, Any]]) -> Iterator[str]:
    """Sentences about what does not mend itself."""
    if standing["parked"]:
        yield f"{standing['parked']} events are parked: nexus-auth inbox list --state parked"
    newest: dict[str, Mapping[str, Any]] = {}
    for of in runs:
        newest.setdefault(of["sync"], of)
        if of["state"] == "parked" and of["deletions_parked"] and of["approved_at"] is None:
            yield f"run {of['id']} waits for an approval: {of['message']}"
    for last in newest.values():
        if last["state"] == "failed" or (last["state"] == "parked" and not last["deletions_parked"]):
            yield f"run {last['id']} {last['state']}: {last['message']}"


def _shown(
    held: tuple[str, datetime, str] | None,
    *,
    standing: Mapping[str, Any],
    runs: list[dict[str, Any]],
    budget: Mapping[str, Any] | None,
    trouble: list[str],
) -> dict[str, Any]:
    return {
        "instance": held[0] if held else None,
        "rows": {kind: standing[kind] for kind in ("users", "organizations", "memberships")},
        "tombstones": standing["tombstones"],
        "waiting": {name: standing[name] for name in ("parked", "waiting", "burying", "doubts", "runs_to_approve")},
        "last_event_at": iso(standing["last_event_at"]),
        "watermark": iso_ms(standing["watermark"]),
        "budget": {**budget, "paused_until": iso(budget["paused_until"])} if budget else None,
        "runs": [{**of, **{at: iso(of[at]) for at in ("started_at", "finished_at", "approved_at")}} for of in runs],
        "trouble": trouble,
    }


def _print(
    held: tuple[str, datetime, str] | None,
    *,
    standing: Mapping[str, Any],
    runs: list[dict[str, Any]],
    budget: Mapping[str, Any] | None,
    differing: list[Mapping[str, Any]],
    connections: Mapping[str, Any],
) -> None:
    now = standing["now"]
    print_pairs(
        [
            ("Clerk instance", held[0] if held else "none yet"),
            ("users", f"{standing['users']:,}"),
            ("organizations", f"{standing['organizations']:,}"),
            ("memberships", f"{standing['memberships']:,}"),
            ("tombstones", f"{standing['tombstones']:,}"),
            ("last event", ago(standing["last_event_at"], now=now)),
            ("watermark", iso_ms(standing["watermark"]) or "none: no full sweep has completed"),
            ("budget", _budget(budget, now=now)),
            ("connections", _connections(connections)),
            *([("counts differ", _differing(differing))] if differing else []),
        ],
        title="Mirror",
    )
    waiting = {
        "parked events": standing["parked"],
        "events of kinds that have no table yet": standing["waiting"],
        "rows still to be buried": standing["burying"],
        "doubts queued for verification": standing["doubts"],
        "runs that wait for an approval": standing["runs_to_approve"],
    }
    print_pairs(
        [(what, f"{number:,}") for what, number in waiting.items() if number] or [("nothing", "")], title="\nWaiting"
    )
    if not runs:
        print_pairs([("none", "nexus-auth sync --full --apply, or start the reconciler")], title="\nRuns")
        return
    print_table(
        ("run", "sync", "mode", "policy", "state", "started", "took", "found", "repaired", "requests"),
        (
            (
                of["id"],
                of["sync"],
                of["mode"],
                of["policy"],
                of["state"],
                ago(of["started_at"], now=now),
                _took(of, now=now),
                found_of(of["counts"]),
                repaired_of(of["counts"]),
                of["requests"],
            )
            for of in runs
        ),
        title="\nRuns",
    )
    for of in runs:
        if of["state"] == "running":
            seen = ", ".join(
                f"{counts.get('seen', 0):,} {kind_words(kind, 2)}" for kind, counts in of["counts"].items()
            )
            say(f"run {of['id']} goes on (host and process: {of['holder']}): {seen or 'nothing seen yet'}")


def _budget(budget: Mapping[str, Any] | None, *, now: datetime) -> str:
    if budget is None:
        return "none yet"
    text = f"{budget['per_second']:.2f} requests a second, bursts of {budget['burst']:.0f}, {budget['tokens']:.0f} left"
    paused = budget["paused_until"]
    return f"{text}; paused until {iso(paused)}" if paused is not None and paused > now else text


def _connections(held: Mapping[str, Any]) -> str:
    """Of the whole server: what is reserved is for superusers, and for whoever mends it."""
    parts = [f"{login} {number:,}" for login, number in held["by_login"].items()]
    by = ", ".join([*parts, f"others {held['others']:,}"])
    return f"{held['held']:,} of {held['max'] - held['reserved']:,} ({by}); max_connections {held['max']:,}"


def _differing(differing: list[Mapping[str, Any]]) -> str:
    parts = (
        f"{abs(of['difference']):,} {kind_words(of['kind'], abs(of['difference']))}"
        f" {'more' if of['difference'] > 0 else 'fewer'}"
        for of in differing
    )
    left = all(of["left_standing"] == of["difference"] for of in differing)
    end = "a full sweep left it so: nexus-auth findings" if left else "a full sweep is due"
    return f"Clerk has {', '.join(parts)} than the mirror, what is parked left out; {end}"


def ago(moment: datetime | None, *, now: datetime) -> str:
    """How long ago, in one unit."""
    if moment is None:
        return "never"
    seconds = max(0.0, (now - moment).total_seconds())
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def _took(of: Mapping[str, Any], *, now: datetime) -> str:
    return f"{max(0.0, ((of['finished_at'] or now) - of['started_at']).total_seconds()):.1f} s"
