"""Promise 1: whatever was lost or out of order, one quiet full sweep and its queued reads end in what Clerk has."""

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devtools.clerk_emulator import ApiFault, Behaviour, Emulator, Settings
from devtools.clerk_emulator.testing import Receiver
from devtools.postgres import Database
from tests.reconcile.story import Story, changes, faults, variants
from tests.reconcile.world import PRIVATE, TABLES, World, close_world, open_world

steps = st.one_of(changes, st.tuples(st.just("sweep"), faults))


async def tell(world: World, receiver: Receiver, story: list[Any]) -> None:
    told = Story(world, receiver, put=world.put)
    for what, *rest in story:
        if what == "sweep":
            # of the walks: an answer to named ids that is empty by accident, twice, would be a proof
            fault = ApiFault(rest[0], next=2, query="*order_by*") if rest[0] else None
            if fault is not None:
                world.clerk.add_fault(fault)
            await world.sweep()
            world.clerk.api_faults.clear()
        else:
            await told.tell(what, *rest)
    await told.end()


@pytest.mark.timeout(900)  # many examples, on a machine that may be busy
@settings(suppress_health_check=list(HealthCheck))
@given(story=st.lists(steps, max_size=14), behaviour=variants)
def test_one_quiet_full_sweep_ends_in_what_clerk_has(
    database: Database, story: list[Any], behaviour: dict[str, Any]
) -> None:
    async def example() -> None:
        plan = Settings(users=6, organizations=2, memberships=5, behaviour=Behaviour(rate_limit=0, **behaviour))
        async with Receiver() as receiver, Emulator(plan) as clerk:
            clerk.add_endpoint(receiver.url)
            world = await open_world(clerk, database)
            try:
                await world.admin.execute(f"truncate {', '.join((*TABLES, *(f'clerk_private.{t}' for t in PRIVATE)))}")
                await tell(world, receiver, story)
                result = await world.sweep()
                # parked: a read that was due already has left deletions to a human
                assert result.state == "completed" or (result.deletions_parked and result.error is None), result
                # and the reads by name that it asked for; a human approves what the guard leaves to them
                await world.settle(approve=True)
                assert await world.differs() == []
            finally:
                await close_world(world)

    asyncio.run(example())
