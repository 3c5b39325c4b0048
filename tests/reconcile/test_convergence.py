"""Promise 1: whatever was lost, repeated or out of order, one quiet full sweep ends in what Clerk has."""

import asyncio
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devtools.clerk_emulator import ApiFault, Behaviour, ClerkError, Emulator, Settings
from devtools.clerk_emulator.testing import Receiver
from devtools.postgres import Database
from tests.reconcile.world import PRIVATE, TABLES, World, close_world, open_world

EVENTS = ("on time", "lost", "twice", "late")

steps = st.one_of(
    st.tuples(st.just("create user"), st.sampled_from(EVENTS)),
    st.tuples(st.just("update user"), st.sampled_from(EVENTS), st.integers(0, 50)),
    st.tuples(st.just("delete user"), st.sampled_from(EVENTS), st.integers(0, 50)),
    st.tuples(st.just("create organization"), st.sampled_from(EVENTS), st.integers(0, 50)),
    st.tuples(st.just("update organization"), st.sampled_from(EVENTS), st.integers(0, 50)),
    st.tuples(st.just("delete organization"), st.sampled_from(EVENTS), st.integers(0, 50)),
    st.tuples(st.just("join"), st.sampled_from(EVENTS), st.integers(0, 50), st.integers(0, 50)),
    st.tuples(st.just("leave"), st.sampled_from(EVENTS), st.integers(0, 50)),
    st.tuples(st.just("edit by hand"), st.integers(0, 50), st.sampled_from(("change", "remove", "add"))),
    st.tuples(st.just("sweep"), st.sampled_from(("", "short_page", "repeat_page", "empty_page", "cut", "status"))),
)


class Story:
    """Changes at Clerk, and what the database hears of them."""

    def __init__(self, world: World, receiver: Receiver) -> None:
        self.world = world
        self.clerk = world.clerk
        self.receiver = receiver
        self.heard = 0
        self.late: list[bytes] = []
        self.count = 0

    async def change(self, what: str, fate: str, *numbers: int) -> None:
        """One change; its events come as `fate` says."""
        self.count += 1
        try:
            self._make(what, *numbers)
        except ClerkError:
            return
        await self.clerk.idle()
        bodies = [arrival.body for arrival in self.receiver.arrivals[self.heard :]]
        self.heard = len(self.receiver.arrivals)
        if fate == "late":
            self.late += bodies
        elif fate != "lost":
            await self.world.put(*bodies, *(bodies if fate == "twice" else ()))

    def _make(self, what: str, *numbers: int) -> None:
        state, changes = self.clerk.state, self.clerk.changes
        users = [record.id for record in state.users]
        organizations = [record.id for record in state.organizations]
        verb, _, noun = what.partition(" ")
        if what == "create user":
            changes.users.create({"email_address": [f"u{self.count}@example.com"]})
        elif noun == "user" and users:
            user = users[numbers[0] % len(users)]
            if verb == "delete":
                changes.users.delete(user)
            else:
                changes.users.update(user, {"first_name": f"Name {self.count}"})
        elif what == "create organization" and users:
            changes.organizations.create({"name": f"O{self.count}", "created_by": users[numbers[0] % len(users)]})
        elif noun == "organization" and organizations:
            organization = organizations[numbers[0] % len(organizations)]
            if verb == "delete":
                changes.organizations.delete(organization)
            else:
                changes.organizations.update(organization, {"name": f"Named {self.count}"})
        elif what == "join" and users and organizations:
            changes.memberships.create(
                organization_id=organizations[numbers[0] % len(organizations)],
                user_id=users[numbers[1] % len(users)],
                role="org:member",
            )
        elif what == "leave":
            members = [m for organization in organizations for m in state.members_of(organization)]
            if members:
                member = members[numbers[0] % len(members)]
                changes.memberships.delete(organization_id=member.organization_id, user_id=member.user_id)

    async def edit(self, number: int, how: str) -> None:
        """Somebody with the owner's rights."""
        ids = await self.world.ids()
        if how == "add":
            self.count += 1
            await self.world.admin.execute(
                "insert into clerk.users (id, created_at, updated_at) values ($1, now(), now())", f"zz_{self.count}"
            )
        elif ids and how == "change":
            await self.world.admin.execute(
                "update clerk.users set first_name = 'by hand' where id = $1", ids[number % len(ids)]
            )
        elif ids:
            await self.world.admin.execute("delete from clerk.users where id = $1", ids[number % len(ids)])


async def tell(world: World, receiver: Receiver, story: list[Any]) -> None:
    told = Story(world, receiver)
    for what, *rest in story:
        if what == "sweep":
            # of the walks: an answer to named ids that is empty by accident, twice, would be a proof
            fault = ApiFault(rest[0], next=2, query="*order_by*") if rest[0] else None
            if fault is not None:
                world.clerk.add_fault(fault)
            await world.sweep()
            world.clerk.api_faults.clear()
        elif what == "edit by hand":
            await told.edit(*rest)
        else:
            await told.change(what, *rest)
    await world.put(*reversed(told.late))


@settings(suppress_health_check=list(HealthCheck))
@given(
    story=st.lists(steps, max_size=14),
    behaviour=st.fixed_dictionaries(
        {
            "after_inclusive": st.booleans(),
            "before_inclusive": st.booleans(),
            "ignore_starting_after": st.booleans(),
        }
    ),
)
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
                assert result.state == "completed", result
                assert await world.differs() == []
            finally:
                await close_world(world)

    asyncio.run(example())
