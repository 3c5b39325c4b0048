"""Memberships: created, updated, deleted; their events carry the whole object, the deletion's too."""

from dataclasses import replace
from typing import Any

from devtools.clerk_emulator import shapes
from devtools.clerk_emulator.changes import metadata, moments
from devtools.clerk_emulator.clerk_errors import ClerkError, invalid_parameter, not_found
from devtools.clerk_emulator.delivery.messages import now_ms
from devtools.clerk_emulator.events import Events
from devtools.clerk_emulator.state.instance import InstanceState
from devtools.clerk_emulator.state.records import MembershipRecord, OrganizationRecord, UserRecord


class MembershipChanges:
    """Changes of memberships."""

    def __init__(self, *, state: InstanceState, events: Events) -> None:
        """Change this state and send these events."""
        self._state = state
        self._events = events

    def shape(self, record: MembershipRecord) -> dict[str, Any]:
        """Return a living membership as Clerk shows it."""
        organization = self._state.organizations.get(record.organization_id)
        user = self._state.users.get(record.user_id)
        if organization is None or user is None:
            raise not_found("organization membership", record.id)
        return shapes.membership(record, organization=organization, user=user)

    def find(self, *, organization_id: str, user_id: str) -> MembershipRecord:
        """Return a membership; raise ClerkError (404)."""
        organization = self._state.organization(organization_id)
        if organization is None:
            raise not_found("organization", organization_id)
        found = self._state.membership(organization_id=organization.id, user_id=user_id)
        if found is None:
            raise not_found("organization membership", user_id)
        return found

    def create(
        self,
        *,
        organization_id: str,
        user_id: str,
        role: str,
        public_metadata: dict[str, Any] | None = None,
        private_metadata: dict[str, Any] | None = None,
    ) -> MembershipRecord:
        """Make a user a member; raise ClerkError where either is unknown, or the user is one already."""
        organization = self._state.organization(organization_id)
        if organization is None:
            raise not_found("organization", organization_id)
        user = self._state.users.get(user_id)
        if user is None:
            raise not_found("user", user_id)
        if self._state.membership(organization_id=organization.id, user_id=user_id):
            raise ClerkError(
                400,
                code="already_a_member_in_organization",
                message="already a member",
                long_message=f"User {user_id} is already a member of the organization.",
            )
        limit = organization.max_allowed_memberships
        if limit and self._state.members_count(organization.id) >= limit:
            raise ClerkError(
                403,
                code="organization_membership_quota_exceeded",
                message="organization membership quota exceeded",
                long_message=f"You have reached your limit of {limit} organization memberships.",
            )
        moment = now_ms()
        record = MembershipRecord(
            id=self._state.memberships.next_identifier(now_ms=moment),
            created_at=moment,
            updated_at=moment,
            organization_id=organization.id,
            user_id=user_id,
            role=_checked_role(role),
            public_metadata=metadata.checked("public_metadata", public_metadata or {}),
            private_metadata=metadata.checked("private_metadata", private_metadata or {}),
        )
        self._state.add_membership(record)
        self._send("created", record, organization=organization, user=user)
        return record

    def update(self, *, organization_id: str, user_id: str, role: str) -> MembershipRecord:
        """Give a member another role."""
        record = self.find(organization_id=organization_id, user_id=user_id)
        return self._put(replace(record, role=_checked_role(role)))

    def update_metadata(
        self, *, organization_id: str, user_id: str, changes: dict[str, dict[str, Any]]
    ) -> MembershipRecord:
        """Merge metadata into a membership's."""
        record = self.find(organization_id=organization_id, user_id=user_id)
        fields = {
            name: metadata.checked(name, metadata.merged(getattr(record, name), change))
            for name, change in changes.items()
        }
        return self._put(replace(record, **fields))  # type: ignore[arg-type]

    def delete(self, *, organization_id: str, user_id: str) -> dict[str, Any]:
        """End a membership and return its last shape."""
        record = self.find(organization_id=organization_id, user_id=user_id)
        shape = self.shape(record)
        self._state.memberships.remove(record.id, linger_seconds=self._events.behaviour.stale_deleted_seconds)
        self._events.emit("organizationMembership.deleted", shape)
        return shape

    def end_all(self, records: list[MembershipRecord]) -> None:
        """End memberships because their organization or user is about to go; silent unless events cascade."""
        for record in records:
            if self._events.behaviour.cascade_events:
                self._events.emit("organizationMembership.deleted", self.shape(record))
            self._state.memberships.remove(record.id, linger_seconds=self._events.behaviour.stale_deleted_seconds)

    def _put(self, record: MembershipRecord) -> MembershipRecord:
        old = self._state.memberships.get(record.id) or record
        still = self._events.behaviour.still_fields
        moved = replace(record, updated_at=moments.of_change(old, record, still_fields=still))
        self._state.memberships.replace(moved)
        self._events.emit("organizationMembership.updated", self.shape(moved))
        return moved

    def _send(self, what: str, record: MembershipRecord, *, organization: OrganizationRecord, user: UserRecord) -> None:
        shape = shapes.membership(record, organization=organization, user=user)
        self._events.emit(f"organizationMembership.{what}", shape)


def _checked_role(role: str) -> str:
    if not role.startswith("org:"):
        raise invalid_parameter("role", f"{role} does not exist", code="form_param_value_invalid")
    return role
