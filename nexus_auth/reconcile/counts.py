"""The cheapest look of all: how many does Clerk count, how many do we hold? One request a kind, every interval."""

import logging

import asyncpg
import msgspec

from nexus_auth.clerk.api import ClerkRefused, ClerkUnavailable
from nexus_auth.clerk.catalogue import ENTITIES
from nexus_auth.reconcile.deletion import GROUPS
from nexus_auth.reconcile.policy import SyncPolicy
from nexus_auth.reconcile.requester import Requester
from nexus_auth.store import counts, runs
from nexus_auth.store.runs import Run

logger = logging.getLogger(__name__)


class _Counted(msgspec.Struct):
    total_count: int


async def check_counts(
    pool: "asyncpg.Pool[asyncpg.Record]", *, requester: Requester, run: Run, policy: SyncPolicy
) -> None:
    """Sets counts beside each other and keeps what differs; a full run only where it may have left something standing.

    It is a look and no repair: where Clerk has no answer, this run knows no less than it would have without. A key that
    is refused is another matter: raises `ClerkRefused`.
    """
    swept = run.mode != "incremental"
    counted: dict[str, int] = {}
    kinds = await _unmended(pool, run) if swept else policy.kinds
    for kind in kinds:
        try:
            counted[kind] = await _count(requester, kind)
        except (ClerkRefused, ClerkUnavailable) as error:
            if isinstance(error, ClerkRefused) and error.status == 401:
                raise
            logger.warning("no count", extra={"sync": run.sync, "run": run.id, "kind": kind, "why": str(error)})
    if not kinds:
        return
    async with runs.writing(pool, run) as connection:
        if swept:  # without a count too: what stood before it is no reason for another one
            await counts.begin_anew(connection, run, kinds=kinds)
        held = await counts.expected(connection, list(counted))
        await counts.note(
            connection,
            run,
            differences={kind: total - held.rows[kind] for kind, total in counted.items()},
            inbox_mark=held.inbox_mark,
            verify_after=policy.verify_after,
            swept=swept,
        )


async def _unmended(pool: "asyncpg.Pool[asyncpg.Record]", run: Run) -> list[str]:
    """Kinds that this run walked to their end and whose counts differed before, or still do: a report mends nothing."""
    async with pool.acquire() as connection:
        differed = await counts.differed(connection)
    reported = {
        kind for kind, of in run.counts.items() if run.policy == "Report" and (of.get("missing") or of.get("gone"))
    }
    return [kind for kind in run.kinds if run.progress.get(kind) == "done" and kind in differed | reported]


async def _count(requester: Requester, kind: str) -> int:
    entity = ENTITIES[GROUPS[kind]]
    if kind == "user":
        answer = await requester.read(f"{entity.list_path}/count")
    else:
        answer = await requester.read(entity.list_path or "", [("limit", "1")])
    try:
        return msgspec.json.decode(answer.body, type=_Counted).total_count
    except msgspec.DecodeError:
        raise ClerkUnavailable(f"{entity.list_path} answered no count") from None
