"""What of an event is a secret and never stored: replaced at the door, before anything is written.

One-time codes, magic links, backup codes and invitation links give access to whoever reads them; a database and its
backups have many readers. The event stays, with `WITHHELD` in their place. IP address and user agent of the person who
caused it (`event_attributes`) stay only where the operator asked for them.
"""

import re
from typing import Any

from nexus_auth.clerk.catalogue import (
    ENTITIES,
    ENVELOPE_MEMBERS,
    MESSAGE_GROUPS,
    MESSAGE_MEMBERS,
    WITHHELD_EVERYWHERE,
    WITHHELD_IN_METADATA,
)

WITHHELD = "[withheld]"

_METADATA = frozenset({"public_metadata", "private_metadata", "unsafe_metadata"})
_SECRET = re.compile(rb'"(?:%s)"\s*:(?!\s*null)' % "|".join(sorted(WITHHELD_EVERYWHERE)).encode())
"""A member with a value; "backup_codes":null stands in most users with a telephone."""

_ESCAPE = re.compile(rb"\\u00([0-7][0-9a-f])", re.IGNORECASE)
_SECRETIVE_GROUPS = (*MESSAGE_GROUPS, *(entity.group for entity in ENTITIES.values() if entity.withheld))
_SECRETIVE = re.compile(
    rf'"(?:(?:{"|".join(_SECRETIVE_GROUPS)})\.|(?:{"|".join(sorted(WITHHELD_EVERYWHERE))})"\s*:)'.encode(),
    re.IGNORECASE,
)
"""What a body that cannot be read must not contain to be kept: types with messages or links, names of secrets."""


def is_message(event_type: str) -> bool:
    """Whether the event carries a message (`email.*`, `sms.*`): all but an allow-list is withheld."""
    return event_type.partition(".")[0].lower() in MESSAGE_GROUPS


def may_hold_secrets(body: bytes, *, event_type: str) -> bool:
    """A cheap test on the bytes of a plain body (no escapes in names): False means that nothing in the event's data is
    to be withheld."""
    entity = ENTITIES.get(event_type.partition(".")[0])
    if is_message(event_type) or (entity is not None and entity.withheld):
        return True
    return holds_named_secret(body)


def holds_named_secret(body: bytes) -> bool:
    """Whether a member of the bytes is named as a secret and is not null, be it hidden by a second one of its name."""
    return _SECRET.search(body) is not None


def withhold(event: dict[str, Any], *, event_type: str) -> tuple[dict[str, Any], bool]:
    """The event without its secrets, and whether there were any. The argument stays as it is."""
    if is_message(event_type):
        return {key: _message_part(key, value) for key, value in event.items()}, True
    entity = ENTITIES.get(event_type.partition(".")[0])
    links = entity.withheld if entity is not None else frozenset[str]()
    kept = _without(event, WITHHELD_EVERYWHERE | links, WITHHELD_IN_METADATA)
    return kept, kept != event


def unreadable_may_hold_secrets(body: bytes) -> bool:
    """Whether a body that is no event may hold a message, a link or a code all the same; it is not kept then."""
    return _SECRETIVE.search(_ESCAPE.sub(lambda escape: bytes([int(escape[1], 16)]), body)) is not None


def _message_part(key: str, value: Any) -> Any:
    if key == "data" and isinstance(value, dict):
        return {name: member if name in MESSAGE_MEMBERS else WITHHELD for name, member in value.items()}
    return value if key in ENVELOPE_MEMBERS else WITHHELD


def _without(value: Any, names: frozenset[str], names_in_metadata: frozenset[str]) -> Any:
    if isinstance(value, dict):
        return {
            key: WITHHELD
            if key in names and member is not None
            else _without(member, names_in_metadata if key in _METADATA else names, names_in_metadata)
            for key, member in value.items()
        }
    if isinstance(value, list):
        return [_without(member, names, names_in_metadata) for member in value]
    return value
