"""What a record looks like in Clerk's JSON: the same shape in the API and in a webhook's ``data``.

Only members that the OpenAPI files name, every required one present; ``scim`` and a user's own
``organization_memberships`` are left out, as Clerk leaves them out.
"""

import base64
from typing import Any

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

Json = dict[str, Any]

ROLE_NAMES = {"org:admin": "Admin", "org:member": "Member"}
ROLE_PERMISSIONS = {
    "org:admin": [
        "org:sys_domains:manage",
        "org:sys_domains:read",
        "org:sys_memberships:manage",
        "org:sys_memberships:read",
        "org:sys_profile:delete",
        "org:sys_profile:manage",
    ],
    "org:member": ["org:sys_memberships:read"],
}
_VERIFIED_BY = {"admin": "verification_admin", "ticket": "verification_ticket"}


def image_url(identifier: str) -> str:
    """Return the address of a generated avatar, as long and as opaque as Clerk's."""
    source = f'{{"type":"default","iid":"emulator","rid":"{identifier}"}}'
    return "https://img.clerk.com/" + base64.urlsafe_b64encode(source.encode()).decode().rstrip("=")


def user(record: UserRecord) -> Json:
    """Return a User."""
    picture = image_url(record.id)
    return {
        "id": record.id,
        "object": "user",
        "external_id": record.external_id,
        "primary_email_address_id": record.primary_email_id,
        "primary_phone_number_id": record.primary_phone_id,
        "primary_web3_wallet_id": record.primary_wallet_id,
        "username": record.username,
        "first_name": record.first_name,
        "last_name": record.last_name,
        "locale": record.locale,
        "profile_image_url": picture,
        "image_url": picture,
        "has_image": record.has_image,
        "public_metadata": record.public_metadata,
        "private_metadata": record.private_metadata,
        "unsafe_metadata": record.unsafe_metadata,
        "email_addresses": [_email(email) for email in record.emails],
        "phone_numbers": [_phone(phone) for phone in record.phones],
        "web3_wallets": [_wallet(wallet) for wallet in record.wallets],
        "passkeys": [_passkey(passkey) for passkey in record.passkeys],
        "password_enabled": record.password_updated_at is not None,
        "two_factor_enabled": record.mfa_enabled_at is not None,
        "totp_enabled": record.totp_enabled,
        "backup_code_enabled": record.backup_code_enabled,
        "mfa_enabled_at": record.mfa_enabled_at,
        "mfa_disabled_at": None,
        "password_last_updated_at": record.password_updated_at,
        "external_accounts": [_google(record, record.google)] if record.google else [],
        "saml_accounts": [],
        "enterprise_accounts": [],
        "last_sign_in_at": record.last_sign_in_at,
        "banned": record.banned,
        "locked": record.locked,
        "deprovisioned": False,
        "lockout_expires_in_seconds": 3_600 if record.locked else None,
        "verification_attempts_remaining": 0 if record.locked else 100,
        "updated_at": record.updated_at,
        "created_at": record.created_at,
        "delete_self_enabled": record.delete_self_enabled,
        "create_organization_enabled": record.create_organization_enabled,
        "create_organizations_limit": record.create_organizations_limit,
        "last_active_at": record.last_active_at,
        "legal_accepted_at": record.legal_accepted_at,
        "bypass_client_trust": record.bypass_client_trust,
    }


def organization(record: OrganizationRecord, *, members_count: int | None = None) -> Json:
    """Return an Organization; the count of members only where it was asked for."""
    shape: Json = {
        "object": "organization",
        "id": record.id,
        "name": record.name,
        "slug": record.slug,
        "image_url": image_url(record.id),
        "has_image": record.has_image,
        "max_allowed_memberships": record.max_allowed_memberships,
        "admin_delete_enabled": record.admin_delete_enabled,
        "public_metadata": record.public_metadata,
        "private_metadata": record.private_metadata,
        "created_at": record.created_at,
        "updated_at": record.updated_at,
        "role_set_key": record.role_set_key,
    }
    if record.created_by is not None:
        shape["created_by"] = record.created_by
    if members_count is not None:
        shape["members_count"] = members_count
    return shape


