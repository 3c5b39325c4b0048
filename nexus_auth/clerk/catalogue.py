"""What Clerk has: one declaration per entity. Everything that Python does with an entity derives from it.

Adding an entity takes an entry here and one migration (a table, `project_<kind>`, a call of
`clerk_private.define_entity`): CONTRIBUTING.md walks through it. Names are those of Clerk's webhook catalogue
(specification of 2025-04-15) and of its Backend API. Types that only some sources know (`invitation.*`,
`subscriptionItem.created`) are covered: an event's group is what stands before the dot.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Meaning = Literal["state", "deletion", "ended"]
"""What an event says of its object. state: it is so now. deletion: it is gone. ended: it is over, and Clerk goes on
listing it with a last state."""

CHANGES: Mapping[str, Meaning] = {"created": "state", "updated": "state", "deleted": "deletion"}


@dataclass(frozen=True, slots=True)
class Parent:
    """An object without which another one does not exist."""

    kind: str
    path: tuple[str, ...]
    """Members of the child's JSON that lead to the parent's id."""
    children: str
    """Where the Backend API lists the children of one parent; `{id}` is the parent's."""


@dataclass(frozen=True, slots=True)
class Listing:
    """How the Backend API lists all objects of a kind."""

    path: str
    paged: bool = True
    """Whether an answer is `{"data": […], "total_count": n}`; else it is an array."""
    windows: bool = False
    """Whether the list takes bounds of `created_at`, so that several walkers share it."""
    by_update: bool = False
    """Whether it can be ordered by `updated_at`: what changed since a moment is found without a full walk."""
    count_path: str | None = None
    """Where the number of objects stands; None: the list's own `total_count`."""


@dataclass(frozen=True, slots=True)
class NamedRead:
    """A request that names the objects it asks for, up to 100."""

    path: str
    """May hold `{kind}` of a parent: then one request asks below one parent only."""
    parameter: str
    """Repeated for every id that is named."""
    paged: bool = True
    names: str | None = None
    """The kind whose ids are named: of a child that cannot be named itself, its other parent; None: its own."""


@dataclass(frozen=True)
class Entity:
    """One kind of Clerk object."""

    kind: str
    """Our name of it: `clerk_private.objects.kind`."""
    group: str
    """What its event types begin with."""
    verbs: Mapping[str, Meaning] = field(default_factory=lambda: CHANGES)
    """By what stands behind the dot of an event type. Events with another verb are kept and not applied."""
    resource: str = ""
    """Its name in manifests and on the command line; empty where no typed table takes it yet."""
    nouns: tuple[str, str] = ("", "")
    """One of it and several, in sentences."""
    parents: tuple[Parent, ...] = ()
    """In the order of `clerk_private.typed_rows.parents`."""
    one_per_parents: bool = False
    """Whether Clerk has at most one object for each combination of parents."""
    listing: Listing | None = None
    """None where the Backend API cannot list all of an instance's."""
    named: NamedRead | None = None
    projection: int = 0
    """Version of the SQL function `project_<kind>`; 0: none, its events are kept and wait for one."""
    full_sweep_seconds: float | None = None
    """Longest time between two full sweeps, where the sync's own is too rare for what only a listing finds."""
    withheld: frozenset[str] = frozenset()
    """Members of its payload that are secrets, at any depth outside metadata, besides `WITHHELD_EVERYWHERE`."""

    @property
    def projected(self) -> bool:
        """Whether a typed table takes it."""
        return self.projection > 0


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

_LINK = frozenset({"url"})

_INVITED: Mapping[str, Meaning] = {"created": "state", "accepted": "ended", "revoked": "ended"}
_SESSION: Mapping[str, Meaning] = {
    **{"created": "state", "pending": "state", "updated": "state"},
    **{"ended": "ended", "removed": "ended", "revoked": "ended"},
}
_BILLED: Mapping[str, Meaning] = {
    **{"created": "state", "updated": "state", "active": "state", "upcoming": "state", "pastDue": "state"},
    **{"freeTrialEnding": "state", "incomplete": "state", "abandoned": "ended", "canceled": "ended", "ended": "ended"},
}

_DECLARED = (
    Entity(
        "user",
        "user",
        resource="users",
        nouns=("user", "users"),
        listing=Listing("/users", paged=False, windows=True, by_update=True, count_path="/users/count"),
        named=NamedRead("/users", "user_id", paged=False),
        projection=1,
    ),
    Entity(
        "organization",
        "organization",
        resource="organizations",
        nouns=("organization", "organizations"),
        listing=Listing("/organizations"),
        named=NamedRead("/organizations", "organization_id"),
        projection=1,
    ),
    Entity(
        "organization_membership",
        "organizationMembership",
        resource="memberships",
        nouns=("membership", "memberships"),
        parents=(
            Parent("organization", ("organization", "id"), "/organizations/{id}/memberships"),
            Parent("user", ("public_user_data", "user_id"), "/users/{id}/organization_memberships"),
        ),
        one_per_parents=True,
        listing=Listing("/organization_memberships"),
        # there is no GET of a membership by its id: its organization is asked for its user
        named=NamedRead("/organizations/{organization}/memberships", "user_id", names="user"),
        projection=1,
        # a lost change of role is found by nothing but a listing of all memberships
        full_sweep_seconds=3_600.0,
    ),
    Entity(
        "organization_invitation",
        "organizationInvitation",
        verbs=_INVITED,
        listing=Listing("/organization_invitations"),
        withheld=_LINK,
    ),
    Entity("organization_domain", "organizationDomain", listing=Listing("/organization_domains")),
    Entity("role", "role", listing=Listing("/organization_roles")),
    Entity("permission", "permission", listing=Listing("/organization_permissions")),
    Entity("invitation", "invitation", verbs=_INVITED, listing=Listing("/invitations"), withheld=_LINK),
    Entity("waitlist_entry", "waitlistEntry", listing=Listing("/waitlist_entries"), withheld=_LINK),
    Entity("session", "session", verbs=_SESSION),
    Entity("subscription", "subscription", verbs=_BILLED),
    Entity("subscription_item", "subscriptionItem", verbs=_BILLED, listing=Listing("/billing/subscription_items")),
    Entity("payment_attempt", "paymentAttempt", verbs=_BILLED),
)

ENTITIES: Mapping[str, Entity] = {entity.group: entity for entity in _DECLARED}
"""By group of event types."""

BY_KIND: Mapping[str, Entity] = {entity.kind: entity for entity in _DECLARED}


def parents_first(kinds: Mapping[str, Entity]) -> tuple[Entity, ...]:
    """These entities, each behind its parents; else in the order given. Raises ValueError where they form a circle."""
    ordered: dict[str, Entity] = {}
    while len(ordered) < len(kinds):
        ready = [
            entity
            for kind, entity in kinds.items()
            if kind not in ordered and all(parent.kind in ordered for parent in entity.parents)
        ]
        if not ready:
            raise ValueError(f"no order of parents: {sorted(set(kinds) - set(ordered))}")
        ordered |= {entity.kind: entity for entity in ready}
    return tuple(ordered.values())


PROJECTED: tuple[Entity, ...] = parents_first({entity.kind: entity for entity in _DECLARED if entity.projected})
"""The entities that a typed table takes, parents before children: what a sync may reconcile."""


def children_of(kind: str) -> tuple[tuple[Entity, Parent], ...]:
    """The projected entities that die with an object of this kind, each with how it names that parent."""
    return tuple((entity, parent) for entity in PROJECTED for parent in entity.parents if parent.kind == kind)


DELETED = "deleted"
"""The verb of a deletion in Clerk's catalogue: `user.deleted`."""
