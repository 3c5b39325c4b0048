"""How a database stands, read for people: counts, runs, findings, deletions that wait for an approval."""

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

STANDING = files("nexus_auth.store").joinpath("status.sql").read_text("utf-8")
RUNS = files("nexus_auth.store").joinpath("status_runs.sql").read_text("utf-8")
CONNECTIONS = files("nexus_auth.store").joinpath("connections.sql").read_text("utf-8")
FINDINGS = files("nexus_auth.store").joinpath("findings.sql").read_text("utf-8")
DRIFT = files("nexus_auth.store").joinpath("drift.sql").read_text("utf-8")

PROBLEMS = (
    *("missing", "stale", "extra", "edited", "deep", "projection", "resurfaced", "ahead", "unadopted", "refused"),
)
"""What a finding may be."""


async def standing(connection: Any) -> Mapping[str, Any]:
    """The database's numbers, one row: see the query."""
    return dict(await connection.fetchrow(STANDING))


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


async def findings(
    connection: Any, *, run: int | None, kind: str | None, problem: str | None, limit: int
) -> list[Mapping[str, Any]]:
    """What a run found, or the newest run that found something."""
    return [dict(row) for row in await connection.fetch(FINDINGS, run, kind, problem, limit)]


async def newest_with_findings(connection: Any, *, sync: str) -> int | None:
    """The newest run of a sync, runs by hand beside it included, that found something."""
    found: int | None = await connection.fetchval(
        "select f.run_id from clerk_private.findings f join clerk_private.runs r on r.id = f.run_id"
        " where r.sync = $1 or r.sync like $1 || '/%' order by f.run_id desc limit 1",
        sync,
    )
    return found


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
    has: bool = await connection.fetchval(
        "select exists (select from clerk_private.watermarks where sync = $1 and kind = 'user')", sync
    )
    return has
