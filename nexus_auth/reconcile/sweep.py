"""One full or deep run: everything that Clerk lists of one kind, set beside what we hold, and what differs put right.

Rows edited by hand are looked for first, without asking anybody, beside the walk; the walk's spans are compared and
repaired as they come; then, only if the walk saw everything, what it did not list is asked for by name. Memory holds a
page per walker and the ids of what may have to go.
"""

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Sequence
from itertools import pairwise
from typing import Any

import asyncpg

from nexus_auth.clerk.api import ClerkRefused, ClerkUnavailable
from nexus_auth.clerk.catalogue import Listing
from nexus_auth.reconcile.answers import PAGE, Malformed, page_of, total_of
from nexus_auth.reconcile.comparison import Held, differences, doubtful, equal
from nexus_auth.reconcile.context import Context
from nexus_auth.reconcile.deletion import read_extras
from nexus_auth.reconcile.shared_lock import SharedLock
from nexus_auth.reconcile.walk import IncompleteWalk, Span, listing_of, walk_offsets, walk_window
from nexus_auth.reconcile.writer import PageWriter
from nexus_auth.store import comparison, repair, runs
from nexus_auth.store.runs import Fenced, Finding

ATTEMPTS = 3
"""Walks of one window, or of one list, before it is given up for this run."""

SAVE_SECONDS = 1.0
SAVE_SPARES = 10.0
"""Saving stops the walkers; it begins again after so many times as long as it took."""

EDITED_CHUNK = 5_000
DAY = 86_400_000
"""Milliseconds: no object was created later than this after now, whatever its row says."""

WINDOW_ROWS = 4 * PAGE
"""Users that a window holds at least: smaller ones cost more requests than they save time."""

FOUND_AGAIN = frozenset({"seen", "extra", "resurfaced", "ahead"})
"""What a second walk of the same list finds once more, even where the first has repaired."""


