"""Events and objects as Clerk sends them, small and readable; only what a test is about differs from the default."""

import itertools
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from svix.webhooks import Webhook

SECRET = "whsec_bmV4dXMtYXV0aC10ZXN0cy1zaWduaW5nLXNlY3JldA=="
OTHER_SECRET = "whsec_YW5vdGhlci1zZWNyZXQtb2Ytbm9ib2R5LWhlcmUtYXQtYWxs"
INSTANCE = "ins_2test0000000000000000000"
T0 = 1_780_000_000_000
"""A moment in 2026, ms: tests count from here."""

_numbers = itertools.count(1)


def user(user_id: str, *, updated_at: int = T0, email: str | None = None, **members: Any) -> dict[str, Any]:
    """A User; `email` becomes its verified primary address."""
    address = email if email is not None else f"{user_id}@example.com"
    return {
        "object": "user",
        "id": user_id,
        "external_id": None,
        "username": None,
        "first_name": "Ada",
        "last_name": "Lovelace",
        "image_url": "https://img.clerk.com/x",
        "primary_email_address_id": f"idn_{user_id}",
        "primary_phone_number_id": None,
        "email_addresses": [
            {
                "object": "email_address",
                "id": f"idn_{user_id}",
                "email_address": address,
                "reserved": False,
                "verification": {"object": "verification_otp", "status": "verified", "strategy": "email_code"},
                "linked_to": [],
                "created_at": T0,
                "updated_at": T0,
            }
        ],
        "phone_numbers": [],
        "public_metadata": {},
        "private_metadata": {},
        "unsafe_metadata": {},
        "banned": False,
        "locked": False,
        "two_factor_enabled": False,
        "last_sign_in_at": None,
        "created_at": T0,
        "updated_at": updated_at,
    } | members


def organization(organization_id: str, *, updated_at: int = T0, **members: Any) -> dict[str, Any]:
    """An Organization."""
    return {
        "object": "organization",
        "id": organization_id,
        "name": "Acme",
        "slug": "acme",
        "has_image": False,
        "max_allowed_memberships": 5,
        "public_metadata": {},
        "created_by": None,
        "created_at": T0,
        "updated_at": updated_at,
    } | members


def membership(
    membership_id: str, *, organization_id: str, user_id: str, updated_at: int = T0, **members: Any
) -> dict[str, Any]:
    """An OrganizationMembership with its embedded organization and user."""
    return {
        "object": "organization_membership",
        "id": membership_id,
        "role": "org:member",
        "permissions": [],
        "public_metadata": {},
        "organization": organization(organization_id),
        "public_user_data": {"user_id": user_id, "first_name": "Ada", "last_name": None, "image_url": ""},
        "created_at": T0,
        "updated_at": updated_at,
    } | members


def deleted(kind: str, object_id: str, **members: Any) -> dict[str, Any]:
    """A DeletedObject."""
    return {"object": kind, "id": object_id, "deleted": True} | members


def event(event_type: str, data: Any, *, timestamp: int | None = T0, **members: Any) -> bytes:
    """The bytes of an event; a member given as None is left out."""
    envelope = {
        "data": data,
        "object": "event",
        "type": event_type,
        "timestamp": timestamp,
        "instance_id": INSTANCE,
    } | members
    return json.dumps({key: value for key, value in envelope.items() if value is not None}).encode()


def next_id() -> str:
    """A svix-id that nobody had before."""
    return f"msg_test{next(_numbers):08d}"


@dataclass(frozen=True)
class Signed:
    """One delivery as Svix makes it."""

    body: bytes
    svix_id: str = field(default_factory=next_id)

    def headers(self, *, secret: str = SECRET, at: datetime | None = None, family: str = "svix-") -> dict[str, str]:
        """The three headers, signed now unless `at` says otherwise."""
        moment = at or datetime.now(UTC)
        signature = Webhook(secret).sign(self.svix_id, moment, self.body.decode("utf-8"))
        return {
            f"{family}id": self.svix_id,
            f"{family}timestamp": str(int(moment.timestamp())),
            f"{family}signature": signature,
            "Content-Type": "application/json",
        }
