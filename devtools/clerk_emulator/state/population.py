"""The seeded objects: each is a function of the seed and its slot, so nothing of them needs to be kept.

What must be unique (addresses, usernames, slugs, external ids) carries the slot, so that it can be looked up by
reading the slot back instead of by a dictionary.
"""

import re
import unicodedata
from array import array

from devtools.clerk_emulator.state import names
from devtools.clerk_emulator.state.draw import Draw
from devtools.clerk_emulator.state.identifiers import IdentifierSpace
from devtools.clerk_emulator.state.records import (
    EmailRecord,
    GoogleRecord,
    MembershipRecord,
    OrganizationRecord,
    PasskeyRecord,
    PhoneRecord,
    UserRecord,
    WalletRecord,
)

#: Seeded objects came to be in the 300 days after 2025-01-01T00:00:00Z.
SEEDED_FROM_MS = 1_735_689_600_000
SEEDED_SPAN_MS = 300 * 86_400_000
DAY_MS = 86_400_000
#: A number within a kind of nested id: how many of them one user may have from the seed.
_NESTED = 8
_SLOT = re.compile(r"(?:^|[^0-9])0*([0-9]+)(?:@|$)")
_WALLET = re.compile(r"0x[0-9a-f]{40}")
_PHONE_BASE = 12_025_000_000