class Sweep:
    """One full or deep run. `requests` tells how many were taken from the budget."""

    def __init__(self, context: Context, *, requests: Callable[[], int]) -> None:
        """The run is led by the caller."""
        self._context = context
        self._run = context.run
        self._requests = requests
        self._lock = SharedLock()
        self._save_again = time.monotonic() + SAVE_SECONDS
        self._writer = PageWriter(context)
        self._extras: set[str] = set()
        """Of a dry run, which writes no findings."""
        self._has_unadopted = False
        self._edits: asyncio.Task[None] | None = None
        """Looks for rows edited by hand, beside the walk."""
        self._edited: set[str] = set()
        """Ids that were found edited by hand and left so."""
        self._malformed: list[Malformed] = []
        """Objects of a wrong shape that are still to be kept."""
        self._refused: set[str] = set()
        """Ids that were listed, in a shape that nobody can use: not extra."""
        self.highest_updated_at = int(self._run.progress.get("highest_updated_at", 0))
        """Of all objects that were listed, ms, before the run was resumed too: the incremental runs' watermark."""

    async def execute(self) -> list[str]:
        """Sweeps the kind; answers the sentences of what could not be done (empty: all of it was).

        Raises `ClerkRefused`, `ClerkUnavailable`, `Fenced` and what the database raises.
        """
        if not self._run.listed:
            await self._prepare()
            listing = listing_of(self._context.entity)
            try:
                await self._beside_edits(self._walk_windows(listing) if listing.windows else self._walk_list())
            except IncompleteWalk as incomplete:
                return [f"{incomplete}; an incomplete list deletes nothing, and the next run lists again"]
            await self._keep_malformed()
            self._run.listed = True
            await self._save()
        problem = await read_extras(self._context, self._writer, dry_extras=sorted(self._extras - self._refused))
        return [problem] if problem else []

    async def _prepare(self) -> None:
        async with self._context.pool.acquire() as connection:
            if "backfill" not in self._run.progress:
                # What is missing before the first sweep that repairs was never ours to lose, and is no finding. A first
                # event may have come before it: rows are no sign.
                before = await runs.repaired_before(connection, self._run.kind)
                self._run.progress["backfill"] = not before
            self._writer.refused = await repair.refused_ids(connection, self._run.kind)
        self._has_unadopted = await self._may_have_unadopted()
        self._writer.listed_missing = not self._run.progress["backfill"]

    async def _may_have_unadopted(self) -> bool:
        """Whether rows without an arbiter row must be looked for page by page; yes, where one look takes too long."""
        try:
            async with self._context.pool.acquire() as connection:
                return await comparison.has_unadopted(connection, self._run.kind)
        except asyncpg.QueryCanceledError:
            return True

    # ------------------------------------------------------------ rows edited by hand

    async def _beside_edits(self, walk: Coroutine[Any, Any, None]) -> None:
        """Walks while rows edited by hand are looked for and put right; that ends too, however the walk ends."""
        self._edits = asyncio.create_task(self._undo_edits())
        try:
            await walk
        except BaseException:
            self._edits.cancel()
            await asyncio.gather(self._edits, return_exceptions=True)
            raise
        await self._edits

    async def _undo_edits(self) -> None:
        context, after = self._context, ""
        while True:
            async with context.pool.acquire() as connection:
                chunk = await comparison.edited(connection, context.kind, after=after, limit=EDITED_CHUNK)
            if chunk is None:
                return
            after = chunk.last_id
            if not chunk.problems:
                continue
            for problem in sorted(set(chunk.problems.values())):
                self._run.count(problem, sum(p == problem for p in chunk.problems.values()))
            if not context.fixes:
                self._edited.update(chunk.problems)
            if context.dry:
                continue
            await self._undo(chunk.problems)

    async def _undo(self, problems: dict[str, str]) -> None:
        context = self._context
        action = "repaired" if context.fixes else "reported"

        async def work(connection: Any) -> None:
            if context.fixes:
                await repair.undo_edits(connection, self._run, context.kind, list(problems))
            found = [Finding(context.kind, object_id, problem, action) for object_id, problem in problems.items()]
            await runs.note(connection, self._run, found)

        async with self._lock.shared():
            await runs.write(context.pool, self._run, work)
        if context.fixes:
            self._run.count("repaired", len(problems))

    # ------------------------------------------------------------ walks

    async def _walk_windows(self, listing: Listing) -> None:
        if "windows" not in self._run.progress:
            self._run.progress["windows"] = await self._windows(listing)
            await self._save()
        waiting = [window for window in self._run.progress["windows"] if window[0] < window[1]]
        failures: list[IncompleteWalk] = []

        async def work() -> None:
            while waiting:
                window = waiting.pop(0)
                try:
                    await self._walk_one_window(window)
                except IncompleteWalk as incomplete:
                    failures.append(incomplete)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._context.policy.walkers, len(waiting))):
                    group.create_task(work())
        except ExceptionGroup as several:
            raise _weightiest(several) from None
        if failures:
            raise failures[0]

    async def _walk_one_window(self, window: list[int]) -> None:
        """Walks [window[0], window[1]) and moves window[0] along, so that another try goes on from there."""
        context = self._context
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async for span in walk_window(
                    context.requester,
                    context.entity,
                    start=window[0],
                    end=window[1],
                    malformed=self._malformed.append,
                ):
                    await self._compare(span)
                    window[0] = span.end
                    await self._save_now_and_then()
            except IncompleteWalk:
                if attempt == ATTEMPTS:
                    raise
            else:
                return

    async def _walk_list(self) -> None:
        context = self._context
        counted = dict(self._run.counts)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async for span in walk_offsets(context.requester, context.entity, malformed=self._malformed.append):
                    await self._compare(span)
                    await self._save_now_and_then()
            except IncompleteWalk:
                if attempt == ATTEMPTS:
                    raise
                self._forget_attempt(counted)
            else:
                return

    def _forget_attempt(self, counted: dict[str, int]) -> None:
        """A list is walked from its beginning again: what that finds once more is counted once."""
        again = FOUND_AGAIN if self._context.fixes else FOUND_AGAIN | {"missing", "stale", "deep", "unadopted"}
        for what in again:
            self._run.counts.pop(what, None)
            if what in counted:
                self._run.counts[what] = counted[what]
        self._extras.clear()

    async def _windows(self, listing: Listing) -> list[list[int]]:
        """Windows of about as many objects each, from the beginning of time until just before now, by Clerk's clock."""
        requester, policy = self._context.requester, self._context.policy
        if listing.count_path is None:
            raise ValueError(f"{listing.path} takes windows and has no count")
        answer = await requester.read(listing.count_path)
        total = total_of(answer)
        end = answer.asked_at - int(policy.settle * 1000)
        number = max(1, min(policy.walkers, total // WINDOW_ROWS))
        bounds = {0, end}
        for part in range(1, number):
            params = [("limit", "1"), ("offset", str(total * part // number)), ("order_by", "+created_at")]
            try:
                items = page_of(await requester.read(listing.path, params), listing).items
            except (ClerkUnavailable, ClerkRefused):
                break  # fewer windows are slower, and no less right
            bounds |= {item.created_at for item in items if 0 < item.created_at < end}
        return [[start, stop] for start, stop in pairwise(sorted(bounds))]

    # ------------------------------------------------------------ comparison and repair

    async def _compare(self, span: Span) -> None:
        run, context = self._run, self._context
        await self._keep_malformed()
        run.count("seen", len(span.items))
        if span.items:
            newest = max(min(item.updated_at, item.asked_at) for item in span.items)
            self.highest_updated_at = max(self.highest_updated_at, newest)
            run.progress["highest_updated_at"] = self.highest_updated_at
        if self._edits is not None and not self._edits.done():
            if await self._is_equal(span):
                return
            # what a hand did is not to be mistaken for something that Clerk did
            await asyncio.shield(self._edits)
        held = await self._held(span)
        found = differences(span.items, held)
        for problem, number in found.numbers().items():
            run.count(problem, number)
        if context.dry:
            self._extras.update(found.extra)
        elif found:
            async with self._lock.shared():
                await self._writer.write(found, states=held.states)

    async def _held(self, span: Span) -> Held:
        """Everything that the comparison must know of a span."""
        kind = self._run.kind
        async with self._context.pool.acquire() as connection:
            rows = await comparison.held(connection, kind, start=span.start, end=span.end)
            unlisted = set(rows) - {item.id for item in span.items}
            no_extras: set[str] = set()
            if unlisted:
                settled = span.asked_at - int(self._context.policy.settle * 1000)
                if span.end > settled:
                    newest = max(span.start, settled)
                    no_extras |= set(await comparison.held(connection, kind, start=newest, end=span.asked_at + DAY))
                no_extras |= await comparison.burying(connection, kind, sorted(unlisted))
            ids = [item.id for item in span.items] if self._has_unadopted else []
            unadopted = await comparison.unadopted(connection, kind, ids)
            states = await comparison.states(connection, kind, sorted({*doubtful(span.items, rows), *unadopted}))
        same = equal(span.items, rows) if self._run.mode == "deep" else []
        return Held(
            rows=rows,
            states=states,
            unadopted=unadopted,
            differing=await self._writer.differing(same),
            no_extras=no_extras | self._refused,
            edited=self._edited,
        )

    async def _is_equal(self, span: Span) -> bool:
        """Whether a span needs no closer look, whatever a hand did meanwhile."""
        if self._run.mode == "deep" or self._has_unadopted:
            return False
        async with self._context.pool.acquire() as connection:
            rows = await comparison.held(connection, self._run.kind, start=span.start, end=span.end)
        return rows == {item.id: item.updated_at for item in span.items}

    async def _keep_malformed(self) -> None:
        taken, self._malformed[:] = list(self._malformed), []
        self._refused |= {one.id for one in taken if one.id is not None}
        if taken:
            async with self._lock.shared():
                await self._writer.refuse(taken)

    # ------------------------------------------------------------ progress

    async def _save_now_and_then(self) -> None:
        if time.monotonic() >= self._save_again:
            await self._save()

    async def _save(self) -> None:
        self._save_again = math.inf
        began = time.monotonic()
        if not self._context.dry:

            async def work(connection: Any) -> None:
                await runs.save(connection, self._run, requests=self._requests())

            async with self._lock.exclusive():
                await runs.write(self._context.pool, self._run, work, changes_run=True)
        lasted = time.monotonic() - began
        self._save_again = time.monotonic() + max(SAVE_SECONDS, SAVE_SPARES * lasted)


def _weightiest(group: ExceptionGroup[Exception]) -> Exception:
    """Of the failures of several walkers the one that says what to do: a lost lead, then a refusal, then any."""
    flat: Sequence[Exception] = [
        _weightiest(error) if isinstance(error, ExceptionGroup) else error for error in group.exceptions
    ]
    return min(flat, key=lambda e: 0 if isinstance(e, Fenced) else 1 if isinstance(e, ClerkRefused) else 2)
