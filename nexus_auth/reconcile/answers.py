"""Answers of Clerk's API, read: objects, totals, parents. Whatever else comes with status 200 is a named failure.

Of most objects three members are read and nothing more; the bytes of one are cut out of its page when they are needed.
One object of a wrong shape does not spoil its page: it is handed on as `Malformed`, with its reason.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

import msgspec

from nexus_auth.clerk.api import UNREADABLE, Answer, ClerkUnavailable
from nexus_auth.clerk.catalogue import Entity, Listing, NamedRead
from nexus_auth.clerk.envelope import LONGEST_ID, safe_object
from nexus_auth.clerk.json_safety import NotJson
from nexus_auth.clerk.version import API, LATEST, object_time
from nexus_auth.store.ingest import Change

PAGE = 500
"""Rows of a page; Clerk's most."""

END = 2**50
"""Later than any created_at, ms."""

_PLAIN_ID = re.compile(r"[^\s\x00-\x1f]+")


class _Listed(msgspec.Struct, gc=False):
    id: Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_ID)]
    updated_at: Annotated[int, msgspec.Meta(ge=0, le=LATEST)]
    created_at: Annotated[int, msgspec.Meta(ge=0, lt=END)]


class _Page(msgspec.Struct):
    data: list[_Listed]
    total_count: Annotated[int, msgspec.Meta(ge=0)]


class _RawPage(msgspec.Struct):
    data: list[msgspec.Raw]
    total_count: Annotated[int, msgspec.Meta(ge=0)]


class _Total(msgspec.Struct):
    total_count: Annotated[int, msgspec.Meta(ge=0)]


class _Id(msgspec.Struct):
    id: str | None = None


_read_one = msgspec.json.Decoder(_Listed)
_read_array = msgspec.json.Decoder(list[_Listed])
_read_page = msgspec.json.Decoder(_Page)
_read_raw_array = msgspec.json.Decoder(list[msgspec.Raw])
_read_raw_page = msgspec.json.Decoder(_RawPage)
_read_total = msgspec.json.Decoder(_Total)
_read_id = msgspec.json.Decoder(_Id)


@dataclass(frozen=True, slots=True)
class Item:
    """One object as listed."""

    id: str
    updated_at: int
    created_at: int
    asked_at: int
    """When the request that brought it began, ms."""
    listing: "_Listing"
    place: int

    @property
    def raw(self) -> bytes:
        """The object's own JSON, cut out of its page when it is asked for: of most it never is."""
        return self.listing.raws[self.place]


@dataclass(frozen=True, slots=True)
class Malformed:
    """An object that cannot be used."""

    id: str | None
    """Its own, where it can be read."""
    error: str
    """What is wrong; no value out of it."""
    raw: bytes

    @property
    def key(self) -> str:
        """Its id, or a name made of its content."""
        return self.id or f"sha256:{hashlib.sha256(self.raw).hexdigest()[:32]}"


@dataclass(frozen=True, slots=True)
class Page:
    """One answer's objects."""

    items: list[Item]
    malformed: list[Malformed]
    total: int
    """`total_count`, or 0 where the answer has none."""

    @property
    def size(self) -> int:
        """Objects of any shape: whether a page is full, or empty."""
        return len(self.items) + len(self.malformed)


class _Listing:
    """A page's body; kept for as long as one of its items is."""

    def __init__(self, body: bytes, *, paged: bool) -> None:
        self._body = body
        self._paged = paged

    @cached_property
    def raws(self) -> list[bytes]:
        raws = _read_raw_page.decode(self._body).data if self._paged else _read_raw_array.decode(self._body)
        return [bytes(raw) for raw in raws]


NOWHERE = _Listing(b"[]", paged=False)


def page_of(answer: Answer, of: Listing | NamedRead) -> Page:
    """An answer's objects. Raises `ClerkUnavailable` for what is no page of objects."""
    listing, asked_at = _Listing(answer.body, paged=of.paged), answer.asked_at
    try:
        if of.paged:
            page = _read_page.decode(answer.body)
            listed, total = page.data, page.total_count
        else:
            listed, total = _read_array.decode(answer.body), 0
    except UNREADABLE:
        return _with_malformed(answer, of)
    if b"\\u" in answer.body and not all(_PLAIN_ID.fullmatch(one.id) for one in listed):
        return _with_malformed(answer, of)
    items = [_item(one, asked_at=asked_at, listing=listing, place=n) for n, one in enumerate(listed)]
    return Page(items, [], total)


