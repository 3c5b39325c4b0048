"""One run: everything that Clerk lists of every kind, set beside what we hold, and what differs put right.

Order within a kind: rows edited by hand first, without asking anybody; then the walk, whose spans are compared and
repaired as they come; then, only if the walk saw everything, what it did not list. Memory holds a page per walker and
the ids of what may have to go.
"""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from itertools import pairwise
from typing import Any

import asyncpg
import msgspec

from nexus_auth.clerk.api import ClerkRefused, ClerkUnavailable
from nexus_auth.clerk.catalogue import ENTITIES, Entity
from nexus_auth.clerk.envelope import safe_object
from nexus_auth.clerk.json_safety import NotJson
from nexus_auth.clerk.version import API
from nexus_auth.failpoints import Failpoint, nowhere
from nexus_auth.reconcile.deletion import GROUPS, Verdict, chunks, owner_of, verify
from nexus_auth.reconcile.policy import SyncPolicy
from nexus_auth.reconcile.requester import Requester
from nexus_auth.reconcile.turns import Turns
from nexus_auth.reconcile.walk import (
    END,
    OVERLAP,
    PAGE,
    IncompleteWalk,
    Item,
    Span,
    items_of,
    walk_offsets,
    walk_window,
)
from nexus_auth.store import comparison, runs
from nexus_auth.store.ingest import Change
from nexus_auth.store.runs import Fenced, Finding, Run

ATTEMPTS = 3
"""Walks of one window, or of one list, before it is given up for this run."""

SAVE_SECONDS = 1.0
SAVE_SPARES = 10.0
"""Saving stops the walkers; it begins again after so many times as long as it took."""

EDITED_CHUNK = 5_000
WINDOW_ROWS = 4 * PAGE
"""Users that a window holds at least: smaller ones cost more requests than they save time."""

logger = logging.getLogger(__name__)


