"""What of an event is a secret and never stored: replaced at the door, before anything is written.

One-time codes, magic links, backup codes and invitation links give access to whoever reads them; a database and its
backups have many readers. The event stays, with `WITHHELD` in their place. IP address and user agent of the person who
caused it (`event_attributes`) stay only where the operator asked for them.
"""

import re
from typing import Any

from nexus_auth.clerk.catalogue import ENTITIES, MESSAGE_GROUPS, MESSAGE_MEMBERS, WITHHELD_EVERYWHERE

WITHHELD = "[withheld]"

_METADATA = frozenset({"public_metadata", "private_metadata", "unsafe_metadata"})
_NAMES = tuple(name.encode() for name in WITHHELD_EVERYWHERE)
_MESSAGE_TYPE = re.compile(rb"(email|sms)(\.|\\u002e)", re.IGNORECASE)


def is_message(event_type: str) -> bool:
    """Whether the event carries a message (`email.*`, `sms.*`): all but an allow-list is withheld."""
    return event_type.partition(".")[0].lower() in MESSAGE_GROUPS


def may_hold_secrets(body: bytes, *, event_type: str) -> bool:
    """A cheap test on the bytes: False means that nothing in the event's data is to be withheld."""
    entity = ENTITIES.get(event_type.partition(".")[0])
    if is_message(event_type) or (entity is not None and entity.withheld):
        return True
    if any(name in body for name in _NAMES):
        # "backup_codes":null stands in most users with a telephone.
        return sum(body.count(name) for name in _NAMES) != sum(body.count(b'"' + name + b'":null') for name in _NAMES)
    return False


def withhold(data: Any, *, event_type: str) -> tuple[Any, bool]:
    """The event's data without its secrets, and whether there were any. The argument stays as it is."""
    if is_message(event_type):
        if not isinstance(data, dict):
            return WITHHELD, True
        return {key: value if key in MESSAGE_MEMBERS else WITHHELD for key, value in data.items()}, True
    entity = ENTITIES.get(event_type.partition(".")[0])
    links = entity.withheld if entity is not None else frozenset[str]()
    kept = _without(data, WITHHELD_EVERYWHERE | links, WITHHELD_EVERYWHERE)
    return kept, kept != data


def unreadable_may_be_message(body: bytes) -> bool:
    """Whether a body that is no JSON may hold a message all the same; it is not kept then."""
    return _MESSAGE_TYPE.search(body) is not None


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