def membership(record: MembershipRecord, *, organization: OrganizationRecord, user: UserRecord) -> Json:
    """Return an OrganizationMembership with its organization and its user's public data inside."""
    return {
        "object": "organization_membership",
        "id": record.id,
        "role": record.role,
        "role_name": ROLE_NAMES.get(record.role, record.role.removeprefix("org:").replace("_", " ").title()),
        "permissions": ROLE_PERMISSIONS.get(record.role, []),
        "public_metadata": record.public_metadata,
        "private_metadata": record.private_metadata,
        "organization": _embedded(organization),
        "public_user_data": _public_user_data(user),
        "created_at": record.created_at,
        "updated_at": record.updated_at,
    }


def deleted(kind: str, identifier: str, *, slug: str | None = None, external_id: str | None = None) -> Json:
    """Return a DeletedObject."""
    shape: Json = {"object": kind, "id": identifier, "deleted": True}
    if slug is not None:
        shape["slug"] = slug
    if external_id is not None:
        shape["external_id"] = external_id
    return shape


def _embedded(record: OrganizationRecord) -> Json:
    return organization(record)


def _public_user_data(record: UserRecord) -> Json:
    picture = image_url(record.id)
    return {
        "user_id": record.id,
        "first_name": record.first_name,
        "last_name": record.last_name,
        "profile_image_url": picture,
        "image_url": picture,
        "has_image": record.has_image,
        "identifier": record.identifier,
        "username": record.username,
        "banned": record.banned,
        "deprovisioned": False,
    }


def _email(record: EmailRecord) -> Json:
    strategy = record.strategy
    kind = "verification_from_oauth" if strategy.startswith("from_oauth") else _VERIFIED_BY.get(strategy)
    verification: Json | None = None
    if not record.reserved:
        verification = {
            "object": kind or "verification_otp",
            "status": "verified" if record.verified else "unverified",
            "strategy": strategy,
            "attempts": 1 if kind is None else None,
            "expire_at": record.created_at + 600_000 if kind is None else None,
        }
    return {
        "id": record.id,
        "object": "email_address",
        "email_address": record.address,
        "reserved": record.reserved,
        "verification": verification,
        "linked_to": [{"type": kind, "id": identifier} for kind, identifier in record.linked_to],
        "matches_sso_connection": False,
        "created_at": record.created_at,
        "updated_at": record.created_at,
    }


def _phone(record: PhoneRecord) -> Json:
    shape: Json = {
        "id": record.id,
        "object": "phone_number",
        "phone_number": record.number,
        "reserved_for_second_factor": record.second_factor,
        "default_second_factor": record.second_factor,
        "reserved": record.reserved,
        "verification": None
        if record.reserved
        else {
            "object": "verification_otp",
            "status": "verified" if record.verified else "unverified",
            "strategy": "phone_code",
            "attempts": 1,
            "expire_at": record.created_at + 600_000,
        },
        "linked_to": [],
        "created_at": record.created_at,
        "updated_at": record.created_at,
    }
    if record.backup_codes:
        shape["backup_codes"] = list(record.backup_codes)
    return shape


def _wallet(record: WalletRecord) -> Json:
    return {
        "id": record.id,
        "object": "web3_wallet",
        "web3_wallet": record.address,
        "verification": {
            "object": "verification_web3",
            "status": "verified",
            "strategy": "web3_metamask_signature",
            "attempts": 1,
            "expire_at": record.created_at + 600_000,
        },
        "created_at": record.created_at,
        "updated_at": record.created_at,
    }


def _passkey(record: PasskeyRecord) -> Json:
    return {
        "id": record.id,
        "object": "passkey",
        "name": record.name,
        "last_used_at": record.last_used_at,
        "verification": {
            "object": "verification_passkey",
            "status": "verified",
            "strategy": "passkey",
            "nonce": "nonce",
            "attempts": None,
            "expire_at": None,
        },
    }


def _google(user: UserRecord, record: GoogleRecord) -> Json:
    return {
        "object": "external_account",
        "id": record.id,
        "provider": "oauth_google",
        "identification_id": record.identification_id,
        "provider_user_id": record.provider_user_id,
        "approved_scopes": "email openid profile",
        "email_address": record.email_address,
        "email_address_verified": True,
        "first_name": user.first_name or "",
        "last_name": user.last_name or "",
        "image_url": image_url(record.id),
        "username": None,
        "phone_number": None,
        "public_metadata": {},
        "label": None,
        "created_at": record.created_at,
        "updated_at": record.created_at,
        "verification": {
            "object": "verification_oauth",
            "status": "verified",
            "strategy": "oauth_google",
            "attempts": None,
            "expire_at": record.created_at + 600_000,
        },
    }
