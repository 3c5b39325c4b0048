"""Runs of the reconciler: who leads one, how far it came, what it found. The epoch on a run's row is the fence.

A lock alone fences nothing: its connection dies, another process leads, and the first one still writes on its pool. So
every transaction that writes for a run begins with `clerk_private.fence`, which finds the row in another epoch as soon
as somebody else has taken the run over.
"""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from typing import Any, Literal

import asyncpg

from nexus_auth.store.ingest import Change
from nexus_auth.store.leadership import is_led

Mode = Literal["incremental", "full", "deep"]
Policy = Literal["Report", "Fix"]

LOST = "55000"
"""SQLSTATE of a fence that was passed by another epoch."""

APPROVAL_LASTS = timedelta(hours=24)
ABANDONED_AFTER = timedelta(hours=1)


class Fenced(Exception):
    """Another process has taken this run over: nothing more may be written for it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference."""

    kind: str
    id: str
    problem: str
    """missing, stale, extra, edited, deep, projection, resurfaced (a tombstone is listed), ahead (ours is too high)."""
    action: str = "reported"
    expected_at: int | None = None
    """`updated_at` as Clerk has it, ms."""


@dataclass
class Run:
    """A run that this process leads."""

    id: int
    sync: str
    mode: Mode
    policy: Policy
    kinds: tuple[str, ...]
    epoch: int
    progress: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    resumed: bool = False

    def count(self, kind: str, what: str, number: int = 1) -> None:
        """Adds to a counter of one kind."""
        if number:
            of_kind = self.counts.setdefault(kind, {})
            of_kind[what] = of_kind.get(what, 0) + number


async def lead(
    pool: "asyncpg.Pool[asyncpg.Record]",
    *,
    sync: str,
    mode: Mode,
    policy: Policy,
    kinds: Sequence[str],
    holder: str,
) -> Run:
    """Takes the sync's running run over, or begins one. From then on whoever led it before is fenced.

    The caller is the leader: it must know (by a Lease, or by being alone) that it may lead.
    """
    async with pool.acquire() as connection, connection.transaction():
        row = await connection.fetchrow(
            "update clerk_private.runs set epoch = epoch + 1, holder = $2, alive_at = now()"
            " where sync = $1 and state = 'running' returning *",
            sync,
            holder,
        )
        resumed = row is not None
        if row is not None and (row["mode"], row["policy"], row["kinds"]) != (mode, policy, list(kinds)):
            await connection.execute(
                "update clerk_private.runs set state = 'aborted', finished_at = now(),"
                " message = 'given up for another run' where id = $1",
                row["id"],
            )
            row, resumed = None, False
        if row is None:
            row = await connection.fetchrow(
                "insert into clerk_private.runs (sync, mode, policy, kinds, holder) values ($1, $2, $3, $4, $5)"
                " returning *",
                sync,
                mode,
                policy,
                list(kinds),
                holder,
            )
    return Run(
        id=row["id"],
        sync=sync,
        mode=row["mode"],
        policy=row["policy"],
        kinds=tuple(row["kinds"]),
        epoch=row["epoch"],
        progress=json.loads(row["progress"]),
        counts=json.loads(row["counts"]),
        resumed=resumed,
    )


@asynccontextmanager
async def writing(pool: "asyncpg.Pool[asyncpg.Record]", run: Run, *, changes_run: bool = False) -> "AsyncIterator[Any]":
    """A transaction of the run, fenced by its first statement. Raises `Fenced`.

    One that changes the run's own row says so: two that hold the fence's shared lock and then want more than that wait
    for each other.
    """
    try:
        async with pool.acquire() as connection, connection.transaction():
            if changes_run:
                await connection.execute("select from clerk_private.runs where id = $1 for no key update", run.id)
            await connection.execute("select clerk_private.fence($1, $2)", run.id, run.epoch)
            yield connection
    except asyncpg.PostgresError as error:
        if error.sqlstate == LOST:
            raise Fenced(str(error)) from None
        raise