class Sweep:
    """One full or deep run. `requests` tells how many were taken from the budget; `dry` writes nothing at all."""

    def __init__(
        self,
        pool: "asyncpg.Pool[asyncpg.Record]",
        *,
        requester: Requester,
        run: Run,
        policy: SyncPolicy,
        requests: Callable[[], int],
        dry: bool = False,
        failpoint: Failpoint = nowhere,
    ) -> None:
        """The run is led by the caller."""
        self._pool = pool
        self._requester = requester
        self._run = run
        self._policy = policy
        self._requests = requests
        self._dry = dry
        self._failpoint = failpoint
        self._turns = Turns()
        self._save_again = time.monotonic() + SAVE_SECONDS
        self._dry_extras: dict[str, list[str]] = {}
        self._backfill: dict[str, bool] = {}
        self._edits: asyncio.Task[None] | None = None
        """Looks for rows edited by hand, beside the walk."""
        self._edited: dict[str, set[str]] = {}
        """Ids that were found edited by hand and left so: what else is wrong with them follows from that."""
        self.highest_updated_at = int(run.progress.get("highest_updated_at", 0))
        """Of all users that were listed, ms, before the run was resumed too: the watermark of the incremental runs."""

    @property
    def _fixes(self) -> bool:
        return self._policy.drift == "Fix" and not self._dry

    async def execute(self) -> list[str]:
        """Sweeps every kind of the policy; answers the sentences of what could not be done (empty: all of it was).

        Raises `ClerkRefused`, `ClerkUnavailable`, `Fenced` and what the database raises.
        """
        problems: list[str] = []
        for kind in self._policy.kinds:
            if self._run.progress.get(kind) == "done":
                continue
            entity = ENTITIES[GROUPS[kind]]
            await self._is_backfill(kind)
            try:
                await self._beside_edits(kind, self._walk_users(entity) if kind == "user" else self._walk_list(entity))
            except IncompleteWalk as incomplete:
                problems.append(f"{kind}: {incomplete}; nothing of this kind was deleted, the next run looks again")
                continue
            problem = await self._delete_extras(kind)
            if problem:
                problems.append(problem)
            self._run.progress[kind] = "done"
            await self._save()
        return problems

    async def _is_backfill(self, kind: str) -> None:
        """Whether no sweep repaired this kind before: what is missing then was never ours to lose, and is no finding.

        Kept with the run's progress. A first event may have come before the first sweep: rows are no sign.
        """
        known = self._run.progress.setdefault("backfill", {})
        if kind not in known:
            async with self._pool.acquire() as connection:
                known[kind] = not await runs.repaired_before(connection, kind)
        self._backfill[kind] = known[kind]

    # ------------------------------------------------------------ rows edited by hand

    async def _beside_edits(self, kind: str, walk: Coroutine[Any, Any, None]) -> None:
        """Walks while rows edited by hand are looked for and put right; that ends too, however the walk ends."""
        self._edits = asyncio.create_task(self._undo_edits(kind))
        try:
            await walk
        except asyncio.CancelledError:
            self._edits.cancel()
            raise
        finally:
            await self._edits

    async def _undo_edits(self, kind: str) -> None:
        after = ""
        while True:
            async with self._pool.acquire() as connection:
                chunk = await comparison.edited(connection, kind, after=after, limit=EDITED_CHUNK)
            if chunk is None:
                return
            after = chunk.last_id
            if not chunk.problems:
                continue
            for problem in set(chunk.problems.values()):
                self._run.count(kind, problem, sum(p == problem for p in chunk.problems.values()))
            if not self._fixes:
                self._edited.setdefault(kind, set()).update(chunk.problems)
            if self._dry:
                continue
            action = "repaired" if self._fixes else "reported"
            async with self._turns.beside_others(), runs.writing(self._pool, self._run) as connection:
                if self._fixes:
                    await runs.undo_edits(connection, self._run, kind, list(chunk.problems))
                    self._run.count(kind, "repaired", len(chunk.problems))
                await runs.note(
                    connection,
                    self._run,
                    [Finding(kind, object_id, problem, action) for object_id, problem in chunk.problems.items()],
                )

    # ------------------------------------------------------------ walks

    async def _walk_users(self, entity: Entity) -> None:
        progress = self._run.progress.get(entity.kind)
        if not isinstance(progress, dict):
            progress = {"windows": await self._windows(entity)}
            self._run.progress[entity.kind] = progress
            await self._save()
        waiting = [window for window in progress["windows"] if window[0] < window[1]]
        failures: list[IncompleteWalk] = []

        async def work() -> None:
            while waiting:
                window = waiting.pop(0)
                try:
                    await self._walk_one_window(entity, window)
                except IncompleteWalk as incomplete:
                    failures.append(incomplete)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._policy.walkers, len(waiting))):
                    group.create_task(work())
        except ExceptionGroup as several:
            raise _weightiest(several) from None
        if failures:
            raise failures[0]

    async def _walk_one_window(self, entity: Entity, window: list[int]) -> None:
        """Walks [window[0], window[1]) and moves window[0] along, so that another try goes on from there."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async for span in walk_window(self._requester, entity, start=window[0], end=window[1]):
                    await self._compare(entity, span)
                    window[0] = span.end
                    await self._save_now_and_then()
            except IncompleteWalk:
                if attempt == ATTEMPTS:
                    raise
            else:
                return

    async def _walk_list(self, entity: Entity) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async for span in walk_offsets(self._requester, entity):
                    await self._compare(entity, span)
                    await self._save_now_and_then()
            except IncompleteWalk:
                if attempt == ATTEMPTS:
                    raise
            else:
                return

    async def _windows(self, entity: Entity) -> list[list[int]]:
        """Windows of about as many users each, from the beginning of time until just before now, by Clerk's clock."""
        path = entity.list_path or ""
        answer = await self._requester.read("/users/count")
        total = int(msgspec.json.decode(answer.body).get("total_count", 0))
        end = answer.asked_at - int(self._policy.settle * 1000)
        number = max(1, min(self._policy.walkers, total // WINDOW_ROWS))
        bounds = {0, end}
        for part in range(1, number):
            params = [("limit", "1"), ("offset", str(total * part // number)), ("order_by", "+created_at")]
            try:
                items, _ = items_of(await self._requester.read(path, params), paged=False)
            except (ClerkUnavailable, ClerkRefused):
                break  # fewer windows are slower, and no less right
            bounds |= {item.created_at for item in items if 0 < item.created_at < end}
        edges = sorted(bounds)
        return [[start, stop] for start, stop in pairwise(edges)]

    # ------------------------------------------------------------ comparison and repair

    async def _compare(self, entity: Entity, span: Span) -> None:
        kind = entity.kind
        self._run.count(kind, "seen", len(span.items))
        if kind == "user" and span.items:
            self.highest_updated_at = max(
                self.highest_updated_at, *(min(item.updated_at, item.asked_at) for item in span.items)
            )
            self._run.progress["highest_updated_at"] = self.highest_updated_at
        if self._edits is not None and not self._edits.done():
            if await self._is_equal(kind, span):
                return
            # what a hand did is not to be mistaken for something that Clerk did
            await asyncio.shield(self._edits)
        async with self._pool.acquire() as connection:
            held = await comparison.held(connection, kind, start=span.start, end=span.end)
            missing = [item for item in span.items if item.id not in held]
            common = [(item, held.pop(item.id)) for item in span.items if item.id in held]
            stale = [item for item, have in common if have < item.updated_at]
            extra = await self._extras(connection, kind, span, held)
            ahead = [item for item, have in common if have > item.updated_at]
            deep: list[Item] = []
            if self._run.mode == "deep":
                equal = [item for item, have in common if have == item.updated_at]
                differs = await comparison.differing(connection, kind, [(i.id, _text(i, entity)) for i in equal])
                deep = [item for item in equal if item.id in differs]
            states = await comparison.states(connection, kind, [item.id for item in (*missing, *ahead)])
        left = self._edited.get(kind, set())
        missing, stale, deep, ahead = (
            [item for item in items if item.id not in left] for items in (missing, stale, deep, ahead)
        )
        dead = [item for item in missing if item.id in states and states[item.id][0]]
        missing = [item for item in missing if not (item.id in states and states[item.id][0])]
        # newer than what was listed, and observed before the listing began: Clerk itself says less now
        ahead = [i for i in ahead if i.id in states and states[i.id][1] > i.updated_at and states[i.id][2] < i.asked_at]
        for problem, items in (
            ("missing", missing),
            ("stale", stale),
            ("deep", deep),
            ("resurfaced", dead),
            ("ahead", ahead),
        ):
            self._run.count(kind, problem, len(items))
        self._run.count(kind, "extra", len(extra))
        if self._dry:
            self._dry_extras.setdefault(kind, []).extend(extra)
            return
        if not (missing or stale or deep or dead or ahead or extra):
            return
        findings = [Finding(kind, object_id, "extra") for object_id in extra]
        async with self._turns.beside_others(), runs.writing(self._pool, self._run) as connection:
            for problem, items in (("missing", missing), ("stale", stale), ("deep", deep)):
                findings += await self._repair(connection, entity, problem, items)
            findings += await self._doubt(connection, kind, "resurfaced", dead, states)
            findings += await self._doubt(connection, kind, "ahead", ahead, states)
            await self._failpoint("sweep.repairing")
            await runs.note(connection, self._run, findings)
        await self._failpoint("sweep.repaired")

    async def _is_equal(self, kind: str, span: Span) -> bool:
        if self._run.mode == "deep":
            return False
        async with self._pool.acquire() as connection:
            held = await comparison.held(connection, kind, start=span.start, end=span.end)
        return held == {item.id: item.updated_at for item in span.items}

    async def _extras(self, connection: Any, kind: str, span: Span, unlisted: Iterable[str]) -> list[str]:
        """Of what we hold and the span does not list: what is neither too young to be listed, nor dead, nor edited."""
        ids = set(unlisted) - self._edited.get(kind, set())
        if not ids:
            return []
        settled = span.asked_at - int(self._policy.settle * 1000)
        if span.end > settled:
            ids -= set(await comparison.held(connection, kind, start=max(span.start, settled), end=END))
        states = await comparison.states(connection, kind, sorted(ids))
        return sorted(object_id for object_id in ids if not (object_id in states and states[object_id][0]))

    async def _repair(self, connection: Any, entity: Entity, problem: str, items: Sequence[Item]) -> list[Finding]:
        kind = entity.kind
        if not self._fixes:
            return [Finding(kind, item.id, problem, "reported", item.updated_at) for item in items]
        findings: list[Finding] = []
        for chunk in chunks(items, PAGE):
            outcomes = await runs.apply(connection, self._run, [change_of(item, entity) for item in chunk])
            for item, outcome in zip(chunk, outcomes, strict=True):
                repaired = outcome in ("created", "updated")
                self._run.count(kind, "repaired", int(repaired))
                if not (self._backfill[kind] and problem == "missing"):
                    findings.append(
                        Finding(kind, item.id, problem, "repaired" if repaired else "unchanged", item.updated_at)
                    )
        return findings

    async def _doubt(
        self, connection: Any, kind: str, problem: str, items: Sequence[Item], states: dict[str, Any]
    ) -> list[Finding]:
        """Queues the reads that may revive a tombstone, or lower a version; a list page itself never does."""
        if self._fixes:
            for item in items:
                await queue_verification(
                    connection,
                    kind=kind,
                    item=item,
                    purpose="revive" if problem == "resurfaced" else "lower",
                    tombstone_seq=states[item.id][3],
                    seconds=self._policy.verify_after,
                )
        action = "queued" if self._fixes else "reported"
        return [Finding(kind, item.id, problem, action, item.updated_at) for item in items]

    # ------------------------------------------------------------ what Clerk has no more

    async def _delete_extras(self, kind: str) -> str | None:
        """Verifies what the walk did not list, weighs it, buries it or leaves it to a human: then a sentence."""
        async with self._pool.acquire() as connection:
            ids = self._dry_extras.get(kind, []) if self._dry else await runs.extras(connection, self._run, kind=kind)
            if not ids:
                return None
            verdict = await verify(self._requester, kind, ids, connection=connection)
            allowed, sentence = await self._weigh(connection, kind, list(verdict.gone))
        self._run.count(kind, "gone", len(verdict.gone))
        self._run.count(kind, "refuted", len(verdict.there))
        if self._dry:
            return sentence
        await self._refute(kind, verdict)
        if not self._fixes:
            return None
        if not allowed:
            async with runs.writing(self._pool, self._run, changes_run=True) as connection:
                gone = sorted(verdict.gone)
                await runs.park(connection, self._run, [(kind, object_id) for object_id in gone])
                await runs.note(connection, self._run, [Finding(kind, i, "extra", "parked") for i in gone])
            return sentence
        await bury(self._pool, self._run, kind, verdict.gone, failpoint=self._failpoint)
        return None

    async def _weigh(self, connection: Any, kind: str, gone: Sequence[str]) -> tuple[bool, str | None]:
        """Whether the guard lets these go, cascades included; else what a human should know."""
        burdens = {kind: len(gone)}
        if kind != "organization_membership":
            children = await connection.fetchval(
                "select count(*) from clerk.organization_memberships m where m.user_id = any ($1)"
                " or m.organization_id = any ($1)",
                list(gone),
            )
            burdens["organization_membership"] = children
        for of_kind, more in burdens.items():
            weights = await connection.fetchrow("select deleted, live from clerk_private.guard_weights($1)", of_kind)
            if more and not self._policy.guard.allows(deleted=weights["deleted"], more=more, live=weights["live"]):
                were = "was" if weights["deleted"] == 1 else "were"
                return False, (
                    f"{more} of {weights['live']} {of_kind} rows would be deleted, {weights['deleted']} {were} in the"
                    " last 24 h: more than the guard allows"
                )
        return True, None

    async def _refute(self, kind: str, verdict: Verdict) -> None:
        if not verdict.there:
            return
        entity = ENTITIES[GROUPS[kind]]
        async with runs.writing(self._pool, self._run) as connection:
            if self._fixes:
                for chunk in chunks(list(verdict.there.values()), PAGE):
                    await runs.apply(connection, self._run, [change_of(item, entity) for item in chunk])
            await runs.note(connection, self._run, [Finding(kind, i, "extra", "refuted") for i in verdict.there])

    # ------------------------------------------------------------ progress

    async def _save_now_and_then(self) -> None:
        if time.monotonic() >= self._save_again:
            await self._save()

    async def _save(self) -> None:
        self._save_again = math.inf
        began = time.monotonic()
        if not self._dry:
            async with self._turns.alone(), runs.writing(self._pool, self._run, changes_run=True) as connection:
                await runs.save(connection, self._run, requests=self._requests())
        lasted = time.monotonic() - began
        self._save_again = time.monotonic() + max(SAVE_SECONDS, SAVE_SPARES * lasted)


def _weightiest(group: ExceptionGroup[Exception]) -> Exception:
    """Of the failures of several walkers the one that says what to do: a lost lead, then a refusal, then any."""
    flat = [_weightiest(error) if isinstance(error, ExceptionGroup) else error for error in group.exceptions]
    return min(flat, key=lambda e: 0 if isinstance(e, Fenced) else 1 if isinstance(e, ClerkRefused) else 2)


async def bury(
    pool: "asyncpg.Pool[asyncpg.Record]",
    run: Run,
    kind: str,
    gone: "dict[str, int] | Any",
    *,
    failpoint: Failpoint = nowhere,
) -> None:
    """Tombstones ids that verification found gone, each with the moment of the read that said so."""
    for chunk in chunks(sorted(gone), PAGE):
        changes: list[Change] = [
            (kind, object_id, "verification", 0, gone[object_id], API, "", "sweep", None) for object_id in chunk
        ]
        async with runs.writing(pool, run) as connection:
            outcomes = await runs.apply(connection, run, changes)
            await failpoint("sweep.burying")
            await runs.note(connection, run, [Finding(kind, object_id, "extra", "tombstoned") for object_id in chunk])
        run.count(kind, "tombstoned", sum(outcome == "deleted" for outcome in outcomes))


def change_of(item: Item, entity: Entity) -> Change:
    """A listed object as a change: observed when its request began, outranking a webhook of the same moment."""
    return (
        entity.kind,
        item.id,
        None,
        item.updated_at,
        item.asked_at,
        API,
        "",
        "sweep",
        _text(item, entity),
    )


def _text(item: Item, entity: Entity) -> str:
    try:
        return safe_object(item.raw, group=entity.group)
    except NotJson as error:
        raise ClerkUnavailable(f"Clerk listed an object that is no JSON: {error}") from None


async def queue_verification(
    connection: Any, *, kind: str, item: Item, purpose: str, tombstone_seq: int | None, seconds: float
) -> None:
    """Asks for two reads of an object, the first in `seconds`; one that is queued already stays as it is."""
    organization_id, user_id = owner_of(item) if kind == "organization_membership" else (None, None)
    await connection.execute(
        "insert into clerk_private.verify_queue"
        " (kind, id, purpose, tombstone_seq, organization_id, user_id, not_before)"
        " values ($1, $2, $3, $4, $5, $6, now() + make_interval(secs => $7)) on conflict (kind, id) do nothing",
        kind,
        item.id,
        purpose,
        tombstone_seq,
        organization_id,
        user_id,
        seconds,
    )


async def walk_updated(requester: Requester, entity: Entity, *, down_to: int) -> AsyncIterator[list[Item]]:
    """Pages of users by `updated_at`, the newest first, until one is older than `down_to` ms.

    Raises `IncompleteWalk` where pages repeat, are out of order, or moved by more than two of them share.
    """
    offset = 0
    before: set[str] = set()
    while True:
        params = [("limit", str(PAGE)), ("offset", str(offset)), ("order_by", "-updated_at")]
        items, _ = items_of(await requester.read(entity.list_path or "", params), paged=False)
        if any(later.updated_at > earlier.updated_at for earlier, later in pairwise(items)):
            raise IncompleteWalk(f"rows of {entity.list_path} came out of order")
        ids = {item.id for item in items}
        if len(before) >= PAGE and items and (not ids & before or (len(items) > OVERLAP and ids <= before)):
            raise IncompleteWalk(f"rows of {entity.list_path} moved between two pages")
        if 0 < len(before) < PAGE and ids & before:
            raise IncompleteWalk(f"{entity.list_path} repeats a page")
        before = ids
        wanted = [item for item in items if item.updated_at >= down_to]
        if wanted:
            yield wanted
        if len(wanted) < len(items) or not items:
            return
        offset += len(items) - (OVERLAP if len(items) >= PAGE else 0)
