"""Users and memberships as JSON, fast: a profile's text is prepared once and filled with each user's particulars.

The text is not written by hand: a record full of markers goes through the same shapes as any other, and the markers
are found again in what comes out. What was created or changed since the start is rendered the ordinary way. Rendered
users and memberships are kept until a budget is spent; then no more are, so that a walk through a million costs no
memory.
"""

import re
from binascii import b2a_base64
from collections.abc import Iterable
from operator import itemgetter

from devtools.clerk_emulator import jsontext, shapes
from devtools.clerk_emulator.state.instance import InstanceState
from devtools.clerk_emulator.state.records import UserRecord
from devtools.clerk_emulator.state.seeded_users import PARTICULARS, Particulars, Profile, Values, record

#: Numbers and texts that occur nowhere else.
_MARKERS = Particulars(
    **{  # type: ignore[arg-type]
        name: 8_800_000_000_000 + place * 10_000_000
        if name.endswith("_at") or name == "risk"
        else f"marker{place:02}marker"
        for place, name in enumerate(PARTICULARS)
    }
)
_PICTURE_HEAD = shapes.image_url("")[:-3].encode()

_ID, _ACCOUNT, _CREATED = (PARTICULARS.index(name) for name in ("id", "account_id", "created_at"))


class Template:
    """A profile's text with places to fill."""

    def __init__(self, profile: Profile) -> None:
        """Prepare the text."""
        text = jsontext.encode(shapes.user(record(profile, _MARKERS)))
        places = _places()
        longest_first = sorted(places, key=len, reverse=True)
        found = re.compile(b"|".join(re.escape(place) for place in longest_first))
        self._order = itemgetter(*(places[match.group()] for match in found.finditer(text)))
        numbers = re.compile(rb"[0-9]+")
        text = text.replace(b"%", b"%%")
        self._text = found.sub(lambda match: b"%d" if numbers.fullmatch(match.group()) else b"%b", text)

    def filled(self, values: Values) -> bytes:
        """Return the user with these particulars."""
        created, account = values[_CREATED], values[_ACCOUNT]
        picture = _picture(values[_ID])  # type: ignore[arg-type]
        other = _picture(account) if account else b""  # type: ignore[arg-type]
        filled: bytes = self._text % self._order((*values, created + 600_000, picture, other))  # type: ignore[operator]
        return filled


def _places() -> dict[bytes, int]:
    """Return where the value of each marker stands, those that follow from others at the end."""
    texts = [str(getattr(_MARKERS, name)) for name in PARTICULARS]
    texts.append(str(_MARKERS.created_at + 600_000))
    texts += [shapes.image_url(_MARKERS.id), shapes.image_url(_MARKERS.account_id)]
    return {text.encode(): place for place, text in enumerate(texts)}


def _picture(identifier: bytes) -> bytes:
    return _PICTURE_HEAD + b2a_base64(identifier + b'"}', newline=False).rstrip(b"=")


class RenderedUsers:
    """Users of one instance as JSON."""

    def __init__(self, state: InstanceState, *, budget: int) -> None:
        """Keep at most ``budget`` bytes of what was rendered."""
        self._state = state
        self._templates: dict[int, Template] = {}
        self._kept: dict[int, tuple[UserRecord | None, bytes]] = {}
        self._left = budget

    def page(self, slots: Iterable[int]) -> bytes:
        """Return the users in these slots, living or listed, as a JSON array."""
        kept, held_record, parts = self._kept, self._state.users.held_record, []
        for slot in slots:
            held = held_record(slot)
            entry = kept.get(slot)
            parts.append(entry[1] if entry is not None and entry[0] is held else self._render(slot, held))
        return b"[" + b",".join(parts) + b"]"

    def warm(self) -> int:
        """Render every user as far as the budget goes; return how many are kept."""
        for slot in self._state.users.by_created.span().whole():
            self.page((slot,))
            if slot not in self._kept:
                break
        return len(self._kept)

    def _render(self, slot: int, held: UserRecord | None) -> bytes:
        text = self._seeded(slot) if held is None else jsontext.encode(shapes.user(held))
        before = self._kept.pop(slot, None)
        if before is not None:
            self._left += len(before[1])
        if self._left >= len(text):
            self._left -= len(text)
            self._kept[slot] = (held, text)
        return text

    def _seeded(self, slot: int) -> bytes:
        users = self._state.seeded_users
        number, values = users.values(slot)
        template = self._templates.get(number)
        if template is None:
            template = self._templates[number] = Template(users.profile(number))
        return template.filled(values)


class RenderedMemberships:
    """Memberships of one instance as JSON, each with its organization and its user inside."""

    def __init__(self, state: InstanceState, *, budget: int) -> None:
        """Keep at most ``budget`` bytes of what was rendered."""
        self._state = state
        self._kept: dict[int, tuple[tuple[object, ...], bytes]] = {}
        self._left = budget

    def page(self, slots: Iterable[int]) -> bytes:
        """Return the memberships in these slots as a JSON array, but for those whose user or organization is gone."""
        parts = (self._one(slot) for slot in slots)
        return b"[" + b",".join(part for part in parts if part) + b"]"

    def warm(self) -> int:
        """Render every membership as far as the budget goes; return how many are kept."""
        for slot in self._state.memberships.by_created.span().whole():
            if self._one(slot) and slot not in self._kept:
                break
        return len(self._kept)

    def _one(self, slot: int) -> bytes | None:
        state = self._state
        organization, user = state.organization_slot_of(slot), state.user_slot_of(slot)
        if organization is None or user is None:
            return None
        if not state.organizations.known(organization) or not state.users.known(user):
            return None
        held = state.memberships.held_record(slot)
        made_of = (held, state.organizations.held_record(organization), state.users.held_record(user))
        before = self._kept.get(slot)
        if before is not None and all(one is other for one, other in zip(before[0], made_of, strict=True)):
            return before[1]
        shape = shapes.membership(
            state.memberships.at(slot), organization=state.organizations.at(organization), user=state.users.at(user)
        )
        text = jsontext.encode(shape)
        self._left += len(self._kept.pop(slot)[1]) if before is not None else 0
        if self._left >= len(text):
            self._left -= len(text)
            self._kept[slot] = (made_of, text)
        return text
