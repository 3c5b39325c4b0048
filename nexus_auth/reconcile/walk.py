"""Walks over everything that Clerk lists of one kind, in order of `created_at`, and knows whether it saw all of it.

What is undocumented is not relied upon. Bounds of `created_at` may include their value or not: a margin of 1 ms on each
side is asked for and cut off here. `starting_after` may be ignored, or its user be gone: a page that brings nothing new
is asked for by its time instead. A short page does not end a walk, an empty one does; rows after a short page mean that
the listing cannot be trusted this time.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import msgspec

from nexus_auth.clerk.api import Answer, ClerkRefused, ClerkUnavailable
from nexus_auth.clerk.catalogue import Entity
from nexus_auth.reconcile.requester import Requester

PAGE = 500
"""Rows of a page; Clerk's most."""

OVERLAP = 10
"""Rows that two pages by offset share: a deletion meanwhile moves rows up, and more than these would be missed."""

END = 2**50
"""Later than any created_at, ms."""


class IncompleteWalk(Exception):
    """Not everything was seen, or it moved while it was looked at: what is absent proves nothing."""


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


class _Listing:
    """A page's body; kept for as long as one of its items is."""

    def __init__(self, body: bytes, *, paged: bool) -> None:
        self._body = body
        self._paged = paged

    @cached_property
    def raws(self) -> list[bytes]:
        raws = _read_raw_page.decode(self._body).data if self._paged else _read_raw_array.decode(self._body)
        return [bytes(raw) for raw in raws]


@dataclass(frozen=True, slots=True)
class Span:
    """Everything that Clerk lists with `created_at` in [start, end) ms; spans of a walk leave no gap."""

    start: int
    end: int
    items: Sequence[Item]
    asked_at: int = END
    """When its walk began, ms: what came to be since then need not be listed. A window ends before that anyway."""


class _Listed(msgspec.Struct, gc=False):
    id: str
    updated_at: int
    created_at: int


class _Page(msgspec.Struct):
    data: list[_Listed]
    total_count: int


class _RawPage(msgspec.Struct):
    data: list[msgspec.Raw]


_read_array = msgspec.json.Decoder(list[_Listed])
_read_page = msgspec.json.Decoder(_Page)
_read_raw_array = msgspec.json.Decoder(list[msgspec.Raw])
_read_raw_page = msgspec.json.Decoder(_RawPage)


def items_of(answer: Answer, *, paged: bool) -> tuple[list[Item], int | None]:
    """An answer's objects, and its `total_count` where it has one. Raises `ClerkUnavailable` for what is no page."""
    try:
        if paged:
            page = _read_page.decode(answer.body)
            listed, total = page.data, page.total_count
        else:
            listed, total = _read_array.decode(answer.body), None
    except msgspec.DecodeError:
        raise ClerkUnavailable("Clerk's API answered something that is no page of objects") from None
    listing = _Listing(answer.body, paged=paged)
    asked_at = answer.asked_at
    return [Item(one.id, one.updated_at, one.created_at, asked_at, listing, n) for n, one in enumerate(listed)], total


_NOWHERE = _Listing(b"[]", paged=False)


async def walk_window(requester: Requester, entity: Entity, *, start: int, end: int) -> AsyncIterator[Span]:
    """Spans of all with `created_at` in [start, end) ms, of a list that takes these bounds (users).

    Raises `IncompleteWalk` at its end at the latest; what was yielded before is right all the same.
    """
    spans = _Spans(start=start, end=end)
    pages = _WindowPages(requester, entity, start=start, end=end)
    async for items in pages:
        for span in spans.add(items):
            yield span
    for span in spans.finish():
        yield span


