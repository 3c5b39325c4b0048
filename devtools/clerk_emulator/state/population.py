"""The seeded objects: each is a function of the seed and its slot, so nothing of them needs to be kept.

What must be unique (addresses, usernames, slugs, external ids) carries the slot, so that it can be looked up by
reading the slot back instead of by a dictionary.
"""

import re
from array import array

from devtools.clerk_emulator.state import names
from devtools.clerk_emulator.state.draw import Draw
from devtools.clerk_emulator.state.identifiers import IdentifierSpace
from devtools.clerk_emulator.state.records import MembershipRecord, OrganizationRecord, UserRecord
from devtools.clerk_emulator.state.seeded_users import DAY_MS, PHONE_BASE, SeededUsers

#: Seeded objects came to be in the 300 days after 2025-01-01T00:00:00Z.
SEEDED_FROM_MS = 1_735_689_600_000
SEEDED_SPAN_MS = 300 * 86_400_000
_SLOT = re.compile(r"(?:^|[^0-9])0*([0-9]+)(?:@|$)")
_WALLET = re.compile(r"0x[0-9a-f]{40}")


def creation_times(count: int, *, seed: int, at_once: int = 0) -> "array[int]":
    """Return ascending times in ms, spread over the seeded span; so many in the middle are the same one."""
    step = max(SEEDED_SPAN_MS // max(count, 1), 2)
    salt = (seed * 0x9E3779B97F4A7C15) | 1
    times = [SEEDED_FROM_MS + slot * step + (slot * salt >> 20) % (step // 2 + 1) for slot in range(count)]
    first = (count - at_once) // 2
    times[first : first + at_once] = times[first : first + 1] * at_once
    return array("q", times)


def seeded_slot(identifier: str) -> int | None:
    """Read the slot out of a seeded address, username, phone number, wallet, slug or external id."""
    if identifier.startswith("+") and identifier[1:].isascii() and identifier[1:].isdigit():
        return int(identifier[1:]) - PHONE_BASE
    if _WALLET.fullmatch(identifier):
        return int(identifier[2:12], 16)
    match = _SLOT.search(identifier)
    return int(match.group(1)) if match and len(match.group(1)) < 16 else None


class Population:
    """Derives seeded users, organizations and memberships."""

    def __init__(
        self, *, seed: int, users: int, organizations: int, memberships: int, users_of_one_moment: int = 0
    ) -> None:
        """Fix the sizes; nothing but times and the membership graph is computed here."""
        self._seed = seed
        self.organization_space = IdentifierSpace("org_", seed=seed)
        self.membership_space = IdentifierSpace("orgmem_", seed=seed)
        self.identification_space = IdentifierSpace("idn_", seed=seed)
        self.user_times = creation_times(users, seed=seed, at_once=users_of_one_moment)
        self.users = SeededUsers(seed=seed, created=self.user_times)
        self.user_space = self.users.space
        self.organization_times = creation_times(organizations, seed=seed)
        self.membership_times = creation_times(memberships, seed=seed)
        self.membership_organizations, self.membership_users = _graph(
            seed=seed, users=users, organizations=organizations, memberships=memberships
        )

    def user_id(self, slot: int) -> str:
        """Return the id of a seeded user."""
        return self.users.identifier(slot)

    def organization_id(self, slot: int) -> str:
        """Return the id of a seeded organization."""
        return self.organization_space.make(slot, at_ms=self.organization_times[slot])

    def user_updated_at(self, slot: int) -> int:
        """Return a seeded user's last change in ms."""
        return self.users.updated_at(slot)

    def user(self, slot: int) -> UserRecord:
        """Return a seeded user."""
        return self.users.user(slot)

    def organization(self, slot: int) -> OrganizationRecord:
        """Return a seeded organization."""
        draw = Draw(self._seed, 2, slot)
        created = self.organization_times[slot]
        name = f"{draw.pick(names.COMPANY)} {draw.pick(names.TRADE)}"
        owner = self.user_id(draw.below(len(self.user_times))) if self.user_times else None
        return OrganizationRecord(
            id=self.organization_id(slot),
            created_at=created,
            updated_at=created + 1 + draw.below(30 * DAY_MS),
            name=name,
            slug=f"{name.lower().replace(' ', '-')}-{slot}",
            created_by=owner,
            max_allowed_memberships=0,
            public_metadata={"tier": draw.pick(names.PLAN), "region": draw.pick(("eu", "us", "ap"))},
            private_metadata={"billing_customer": f"cus_{draw.token(14)}"},
            has_image=draw.chance(50),
        )

    def membership(self, slot: int) -> MembershipRecord:
        """Return a seeded membership."""
        draw = Draw(self._seed, 3, slot)
        created = self.membership_times[slot]
        return MembershipRecord(
            id=self.membership_space.make(slot, at_ms=created),
            created_at=created,
            updated_at=created + draw.below(10 * DAY_MS),
            organization_id=self.organization_id(self.membership_organizations[slot]),
            user_id=self.user_id(self.membership_users[slot]),
            role=draw.pick(names.ROLES),
            public_metadata={"team": draw.pick(names.TRADE).lower()} if draw.chance(50) else {},
        )


def _graph(*, seed: int, users: int, organizations: int, memberships: int) -> "tuple[array[int], array[int]]":
    """Return for each seeded membership its organization's and its user's slot: unequal sizes, no pair twice."""
    owners, members = array("l"), array("l")
    if not memberships:
        return owners, members
    weights = [1_000_000 // (rank + 4) for rank in range(organizations)]
    total, left = sum(weights), memberships
    sizes = [min(weight * memberships // total, users) for weight in weights]
    left -= sum(sizes)
    while left:
        room = [slot for slot, size in enumerate(sizes) if size < users]
        for slot in room[-left:]:
            sizes[slot] += 1
        left = memberships - sum(sizes)
    stride = 7_919 if users % 7_919 else 1
    for organization, size in enumerate(sizes):
        start = Draw(seed, 4, organization).below(users)
        owners.extend([organization] * size)
        members.extend([(start + place * stride) % users for place in range(size)])
    return owners, members