async def apply(connection: Any, run: Run, changes: Sequence[Change]) -> list[str]:
    """Applies what was read from Clerk, inside `writing`; outcomes as of `nexus_auth.store.ingest.OUTCOMES`."""
    outcomes: list[str] = await connection.fetchval(
        "select clerk_private.repair($1, $2, $3::clerk_private.change[])", run.id, run.epoch, list(changes)
    )
    return outcomes


async def undo_edits(connection: Any, run: Run, kind: str, ids: Sequence[str]) -> None:
    """Makes typed rows again what their objects project to, inside `writing`."""
    await connection.execute("select clerk_private.undo_edits($1, $2, $3, $4)", run.id, run.epoch, kind, list(ids))


async def note(connection: Any, run: Run, findings: Sequence[Finding]) -> None:
    """Writes findings down; one that this run noted before gets its newer problem and action."""
    if findings:
        await connection.executemany(
            "insert into clerk_private.findings as f (run_id, kind, id, problem, action, expected_at)"
            " values ($1, $2, $3, $4, $5, $6) on conflict (run_id, kind, id) do update set"
            # a row that a hand removed is missing to a run that only reports: still edited.
            # listed in one window and held in another: its created_at differs, nothing is extra
            " problem = case when f.problem = 'edited' and excluded.problem = 'missing' then 'edited'"
            " when 'extra' in (f.problem, excluded.problem) and f.problem <> excluded.problem"
            " and 'edited' not in (f.problem, excluded.problem) then 'stale' else excluded.problem end,"
            " action = case when excluded.problem = 'extra' and f.problem <> 'extra' then f.action"
            " else excluded.action end,"
            " expected_at = coalesce(excluded.expected_at, f.expected_at)",
            [(run.id, f.kind, f.id, f.problem, f.action, f.expected_at) for f in findings],
        )


async def save(connection: Any, run: Run, *, requests: int) -> None:
    """Keeps progress and counts, so that a successor goes on from here."""
    await connection.execute(
        "update clerk_private.runs set progress = $2, counts = $3, requests = $4, alive_at = now() where id = $1",
        run.id,
        json.dumps(run.progress),
        json.dumps(run.counts),
        requests,
    )


async def finish(
    pool: "asyncpg.Pool[asyncpg.Record]", run: Run, *, state: str, message: str | None, requests: int
) -> None:
    """Ends a run: completed, parked or failed, with a sentence that says what to do."""
    async with writing(pool, run, changes_run=True) as connection:
        await save(connection, run, requests=requests)
        await connection.execute(
            "update clerk_private.runs set state = $2, message = $3, finished_at = now() where id = $1",
            run.id,
            state,
            message,
        )


async def abort(connection: Any, *, sync: str, holder: str, why: str) -> None:
    """Ends the run that this holder leads for a sync, if there is one: nobody will resume it."""
    await connection.execute(
        "update clerk_private.runs set state = 'aborted', message = $3, finished_at = now()"
        " where sync = $1 and holder = $2 and state = 'running'",
        sync,
        holder,
        why,
    )


async def abort_abandoned(connection: Any, *, known: Sequence[str]) -> None:
    """Ends runs of syncs that are not `known`, that nobody leads, and that showed no sign of life for a long time."""
    rows = await connection.fetch(
        "select id, sync, epoch from clerk_private.runs"
        " where state = 'running' and sync <> all ($1) and alive_at < now() - $2::interval",
        list(known),
        ABANDONED_AFTER,
    )
    for row in rows:
        if not await is_led(connection, row["sync"]):
            await connection.execute(
                "update clerk_private.runs set state = 'aborted', finished_at = now(),"
                " message = 'its ClerkSync or manifest is gone, and nobody goes on with it'"
                " where id = $1 and epoch = $2 and state = 'running'",
                row["id"],
                row["epoch"],
            )


