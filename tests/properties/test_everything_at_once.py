"""All promises together: a Clerk that changes, two webhook processes, sweeps that are torn, crash and are resumed.

What holds in the end: the mirror is what Clerk has (1), nobody who was deleted lives (4), nothing was deleted that
Clerk still has (5), a replay of everything changes no row (6), and the requests stayed within the budget (7).
"""

import asyncio
from dataclasses import replace
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck
from hypothesis import strategies as st

from devtools.clerk_emulator import ApiFault, Behaviour, Emulator, Settings
from devtools.clerk_emulator.testing import Receiver
from nexus_auth.store.budget import Budget, Share
from tests.events import INSTANCE, Signed, next_id
from tests.model import Mirror
from tests.properties.pair import Delivery, Pair
from tests.properties.plans import Reached
from tests.reconcile.story import Story, changes, faults, variants
from tests.reconcile.world import FIX, World, close_world, open_world

SHARE = Share(per_second=400, burst=40)
OF_RUNS = ("parked_deletions", "findings", "verify_queue", "watermarks", "count_checks", "runs", "budget")
CRASHES = ("", "run.led", "sweep.repairing", "sweep.repaired", "sweep.burying")

rounds = st.lists(
    st.tuples(
        st.lists(changes, max_size=5),
        st.sampled_from(("no sweep", "full", "deep", "incremental")),
        faults,
        st.sampled_from(CRASHES),
        st.lists(changes, max_size=3),
    ),
    min_size=1,
    max_size=4,
)
"""What changes first, which sweep begins, what it meets, where it crashes, what changes meanwhile."""


class Everything:
    """One example: a Clerk, the pair of webhook processes, and whoever sweeps."""

    def __init__(self, pair: Pair, world: World, receiver: Receiver) -> None:
        self.pair = pair
        self.world = world
        self.story = Story(world, receiver, put=self.put)
        self.reached: set[str] = set()
        self._process = 0

    async def put(self, *bodies: bytes) -> None:
        """Delivers all of them at once, by turns to either process; an event that is told twice has one id."""
        ids = {body: next_id() for body in bodies}
        self._process += 1
        await self.pair.deliver(
            Delivery(Signed(body, svix_id=ids[body]), process=(self._process + place) % 2)
            for place, body in enumerate(bodies)
        )

    async def play(self, first: list[Any], mode: Any, fault: Any, crash: str, meanwhile: list[Any]) -> None:
        """One round. A sweep that comes to its failpoint ends there, as if its process had been killed."""
        for change in first:
            await self.story.tell(*change)
        if mode == "no sweep":
            return
        if fault:
            # of the walks: an answer to named ids that is empty by accident, twice, would be a proof
            self.world.clerk.add_fault(ApiFault(fault, next=2, query="*order_by*"))
        arrived = asyncio.Event()

        async def failpoint(name: str) -> None:
            if name == crash:
                arrived.set()
                await asyncio.Event().wait()

        sweep = asyncio.create_task(self.world.engine(failpoint=failpoint).run(FIX, mode=mode))
        crashing = asyncio.create_task(arrived.wait())
        for change in meanwhile:
            await self.story.tell(*change)
        await asyncio.wait((sweep, crashing), return_when=asyncio.FIRST_COMPLETED)
        for task in (sweep, crashing):
            task.cancel()
        ended = await asyncio.gather(sweep, crashing, return_exceptions=True)
        self.reached |= {f"crash at {crash}"} if arrived.is_set() else set()
        self.reached |= {"changed meanwhile"} if meanwhile else set()
        assert arrived.is_set() or not isinstance(ended[0], BaseException), ended[0]
        self.world.clerk.api_faults.clear()

    async def quiet(self) -> None:
        """What is late arrives; then nobody does anything, one sweep runs, and the reads by name that it asked for.

        A human approves what the guard leaves to them.
        """
        await self.story.end()
        if await self.world.admin.fetchval("select exists (select from clerk_private.runs where state = 'running')"):
            await self.world.sweep(mode="deep")  # goes on with what began before the last change
        result = await self.world.sweep(mode="deep")
        # parked: a read that was due already has left deletions to a human
        assert result.state == "completed" or (result.deletions_parked and result.error is None), result
        await self.world.settle(approve=True)

    def alive_at_clerk(self) -> set[str]:
        """Ids that Clerk has."""
        state = self.world.clerk.state
        organizations = [record.id for record in state.organizations]
        members = [member.id for organization in organizations for member in state.members_of(organization)]
        return {*(record.id for record in state.users), *organizations, *members}


def rows(mirror: Mirror) -> Mirror:
    """What applications read, without the versions behind it."""
    return replace(mirror, objects={})


@pytest.mark.timeout(900)  # many examples, on a machine that may be busy
def test_everything_at_once(pair: Pair) -> None:
    reached = Reached()

    @hypothesis.settings(suppress_health_check=list(HealthCheck))
    @hypothesis.given(story=rounds, behaviour=variants, still=st.sampled_from(((), ("public_metadata",), ("role",))))
    def check(story: list[Any], behaviour: dict[str, Any], still: tuple[str, ...]) -> None:
        reached.note(*pair.run(example(story, Behaviour(rate_limit=0, still_fields=still, **behaviour))))

    async def example(story: list[Any], behaviour: Behaviour) -> set[str]:
        await pair.forget()
        plan = Settings(users=6, organizations=2, memberships=5, instance_id=INSTANCE, behaviour=behaviour)
        async with Receiver() as receiver, Emulator(plan) as clerk:
            clerk.add_endpoint(receiver.url)
            world = await open_world(clerk, pair.database)
            await world.admin.execute("; ".join(f"delete from clerk_private.{table}" for table in OF_RUNS))
            world.budget = Budget(world.pool, instance_id=INSTANCE, share=SHARE)
            await world.budget.open()
            try:
                everything = Everything(pair, world, receiver)
                await check_promises(everything, story)
                return everything.reached
            finally:
                await close_world(world)

    async def check_promises(everything: Everything, story: list[Any]) -> None:
        world = everything.world
        before: set[str] = set()
        for part in story:
            await everything.play(*part)
            dead = await world.dead()
            assert before <= dead, f"lives again: {before - dead}"
            assert not dead & everything.alive_at_clerk()
            before = dead
        await everything.quiet()
        assert await world.differs() == []
        assert before <= await world.dead()
        now = await pair.mirror()
        await pair.replay()
        assert rows(await pair.mirror()).differs_from(rows(now)) == []
        assert await pair.parked() == 0
        assert world.clerk.requests.most_in_window(seconds=0.5) <= SHARE.burst + SHARE.per_second // 2

    check()
    reached.expect("changed meanwhile", *(f"crash at {crash}" for crash in CRASHES if crash))