def _item(one: _Listed, *, asked_at: int, listing: _Listing, place: int) -> Item:
    # created_at stays as listed: it is compared with the bounds of Clerk's own lists
    return Item(one.id, object_time(one.updated_at), one.created_at, asked_at, listing, place)


def _with_malformed(answer: Answer, of: Listing | NamedRead) -> Page:
    """The same, object by object."""
    listing = _Listing(answer.body, paged=of.paged)
    try:
        total = _read_total.decode(answer.body).total_count if of.paged else 0
        raws = listing.raws
    except UNREADABLE:
        raise ClerkUnavailable("Clerk's API answered something that is no page of objects; is apiUrl right?") from None
    items: list[Item] = []
    malformed: list[Malformed] = []
    for place, raw in enumerate(raws):
        try:
            one = _read_one.decode(raw)
        except UNREADABLE as error:
            malformed.append(Malformed(_id_of(raw), f"it has a wrong shape: {_said(error)}", raw))
            continue
        if _PLAIN_ID.fullmatch(one.id):
            items.append(_item(one, asked_at=answer.asked_at, listing=listing, place=place))
        else:
            malformed.append(Malformed(None, "its id holds spaces or control characters", raw))
    if len(raws) >= PAGE and not items:
        raise ClerkUnavailable("Clerk's API answered a page of which no object has the shape of one; is apiUrl right?")
    return Page(items, malformed, total)


def total_of(answer: Answer) -> int:
    """The `total_count` of an answer. Raises `ClerkUnavailable` where it has none."""
    try:
        return _read_total.decode(answer.body).total_count
    except UNREADABLE:
        raise ClerkUnavailable("Clerk's API answered something without a total_count; is apiUrl right?") from None


def parents_in(item: Item, entity: Entity) -> tuple[str | None, ...]:
    """The ids of a listed object's parents, in the order of its declaration; None where it does not name one."""
    if not entity.parents:
        return ()
    try:
        whole: Any = msgspec.json.decode(item.raw)
    except UNREADABLE:
        return tuple(None for _ in entity.parents)
    return tuple(_at(whole, parent.path) for parent in entity.parents)


def named_parents(item: Item, entity: Entity) -> tuple[str, ...] | None:
    """The same, or None where one of them is missing: such an object cannot be asked for by name."""
    found = parents_in(item, entity)
    complete = tuple(parent for parent in found if parent is not None)
    return complete if len(complete) == len(found) else None


def change_of(item: Item, entity: Entity) -> Change:
    """A listed object as a change: observed when its request began, outranking a webhook of the same moment.

    Raises `NotJson`.
    """
    return (entity.kind, item.id, None, item.updated_at, item.asked_at, API, "", "sweep", text_of(item, entity))


def text_of(item: Item, entity: Entity) -> str:
    """A listed object as Postgres may have it, secrets withheld. Raises `NotJson`."""
    return safe_object(item.raw, group=entity.group)


def kept_text(raw: bytes, entity: Entity) -> str | None:
    """What may be kept of an object that cannot be applied; None where its secrets cannot be told apart."""
    try:
        return safe_object(raw, group=entity.group).replace("\x00", "")
    except (NotJson, RecursionError):
        return None


def _at(value: Any, path: Sequence[str]) -> str | None:
    for member in path:
        value = value.get(member) if isinstance(value, dict) else None
    plain = isinstance(value, str) and len(value) <= LONGEST_ID and _PLAIN_ID.fullmatch(value)
    return value if plain else None


def _id_of(raw: bytes) -> str | None:
    try:
        found = _read_id.decode(raw).id
    except UNREADABLE:
        return None
    return found if found and len(found) <= LONGEST_ID and _PLAIN_ID.fullmatch(found) else None


def _said(error: Exception) -> str:
    """msgspec names the member and the type that it has; it quotes no value."""
    return " ".join(str(error).split())[:200] if isinstance(error, msgspec.DecodeError) else type(error).__name__
