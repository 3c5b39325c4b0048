"""The instance's objects and the ways to find one: by id, by identifier, by who belongs where."""

import time
from array import array
from collections.abc import Iterable, Mapping
from itertools import count
from typing import Any

from devtools.clerk_emulator.settings import Settings
from devtools.clerk_emulator.state.groups import Groups
from devtools.clerk_emulator.state.identifiers import IdentifierSpace
from devtools.clerk_emulator.state.population import Population, seeded_slot
from devtools.clerk_emulator.state.records import MembershipRecord, OrganizationRecord, UserRecord
from devtools.clerk_emulator.state.table import Table

#: Numbers of ids that are given out while running start above every seeded one, and elsewhere in each run.
_AFTER_SEEDED = 1 << 40


class InstanceState:
    """Users, organizations and memberships of one Clerk instance. No rules live here, only what exists."""

    def __init__(self, settings: Settings) -> None:
        """Seed the instance."""
        population = Population(
            seed=settings.seed,
            users=settings.users,
            users_of_one_moment=settings.users_of_one_moment,
            organizations=settings.organizations,
            memberships=settings.memberships,
        )
        self.users: Table[UserRecord] = Table(
            population.user_space,
            created=array("q", population.user_times),
            derive=population.user,
            updated=population.user_updated_at,
        )
        self.organizations: Table[OrganizationRecord] = Table(
            population.organization_space,
            created=array("q", population.organization_times),
            derive=population.organization,
        )
        self.memberships: Table[MembershipRecord] = Table(
            population.membership_space, created=array("q", population.membership_times), derive=population.membership
        )
        self.seeded_users = population.users
        self.seed: Mapping[str, Any] = {
            name: getattr(settings, name)
            for name in ("seed", "users", "users_of_one_moment", "organizations", "memberships")
        }
        """What the seeded objects follow from."""
        self._seed = settings.seed
        self._identifications = population.identification_space
        self._numbers = count(_AFTER_SEEDED + (time.time_ns() << 40))
        self._other_spaces: dict[str, IdentifierSpace] = {}
        self._identities: dict[tuple[str, str], str] = {}
        self._of_organization = Groups(population.membership_organizations)
        self._of_user = Groups(population.membership_users)

    @property
    def edits(self) -> int:
        """How often something was created, changed or deleted."""
        return self.users.edits + self.organizations.edits + self.memberships.edits

    def later_memberships(self) -> list[tuple[int, int, int]]:
        """Return the memberships that came after the seed: slot, organization's slot, user's slot."""
        users = dict(self._of_user.later())
        return [(slot, organization, users[slot]) for slot, organization in self._of_organization.later()]

    def remembered(self) -> list[tuple[str, str, str]]:
        """Return kind, value and owner of everything that `remember_identities` and `remember_slug` were given."""
        return [(kind, value, owner) for (kind, value), owner in self._identities.items()]

    def restore(self, *, groups: Iterable[tuple[int, int, int]], identities: Iterable[tuple[str, str, str]]) -> None:
        """Enter what `later_memberships` and `remembered` returned."""
        for slot, organization, user in groups:
            self._of_organization.add(organization, slot)
            self._of_user.add(user, slot)
        self._identities = {(kind, value): owner for kind, value, owner in identities}

    def identification_id(self, *, now_ms: int) -> str:
        """Return a fresh ``idn_…``."""
        return self._identifications.make(next(self._numbers), at_ms=now_ms)

    def fresh_id(self, prefix: str, *, now_ms: int) -> str:
        """Return a fresh id of a kind that has no table, such as ``sess_`` or ``msg_``."""
        space = self._other_spaces.get(prefix)
        if space is None:
            space = self._other_spaces[prefix] = IdentifierSpace(prefix, seed=self._seed)
        return space.make(next(self._numbers), at_ms=now_ms)

    def user_with(self, kind: str, value: str) -> UserRecord | None:
        """Return the user who has this ``email_address``, ``phone_number``, ``username`` or ``external_id``."""
        slot = self.user_slot_with(kind, value)
        return None if slot is None or not self.users.lives(slot) else self.users.at(slot)

    def user_slot_with(self, kind: str, value: str) -> int | None:
        """Return the slot of the user, living or still listed, who is identified so."""
        identifier = self._identities.get((kind, value))
        candidates = (self.users.slot_ever(identifier) if identifier is not None else None, seeded_slot(value))
        for slot in candidates:
            if slot is None or not 0 <= slot < self.users.slots or not self.users.known(slot):
                continue
            if value in identities(self.users.at(slot))[kind]:
                return slot
        return None

    def remember_identities(self, user: UserRecord) -> None:
        """Make the user findable by what identifies them."""
        for kind, values in identities(user).items():
            for value in values:
                self._identities[(kind, value)] = user.id

    def organization(self, id_or_slug: str) -> OrganizationRecord | None:
        """Return an organization by id or slug."""
        found = self.organizations.get(id_or_slug)
        return found if found is not None else self.organization_with_slug(id_or_slug)

    def organization_with_slug(self, slug: str) -> OrganizationRecord | None:
        """Return the organization that has this slug."""
        identifier = self._identities.get(("slug", slug))
        if identifier is not None:
            organization = self.organizations.get(identifier)
            if organization is not None and organization.slug == slug:
                return organization
        slot = seeded_slot(slug)
        if slot is None or not 0 <= slot < self.organizations.slots or not self.organizations.lives(slot):
            return None
        organization = self.organizations.at(slot)
        return organization if organization.slug == slug else None

    def remember_slug(self, organization: OrganizationRecord) -> None:
        """Make the organization findable by its slug."""
        self._identities[("slug", organization.slug)] = organization.id

    def add_membership(self, record: MembershipRecord) -> None:
        """Insert a membership and enter it under its user and its organization."""
        slot = self.memberships.insert(record)
        organization, user = self.organizations.slot(record.organization_id), self.users.slot(record.user_id)
        if organization is None or user is None:
            raise KeyError(record.organization_id if organization is None else record.user_id)
        self._of_organization.add(organization, slot)
        self._of_user.add(user, slot)

    def members_of(self, organization_id: str) -> list[MembershipRecord]:
        """Return an organization's memberships, oldest first."""
        organization = self.organizations.slot(organization_id)
        return [] if organization is None else self._live(self._of_organization.of(organization))

    def memberships_of(self, user_id: str) -> list[MembershipRecord]:
        """Return a user's memberships, oldest first."""
        user = self.users.slot(user_id)
        return [] if user is None else self._live(self._of_user.of(user))

    def members_count(self, organization_id: str) -> int:
        """Return the number of an organization's memberships."""
        organization = self.organizations.slot(organization_id)
        slots = [] if organization is None else self._of_organization.of(organization)
        return sum(1 for slot in slots if self.memberships.lives(slot))

    def membership(self, *, organization_id: str, user_id: str) -> MembershipRecord | None:
        """Return the membership of a user in an organization."""
        return next((one for one in self.memberships_of(user_id) if one.organization_id == organization_id), None)

    def slots_in_organization(self, organization: int) -> list[int]:
        """Return the slots of an organization's memberships by its own slot, ended ones among them."""
        return self._of_organization.of(organization)

    def organization_slot_of(self, membership: int) -> int | None:
        """Return the slot of a membership's organization by the membership's own slot."""
        return self._of_organization.key(membership)

    def user_slot_of(self, membership: int) -> int | None:
        """Return the slot of a membership's user by the membership's own slot."""
        return self._of_user.key(membership)

    def slots_of_user(self, user: int) -> list[int]:
        """Return the slots of a user's memberships by the user's slot, ended ones among them."""
        return self._of_user.of(user)

    def linger_over(self) -> None:
        """Let lists forget the deleted objects whose time is up."""
        for table in (self.users, self.organizations, self.memberships):
            table.linger_over()

    def hide(self, identifier: str) -> None:
        """Let lists leave out an object that exists, with the memberships of a user or an organization.

        Raises ValueError where nothing has this id.
        """
        for table in (self.users, self.organizations, self.memberships):
            if identifier in table:
                table.hide(identifier)
        for held in (self.memberships_of(identifier), self.members_of(identifier)):
            for membership in held:
                self.memberships.hide(membership.id)
        if not any(identifier in table for table in (self.users, self.organizations, self.memberships)):
            raise ValueError(f"nothing has the id {identifier}")

    def replica(self) -> dict[str, dict[str, int]]:
        """Return how many objects of each kind lists show wrongly, and how many they leave out."""
        kinds: dict[str, Table[Any]] = {
            "users": self.users,
            "organizations": self.organizations,
            "memberships": self.memberships,
        }
        return {
            kind: {"lingering": len(table.not_real), "hidden": len(table.not_listed)} for kind, table in kinds.items()
        }

    def catch_up(self) -> None:
        """Let lists show what is."""
        for table in (self.users, self.organizations, self.memberships):
            table.catch_up()

    def _live(self, slots: Iterable[int]) -> list[MembershipRecord]:
        return [self.memberships.at(slot) for slot in slots if self.memberships.lives(slot)]


def identities(user: UserRecord) -> dict[str, tuple[str, ...]]:
    """Return what identifies a user, by kind; each value belongs to one user only."""
    return {
        "email_address": tuple(email.address for email in user.emails),
        "phone_number": tuple(phone.number for phone in user.phones),
        "web3_wallet": tuple(wallet.address for wallet in user.wallets),
        "username": (user.username,) if user.username else (),
        "external_id": (user.external_id,) if user.external_id else (),
    }
