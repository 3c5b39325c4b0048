"""Stories for properties: what changes at Clerk, which of its events come, and who edits rows by hand."""

from collections.abc import Awaitable, Callable
from typing import Any

from hypothesis import strategies as st

from devtools.clerk_emulator import ClerkError
from devtools.clerk_emulator.testing import Receiver
from tests.reconcile.world import World

Put = Callable[..., Awaitable[object]]
EVENTS = ("on time", "lost", "twice", "late")

changes = st.one_of(
    st.tuples(st.just("create user"), st.sampled_from(EVENTS)),
    st.tuples(st.just("update user"), st.sampled_from(EVENTS), st.integers(0, 50)),
    st.tuples(st.just("delete user"), st.sampled_from(EVENTS), st.integers(0, 50)),
    st.tuples(st.just("create organization"), st.sampled_from(EVENTS), st.integers(0, 50)),
    st.tuples(st.just("update organization"), st.sampled_from(EVENTS), st.integers(0, 50)),
    st.tuples(st.just("delete organization"), st.sampled_from(EVENTS), st.integers(0, 50)),
    st.tuples(st.just("join"), st.sampled_from(EVENTS), st.integers(0, 50), st.integers(0, 50)),
    st.tuples(st.just("leave"), st.sampled_from(EVENTS), st.integers(0, 50)),
    st.tuples(st.just("edit by hand"), st.integers(0, 50), st.sampled_from(("change", "remove", "add"))),
)
"""What happens at Clerk, on the way from it, or to our rows."""

faults = st.sampled_from(("", "short_page", "repeat_page", "empty_page", "cut", "status"))
"""What a walk may meet."""

variants = st.fixed_dictionaries(
    {
        "after_inclusive": st.booleans(),
        "before_inclusive": st.booleans(),
        "ignore_starting_after": st.booleans(),
    }
)
"""What nobody documents of Clerk's lists."""


class Story:
    """Changes at Clerk, and what the database hears of them."""

    def __init__(self, world: World, receiver: Receiver, *, put: Put) -> None:
        """`put` delivers bodies, one after the other or together."""
        self.world = world
        self._put = put
        self.clerk = world.clerk
        self.receiver = receiver
        self.heard = 0
        self.late: list[bytes] = []
        self.count = 0

    async def tell(self, what: str, *rest: Any) -> None:
        """One of `changes`."""
        if what == "edit by hand":
            await self.edit(*rest)
        else:
            await self.change(what, *rest)

    async def end(self) -> None:
        """What is late comes, the newest first."""
        await self._put(*reversed(self.late))

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
            await self._put(*bodies, *(bodies if fate == "twice" else ()))

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
