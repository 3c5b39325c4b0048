"""The cheapest look of all: how many does Clerk count, how many do we hold? One request a kind, every interval."""

import logging
from typing import Any

from nexus_auth.clerk.api import ClerkRefused, ClerkUnavailable
from nexus_auth.reconcile.answers import total_of
from nexus_auth.reconcile.context import Context
from nexus_auth.reconcile.requester import Requester
from nexus_auth.reconcile.walk import listing_of
from nexus_auth.store import counts, runs

logger = logging.getLogger(__name__)


async def check_counts(context: Context) -> None:
    """Sets counts beside each other and keeps what differs; a full run only where it may have left something standing.

    It is a look and no repair: where Clerk has no answer, this run knows no less than it would have without. A key that
    is refused is another matter: raises `ClerkRefused`.
    """
    run, swept = context.run, context.run.mode != "incremental"
    if swept and not await _is_unmended(context):
        return
    total: int | None = None
    try:
        total = await count(context.requester, context)
    except (ClerkRefused, ClerkUnavailable) as error:
        if isinstance(error, ClerkRefused) and error.status == 401:
            raise
        logger.warning("no count", extra={"sync": run.sync, "run": run.id, "kind": run.kind, "why": str(error)})

    async def work(connection: Any) -> None:
        if swept:  # without a count too: what stood before it is no reason for another one
            await counts.begin_anew(connection, run)
        if total is None:
            return
        held = await counts.expected(connection, run.kind)
        await counts.note(
            connection,
            run,
            difference=total - held.rows,
            inbox_mark=held.inbox_mark,
            verify_after=context.policy.verify_after,
            swept=swept,
        )

    await runs.write(context.pool, run, work)


async def _is_unmended(context: Context) -> bool:
    """Whether the run walked its kind to the end, and counts differed before, or still do: a report mends nothing."""
    run = context.run
    if not run.listed:
        return False
    if run.policy == "Report" and (run.counts.get("missing") or run.counts.get("gone")):
        return True
    async with context.pool.acquire() as connection:
        return await counts.differed(connection, run.kind)


async def count(requester: Requester, context: Context) -> int:
    """How many objects of the run's kind Clerk counts. Raises `ClerkUnavailable` or `ClerkRefused`."""
    listing = listing_of(context.entity)
    if listing.count_path is not None:
        return total_of(await requester.read(listing.count_path))
    return total_of(await requester.read(listing.path, [("limit", "1")]))
