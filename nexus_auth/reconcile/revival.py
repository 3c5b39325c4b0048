"""Reads that may contradict what we believe: bring a false tombstone back, or lower a version that is too high.

Only they can. One read may come from a replica that lags, so two must agree, the second as long after the first as the
first after what it doubts; and the row must still be as it was before the first question. Both are counted and alerted
on: each means that something, somewhere, went wrong.
"""

from collections.abc import Sequence
from typing import Any

import asyncpg

from nexus_auth.clerk.api import ClerkRefused
from nexus_auth.clerk.catalogue import ENTITIES
from nexus_auth.reconcile.deletion import GROUPS, NAMED, verify
from nexus_auth.reconcile.policy import SyncPolicy
from nexus_auth.reconcile.requester import Requester
from nexus_auth.reconcile.sweep import change_of, queue_verification
from nexus_auth.reconcile.walk import PAGE, Item, items_of
from nexus_auth.store import comparison, runs
from nexus_auth.store.runs import Finding, Run


async def settle_doubts(
    pool: "asyncpg.Pool[asyncpg.Record]", *, requester: Requester, run: Run, policy: SyncPolicy
) -> None:
    """Makes every read that is due. Only under policy `Fix`."""
    for kind in policy.kinds:
        async with pool.acquire() as connection:
            due = await connection.fetch(
                "select * from clerk_private.verify_queue where kind = $1 and not_before <= now()"
                " order by not_before limit $2",
                kind,
                NAMED,
            )
            if not due:
                continue
            owners = {row["id"]: (row["organization_id"], row["user_id"]) for row in due if row["organization_id"]}
            verdict = await verify(requester, kind, [row["id"] for row in due], connection=connection, owners=owners)
        for row in due:
            if row["id"] in verdict.there:
                await _there(pool, requester, run, policy, row, verdict.there[row["id"]])
            elif row["id"] in verdict.gone:
                async with runs.writing(pool, run) as connection:
                    await _forget(connection, row)
            else:
                async with runs.writing(pool, run) as connection:
                    await _wait(connection, row, policy)


async def _there(
    pool: "asyncpg.Pool[asyncpg.Record]", requester: Requester, run: Run, policy: SyncPolicy, row: Any, item: Item
) -> None:
    kind, entity = row["kind"], ENTITIES[GROUPS[row["kind"]]]
    agrees = row["answers"] > 0 and (row["purpose"] == "revive" or row["answer_at"] == item.updated_at)
    async with runs.writing(pool, run) as connection:
        if not agrees:
            await connection.execute(
                "update clerk_private.verify_queue set answers = 1, answer_at = $3,"
                " not_before = now() + make_interval(secs => $4) where kind = $1 and id = $2",
                kind,
                row["id"],
                item.updated_at,
                policy.verify_after,
            )
            return
        change = change_of(item, entity)
        if row["purpose"] == "revive":
            outcome = await connection.fetchval(
                "select clerk_private.revive($1, $2, $3::clerk_private.change, $4)",
                run.id,
                run.epoch,
                change,
                row["tombstone_seq"],
            )
        else:
            outcome = await connection.fetchval(
                "select clerk_private.lower_version($1, $2, $3::clerk_private.change)", run.id, run.epoch, change
            )
        await _forget(connection, row)
        if outcome in ("stale", "buried"):
            return
        what = "revived" if row["purpose"] == "revive" else "lowered"
        problem = "resurfaced" if row["purpose"] == "revive" else "ahead"
        run.count(kind, what)
        await runs.note(connection, run, [Finding(kind, item.id, problem, what, item.updated_at)])
    if row["purpose"] == "revive" and kind != "organization_membership":
        await _doubt_children(pool, requester, run, policy, kind=kind, parent=item.id)


async def _doubt_children(
    pool: "asyncpg.Pool[asyncpg.Record]",
    requester: Requester,
    run: Run,
    policy: SyncPolicy,
    *,
    kind: str,
    parent: str,
) -> None:
    """What was buried with a parent that lives: each of its memberships is asked about in its turn."""
    if "organization_membership" not in policy.kinds:
        return
    path = f"/users/{parent}/organization_memberships" if kind == "user" else f"/organizations/{parent}/memberships"
    offset = 0
    while True:
        try:
            answer = await requester.read(path, [("limit", str(PAGE)), ("offset", str(offset))])
        except ClerkRefused:
            return  # the next sweep of memberships lists them
        items, _ = items_of(answer, paged=True)
        if not items:
            return
        offset += len(items)
        await _queue_buried(pool, run, policy, items)


async def _queue_buried(
    pool: "asyncpg.Pool[asyncpg.Record]", run: Run, policy: SyncPolicy, items: Sequence[Item]
) -> None:
    async with runs.writing(pool, run) as connection:
        states = await comparison.states(connection, "organization_membership", [item.id for item in items])
        for item in items:
            state = states.get(item.id)
            if state is not None and state[0]:
                await queue_verification(
                    connection,
                    kind="organization_membership",
                    item=item,
                    purpose="revive",
                    tombstone_seq=state[3],
                    seconds=policy.verify_after,
                )


async def _wait(connection: Any, row: Any, policy: SyncPolicy) -> None:
    """Nothing was proved: asked again later, else what is due now is due for ever; not at all after a day."""
    await connection.execute(
        "update clerk_private.verify_queue set not_before = now() + make_interval(secs => $3)"
        " where kind = $1 and id = $2",
        row["kind"],
        row["id"],
        max(policy.verify_after, 1.0),
    )
    await connection.execute(
        "delete from clerk_private.verify_queue where kind = $1 and id = $2 and queued_at < now() - interval '1 day'",
        row["kind"],
        row["id"],
    )


async def _forget(connection: Any, row: Any) -> None:
    await connection.execute(
        "delete from clerk_private.verify_queue where kind = $1 and id = $2", row["kind"], row["id"]
    )