def digest(ids: Sequence[tuple[str, str]]) -> bytes:
    """What an approval is about: the (kind, id) pairs, in order."""
    return sha256("\n".join(f"{kind} {object_id}" for kind, object_id in sorted(ids)).encode()).digest()


async def park(connection: Any, run: Run, ids: Sequence[tuple[str, str]]) -> None:
    """Leaves deletions to a human; inside `writing` that changes the run."""
    await connection.executemany(
        "insert into clerk_private.parked_deletions (run_id, kind, id) values ($1, $2, $3) on conflict do nothing",
        [(run.id, kind, object_id) for kind, object_id in ids],
    )
    parked = await _parked_ids(connection, run.id)
    await connection.execute("update clerk_private.runs set parked_digest = $2 where id = $1", run.id, digest(parked))


async def approve(connection: Any, run_id: int, *, approved_by: str) -> bytes:
    """Approves a parked run's deletions, those and no others; answers their digest. Raises LookupError."""
    row = await connection.fetchrow("select state, parked_digest from clerk_private.runs where id = $1", run_id)
    if row is None:
        raise LookupError(f"there is no run {run_id}")
    if row["state"] != "parked" or row["parked_digest"] is None:
        raise LookupError(f"run {run_id} is {row['state']} and waits for no approval")
    await connection.execute(
        "update clerk_private.runs set approved_by = $2, approved_at = now() where id = $1", run_id, approved_by
    )
    return bytes(row["parked_digest"])


async def approved(connection: Any, *, sync: str) -> tuple[int, list[tuple[str, str]]] | None:
    """The newest parked run of a sync whose approval stands, and exactly the ids that it covers."""
    row = await connection.fetchrow(
        "select id, parked_digest from clerk_private.runs where sync = $1 and state = 'parked'"
        " and approved_at > now() - $2::interval order by id desc limit 1",
        sync,
        APPROVAL_LASTS,
    )
    if row is None:
        return None
    ids = await _parked_ids(connection, row["id"])
    if digest(ids) == bytes(row["parked_digest"]):
        return row["id"], ids
    # it was given for others: taken back, else it would be looked at again and again
    await connection.execute("update clerk_private.runs set approved_at = null where id = $1", row["id"])
    return None


async def repaired_before(connection: Any, kind: str) -> bool:
    """Whether a sweep with the policy `Fix` has been through a kind, whichever sync's."""
    been: bool = await connection.fetchval(
        "select exists (select from clerk_private.runs where policy = 'Fix' and mode in ('full', 'deep')"
        " and state in ('completed', 'parked') and $1 = any (kinds))",
        kind,
    )
    return been


async def has_parked(connection: Any, run_id: int) -> bool:
    """Whether deletions of a run wait for a human."""
    parked: bool = await connection.fetchval(
        "select exists (select from clerk_private.parked_deletions where run_id = $1)", run_id
    )
    return parked


async def _parked_ids(connection: Any, run_id: int) -> list[tuple[str, str]]:
    rows = await connection.fetch("select kind, id from clerk_private.parked_deletions where run_id = $1", run_id)
    return [(row["kind"], row["id"]) for row in rows]


async def latest(connection: Any, *, sync: str) -> Mapping[str, Any] | None:
    """The newest run of a sync."""
    row: Mapping[str, Any] | None = await connection.fetchrow(
        "select * from clerk_private.runs where sync = $1 order by id desc limit 1", sync
    )
    return row


async def extras(connection: Any, run: Run, *, kind: str) -> list[str]:
    """Ids that the run's walk did not list and that nothing has been decided about yet."""
    rows = await connection.fetch(
        "select id from clerk_private.findings"
        " where run_id = $1 and kind = $2 and problem = 'extra' and action = 'reported'",
        run.id,
        kind,
    )
    return [row["id"] for row in rows]
