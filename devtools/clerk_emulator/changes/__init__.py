"""What can happen in the instance: each change is checked, applied, and sent as an event."""

from devtools.clerk_emulator.changes.memberships import MembershipChanges
from devtools.clerk_emulator.changes.organizations import OrganizationChanges
from devtools.clerk_emulator.changes.users import UserChanges
from devtools.clerk_emulator.events import Events
from devtools.clerk_emulator.state.instance import InstanceState

__all__ = ["Changes", "MembershipChanges", "OrganizationChanges", "UserChanges"]


class Changes:
    """Every change, by the kind of object that it concerns."""

    def __init__(self, *, state: InstanceState, events: Events) -> None:
        """Wire the kinds to one instance."""
        self.memberships = MembershipChanges(state=state, events=events)
        self.users = UserChanges(state=state, events=events, memberships=self.memberships)
        self.organizations = OrganizationChanges(state=state, events=events, memberships=self.memberships)
