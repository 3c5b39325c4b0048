"""Runs of the reconciler: who leads one, how far it came, what it found. The epoch on a run's row is the fence.

A run belongs to one sync and one kind; the runs of one sweep share a number. A lock alone fences nothing: its
connection dies, another process leads, and the first one still writes on its pool. So every transaction that writes for
a run begins with `clerk_private.fence`, which finds the row in another epoch as soon as somebody else has taken the run
over.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from typing import Any, Literal, TypeVar

import asyncpg

from nexus_auth.store.ingest import retried
from nexus_auth.store.leadership import is_led
from nexus_auth.store.queries import load

Mode = Literal["incremental", "full", "deep"]
Policy = Literal["Report", "Fix"]
T = TypeVar("T")

LOST = "55000"
"""SQLSTATE of a fence that was passed by another epoch."""

APPROVAL_LASTS = timedelta(hours=24)
ABANDONED_AFTER = timedelta(hours=1)
PRUNED_AT_ONCE = 20_000
"""Findings, or runs, that one statement removes."""

SQL = load("runs")

CAUSES: Mapping[str, str] = {
    "edited": "edited by hand",
    "projection": "mapper changed",
    "missing": "never received",
    "stale": "never received",
    "extra": "never received",
}
"""Why a finding of each problem came to be, as long as no event says otherwise; else unknown."""


def is_away(error: BaseException) -> bool:
    """Whether the database could not be reached, or went away: then what was begun is resumed later."""
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        return state.startswith(("08", "57P0", "53"))
    if isinstance(error, ValueError):  # what asyncpg could not encode
        return False
    return isinstance(error, asyncpg.InterfaceError | OSError | TimeoutError)


class Fenced(Exception):
    """Another process has taken this run over: nothing more may be written for it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference."""

    kind: str
    id: str
    problem: str
    """missing, stale, extra, edited, deep, projection, resurfaced (a tombstone is listed), ahead (ours is too high),
    unadopted (a row without an arbiter row), refused (Postgres cannot hold it)."""
    action: str = "reported"
    expected_at: int | None = None
    """`updated_at` as Clerk has it, ms."""


@dataclass
class Run:
    """A run that this process leads."""

    id: int
    sweep_id: int
    sync: str
    kind: str
    mode: Mode
    policy: Policy
    epoch: int
    progress: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    listed: bool = False
    """Its walk saw everything that Clerk lists of the kind."""
    waits_for: int | None = None
    """The run whose approval it waits for: itself, or an earlier one that parked the same ids."""
    resumed: bool = False

    def count(self, what: str, number: int = 1) -> None:
        """Adds to a counter."""
        if number:
            self.counts[what] = self.counts.get(what, 0) + number


@dataclass(frozen=True, slots=True)
class WaitingRun:
    """A run whose deletions wait for an approval, or for the next run to do what was approved."""

    run_id: int
    kind: str
    message: str
    approved: bool


async def new_sweep(
    pool: "asyncpg.Pool[asyncpg.Record]", *, sync: str, kinds: Sequence[str], mode: Mode, policy: Policy
) -> int:
    """The number of a sweep that begins, or of the one that was not finished."""
    number: int = await pool.fetchval(SQL["sweep"], sync, list(kinds), mode, policy)
    return number


async def lead(
    pool: "asyncpg.Pool[asyncpg.Record]",
    *,
    sync: str,
    kind: str,
    mode: Mode,
    policy: Policy,
    sweep_id: int,
    holder: str,
) -> Run:
    """Takes the running run of a sync and kind over, or begins one. From then on whoever led it before is fenced.

    The caller is the leader: it must know (by a Lease, or by being alone) that it may lead.
    """
    async with pool.acquire() as connection, connection.transaction():
        row = await connection.fetchrow(SQL["take_over"], sync, kind, holder)
        resumed = row is not None
        if row is not None and (row["mode"], row["policy"]) != (mode, policy):
            await connection.execute(SQL["give_up"], row["id"])
            row, resumed = None, False
        if row is None:
            row = await connection.fetchrow(SQL["begin"], sweep_id, sync, kind, mode, policy, holder)
    return Run(
        id=row["id"],
        sweep_id=row["sweep_id"],
        sync=sync,
        kind=kind,
        mode=row["mode"],
        policy=row["policy"],
        epoch=row["epoch"],
        progress=json.loads(row["progress"]),
        counts=json.loads(row["counts"]),
        listed=row["listed"],
        waits_for=row["waits_for"],
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


async def write(
    pool: "asyncpg.Pool[asyncpg.Record]",
    run: Run,
    work: Callable[[Any], Awaitable[T]],
    *,
    changes_run: bool = False,
) -> T:
    """Runs `work` in a transaction of the run; once more where it lost a deadlock or a serialization conflict.

    `work` may be called several times: what it changes outside of the database must not add up. Raises `Fenced`.
    """

    async def attempt() -> T:
        async with writing(pool, run, changes_run=changes_run) as connection:
            return await work(connection)

    return await retried(attempt)


async def note(connection: Any, run: Run, findings: Sequence[Finding]) -> None:
    """Writes findings down; one that this run noted before gets its newer problem and action."""
    if findings:
        await connection.execute(
            SQL["note"],
            run.id,
            [f.kind for f in findings],
            [f.id for f in findings],
            [f.problem for f in findings],
            [f.action for f in findings],
            [f.expected_at for f in findings],
            [CAUSES.get(f.problem, "unknown") for f in findings],
        )


async def close_findings(connection: Any, *, kind: str, ids: Sequence[str], action: str) -> None:
    """Findings that wait for a read of these ids, of whichever run, get what came of it."""
    if ids:
        await connection.execute(SQL["close_findings"], kind, list(ids), action)


async def extras(connection: Any, run: Run) -> tuple[list[str], list[str]]:
    """What the run's walk did not list and nothing has been decided about.

    Answers the ids that nobody asked about yet, and those that wait for their second read already.
    """
    rows = await connection.fetch(SQL["extras"], run.id, run.kind)
    return [row["id"] for row in rows if not row["queued"]], [row["id"] for row in rows if row["queued"]]


async def save(connection: Any, run: Run, *, requests: int) -> None:
    """Keeps progress and counts, so that a successor goes on from here."""
    await connection.execute(
        SQL["save"], run.id, json.dumps(run.progress), json.dumps(run.counts), requests, run.listed
    )


async def finish(
    pool: "asyncpg.Pool[asyncpg.Record]",
    run: Run,
    *,
    state: str,
    message: str | None,
    requests: int,
    error: str | None = None,
    clears: bool = False,
) -> None:
    """Ends a run: completed, parked or failed, with a sentence; `error` is the type of what ended it.

    `clears`: it listed everything under policy `Fix` and left nothing to delete, so that nothing waits any more.
    """

    async def work(connection: Any) -> None:
        await save(connection, run, requests=requests)
        await connection.execute(SQL["finish"], run.id, state, message, error)
        if clears:
            await connection.execute(SQL["supersede"], run.sync, run.kind, run.id)
        await connection.execute(SQL["settle_waiting"], run.sync)

    await write(pool, run, work, changes_run=True)


async def abort(connection: Any, *, sync: str, holder: str, why: str) -> None:
    """Ends the runs that this holder leads for a sync, if there are some: nobody will resume them."""
    await connection.execute(SQL["abort"], sync, holder, why)


async def abort_abandoned(connection: Any, *, known: Sequence[str]) -> None:
    """Ends runs of syncs that are not `known`, that nobody leads, and that showed no sign of life for a long time."""
    for row in await connection.fetch(SQL["abandoned"], list(known), ABANDONED_AFTER):
        if not await is_led(connection, row["sync"]):
            await connection.execute(SQL["abort_abandoned"], row["id"], row["epoch"])


def digest(ids: Sequence[tuple[str, str]]) -> bytes:
    """What an approval is about: the (kind, id) pairs, in order."""
    return sha256("\n".join(f"{kind} {object_id}" for kind, object_id in sorted(ids)).encode()).digest()


async def park(connection: Any, run: Run, ids: Sequence[str]) -> int:
    """Leaves deletions of the run's kind to a human; inside a transaction that changes the run.

    Answers the run that waits: the one that parked the same ids before, with its approval, or this one, which then
    takes the place of any other.
    """
    if run.waits_for is not None:  # it parked some before
        before = await connection.fetch(SQL["parked_ids"], run.waits_for)
        ids = sorted({*ids, *(row["id"] for row in before)})
    parked = digest([(run.kind, object_id) for object_id in ids])
    waiting: int | None = await connection.fetchval(SQL["same_parked"], run.sync, run.kind, parked)
    if waiting is None:
        await connection.execute(SQL["supersede"], run.sync, run.kind, run.id)
        await connection.execute(SQL["park_ids"], run.id, run.kind, list(ids))
    await connection.execute(SQL["park"], run.id, parked if waiting is None else None, waiting or run.id)
    return waiting or run.id


async def approve(connection: Any, run_id: int, *, approved_by: str) -> bytes:
    """Approves a parked run's deletions, those and no others; answers their digest. Raises LookupError."""
    row = await connection.fetchrow(SQL["approvable"], run_id)
    if row is None:
        raise LookupError(f"there is no run {run_id}")
    if row["state"] == "superseded":
        later = row["superseded_by"]
        raise LookupError(f"run {run_id} was superseded by {later}: nothing was approved; look at run {later}")
    if row["state"] != "parked" or row["parked_digest"] is None:
        raise LookupError(f"run {run_id} is {row['state']} and waits for no approval")
    await connection.execute(SQL["approve"], run_id, approved_by)
    return bytes(row["parked_digest"])


