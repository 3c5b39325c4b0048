"""Users: created, updated, banned, locked, deleted with their memberships."""

import re
from dataclasses import replace
from typing import Any

from devtools.clerk_emulator import shapes
from devtools.clerk_emulator.changes import metadata, moments
from devtools.clerk_emulator.changes.memberships import MembershipChanges
from devtools.clerk_emulator.clerk_errors import ClerkError, identifier_taken, invalid_parameter, not_found
from devtools.clerk_emulator.delivery.messages import now_ms
from devtools.clerk_emulator.events import Events
from devtools.clerk_emulator.state.instance import InstanceState, identities
from devtools.clerk_emulator.state.records import EmailRecord, PhoneRecord, UserRecord, WalletRecord

METADATA = ("public_metadata", "private_metadata", "unsafe_metadata")
_ADDRESS = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")
_NUMBER = re.compile(r"\+[0-9]{7,15}")
_PLAIN = (
    "first_name",
    "last_name",
    "locale",
    "username",
    "external_id",
    "create_organizations_limit",
)
_SWITCHES = ("delete_self_enabled", "create_organization_enabled", "bypass_client_trust", "banned", "locked")
_PRIMARIES = {
    "primary_email_address_id": ("primary_email_id", "emails"),
    "primary_phone_number_id": ("primary_phone_id", "phones"),
    "primary_web3_wallet_id": ("primary_wallet_id", "wallets"),
}


