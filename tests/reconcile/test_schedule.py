"""What is due after runs that came to nothing: no request limit is spent on asking the same again and again."""

from dataclasses import replace

from devtools.clerk_emulator import ApiFault
from nexus_auth.store import runs
from nexus_auth.store.history import History, read_history
from services.reconciler.manifests import SyncManifest, read_manifests
from services.reconciler.schedule import due
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
    return await read_history(world.admin, sync="main")


async def test_a_verification_that_cannot_be_made_is_not_tried_at_once_again(world: World) -> None:
    user = (await world.ids())[3]
    await world.bury_falsely("user", user)
    await world.sweep()
    first = due(sync(), await history(world))
    assert first is not None
    assert (first.mode, first.reason) == ("incremental", "a verification is due")
    world.clerk.add_fault(ApiFault("status", status=401, route="/users"))
    assert (await world.sweep(mode="incremental")).state == "parked"
    now = await history(world)
    assert now.doubts_due
    assert due(sync(), now) is None


async def test_an_approval_is_nothing_to_hurry_for_where_only_reports_are_made(world: World) -> None:
    await world.sweep(mode="incremental")
    now = replace(await history(world), approved=True)
    chosen = sync()
    assert due(chosen, now) is not None
    assert due(replace(chosen, policy=replace(chosen.policy, drift="Report")), now) is None


async def test_an_approval_given_for_others_is_taken_back(world: World) -> None:
    run = await runs.lead(world.pool, sync="main", mode="full", policy="Fix", kinds=FIX.kinds, holder="test")
    async with runs.writing(world.pool, run, changes_run=True) as connection:
        await runs.park(connection, run, [("user", "user_a")])
    await runs.finish(world.pool, run, state="parked", message=None, requests=0)
    await runs.approve(world.admin, run.id, approved_by="somebody")
    await world.admin.execute("insert into clerk_private.parked_deletions values ($1, 'user', 'user_b')", run.id)
    assert (await history(world)).approved
    assert await runs.approved(world.pool, sync="main") is None
    assert not (await history(world)).approved
