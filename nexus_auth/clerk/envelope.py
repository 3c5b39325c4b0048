"""Reads a verified event: from the signed bytes to what is applied and what is kept. Never raises, never guesses.

The common event stays bytes: its `data` goes to Postgres as the slice that it is, and only four fields are read here.
What is suspect or secret is parsed, replaced and written again (`json_safety`, `privacy`).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import msgspec

from nexus_auth.clerk import json_safety, privacy
from nexus_auth.clerk.catalogue import DELETED, ENTITIES, Entity
from nexus_auth.clerk.version import LATEST, in_milliseconds, may_hold_seconds, milliseconds

State = Literal["applied", "waiting", "parked", "kept"]
"""applied: there is a change to apply. waiting: kept until a table for its kind exists. kept: nothing will ever apply
it (messages, unknown types). parked: it should be applied and cannot be."""

LONGEST_ID = 512
"""Bytes; Clerk's ids have about 32. An index row of Postgres ends at 2,700."""

EXAMPLE_INSTANCES = frozenset({"ins_123", "ins_2g7np7Hrk0SN6kj5EDMLDaKNL0S"})
"""Instances of nobody: they stand in the 45 examples of Clerk's webhook specification (2025-04-15), which the button
"Send Example" of its dashboard sends."""

_ID = re.compile(r"[a-z][a-z0-9]*(?:_[a-z]+)*_(?=[a-z]*[A-Z0-9])[A-Za-z0-9]{10,64}")
_encoder = msgspec.json.Encoder(decimal_format="number")


class _Envelope(msgspec.Struct):
    data: msgspec.Raw
    type: str
    timestamp: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    instance_id: str | None = None
    event_attributes: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Owner(msgspec.Struct):
    id: str | None = None
    user_id: str | None = None
    created_by: str | None = None


READ_QUICKLY = frozenset({"user", "organization", "organization_membership"})
"""Kinds of which `_Head` has every id that an event speaks of. Any other kind is parsed whole: right, and slower."""


class _Head(msgspec.Struct):
    id: str | None = None
    updated_at: int | None = None
    created_by: str | None = None
    organization: _Owner | None = None
    public_user_data: _Owner | None = None


_read_envelope = msgspec.json.Decoder(_Envelope)
_read_head = msgspec.json.Decoder(_Head)
_read_value = msgspec.json.Decoder(float_hook=Decimal)
"""Numbers keep their digits: an event that is written again must not be rounded."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event as it is kept and applied."""

    type: str
    """Empty where the body could not be read."""
    instance_id: str | None
    observed_at: int
    """The envelope's timestamp, ms; 0 where it has none."""
    state: State
    error: str | None
    """Why it is parked; never a value out of the event."""
    kind: str | None
    id: str | None
    deleted: bool
    updated_at: int
    """Clerk's `updated_at`, ms; 0 for a deletion."""
    object_json: str | None
    """The object to apply, safe for jsonb, secrets withheld; None for a deletion and where nothing is applied."""
    subjects: tuple[str, ...]
    """Every id that the event speaks of, the object's own first."""
    body: bytes
    """What is stored: the signed bytes, or the event without its secrets."""
    withheld: bool
    """Whether `body` differs from the signed bytes."""


def read(body: bytes, *, keep_event_attributes: bool = False) -> Event:
    """Reads a body whose signature was verified. What it cannot read or apply comes back parked, with the reason."""
    if json_safety.is_plain(body):
        try:
            return _read_plain(body, keep_event_attributes=keep_event_attributes)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            pass  # not what the common event looks like: read it the thorough way
    try:
        document = json_safety.parse(body)
    except json_safety.NotJson as error:
        return _unreadable(body, f"the body is no JSON: {error}", keep_event_attributes=keep_event_attributes)
    return _read_document(document, body, keep_event_attributes=keep_event_attributes)


def safe_object(raw: bytes, *, group: str) -> str:
    """An object as the API lists it, made ready for Postgres as an event's `data` is.

    That is safe JSON, its times in milliseconds, without secrets and personal members. `group` is the catalogue's.
    Raises `json_safety.NotJson`.
    """
    event_type = f"{group}.updated"
    common = not (
        privacy.may_hold_secrets(raw, event_type=event_type) or privacy.may_be_personal(raw) or may_hold_seconds(raw)
    )
    if common and json_safety.is_plain(raw):
        return raw.decode("utf-8")
    data, _ = privacy.withhold(json_safety.parse(raw), event_type=event_type)
    return _encoder.encode(in_milliseconds(data)).decode("utf-8")