async def approved(connection: Any, *, sync: str, kind: str) -> tuple[int, list[tuple[str, str]]] | None:
    """The waiting run of a sync and kind whose approval stands, and exactly the ids that it covers."""
    row = await connection.fetchrow(SQL["approved"], sync, kind, APPROVAL_LASTS)
    if row is None:
        return None
    ids = [(each["kind"], each["id"]) for each in await connection.fetch(SQL["parked_ids"], row["id"])]
    if digest(ids) == bytes(row["parked_digest"]):
        return row["id"], ids
    # it was given for others: taken back, else it would be looked at again and again
    await connection.execute(SQL["take_approval_back"], row["id"])
    return None


async def approval_done(connection: Any, run_id: int, *, message: str) -> None:
    """Ends a run whose approved deletions were made."""
    await connection.execute(SQL["approval_done"], run_id, message)


async def waiting(connection: Any, *, sync: str) -> tuple[WaitingRun, ...]:
    """The runs of a sync whose deletions wait; one of each kind at most."""
    return tuple(
        WaitingRun(row["id"], row["kind"], row["message"] or "", bool(row["approved"]))
        for row in await connection.fetch(SQL["waiting"], sync)
    )


async def repaired_before(connection: Any, kind: str) -> bool:
    """Whether a sweep with the policy `Fix` has been through a kind, whichever sync's."""
    been: bool = await connection.fetchval(SQL["repaired_before"], kind)
    return been


