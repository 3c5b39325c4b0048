"""Payloads for events that the emulator has no state for: mail and text messages with one-time codes, sessions,
invitations, roles, permissions. Shapes as the webhook specification has them; values are fresh for every call.
"""

import secrets
from collections.abc import Callable
from typing import Any

from devtools.clerk_emulator import shapes
from devtools.clerk_emulator.delivery.messages import now_ms
from devtools.clerk_emulator.state.instance import InstanceState
from devtools.clerk_emulator.state.records import OrganizationRecord, UserRecord

Json = dict[str, Any]
_WEEK_MS = 7 * 86_400_000


def _someone(state: InstanceState) -> UserRecord:
    newest = state.users.page(offset=0, limit=1)
    if not newest:
        raise ValueError("this sample needs a user")
    return newest[0]


def _some_organization(state: InstanceState) -> OrganizationRecord:
    newest = state.organizations.page(offset=0, limit=1)
    if not newest:
        raise ValueError("this sample needs an organization")
    return newest[0]


def one_time_code() -> str:
    """Return six digits."""
    return f"{secrets.randbelow(1_000_000):06d}"


def _email(state: InstanceState, _: str) -> Json:
    user, code = _someone(state), one_time_code()
    return {
        "object": "email",
        "id": state.fresh_id("ema_", now_ms=now_ms()),
        "slug": "verification_code",
        "from_email_name": "notifications",
        "reply_to_email_name": None,
        "to_email_address": user.primary_email or "someone@example.com",
        "email_address_id": user.primary_email_id,
        "user_id": user.id,
        "subject": f"{code} is your verification code",
        "body": f"<p>Your code is <b>{code}</b></p>",
        "body_plain": f"Your code is {code}",
        "status": "queued",
        "data": {
            "otp_code": code,
            "magic_link": f"https://clerk.example.com/v1/verify?token={secrets.token_urlsafe(24)}",
            "app": {"name": "Emulator", "url": "https://app.example.com"},
        },
        "delivered_by_clerk": True,
    }


def _sms(state: InstanceState, _: str) -> Json:
    user, code = _someone(state), one_time_code()
    return {
        "object": "sms_message",
        "id": state.fresh_id("sms_", now_ms=now_ms()),
        "slug": "verification_code",
        "from_phone_number": "+12025550100",
        "to_phone_number": "+12025550111",
        "phone_number_id": user.primary_phone_id,
        "user_id": user.id,
        "message": f"{code} is your verification code for Emulator",
        "status": "queued",
        "data": {"otp_code": code},
        "delivered_by_clerk": True,
        "created_at_ms": now_ms(),
    }


def _session(state: InstanceState, event_type: str) -> Json:
    user, moment = _someone(state), now_ms()
    what = event_type.partition(".")[2]
    return {
        "object": "session",
        "id": state.fresh_id("sess_", now_ms=moment),
        "user_id": user.id,
        "client_id": state.fresh_id("client_", now_ms=moment),
        "actor": None,
        "status": what if what in ("ended", "removed", "revoked") else "active",
        "last_active_organization_id": None,
        "last_active_at": moment,
        "latest_activity": {
            "object": "session_activity",
            "id": state.fresh_id("sess_activity_", now_ms=moment),
            "device_type": "Linux",
            "is_mobile": False,
            "browser_name": "Firefox",
            "browser_version": "140.0",
            "ip_address": "203.0.113.7",
            "city": "Oslo",
            "country": "NO",
        },
        "expire_at": moment + _WEEK_MS,
        "abandon_at": moment + 4 * _WEEK_MS,
        "updated_at": moment,
        "created_at": moment,
        "user": shapes.user(user),
    }


def _invitation(state: InstanceState, event_type: str) -> Json:
    inviter, organization, moment = _someone(state), _some_organization(state), now_ms()
    what = event_type.partition(".")[2]
    shape: Json = {
        "object": "organization_invitation",
        "id": state.fresh_id("orginv_", now_ms=moment),
        "email_address": f"guest.{secrets.token_hex(4)}@example.com",
        "role": "org:member",
        "role_name": "Member",
        "organization_id": organization.id,
        "inviter_id": inviter.id,
        "public_inviter_data": {
            "user_id": inviter.id,
            "first_name": inviter.first_name,
            "last_name": inviter.last_name,
            "image_url": shapes.image_url(inviter.id),
            "has_image": inviter.has_image,
            "identifier": inviter.identifier or "",
        },
        "status": {"created": "pending"}.get(what, what),
        "public_metadata": {},
        "private_metadata": {},
        "url": f"https://clerk.example.com/v1/tickets/accept?ticket={secrets.token_urlsafe(32)}",
        "expires_at": moment + 4 * _WEEK_MS,
        "created_at": moment,
        "updated_at": moment,
        "data": {
            "public_organization_data": {
                "id": organization.id,
                "name": organization.name,
                "slug": organization.slug,
                "image_url": shapes.image_url(organization.id),
                "has_image": organization.has_image,
            }
        },
    }
    if what == "accepted":
        shape["user_id"] = inviter.id
    return shape


def _permission(state: InstanceState, event_type: str) -> Json:
    moment = now_ms()
    identifier = state.fresh_id("perm_", now_ms=moment)
    if event_type.endswith(".deleted"):
        return shapes.deleted("permission", identifier)
    return {
        "object": "permission",
        "id": identifier,
        "name": "Read reports",
        "key": "org:reports:read",
        "description": "May read reports",
        "type": "user",
        "created_at": moment,
        "updated_at": moment,
    }


def _role(state: InstanceState, event_type: str) -> Json:
    moment = now_ms()
    identifier = state.fresh_id("role_", now_ms=moment)
    if event_type.endswith(".deleted"):
        return shapes.deleted("role", identifier)
    return {
        "object": "role",
        "id": identifier,
        "name": "Auditor",
        "key": "org:auditor",
        "description": None,
        "is_creator_eligible": False,
        "permissions": [_permission(state, "permission.created")],
        "created_at": moment,
        "updated_at": moment,
    }


_MAKERS: dict[str, Callable[[InstanceState, str], Json]] = {
    "email.created": _email,
    "sms.created": _sms,
    **dict.fromkeys(
        ("session.created", "session.pending", "session.ended", "session.removed", "session.revoked"), _session
    ),
    **dict.fromkeys(
        ("organizationInvitation.created", "organizationInvitation.accepted", "organizationInvitation.revoked"),
        _invitation,
    ),
    **dict.fromkeys(("permission.created", "permission.updated", "permission.deleted"), _permission),
    **dict.fromkeys(("role.created", "role.updated", "role.deleted"), _role),
}
#: The types that :func:`sample` knows.
SAMPLED = tuple(_MAKERS)


def sample(event_type: str, *, state: InstanceState) -> Json:
    """Return a payload for an event type; raise ValueError for one that has no sample."""
    maker = _MAKERS.get(event_type)
    if maker is None:
        raise ValueError(f"no sample for {event_type}; there are {', '.join(SAMPLED)}")
    return maker(state, event_type)
