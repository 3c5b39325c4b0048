"""What is due after runs that came to nothing: no request limit is spent on asking the same again and again."""

from dataclasses import replace
from datetime import timedelta

from devtools.clerk_emulator import ApiFault
from nexus_auth.store import runs
from nexus_auth.store.history import History, read_history, request_answered
from services.reconciler.manifests import SyncManifest, read_manifests
from services.reconciler.schedule import due
from tests.reconcile.conftest import MakeWorld
from tests.reconcile.world import FIX, World

MANIFESTS = """
apiVersion: nexus-auth.dev/v1alpha1
kind: ClerkInstance
metadata: {name: main}
spec:
  secretKeyRef: {name: clerk, key: secretKey}
  environment: Production
  stateDatabase: {secretRef: {name: database, key: url}}
---
apiVersion: nexus-auth.dev/v1alpha1
kind: ClerkSync
metadata: {name: main}
spec:
  instanceRef: {name: main}
  database: {secretRef: {name: database, key: url}}
  drift: {policy: Fix}
"""


def sync() -> SyncManifest:
    return read_manifests(MANIFESTS).syncs["main"]


async def history(world: World) -> History:
    return await read_history(world.admin, sync="main", kinds=FIX.kinds)


async def test_a_verification_that_cannot_be_made_is_not_tried_at_once_again(world: World) -> None:
    user = (await world.ids())[3]
    await world.bury_falsely("user", user)
    await world.sweep()
    first = due(sync(), await history(world))
    assert first is not None
    assert (first.mode, first.reason) == ("incremental", "a verification is due")
    world.clerk.add_fault(ApiFault("status", status=401))
    assert (await world.sweep(mode="incremental")).state == "parked"
    now = await history(world)
    assert now.kinds["user"].doubts_due
    assert due(sync(), now) is None


async def test_an_approval_is_nothing_to_hurry_for_where_only_reports_are_made(world: World) -> None:
    await world.sweep(mode="incremental")
    now = await history(world)
    now = replace(now, kinds={**now.kinds, "user": replace(now.kinds["user"], approved=True)})
    chosen = sync()
    assert due(chosen, now) is not None
    assert due(replace(chosen, policy=replace(chosen.policy, drift="Report")), now) is None


async def test_an_approval_given_for_others_is_taken_back(world: World) -> None:
    run = await runs.lead(
        world.pool, sync="main", kind="user", mode="full", policy="Fix", sweep_id=1_000, holder="test"
    )
    async with runs.writing(world.pool, run, changes_run=True) as connection:
        assert await runs.park(connection, run, ["user_a"]) == run.id
    await runs.finish(world.pool, run, state="parked", message=None, requests=0)
    await runs.approve(world.admin, run.id, approved_by="somebody")
    await world.admin.execute("insert into clerk_private.parked_deletions values ($1, 'user', 'user_b')", run.id)
    assert (await history(world)).kinds["user"].approved
    assert await runs.approved(world.pool, sync="main", kind="user") is None
    assert not (await history(world)).kinds["user"].approved


async def test_the_mark_of_an_outage_is_answered_for_each_kind_by_a_run_of_that_kind(world: World) -> None:
    """An hourly sweep of memberships says nothing of users."""
    await world.admin.execute("insert into clerk_private.instance (id, sweep_requested_at) values ('ins_1', now())")
    asked = await history(world)
    assert asked.requested_at is not None
    assert all(of.requested for of in asked.kinds.values())
    await world.sweep(replace(FIX, kinds=("organization_membership",)))
    await request_answered(world.admin, requested_at=asked.requested_at)
    now = await history(world)
    assert [kind for kind, of in now.kinds.items() if of.requested] == ["user", "organization"]
    chosen = due(sync(), now)
    assert chosen is not None
    assert chosen.reason == "events may have been missed"
    assert {"user", "organization"} <= set(chosen.policy.kinds)
    await world.engine().run(replace(FIX, kinds=chosen.policy.kinds), mode=chosen.mode)
    await request_answered(world.admin, requested_at=asked.requested_at)
    assert (await history(world)).requested_at is None


async def test_a_kind_whose_list_stays_incomplete_is_tried_again_alone_and_ever_more_rarely(
    make_world: MakeWorld,
) -> None:
    world = await make_world(users=10, organizations=15, memberships=20)
    world.clerk.add_fault(ApiFault("short_page", route="/organizations", query="*order_by*"))
    for failures in (1, 2):
        result = await world.sweep(mode="deep")
        assert [(run.kind, run.state) for run in result.runs] == [
            ("user", "completed"),
            ("organization", "failed"),
            ("organization_membership", "completed"),
        ]
        now = await history(world)
        assert now.kinds["organization"].failures == failures
        assert now.kinds["user"].failures == 0
        assert now.kinds["user"].deep_at is not None
        assert now.kinds["organization"].deep_at is None


async def test_runs_and_findings_are_removed_after_their_time_and_what_waits_stays(world: World) -> None:
    await world.sweep()
    await world.admin.execute(
        "insert into clerk_private.findings (run_id, kind, id, problem)"
        " select id, kind, 'user_x', 'stale' from clerk_private.runs"
    )
    await world.admin.execute("update clerk_private.runs set finished_at = finished_at - interval '100 days'")
    run = await runs.lead(world.pool, sync="main", kind="user", mode="full", policy="Fix", sweep_id=1_000, holder="x")
    async with runs.writing(world.pool, run, changes_run=True) as connection:
        await runs.park(connection, run, ["user_a"])
    await runs.finish(world.pool, run, state="parked", message=None, requests=0)
    await world.admin.execute(
        "update clerk_private.runs set finished_at = now() - interval '91 days' where id = $1", run.id
    )
    before = await history(world)
    async with world.pool.acquire() as connection:
        assert await runs.prune(connection, keep=timedelta(days=90)) > 0
    assert await world.admin.fetchval("select count(*) from clerk_private.findings") == 0
    left = await world.admin.fetch("select kind, mode, state from clerk_private.runs order by id")
    assert ("user", "full", "parked") in [tuple(row) for row in left]
    after = await history(world)
    assert {kind: of.full_at for kind, of in after.kinds.items()} == {
        kind: of.full_at for kind, of in before.kinds.items()
    }
    assert len(left) <= 4