async def latest(connection: Any, *, sync: str) -> Mapping[str, Any] | None:
    """The newest run of a sync."""
    row: Mapping[str, Any] | None = await connection.fetchrow(SQL["latest"], sync)
    return row


async def prune(connection: Any, *, keep: timedelta) -> int:
    """Removes findings and runs that ended longer ago than `keep`; answers how many rows went.

    What waits for a human stays, and the newest run of each sync, kind and mode, by which the schedule goes.
    """
    removed = 0
    for statement in (SQL["prune_findings"], SQL["prune_runs"]):
        while True:
            gone = int((await connection.execute(statement, keep, PRUNED_AT_ONCE)).rpartition(" ")[2])
            removed += gone
            if gone < PRUNED_AT_ONCE:
                break
    return removed


async def watermark(connection: Any, *, sync: str, kind: str) -> int | None:
    """The highest `updated_at` that a sync has seen of a kind, ms."""
    mark: int | None = await connection.fetchval(SQL["watermark"], sync, kind)
    return mark


async def move_watermark(connection: Any, run: Run, updated_at: int) -> None:
    """Moves the watermark of the run's sync and kind up, never down."""
    if updated_at:
        await connection.execute(SQL["move_watermark"], run.sync, run.kind, updated_at)


async def tell_causes(connection: Any, run: Run, *, milliseconds: int) -> None:
    """Corrects the causes of findings by what the inbox has; inside a transaction of the run.

    Raises `asyncpg.QueryCanceledError` where that takes longer than `milliseconds`.
    """
    await connection.execute("select set_config('statement_timeout', $1, true)", str(milliseconds))
    await connection.execute("select set_config('plan_cache_mode', 'force_custom_plan', true)")
    marks = await connection.fetchrow(SQL["cause_marks"], run.id, run.sync, run.kind)
    if marks["since"] is not None:
        await connection.execute(SQL["late_causes"], run.kind, marks["since"])
    await connection.execute(SQL["other_causes"], run.id, marks["began"])