def creation_times(count: int, *, seed: int, at_once: int = 0) -> "array[int]":
    """Return ascending times in ms, spread over the seeded span; so many in the middle are the same one."""
    step = max(SEEDED_SPAN_MS // max(count, 1), 2)
    salt = (seed * 0x9E3779B97F4A7C15) | 1
    times = [SEEDED_FROM_MS + slot * step + (slot * salt >> 20) % (step // 2 + 1) for slot in range(count)]
    first = (count - at_once) // 2
    times[first : first + at_once] = times[first : first + 1] * at_once
    return array("q", times)


def _ascii(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name.lower()).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z]+", ".", plain).strip(".") or "person"


def seeded_slot(identifier: str) -> int | None:
    """Read the slot out of a seeded address, username, phone number, wallet, slug or external id."""
    if identifier.startswith("+") and identifier[1:].isascii() and identifier[1:].isdigit():
        return int(identifier[1:]) - _PHONE_BASE
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
        self.user_space = IdentifierSpace("user_", seed=seed)
        self.organization_space = IdentifierSpace("org_", seed=seed)
        self.membership_space = IdentifierSpace("orgmem_", seed=seed)
        self.identification_space = IdentifierSpace("idn_", seed=seed)
        self.external_account_space = IdentifierSpace("eac_", seed=seed)
        self.user_times = creation_times(users, seed=seed, at_once=users_of_one_moment)
        self.organization_times = creation_times(organizations, seed=seed)
        self.membership_times = creation_times(memberships, seed=seed)
        self.membership_organizations, self.membership_users = _graph(
            seed=seed, users=users, organizations=organizations, memberships=memberships
        )

    def user_id(self, slot: int) -> str:
        """Return the id of a seeded user."""
        return self.user_space.make(slot, at_ms=self.user_times[slot])

    def organization_id(self, slot: int) -> str:
        """Return the id of a seeded organization."""
        return self.organization_space.make(slot, at_ms=self.organization_times[slot])

    def user_updated_at(self, slot: int) -> int:
        """Return a seeded user's last change in ms."""
        return self.user_times[slot] + 1 + Draw(self._seed, 5, slot).below(20 * DAY_MS)

    def user(self, slot: int) -> UserRecord:
        """Return a seeded user."""
        draw = Draw(self._seed, 1, slot)
        created = self.user_times[slot]
        first, last = draw.pick(names.FIRST), draw.pick(names.LAST)
        ascii_name = _ascii(f"{first} {last}")
        address = f"{ascii_name}.{slot}@{draw.pick(names.DOMAIN)}"
        updated = self.user_updated_at(slot)
        signed_in = created + draw.below(updated - created)
        google = draw.chance(70)
        email = self._email(slot, address, created=created, google=google, draw=draw)
        second_factor = draw.chance(4)
        phones = self._phones(slot, created=created, second_factor=second_factor, draw=draw)
        password = not google or draw.chance(20)
        return UserRecord(
            id=self.user_id(slot),
            created_at=created,
            updated_at=updated,
            first_name=first if draw.chance(95) else None,
            last_name=last if draw.chance(95) else None,
            username=f"{ascii_name.replace('.', '_')}_{slot}" if draw.chance(20) else None,
            external_id=f"ext-{slot:08d}" if draw.chance(30) else None,
            locale=draw.pick(names.LOCALE),
            emails=(email,),
            phones=phones,
            wallets=self._wallets(slot, created=created, draw=draw),
            passkeys=self._passkeys(slot, last_used_at=signed_in, draw=draw),
            google=self._google(slot, address, created=created, draw=draw) if google else None,
            primary_email_id=email.id,
            primary_phone_id=phones[0].id if phones else None,
            public_metadata={
                "plan": draw.pick(names.PLAN),
                "onboarding": {"completed": draw.chance(80), "step": draw.below(6)},
                "interests": [draw.pick(names.TRADE).lower() for _ in range(draw.below(4))],
            },
            private_metadata={"billing_customer": f"cus_{draw.token(14)}", "risk_score": draw.below(100)},
            unsafe_metadata={"theme": draw.pick(("dark", "light"))} if draw.chance(40) else {},
            has_image=google,
            password_updated_at=created if password else None,
            totp_enabled=second_factor and draw.chance(50),
            backup_code_enabled=second_factor,
            mfa_enabled_at=signed_in if second_factor else None,
            last_sign_in_at=signed_in,
            last_active_at=updated - updated % DAY_MS,
            banned=draw.chance(1),
            legal_accepted_at=created if draw.chance(50) else None,
        )

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

    def _email(self, slot: int, address: str, *, created: int, google: bool, draw: Draw) -> EmailRecord:
        account = self.external_account_space.make(slot, at_ms=created)
        return EmailRecord(
            id=self.identification_space.make(slot * _NESTED, at_ms=created),
            address=address,
            created_at=created,
            strategy="from_oauth_google" if google else draw.pick(("email_code", "email_code", "admin", "ticket")),
            linked_to=(("oauth_google", account),) if google else (),
        )

    def _phones(self, slot: int, *, created: int, second_factor: bool, draw: Draw) -> tuple[PhoneRecord, ...]:
        if not second_factor and not draw.chance(15):
            return ()
        return (
            PhoneRecord(
                id=self.identification_space.make(slot * _NESTED + 1, at_ms=created),
                number=f"+{_PHONE_BASE + slot}",
                created_at=created,
                second_factor=second_factor,
                backup_codes=(draw.token(8), draw.token(8)) if second_factor else (),
            ),
        )

    def _wallets(self, slot: int, *, created: int, draw: Draw) -> tuple[WalletRecord, ...]:
        if not draw.chance(2):
            return ()
        identifier = self.identification_space.make(slot * _NESTED + 2, at_ms=created)
        return (WalletRecord(id=identifier, address=f"0x{slot:010x}{draw.token(30)}", created_at=created),)

    def _passkeys(self, slot: int, *, last_used_at: int, draw: Draw) -> tuple[PasskeyRecord, ...]:
        if not draw.chance(3):
            return ()
        identifier = self.identification_space.make(slot * _NESTED + 3, at_ms=last_used_at)
        return (PasskeyRecord(id=identifier, name="Chrome on Linux", last_used_at=last_used_at),)

    def _google(self, slot: int, address: str, *, created: int, draw: Draw) -> GoogleRecord:
        return GoogleRecord(
            id=self.external_account_space.make(slot, at_ms=created),
            identification_id=self.identification_space.make(slot * _NESTED + 4, at_ms=created),
            provider_user_id=str(100_000_000_000_000_000_000 + draw.bits()),
            email_address=address,
            created_at=created,
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
