"""The cheap run between sweeps: users whose `updated_at` moved since the last look. Nothing else can be listed so.

The watermark is the highest `updated_at` seen from Clerk, by Clerk's clock, and moves only when a walk completed.
"""

import asyncpg

from nexus_auth.clerk.catalogue import ENTITIES
from nexus_auth.reconcile.policy import SyncPolicy
from nexus_auth.reconcile.requester import Requester
from nexus_auth.reconcile.sweep import change_of, queue_verification, walk_updated
from nexus_auth.store import comparison, runs
from nexus_auth.store.runs import Finding, Run

KIND = "user"


async def sweep_changed(
    pool: "asyncpg.Pool[asyncpg.Record]", *, requester: Requester, run: Run, policy: SyncPolicy
) -> None:
    """Repairs users that changed after the watermark minus the policy's overlap.

    Without a watermark there is nothing to go down to: the first full sweep sets it. Raises `IncompleteWalk`; the
    watermark stays where it was.
    """
    entity = ENTITIES[KIND]
    async with pool.acquire() as connection:
        mark = await connection.fetchval(
            "select updated_at from clerk_private.watermarks where sync = $1 and kind = $2", run.sync, KIND
        )
    if mark is None:
        return
    highest = mark
    async for items in walk_updated(requester, entity, down_to=max(0, mark - int(policy.overlap * 1000))):
        highest = max(highest, *(min(item.updated_at, item.asked_at) for item in items))
        run.count(KIND, "seen", len(items))
        async with runs.writing(pool, run) as connection:
            states = await comparison.states(connection, KIND, [item.id for item in items])
            findings: list[Finding] = []
            wrong = []
            for item in items:
                state = states.get(item.id)
                if state is None or (not state[0] and state[1] < item.updated_at):
                    wrong.append((item, "missing" if state is None else "stale"))
                elif state[0] and policy.drift == "Fix":
                    await queue_verification(
                        connection,
                        kind=KIND,
                        item=item,
                        purpose="revive",
                        tombstone_seq=state[3],
                        seconds=policy.verify_after,
                    )
            outcomes = ["reported"] * len(wrong)
            if wrong and policy.drift == "Fix":
                outcomes = await runs.apply(connection, run, [change_of(item, entity) for item, _ in wrong])
            for (item, problem), outcome in zip(wrong, outcomes, strict=True):
                run.count(KIND, problem)
                run.count(KIND, "repaired", int(outcome in ("created", "updated")))
                action = {"reported": "reported", "created": "repaired", "updated": "repaired"}.get(
                    outcome, "unchanged"
                )
                findings.append(Finding(KIND, item.id, problem, action, item.updated_at))
            await runs.note(connection, run, findings)
    await set_watermark(pool, run, highest)


async def set_watermark(pool: "asyncpg.Pool[asyncpg.Record]", run: Run, updated_at: int) -> None:
    """Moves the watermark up, never down."""
    if updated_at:
        async with runs.writing(pool, run) as connection:
            await connection.execute(
                "insert into clerk_private.watermarks as w (sync, kind, updated_at) values ($1, $2, $3)"
                " on conflict (sync, kind) do update set updated_at = greatest(w.updated_at, excluded.updated_at)",
                run.sync,
                KIND,
                updated_at,
            )
