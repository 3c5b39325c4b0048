"""Rows edited by hand are looked for beside the walk; what a hand did is never taken for something that Clerk did."""

import asyncio
import time

import asyncpg
import pytest

from nexus_auth.reconcile.policy import SyncPolicy
from tests.reconcile.conftest import MakeWorld
from tests.reconcile.world import FIX, REPORT

SECONDS = 30.0
HELD_UP = """
alter function clerk_private.edited rename to edited_at_last;
create function clerk_private.edited(p_kind text, p_after text, p_limit integer)
returns table (last_id text, id text, problem text) language plpgsql security definer as $$
begin
  perform pg_advisory_xact_lock(4);
  return query select * from clerk_private.edited_at_last(p_kind, p_after, p_limit);
end $$;
grant execute on function clerk_private.edited to clerk_reconciler
"""
COMPARED = """
select exists (select from pg_stat_activity
  where datname = current_database() and state = 'idle' and query like '%clerk_private.held(%'
    and pid <> pg_backend_pid() and query_start > $1)
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
    await world.admin.execute(HELD_UP)
    repairing = asyncio.Event()

    async def at(name: str) -> None:
        if name == "sweep.repairing":
            repairing.set()

    began = await world.admin.fetchval("select clock_timestamp()")
    holder = await asyncpg.connect(world.database.admin_url)
    async with holder.transaction():
        await holder.execute("select pg_advisory_xact_lock(4)")
        running = asyncio.create_task(world.engine(failpoint=at).run(policy, mode="full"))
        deadline = time.monotonic() + SECONDS
        while not await world.admin.fetchval(COMPARED, began):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(repairing.wait(), 0.5)
    result = await running
    await holder.close()
    assert result.state == "completed"
    assert await world.findings(result.run_id) == {removed: ("edited", action), moved: ("edited", action)}
    assert result.counts["user"]["seen"] == 600
    assert await world.differs() == [] or policy is REPORT