class UserChanges:
    """Changes of users."""

    def __init__(self, *, state: InstanceState, events: Events, memberships: MembershipChanges) -> None:
        """Change this state and send these events."""
        self._state = state
        self._events = events
        self._memberships = memberships

    def find(self, identifier: str) -> UserRecord:
        """Return a user; raise ClerkError (404)."""
        found = self._state.users.get(identifier)
        if found is None:
            raise not_found("user", identifier)
        return found

    def create(self, fields: dict[str, Any]) -> UserRecord:
        """Create a user from the API's fields; raise ClerkError (422)."""
        moment = now_ms()
        emails = self._emails(fields, moment=moment)
        phones = self._phones(fields, moment=moment)
        wallets = self._wallets(fields, moment=moment)
        if not (emails or phones or wallets or fields.get("username") or fields.get("skip_user_requirement")):
            raise ClerkError(
                422,
                code="form_data_missing",
                message="missing data",
                long_message="missing data for user: one of email_address, phone_number, web3_wallet, username",
            )
        blank = UserRecord(
            id=self._state.users.next_identifier(now_ms=moment),
            created_at=moment,
            updated_at=moment,
            emails=emails,
            phones=phones,
            wallets=wallets,
            primary_email_id=emails[0].id if emails else None,
            primary_phone_id=phones[0].id if phones else None,
            primary_wallet_id=wallets[0].id if wallets else None,
        )
        record = replace(blank, **self._plain_changes(blank, fields))
        self._check_identities(record)
        self._state.users.insert(record)
        self._state.remember_identities(record)
        self._events.emit("user.created", shapes.user(record))
        return record

    def create_many(self, count: int, *, created_at: int | None = None) -> list[UserRecord]:
        """Create so many users with an address of their own, all at one time of creation (ms) where it is given."""
        moment = {} if created_at is None else {"created_at": moments.text(created_at)}
        mark = self._state.fresh_id("mark_", now_ms=now_ms()).removeprefix("mark_").lower()
        return [self.create({"email_address": [f"{number}.{mark}@example.com"]} | moment) for number in range(count)]

    def update(self, identifier: str, fields: dict[str, Any]) -> UserRecord:
        """Change a user by the API's fields; metadata is merged."""
        record = self.find(identifier)
        changed = replace(record, **self._plain_changes(record, fields))
        self._check_identities(changed)
        return self._put(changed)

    def replace_metadata(self, identifier: str, fields: dict[str, dict[str, Any]]) -> UserRecord:
        """Put new metadata in the place of the old."""
        changes: dict[str, Any] = {name: metadata.checked(name, value) for name, value in fields.items()}
        return self._put(replace(self.find(identifier), **changes))

    def delete(self, identifier: str) -> dict[str, Any]:
        """Delete a user and their memberships; return the DeletedObject."""
        record = self.find(identifier)
        self._memberships.end_all(self._state.memberships_of(record.id))
        self._state.users.remove(record.id, linger_seconds=self._events.behaviour.stale_deleted_seconds)
        shape = shapes.deleted("user", record.id)
        event = shapes.deleted("user", record.id, external_id=record.external_id)
        self._events.emit("user.deleted", event)
        return shape

    def sign_in(self, identifier: str) -> UserRecord:
        """Let a user sign in: ``last_sign_in_at`` and ``last_active_at`` move, and so does ``updated_at``."""
        record = self.find(identifier)
        moment = moments.after(record.updated_at)
        return self._put(replace(record, last_sign_in_at=moment, last_active_at=moment - moment % 86_400_000))

    def _put(self, record: UserRecord) -> UserRecord:
        old = self._state.users.get(record.id) or record
        still = self._events.behaviour.still_fields
        moved = replace(record, updated_at=moments.of_change(old, record, still_fields=still))
        self._state.users.replace(moved)
        self._state.remember_identities(moved)
        self._events.emit("user.updated", shapes.user(moved))
        return moved

    def _plain_changes(self, record: UserRecord, fields: dict[str, Any]) -> dict[str, Any]:
        changes: dict[str, Any] = {name: fields[name] or None for name in _PLAIN if name in fields}
        if "create_organizations_limit" in fields:
            changes["create_organizations_limit"] = fields["create_organizations_limit"]
        changes |= {name: fields[name] for name in _SWITCHES if fields.get(name) is not None}
        for name in METADATA:
            if fields.get(name) is not None:
                changes[name] = metadata.checked(name, metadata.merged(getattr(record, name), fields[name]))
        for name in ("created_at", "legal_accepted_at"):
            if fields.get(name) is not None:
                changes[name] = moments.parse(name, fields[name])
        if fields.get("password") is not None or fields.get("password_digest") is not None:
            changes["password_updated_at"] = now_ms()
        if fields.get("totp_secret") is not None:
            changes |= {"totp_enabled": True, "mfa_enabled_at": now_ms()}
        if fields.get("backup_codes"):
            changes["backup_code_enabled"] = True
        for name, (member, owned) in _PRIMARIES.items():
            if fields.get(name) is not None:
                if fields[name] not in {one.id for one in getattr(record, owned)}:
                    raise not_found("identification", fields[name])
                changes[member] = fields[name]
        return changes

    def _emails(self, fields: dict[str, Any], *, moment: int) -> tuple[EmailRecord, ...]:
        addresses = [address.strip().lower() for address in fields.get("email_address") or ()]
        statuses = fields.get("email_address_identification_status") or ["verified"] * len(addresses)
        for address in addresses:
            if not _ADDRESS.fullmatch(address):
                raise invalid_parameter("email_address", "must be a valid email address")
        return tuple(
            EmailRecord(
                id=self._state.identification_id(now_ms=moment),
                address=address,
                created_at=moment,
                strategy="admin",
                reserved=status == "reserved",
            )
            for address, status in zip(addresses, statuses, strict=False)
        )

    def _phones(self, fields: dict[str, Any], *, moment: int) -> tuple[PhoneRecord, ...]:
        numbers = [re.sub(r"[ ()-]", "", number) for number in fields.get("phone_number") or ()]
        for number in numbers:
            if not _NUMBER.fullmatch(number):
                raise invalid_parameter("phone_number", "must be a valid phone number according to E.164 format")
        return tuple(
            PhoneRecord(id=self._state.identification_id(now_ms=moment), number=number, created_at=moment)
            for number in numbers
        )

    def _wallets(self, fields: dict[str, Any], *, moment: int) -> tuple[WalletRecord, ...]:
        return tuple(
            WalletRecord(id=self._state.identification_id(now_ms=moment), address=address, created_at=moment)
            for address in fields.get("web3_wallet") or ()
        )

    def _check_identities(self, record: UserRecord) -> None:
        for kind, values in identities(record).items():
            if len(set(values)) < len(values):
                raise identifier_taken(kind)
            for value in values:
                holder = self._state.user_with(kind, value)
                if holder is not None and holder.id != record.id:
                    raise identifier_taken(kind)