class _WindowPages:
    """Pages of new rows, by cursor while that is obeyed, else by time."""

    def __init__(self, requester: Requester, entity: Entity, *, start: int, end: int) -> None:
        self._requester = requester
        self._path = entity.list_path or ""
        self._start = start
        self._end = end
        self._cursor_works = True
        self._newest: Item | None = None
        self._ties: set[str] = set()
        """Ids already seen with the newest `created_at`."""

    async def __aiter__(self) -> AsyncIterator[list[Item]]:
        short = False
        while True:
            fresh, full = await self._next()
            if full and not fresh:
                moment = self._start if self._newest is None else self._newest.created_at
                async for ties in self._past(moment):
                    yield self._took(ties)
                continue
            if not fresh:
                return
            if short:
                raise IncompleteWalk(f"rows of {self._path} came after a short page")
            short = not full
            yield self._took(fresh)

    def _took(self, fresh: list[Item]) -> list[Item]:
        newest = fresh[-1]
        if self._newest is None or newest.created_at != self._newest.created_at:
            self._ties = set()
        self._ties |= {item.id for item in fresh if item.created_at == newest.created_at}
        self._newest = newest
        return fresh

    async def _next(self) -> tuple[list[Item], bool]:
        """New rows, and whether their page was full. An end by cursor is believed when the time says so too."""
        if self._newest is None:
            return await self._by_time(self._start)
        if self._cursor_works:
            fresh, full = await self._by_cursor(self._newest)
            if fresh:
                return fresh, full
        return await self._by_time(self._newest.created_at)

    async def _by_cursor(self, newest: Item) -> tuple[list[Item], bool]:
        try:
            items = await self._ask([*self._window(self._start), ("starting_after", newest.id)])
        except ClerkRefused as refused:
            if refused.status not in (400, 404, 422):
                raise
            self._cursor_works = False  # its user is gone, or this server has no cursor
            return [], False
        listed = self._inside(items)
        if any(item.created_at < newest.created_at or item.id in self._ties for item in listed):
            self._cursor_works = False
            return [], False
        return listed, self._goes_on(items)

    async def _by_time(self, after: int) -> tuple[list[Item], bool]:
        items = await self._ask(self._window(after))
        fresh = [item for item in self._inside(items) if item.created_at >= after and item.id not in self._ties]
        return fresh, self._goes_on(items)

    def _goes_on(self, items: Sequence[Item]) -> bool:
        """Whether a page is full, and full of what may still concern this window."""
        return len(items) >= PAGE and items[-1].created_at < self._end

    async def _past(self, moment: int) -> AsyncIterator[list[Item]]:
        """Gets past a `created_at` that more rows share than a page holds: moment by moment, by offset.

        The next moment is read in the same way: a bound that includes its value would show this one's rows again.
        """
        for at in (moment, moment + 1):
            offset = 0
            listed: set[str] = set()
            while items := await self._ask(
                [("offset", str(offset)), ("created_at_after", str(max(at - 1, 0))), ("created_at_before", str(at + 1))]
            ):
                if listed.issuperset(item.id for item in items):
                    raise IncompleteWalk(f"{self._path} repeats a page")
                listed.update(item.id for item in items)
                offset += len(items)
                fresh = [item for item in self._inside(items) if item.created_at == at and item.id not in self._ties]
                if fresh:
                    yield fresh
        if self._newest is None or self._newest.created_at <= moment:
            # nothing stands at the next moment; go on behind it
            self._newest = Item("", 0, moment + 1, 0, _NOWHERE, 0)
            self._ties = set()
            self._cursor_works = False

    async def _ask(self, params: Sequence[tuple[str, str]]) -> list[Item]:
        answer = await self._requester.read(self._path, [("limit", str(PAGE)), ("order_by", "+created_at"), *params])
        items, _ = items_of(answer, paged=False)
        _in_order(items, path=self._path)
        asked = dict(params)
        least, most = int(asked["created_at_after"]), int(asked["created_at_before"])
        if items and not least <= items[0].created_at <= items[-1].created_at <= most:
            raise IncompleteWalk(f"{self._path} does not obey the bounds of created_at")
        return items

    def _window(self, after: int) -> list[tuple[str, str]]:
        return [("created_at_after", str(max(after - 1, 0))), ("created_at_before", str(self._end))]

    def _inside(self, items: Iterable[Item]) -> list[Item]:
        return [item for item in items if self._start <= item.created_at < self._end]


async def walk_offsets(requester: Requester, entity: Entity) -> AsyncIterator[Span]:
    """Spans of a list that knows offsets only (organizations, memberships). Raises `IncompleteWalk`."""
    path = entity.list_path or ""
    spans: _Spans | None = None
    seen_last: dict[str, None] = {}
    counted: int | None = None
    offset = seen = 0
    short = False
    while True:
        params = [("limit", str(PAGE)), ("offset", str(offset)), ("order_by", "+created_at")]
        answer = await requester.read(path, params)
        items, total = items_of(answer, paged=True)
        spans = spans or _Spans(start=0, end=END, asked_at=answer.asked_at)
        if counted is not None and total != counted:
            raise IncompleteWalk(f"{path} changed its total_count from {counted} to {total}")
        counted = total
        fresh = [item for item in items if item.id not in seen_last]
        if short and items:
            raise IncompleteWalk(f"rows of {path} came after a short page")
        if len(items) > OVERLAP and not fresh:
            raise IncompleteWalk(f"{path} repeats a page")
        if items and seen_last and not short and len(fresh) == len(items):
            raise IncompleteWalk(f"rows of {path} moved between two pages")
        _in_order(fresh, path=path)
        for span in spans.add(fresh):
            yield span
        seen += len(fresh)
        if not items:
            break
        short = len(items) < PAGE
        seen_last = dict.fromkeys(item.id for item in items)
        # a page that may be the last is followed by what must be an empty one
        offset += len(items) if short else len(items) - OVERLAP
    if seen != counted:
        raise IncompleteWalk(f"{path} listed {seen} rows and counted {counted}")
    for span in spans.finish():
        yield span


class _Spans:
    """Cuts pages into spans: rows that share the newest `created_at` wait for the next page, others may follow them."""

    def __init__(self, *, start: int, end: int, asked_at: int = END) -> None:
        self._start = start
        self._end = end
        self._asked_at = asked_at
        self._waiting: list[Item] = []

    def add(self, items: Sequence[Item]) -> list[Span]:
        if not items:
            return []
        everything = [*self._waiting, *items]
        if items[0].created_at < self._start:
            raise IncompleteWalk("rows came out of order")
        newest = everything[-1].created_at
        done = [item for item in everything if item.created_at < newest]
        self._waiting = [item for item in everything if item.created_at >= newest]
        if newest == self._start:
            return []
        span = Span(self._start, newest, done, self._asked_at)
        self._start = newest
        return [span]

    def finish(self) -> list[Span]:
        if self._start >= self._end:
            return []
        return [Span(self._start, self._end, self._waiting, self._asked_at)]


def _in_order(items: Sequence[Item], *, path: str) -> None:
    if any(later.created_at < earlier.created_at for earlier, later in pairwise(items)):
        raise IncompleteWalk(f"rows of {path} came out of order")
