"""How a database stands, read for people: counts, runs, findings, deletions that wait for an approval."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from typing import Any

from nexus_auth.clerk.catalogue import PROJECTED
from nexus_auth.store import held

STANDING = files("nexus_auth.store").joinpath("status.sql").read_text("utf-8")
RUNS = files("nexus_auth.store").joinpath("status_runs.sql").read_text("utf-8")
ROWS = files("nexus_auth.store").joinpath("status_rows.sql").read_text("utf-8")
SEEN = files("nexus_auth.store").joinpath("seen_so_far.sql").read_text("utf-8")
COPY = files("nexus_auth.store").joinpath("watermarks_copy.sql").read_text("utf-8")
CONNECTIONS = files("nexus_auth.store").joinpath("connections.sql").read_text("utf-8")
FINDINGS = files("nexus_auth.store").joinpath("findings.sql").read_text("utf-8")
DRIFT = files("nexus_auth.store").joinpath("drift.sql").read_text("utf-8")
MAY_KNOW = files("nexus_auth.store").joinpath("arrivals_may.sql").read_text("utf-8")
SECRETS = files("nexus_auth.store").joinpath("secrets_seen.sql").read_text("utf-8")
NEWEST_WITH_FINDINGS = files("nexus_auth.store").joinpath("newest_with_findings.sql").read_text("utf-8")
UNLISTED = files("nexus_auth.store").joinpath("findings_unlisted.sql").read_text("utf-8")

PROBLEMS = (
    *("missing", "stale", "extra", "edited", "deep", "projection", "resurfaced", "ahead", "unadopted", "refused"),
)
"""What a finding may be."""

OPEN = ("reported", "parked", "queued", "awaiting second read", "refused")
"""Actions that leave a difference standing."""


async def standing(connection: Any) -> Mapping[str, Any]:
    """The database's numbers, one row: see the query."""
    return dict(await connection.fetchrow(STANDING))


async def rows(connection: Any) -> Mapping[str, int]:
    """How many rows applications read, by kind."""
    numbers = {row["kind"]: row["number"] for row in await connection.fetch(ROWS)}
    return {entity.kind: numbers.get(entity.kind, 0) for entity in PROJECTED}


async def seen_so_far(connection: Any, sync: str) -> int:
    """How many objects the newest sweep of a sync has seen."""
    seen: int = await connection.fetchval(SEEN, sync)
    return seen


async def copy_watermarks(connection: Any, sync: str, *, to: str) -> None:
    """Lets runs under another name look back to where a sync has come to."""
    await connection.execute(COPY, sync, to)


async def recent_runs(connection: Any, *, limit: int = 20) -> list[dict[str, Any]]:
    """Runs that matter now, the newest first; each is of one kind, and those of one sweep share `sweep_id`."""
    return [{**dict(row), "counts": json.loads(row["counts"])} for row in await connection.fetch(RUNS, limit)]


async def standing_differences(connection: Any) -> list[Mapping[str, Any]]:
    """Kinds of which Clerk counts more (or, below zero, fewer) than the mirror, as last checked by any sync.

    `left_standing` is what the last full sweep could not mend.
    """
    rows = await connection.fetch(
        "select c.kind, c.sync, c.difference, c.left_standing, c.first_seen_at, c.checked_at from ("
        "select distinct on (kind) * from clerk_private.count_checks order by kind, checked_at desc) c"
        " where c.stands or c.left_standing is not null"
    )
    return [dict(row) for row in rows]


async def budget(connection: Any, instance_id: str) -> Mapping[str, Any] | None:
    """The instance's budget of requests, if it has one: per_second, burst, tokens as of now, paused_until."""
    row = await connection.fetchrow(
        "select per_second, burst, paused_until, least(burst, tokens + per_second"
        " * greatest(0, extract(epoch from clock_timestamp() - refilled_at))) as tokens"
        " from clerk_private.budget where instance_id = $1",
        instance_id,
    )
    return dict(row) if row is not None else None


async def connections(connection: Any, *, role_prefix: str) -> Mapping[str, Any]:
    """How many connections the server takes and has: max, reserved, held, by_login, others; see the query."""
    row = dict(await connection.fetchrow(CONNECTIONS, role_prefix))
    return {**row, "by_login": json.loads(row["by_login"])}


