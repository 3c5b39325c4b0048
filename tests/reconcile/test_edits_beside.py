"""Rows edited by hand are looked for beside the walk; what a hand did is never taken for something that Clerk did."""

import asyncio
import time

import asyncpg
import pytest

from nexus_auth.reconcile.policy import SyncPolicy
from tests.reconcile.conftest import MakeWorld
from tests.reconcile.world import FIX, REPORT

SECONDS = 30.0
COMPARED = """
select exists (select from pg_stat_activity
  where datname = current_database() and state = 'idle' and query like '%clerk_private.held(%' and pid <> pg_backend_pid()
    and query_start > $1)
"""


@pytest.mark.parametrize(("policy", "action"), [(FIX, "repaired"), (REPORT, "reported")])
async def test_a_walk_that_is_ahead_waits_with_what_differs(
    make_world: MakeWorld, policy: SyncPolicy, action: str
) -> None:
    world = await make_world(users=600, organizations=0, memberships=0)
    assert (await world.sweep()).state == "completed"
    removed, moved, *_ = await world.ids()
    await world.admin.execute("delete from clerk.users where id = $1", removed)
    await world.admin.execute("update clerk.users set updated_at = updated_at - interval '1 h' where id = $1", moved)
    began = await world.admin.fetchval("select clock_timestamp()")
    holder = await asyncpg.connect(world.database.admin_url)
    async with holder.transaction():
        # the look for edits reads this table, the walk does not
        await holder.execute("lock table clerk_private.burying in access exclusive mode")
        running = asyncio.create_task(world.sweep(policy))
        deadline = time.monotonic() + SECONDS
        while not await world.admin.fetchval(COMPARED, began):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        assert not running.done()
    result = await running
    await holder.close()
    assert result.state == "completed"
    assert await world.findings(result.run_id) == {removed: ("edited", action), moved: ("edited", action)}
    assert result.counts["user"]["seen"] == 600
    assert await world.differs() == [] or policy is REPORT
