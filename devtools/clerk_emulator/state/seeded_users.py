"""The seeded users: each is one of a thousand profiles, made particular by ids, times and numbers of its own.

A million of them must cost nothing to keep and little to show. What a profile settles (names, settings, metadata) is
worked out once; what is particular to a user follows from the seed and its slot in a few microseconds, as one flat
tuple that a prepared text can be filled with (:mod:`devtools.clerk_emulator.rendering`) and a record can be made of.
What must be unique (addresses, usernames, external ids) carries the slot, so that it can be looked up by reading the
slot back instead of by a dictionary.
"""

from array import array
from dataclasses import dataclass, fields
from typing import Any

from devtools.clerk_emulator.state import names
from devtools.clerk_emulator.state.draw import Draw, ascii_name
from devtools.clerk_emulator.state.identifiers import IdentifierSpace
from devtools.clerk_emulator.state.records import (
    EmailRecord,
    GoogleRecord,
    PasskeyRecord,
    PhoneRecord,
    UserRecord,
    WalletRecord,
)

DAY_MS = 86_400_000
PROFILES = 1_024
PHONE_BASE = 12_025_000_000
_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Profile:
    """What many users have in common."""

    first_name: str | None
    last_name: str | None
    handle: str
    """Names as they stand in an address: ``ada.lovelace``."""
    domain: str
    locale: str | None
    google: bool
    strategy: str
    username: bool
    external_id: bool
    phone: bool
    second_factor: bool
    totp: bool
    wallet: bool
    passkey: bool
    password: bool
    banned: bool
    legal: bool
    public_metadata: dict[str, Any]
    unsafe_metadata: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Particulars:
    """What belongs to one user alone."""

    id: str
    email_id: str
    google_id: str
    account_id: str
    phone_id: str
    wallet_id: str
    passkey_id: str
    number: str
    """The slot, and the same with eight digits."""
    padded_number: str
    created_at: int
    updated_at: int
    signed_in_at: int
    active_at: int
    risk: int
    customer: str
    provider_user_id: str
    phone: str
    wallet: str
    code: str
    other_code: str


PARTICULARS = tuple(one.name for one in fields(Particulars))
#: Their values in that order, as bytes and numbers: what a text is filled with.
Values = tuple[bytes | int, ...]


class SeededUsers:
    """Works out seeded users."""

    def __init__(self, *, seed: int, created: "array[int]") -> None:
        """Derive users from the seed and these times of creation; the array does not change."""
        self._seed = seed
        self._salt = Draw(seed, 5).bits()
        self.times = array("q", created)
        self.space = IdentifierSpace("user_", seed=seed)
        self._profiles: list[Profile | None] = [None] * PROFILES

    def identifier(self, slot: int) -> str:
        """Return a user's id."""
        return self.space.make(slot, at_ms=self.times[slot])

    def updated_at(self, slot: int) -> int:
        """Return a user's last change in ms."""
        return self.times[slot] + 1 + (self._bits(slot) >> 10) % (20 * DAY_MS)

    def user(self, slot: int) -> UserRecord:
        """Return a user."""
        number, values = self.values(slot)
        texts = (value if isinstance(value, int) else value.decode() for value in values)
        return record(self.profile(number), Particulars(*texts))  # type: ignore[arg-type]

    def profile(self, number: int) -> Profile:
        """Return one of the profiles."""
        known = self._profiles[number]
        if known is None:
            known = self._profiles[number] = _profile(Draw(self._seed, 1, number))
        return known

    def values(self, slot: int) -> tuple[int, Values]:
        """Return the number of a user's profile, and the user's particulars; empty what the profile does not have."""
        created = self.times[slot]
        bits = self._bits(slot)
        number = bits % PROFILES
        profile = self._profiles[number] or self.profile(number)
        more = (bits * 0xBF58476D1CE4E5B9 + slot) & _MASK
        span = 1 + (bits >> 10) % (20 * DAY_MS)
        updated = created + span
        identifier = self.space.make_bytes(slot, at_ms=created)
        moment, tail = identifier[5:11], identifier[11:]
        identification = b"idn_" + moment
        hexadecimal = b"%016x" % more
        google, phone, wallet = profile.google, profile.phone, profile.wallet
        return number, (
            identifier,
            identification + tail[1:] + tail[:1],
            identification + tail[2:] + tail[:2] if google else b"",
            b"eac_" + moment + tail[3:] + tail[:3] if google else b"",
            identification + tail[4:] + tail[:4] if phone else b"",
            identification + tail[5:] + tail[:5] if wallet else b"",
            identification + tail[6:] + tail[:6] if profile.passkey else b"",
            b"%d" % slot,
            b"%08d" % slot if profile.external_id else b"",
            created,
            updated,
            created + more % span,
            updated - updated % DAY_MS,
            (bits >> 40) % 100,
            hexadecimal[:14],
            b"1%08d%012d" % (slot, more % 1_000_000_000_000) if google else b"",
            b"+%d" % (PHONE_BASE + slot) if phone else b"",
            b"0x%010x%b%b" % (slot, hexadecimal, hexadecimal[:14]) if wallet else b"",
            hexadecimal[8:],
            hexadecimal[:8],
        )

    def _bits(self, slot: int) -> int:
        value = (slot * 0x9E3779B97F4A7C15 + self._salt) & _MASK
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        return value ^ (value >> 27)