@dataclass(frozen=True, slots=True)
class Found:
    """Findings of one run, the newest of them, and how many there are in all."""

    rows: Sequence[Mapping[str, Any]] = ()
    total: int = 0
    """Of the run, shown or not."""
    open: int = 0
    """Of these, how many still stand."""
    unlisted: int = 0
    """Missing rows that the run counted and did not list one by one, as a backfill does."""


async def findings(connection: Any, *, run: int | None, kind: str | None, problem: str | None, limit: int) -> Found:
    """What a run found, or the newest run that found something."""
    rows = [dict(row) for row in await connection.fetch(FINDINGS, run, kind, problem, limit, list(OPEN))]
    total, standing = (rows[0]["total"], rows[0]["open"]) if rows else (0, 0)
    for row in rows:
        del row["total"], row["open"]
    shown = run if run is not None else rows[0]["run_id"] if rows else None
    unlisted = await connection.fetchval(UNLISTED, shown) if shown is not None else 0
    return Found(rows, total, standing, unlisted)


async def newest_with_findings(connection: Any, *, sync: str, kind: str | None, problem: str | None) -> int | None:
    """The newest run of a sync, runs by hand beside it included, that found something of this kind and problem."""
    found: int | None = await connection.fetchval(NEWEST_WITH_FINDINGS, sync, kind, problem)
    return found


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Whose database it is, and whether events arrive; None where the reader may not know it."""

    holder: str | None
    """The instance that the database belongs to; None also where nobody holds it."""
    claimed_at: datetime | None
    """Since when the database belongs to an instance; None where the reader may not know it, or nobody holds it."""
    last_event_at: datetime | None
    secrets: dict[str, datetime] | None
    """Fingerprints of the secrets that verified the last day's events, with the last event of each; None: unknown."""
    distrusted: Mapping[str, datetime] | None
    """Fingerprints of the secrets whose deletions are held until a human clears them, and since when; None: unknown."""
    knows_arrivals: bool
    """Whether the reader may know when the last event came."""


async def arrivals(connection: Any) -> Arrivals:
    """When the last event came, and which secrets verified the last day's. Any of our groups may ask, and learns what
    it may read.
    """
    may = await connection.fetchrow(MAY_KNOW)
    holder = await connection.fetchval("select id from clerk_private.instance") if may["holder"] else None
    claimed = await connection.fetchval("select claimed_at from clerk_private.instance") if may["claimed"] else None
    last = await connection.fetchval("select max(received_at) from clerk_private.inbox_seen") if may["last"] else None
    secrets = None
    if may["secrets"]:
        secrets = {row["secret"]: row["last"] for row in await connection.fetch(SECRETS)}
    distrusted = await held.distrusted(connection) if may["distrusted"] else None
    return Arrivals(holder, claimed, last, secrets, distrusted, knows_arrivals=may["last"])


async def drift(connection: Any, *, sync: str, limit: int) -> tuple[int, list[Mapping[str, Any]]]:
    """How many objects are known to differ and were not put right, and the first of them: see the query."""
    rows: list[Mapping[str, Any]] = [dict(row) for row in await connection.fetch(DRIFT, sync, limit)]
    return (rows[0]["total"] if rows else 0), rows


async def run_of(connection: Any, run_id: int) -> Mapping[str, Any] | None:
    """One run, or None."""
    row = await connection.fetchrow(
        "select id, sweep_id, sync, kind, mode, policy, state, message, error, started_at, finished_at, parked_digest,"
        " waits_for, superseded_by, approved_by, approved_at from clerk_private.runs where id = $1",
        run_id,
    )
    return dict(row) if row is not None else None


async def parked_deletions(connection: Any, run_id: int) -> Sequence[tuple[str, str]]:
    """The (kind, id) pairs whose deletion waits for an approval of this run."""
    rows = await connection.fetch(
        "select kind, id from clerk_private.parked_deletions where run_id = $1 order by kind, id", run_id
    )
    return [(row["kind"], row["id"]) for row in rows]


async def latest_sync(connection: Any) -> str | None:
    """The sync that had the newest run of a reconciler, by name."""
    name: str | None = await connection.fetchval(
        "select sync from clerk_private.runs where sync !~ '/' order by id desc limit 1"
    )
    return name


async def has_watermark(connection: Any, sync: str) -> bool:
    """Whether an incremental run of a sync has something to go down to."""
    has: bool = await connection.fetchval("select exists (select from clerk_private.watermarks where sync = $1)", sync)
    return has
