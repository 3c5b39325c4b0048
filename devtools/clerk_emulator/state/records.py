"""One record per Clerk object: what is stored, not what is shown.

Records are frozen; a change is a new record. Everything that can be computed (image addresses, role names, embedded
organizations and users) is left to :mod:`devtools.clerk_emulator.shapes`.
"""

from dataclasses import dataclass, field
from typing import Any

Metadata = dict[str, Any]


@dataclass(frozen=True, slots=True)
class EmailRecord:
    """An e-mail address of a user."""

    id: str
    address: str
    created_at: int
    strategy: str = "email_code"
    """How it was verified: ``email_code``, ``admin``, ``from_oauth_google``, ``ticket``."""
    verified: bool = True
    reserved: bool = False
    linked_to: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class PhoneRecord:
    """A phone number of a user."""

    id: str
    number: str
    created_at: int
    verified: bool = True
    reserved: bool = False
    second_factor: bool = False
    backup_codes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WalletRecord:
    """A web3 wallet of a user."""

    id: str
    address: str
    created_at: int


@dataclass(frozen=True, slots=True)
class GoogleRecord:
    """A Google account that a user signed in with."""

    id: str
    identification_id: str
    provider_user_id: str
    email_address: str
    created_at: int


@dataclass(frozen=True, slots=True)
class PasskeyRecord:
    """A passkey of a user."""

    id: str
    name: str
    last_used_at: int


@dataclass(frozen=True, slots=True)
class UserRecord:
    """A user; times in ms."""

    id: str
    created_at: int
    updated_at: int
    first_name: str | None = None
    last_name: str | None = None
    username: str | None = None
    external_id: str | None = None
    locale: str | None = None
    emails: tuple[EmailRecord, ...] = ()
    phones: tuple[PhoneRecord, ...] = ()
    wallets: tuple[WalletRecord, ...] = ()
    passkeys: tuple[PasskeyRecord, ...] = ()
    google: GoogleRecord | None = None
    primary_email_id: str | None = None
    primary_phone_id: str | None = None
    primary_wallet_id: str | None = None
    public_metadata: Metadata = field(default_factory=dict)
    private_metadata: Metadata = field(default_factory=dict)
    unsafe_metadata: Metadata = field(default_factory=dict)
    has_image: bool = False
    password_updated_at: int | None = None
    totp_enabled: bool = False
    backup_code_enabled: bool = False
    mfa_enabled_at: int | None = None
    last_sign_in_at: int | None = None
    last_active_at: int | None = None
    banned: bool = False
    locked: bool = False
    delete_self_enabled: bool = True
    create_organization_enabled: bool = True
    create_organizations_limit: int | None = None
    legal_accepted_at: int | None = None
    bypass_client_trust: bool = False

    @property
    def primary_email(self) -> str | None:
        """The address that identifies the user, if there is one."""
        return next((email.address for email in self.emails if email.id == self.primary_email_id), None)

    @property
    def identifier(self) -> str | None:
        """What Clerk shows for the user: the primary address, else phone, else username, else wallet."""
        phone = next((phone.number for phone in self.phones if phone.id == self.primary_phone_id), None)
        wallet = next((wallet.address for wallet in self.wallets if wallet.id == self.primary_wallet_id), None)
        return self.primary_email or phone or self.username or wallet


@dataclass(frozen=True, slots=True)
class OrganizationRecord:
    """An organization; times in ms."""

    id: str
    created_at: int
    updated_at: int
    name: str
    slug: str
    created_by: str | None = None
    max_allowed_memberships: int = 5
    admin_delete_enabled: bool = True
    public_metadata: Metadata = field(default_factory=dict)
    private_metadata: Metadata = field(default_factory=dict)
    role_set_key: str | None = "role_set:default"
    has_image: bool = False


@dataclass(frozen=True, slots=True)
class MembershipRecord:
    """A user's place in an organization; times in ms."""

    id: str
    created_at: int
    updated_at: int
    organization_id: str
    user_id: str
    role: str = "org:member"
    public_metadata: Metadata = field(default_factory=dict)
    private_metadata: Metadata = field(default_factory=dict)
