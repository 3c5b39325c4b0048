"""Organizations: created, updated, deleted with their memberships."""

import re
from dataclasses import replace
from typing import Any

from devtools.clerk_emulator import shapes
from devtools.clerk_emulator.changes import metadata, moments
from devtools.clerk_emulator.changes.memberships import MembershipChanges
from devtools.clerk_emulator.clerk_errors import identifier_taken, invalid_parameter, not_found
from devtools.clerk_emulator.delivery.messages import now_ms
from devtools.clerk_emulator.events import Events
from devtools.clerk_emulator.state.instance import InstanceState
from devtools.clerk_emulator.state.records import OrganizationRecord

_SLUG = re.compile(r"[a-z0-9][a-z0-9_-]*")
_NAME_LENGTH = 256


class OrganizationChanges:
    """Changes of organizations."""

    def __init__(self, *, state: InstanceState, events: Events, memberships: MembershipChanges) -> None:
        """Change this state and send these events."""
        self._state = state
        self._events = events
        self._memberships = memberships

    def find(self, id_or_slug: str) -> OrganizationRecord:
        """Return an organization; raise ClerkError (404)."""
        found = self._state.organization(id_or_slug)
        if found is None:
            raise not_found("organization", id_or_slug)
        return found

    def create(self, fields: dict[str, Any]) -> OrganizationRecord:
        """Create an organization from the API's fields; its creator becomes its admin."""
        creator = fields.get("created_by")
        if creator is not None and creator not in self._state.users:
            raise not_found("user", creator)
        moment = now_ms()
        name = _checked_name(fields["name"])
        record = OrganizationRecord(
            id=self._state.organizations.next_identifier(now_ms=moment),
            created_at=moments.parse("created_at", fields["created_at"]) if fields.get("created_at") else moment,
            updated_at=moment,
            name=name,
            slug=self._checked_slug(fields.get("slug") or self._slug_for(name)),
            created_by=creator,
            max_allowed_memberships=_given(fields, "max_allowed_memberships", 5),
            public_metadata=metadata.checked("public_metadata", fields.get("public_metadata") or {}),
            private_metadata=metadata.checked("private_metadata", fields.get("private_metadata") or {}),
            role_set_key=_given(fields, "role_set_key", "role_set:default"),
        )
        self._state.organizations.insert(record)
        self._state.remember_slug(record)
        self._events.emit("organization.created", shapes.organization(record))
        if creator is not None:
            self._memberships.create(organization_id=record.id, user_id=creator, role="org:admin")
        return record

    def update(self, id_or_slug: str, fields: dict[str, Any]) -> OrganizationRecord:
        """Change an organization by the API's fields; metadata is merged."""
        record = self.find(id_or_slug)
        changes: dict[str, Any] = {}
        if fields.get("name") is not None:
            changes["name"] = _checked_name(fields["name"])
        if fields.get("slug") is not None:
            changes["slug"] = self._checked_slug(fields["slug"], owner=record.id)
        if fields.get("created_at") is not None:
            changes["created_at"] = moments.parse("created_at", fields["created_at"])
        for plain in ("max_allowed_memberships", "admin_delete_enabled", "role_set_key"):
            if fields.get(plain) is not None:
                changes[plain] = fields[plain]
        for name in ("public_metadata", "private_metadata"):
            if fields.get(name) is not None:
                changes[name] = metadata.checked(name, metadata.merged(getattr(record, name), fields[name]))
        return self._put(replace(record, **changes))

    def replace_metadata(self, id_or_slug: str, fields: dict[str, dict[str, Any]]) -> OrganizationRecord:
        """Put new metadata in the place of the old."""
        changes: dict[str, Any] = {name: metadata.checked(name, value) for name, value in fields.items()}
        return self._put(replace(self.find(id_or_slug), **changes))

    def delete(self, id_or_slug: str) -> dict[str, Any]:
        """Delete an organization and its memberships; return the DeletedObject."""
        record = self.find(id_or_slug)
        self._memberships.end_all(self._state.members_of(record.id))
        self._state.organizations.remove(record.id, linger_seconds=self._events.behaviour.stale_deleted_seconds)
        shape = shapes.deleted("organization", record.id, slug=record.slug)
        self._events.emit("organization.deleted", shape)
        return shape

    def _put(self, record: OrganizationRecord) -> OrganizationRecord:
        old = self._state.organizations.get(record.id) or record
        still = self._events.behaviour.still_fields
        moved = replace(record, updated_at=moments.of_change(old, record, still_fields=still))
        self._state.organizations.replace(moved)
        self._state.remember_slug(moved)
        self._events.emit("organization.updated", shapes.organization(moved))
        return moved

    def _slug_for(self, name: str) -> str:
        base = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "organization"
        slug, number = base, 0
        while self._state.organization_with_slug(slug):
            number += 1
            slug = f"{base}-{now_ms()}-{number}"
        return slug

    def _checked_slug(self, slug: str, *, owner: str | None = None) -> str:
        if not _SLUG.fullmatch(slug):
            raise invalid_parameter("slug", "can only contain lowercase letters, numbers, hyphens and underscores")
        holder = self._state.organization_with_slug(slug)
        if holder is not None and holder.id != owner:
            raise identifier_taken("slug")
        return slug


def _given(fields: dict[str, Any], name: str, otherwise: Any) -> Any:
    value = fields.get(name)
    return otherwise if value is None else value


def _checked_name(name: str) -> str:
    if not name.strip():
        raise invalid_parameter("name", "cannot be blank", code="form_param_nil")
    if len(name) > _NAME_LENGTH:
        raise invalid_parameter("name", f"exceeds {_NAME_LENGTH} characters", code="form_param_max_length_exceeded")
    return name
