"""What of an event is a secret and never stored: replaced at the door, before anything is written.

One-time codes, magic links, backup codes and invitation links give access to whoever reads them; a database and its
backups have many readers. The event stays, with `WITHHELD` in their place. Where a person is and what device they use
(`event_attributes`, a session's `latest_activity`) stays only where the operator asked for it.
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

PERSONAL = frozenset(
    {
        *("event_attributes", "http_request", "client_ip", "ip_address", "user_agent", "city", "country"),
        *("browser_name", "browser_version", "device_type", "is_mobile"),
    }
)
"""Members that tell where a person is and what device they use: withheld outside metadata, unless asked for."""

ACTIVITY = "latest_activity"
ACTIVITY_MEMBERS = frozenset({"object", "id"})
"""Of a session's latest activity only these are kept: Clerk may add members, and they will be of the same sort."""

_METADATA = frozenset({"public_metadata", "private_metadata", "unsafe_metadata"})
_SECRET = re.compile(rb'"(?:%s)"\s*:(?!\s*null)' % "|".join(sorted(WITHHELD_EVERYWHERE)).encode())
"""A member with a value; "backup_codes":null stands in most users with a telephone."""

_PERSONAL_NAMES = "|".join(sorted({*PERSONAL, ACTIVITY}))
_PERSONAL = re.compile(rf'"(?:{_PERSONAL_NAMES})"\s*:(?!\s*null)'.encode())
_PERSONAL_VALUE = re.compile(
    rf'("(?:{_PERSONAL_NAMES})"\s*:\s*)(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[^\s",:\[\]{{}}]++)'.encode(), re.DOTALL
)
"""A personal member with a value that is a text, a number or a word; the text may be cut off."""

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


def may_be_personal(part: bytes) -> bool:
    """A cheap test on plain bytes: False means that they hold no member of `PERSONAL` and no latest activity."""
    return _PERSONAL.search(part) is not None


def withhold(event: dict[str, Any], *, event_type: str, keep_personal: bool = False) -> tuple[dict[str, Any], bool]:
    """The event without its secrets and personal members, and whether there were any. The argument stays as it is."""
    if is_message(event_type):
        return {key: _message_part(key, value) for key, value in event.items()}, True
    entity = ENTITIES.get(event_type.partition(".")[0])
    links = entity.withheld if entity is not None else frozenset[str]()
    names = WITHHELD_EVERYWHERE | links | (frozenset() if keep_personal else PERSONAL)
    kept = _without(event, names, activity=not keep_personal)
    return kept, kept != event


def unreadable_may_hold_secrets(body: bytes) -> bool:
    """Whether a body that is no event may hold a message, a link or a code all the same; it is not kept then."""
    return _SECRETIVE.search(_unescaped(body)) is not None


def hides_personal(body: bytes, *, parsed: bytes) -> bool:
    """Whether the body has a personal member more than its value: an earlier one of the same name is lost in parsing.

    `parsed` is the value written again.
    """
    return len(_PERSONAL.findall(_unescaped(body))) != len(_PERSONAL.findall(parsed))


def unreadable_without_personal(body: bytes) -> bytes | None:
    """A body that is no event without the values of its personal members; None where they cannot be told apart.

    Members that hold an object keep it: what is personal in it has a name of its own.
    """
    if _ESCAPE.search(body) is not None and may_be_personal(_unescaped(body)):
        return None
    return _PERSONAL_VALUE.sub(rb'\1"%s"' % WITHHELD.encode(), body)


def _unescaped(body: bytes) -> bytes:
    return _ESCAPE.sub(lambda escape: bytes([int(escape[1], 16)]), body)


def _message_part(key: str, value: Any) -> Any:
    if key == "data" and isinstance(value, dict):
        return {name: member if name in MESSAGE_MEMBERS else WITHHELD for name, member in value.items()}
    return value if key in ENVELOPE_MEMBERS else WITHHELD


def _without(value: Any, names: frozenset[str], *, activity: bool) -> Any:
    if isinstance(value, dict):
        return {key: _member(key, member, names, activity=activity) for key, member in value.items()}
    if isinstance(value, list):
        return [_without(member, names, activity=activity) for member in value]
    return value


def _member(key: str, value: Any, names: frozenset[str], *, activity: bool) -> Any:
    if value is None:
        return None
    if key in names:
        return WITHHELD
    if key in _METADATA:
        return _without(value, WITHHELD_IN_METADATA, activity=False)
    if activity and key == ACTIVITY:
        if not isinstance(value, dict):
            return WITHHELD
        return {
            name: member if member is None or (name in ACTIVITY_MEMBERS and isinstance(member, str)) else WITHHELD
            for name, member in value.items()
        }
    return _without(value, names, activity=activity)