def _read_plain(body: bytes, *, keep_event_attributes: bool) -> Event:
    envelope = _read_envelope.decode(body)
    group, _, verb = envelope.type.rpartition(".")
    entity = ENTITIES.get(group)
    uncommon = entity is None or entity.kind not in READ_QUICKLY or verb not in entity.verbs
    # Members that are not of `_Envelope` are not stored where event_attributes are withheld.
    attributes = envelope.event_attributes is not msgspec.UNSET and bytes(envelope.event_attributes) != b"null"
    stored_part = bytes(envelope.data) if attributes else body
    uncommon = (
        uncommon
        or privacy.may_hold_secrets(body, event_type=envelope.type)
        or may_hold_seconds(envelope.data)
        or (not keep_event_attributes and privacy.may_be_personal(stored_part))
    )
    if entity is None or uncommon:
        return _read_document(_read_value.decode(body), body, keep_event_attributes=keep_event_attributes)
    head = _read_head.decode(envelope.data)
    stored, withheld = body, False
    if attributes and not keep_event_attributes:
        envelope.event_attributes = msgspec.Raw(b'"' + privacy.WITHHELD.encode() + b'"')
        present = {k: v for k, v in msgspec.structs.asdict(envelope).items() if v is not msgspec.UNSET}
        stored, withheld = msgspec.json.encode({"object": "event", **present}), True
    deleted = verb == DELETED
    error = _unfit(head.id, head.updated_at, deleted=deleted)
    timestamp = envelope.timestamp
    organization, user = head.organization or _Owner(), head.public_user_data or _Owner()
    others = (head.created_by, organization.id, organization.created_by, user.user_id)
    return Event(
        type=envelope.type,
        instance_id=envelope.instance_id,
        observed_at=0 if timestamp is msgspec.UNSET else milliseconds(_read_value.decode(timestamp)),
        state="parked" if error else "applied",
        error=error,
        kind=entity.kind,
        id=head.id,
        deleted=deleted,
        updated_at=0 if error or deleted else head.updated_at or 0,
        object_json=None if error or deleted else bytes(envelope.data).decode("utf-8"),
        subjects=tuple(dict.fromkeys(subject for subject in (head.id, *others) if subject)),
        body=stored,
        withheld=withheld,
    )


def _read_document(document: Any, body: bytes, *, keep_event_attributes: bool) -> Event:
    if not isinstance(document, dict) or not isinstance(document.get("type"), str):
        why = "the body is no event: it has no type"
        return _unreadable(body, why, keep_event_attributes=keep_event_attributes)
    event_type: str = document["type"]
    instance_id = document.get("instance_id")
    kept, withheld = privacy.withhold(document, event_type=event_type, keep_personal=keep_event_attributes)
    withheld = withheld or privacy.holds_named_secret(body)  # a second member of its name may hide one
    if not (withheld or keep_event_attributes) and privacy.may_be_personal(body):
        withheld = privacy.hides_personal(body, parsed=_encoder.encode(document))
    data = in_milliseconds(kept.get("data"))
    group, _, verb = event_type.rpartition(".")
    entity = ENTITIES.get(group)
    members = data if isinstance(data, dict) else {}
    object_id = members.get("id") if isinstance(members.get("id"), str) else None
    state, error = _state(entity, data, verb=verb)
    applies = state == "applied" and verb != DELETED
    return Event(
        type=event_type,
        instance_id=instance_id if isinstance(instance_id, str) else None,
        observed_at=milliseconds(document.get("timestamp")),
        state=state,
        error=error,
        kind=entity.kind if entity is not None else None,
        id=object_id,
        deleted=verb == DELETED,
        updated_at=members["updated_at"] if applies else 0,
        object_json=_encoder.encode(data).decode("utf-8") if applies else None,
        subjects=tuple(dict.fromkeys([*([object_id] if object_id else []), *_ids(data)])),
        body=_encoder.encode(kept) if withheld else body,
        withheld=withheld,
    )


def _state(entity: Entity | None, data: Any, *, verb: str) -> tuple[State, str | None]:
    if entity is None:
        return "kept", None
    if not entity.projected:
        return "waiting", None
    if verb not in entity.verbs:
        return "kept", None
    if not isinstance(data, dict):
        return "parked", "data is no object"
    error = _unfit(data.get("id"), data.get("updated_at"), deleted=verb == DELETED)
    return ("parked", error) if error else ("applied", None)


def _unfit(object_id: Any, updated_at: Any, *, deleted: bool) -> str | None:
    if not isinstance(object_id, str) or not object_id:
        return "data.id is missing"
    if len(object_id.encode("utf-8")) > LONGEST_ID:
        return f"data.id is longer than {LONGEST_ID} bytes"
    if deleted:
        return None
    if isinstance(updated_at, bool) or not isinstance(updated_at, int):
        return "data.updated_at is no integer"
    if not 0 <= updated_at <= LATEST:
        return "data.updated_at is no time in milliseconds"
    return None


def _unreadable(body: bytes, error: str, *, keep_event_attributes: bool) -> Event:
    stored: bytes | None = body
    if privacy.unreadable_may_hold_secrets(body):
        stored = None
    elif not keep_event_attributes:
        stored = privacy.unreadable_without_personal(body)
    return Event(
        type="",
        instance_id=None,
        observed_at=0,
        state="parked",
        error=error,
        kind=None,
        id=None,
        deleted=False,
        updated_at=0,
        object_json=None,
        subjects=(),
        body=f'"{privacy.WITHHELD}"'.encode() if stored is None else stored,
        withheld=stored != body,
    )


def _ids(value: Any) -> Iterator[str]:
    """Every Clerk id below a value, whatever it stands under; walks without recursion."""
    pending = [value]
    while pending:
        current = pending.pop()
        if isinstance(current, dict):
            pending.extend(member for key, member in current.items() if not key.endswith("_metadata"))
        elif isinstance(current, list):
            pending.extend(current)
        elif isinstance(current, str) and len(current) <= LONGEST_ID and _ID.fullmatch(current):
            yield current