def record(profile: Profile, own: Particulars) -> UserRecord:
    """Return a profile's user with these particulars."""
    address = f"{profile.handle}.{own.number}@{profile.domain}"
    created = own.created_at
    return UserRecord(
        id=own.id,
        created_at=created,
        updated_at=own.updated_at,
        first_name=profile.first_name,
        last_name=profile.last_name,
        username=f"{profile.handle.replace('.', '_')}_{own.number}" if profile.username else None,
        external_id=f"ext-{own.padded_number}" if profile.external_id else None,
        locale=profile.locale,
        emails=(
            EmailRecord(
                id=own.email_id,
                address=address,
                created_at=created,
                strategy=profile.strategy,
                linked_to=(("oauth_google", own.account_id),) if profile.google else (),
            ),
        ),
        phones=_phones(profile, own),
        wallets=(WalletRecord(id=own.wallet_id, address=own.wallet, created_at=created),) if profile.wallet else (),
        passkeys=(PasskeyRecord(id=own.passkey_id, name="Chrome on Linux", last_used_at=own.signed_in_at),)
        if profile.passkey
        else (),
        google=_google(own, address=address) if profile.google else None,
        primary_email_id=own.email_id,
        primary_phone_id=own.phone_id if profile.phone else None,
        public_metadata=profile.public_metadata,
        private_metadata={"billing_customer": f"cus_{own.customer}", "risk_score": own.risk},
        unsafe_metadata=profile.unsafe_metadata,
        has_image=profile.google,
        password_updated_at=created if profile.password else None,
        totp_enabled=profile.totp,
        backup_code_enabled=profile.second_factor,
        mfa_enabled_at=own.signed_in_at if profile.second_factor else None,
        last_sign_in_at=own.signed_in_at,
        last_active_at=own.active_at,
        banned=profile.banned,
        legal_accepted_at=created if profile.legal else None,
    )


def _phones(profile: Profile, own: Particulars) -> tuple[PhoneRecord, ...]:
    if not profile.phone:
        return ()
    return (
        PhoneRecord(
            id=own.phone_id,
            number=own.phone,
            created_at=own.created_at,
            second_factor=profile.second_factor,
            backup_codes=(own.code, own.other_code) if profile.second_factor else (),
        ),
    )


def _google(own: Particulars, *, address: str) -> GoogleRecord:
    return GoogleRecord(
        id=own.account_id,
        identification_id=own.google_id,
        provider_user_id=own.provider_user_id,
        email_address=address,
        created_at=own.created_at,
    )


def _profile(draw: Draw) -> Profile:
    first, last = draw.pick(names.FIRST), draw.pick(names.LAST)
    google, second_factor = draw.chance(70), draw.chance(4)
    return Profile(
        first_name=first if draw.chance(95) else None,
        last_name=last if draw.chance(95) else None,
        handle=ascii_name(f"{first} {last}"),
        domain=draw.pick(names.DOMAIN),
        locale=draw.pick(names.LOCALE),
        google=google,
        strategy="from_oauth_google" if google else draw.pick(("email_code", "email_code", "admin", "ticket")),
        username=draw.chance(20),
        external_id=draw.chance(30),
        phone=second_factor or draw.chance(15),
        second_factor=second_factor,
        totp=second_factor and draw.chance(50),
        wallet=draw.chance(2),
        passkey=draw.chance(3),
        password=not google or draw.chance(20),
        banned=draw.chance(1),
        legal=draw.chance(50),
        public_metadata={
            "plan": draw.pick(names.PLAN),
            "onboarding": {"completed": draw.chance(80), "step": draw.below(6)},
            "interests": [draw.pick(names.TRADE).lower() for _ in range(draw.below(4))],
        },
        unsafe_metadata={"theme": draw.pick(("dark", "light"))} if draw.chance(40) else {},
    )
