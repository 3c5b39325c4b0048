"""What Clerk has: one entry per entity. Adding one touches this table and one projection in SQL.

Names are those of Clerk's webhook catalogue (specification of 2025-04-15) and of its Backend API. Types that only some
sources know (`invitation.*`, `subscriptionItem.created`) are covered: an event's group is what stands before the dot.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Entity:
    """One kind of Clerk object."""

    kind: str
    """Our name of it: `clerk_private.objects.kind`."""
    group: str
    """What its event types begin with."""
    list_path: str | None = None
    """Where the Backend API lists all of an instance's; None where it cannot."""
    projected: bool = False
    """Whether a typed table takes it. Events of the others are kept and wait for theirs."""
    withheld: frozenset[str] = frozenset()
    """Members of its payload that are secrets, at any depth outside metadata, besides `WITHHELD_EVERYWHERE`."""


WITHHELD_EVERYWHERE = frozenset(
    {"backup_codes", "otp_code", "otp", "magic_link", "verification_url", "totp_secret", "password_digest", "ticket"}
)
"""One-time secrets: withheld by name at any depth of any event."""

WITHHELD_IN_METADATA = frozenset({"backup_codes", "otp_code", "magic_link"})
"""Those of them that are withheld in metadata too: it is the customer's, and a "ticket" there is one of his own."""

MESSAGE_GROUPS = frozenset({"email", "sms"})
"""Their payload is a message with a code or link in it, even in the subject: only `MESSAGE_MEMBERS` are kept."""

MESSAGE_MEMBERS = frozenset(
    {"object", "id", "slug", "status", "user_id", "created_at", "updated_at", "created_at_ms", "updated_at_ms"}
)

ENVELOPE_MEMBERS = frozenset({"object", "type", "timestamp", "instance_id"})
"""What stays of such an event outside its data."""

PROJECTED_VERBS = frozenset({"created", "updated", "deleted"})
"""Events of a projected entity that tell its state. What another verb brings is not guessed at, it is kept."""

_LINK = frozenset({"url"})

ENTITIES: Mapping[str, Entity] = {
    entity.group: entity
    for entity in (
        Entity("user", "user", "/users", projected=True),
        Entity("organization", "organization", "/organizations", projected=True),
        Entity("organization_membership", "organizationMembership", "/organization_memberships", projected=True),
        Entity("organization_invitation", "organizationInvitation", "/organization_invitations", withheld=_LINK),
        Entity("organization_domain", "organizationDomain", "/organization_domains"),
        Entity("role", "role", "/organization_roles"),
        Entity("permission", "permission", "/organization_permissions"),
        Entity("invitation", "invitation", "/invitations", withheld=_LINK),
        Entity("waitlist_entry", "waitlistEntry", "/waitlist_entries", withheld=_LINK),
        Entity("session", "session"),
        Entity("subscription", "subscription"),
        Entity("subscription_item", "subscriptionItem", "/billing/subscription_items"),
        Entity("payment_attempt", "paymentAttempt"),
    )
}
"""By group of event types."""

DELETED = "deleted"
"""The verb of a deletion: `user.deleted`."""
