"""Walks over everything that Clerk lists of one kind, in order of `created_at`, and knows whether it saw all of it.

What is undocumented is not relied upon. Bounds of `created_at` may include their value or not: a margin of 1 ms on each
side is asked for and cut off here. `starting_after` may be ignored, or its user be gone: a page that brings nothing new
is asked for by its time instead. A short page does not end a walk, an empty one does; rows after a short page mean that
the listing cannot be trusted this time. A total that moves while a list is walked is normal: what the walk did not list
is a candidate, and reading it by name decides.

Objects of a wrong shape are no part of a span: each is handed to `malformed`, and counts when a page is full or empty.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from nexus_auth.clerk.api import ClerkRefused
from nexus_auth.clerk.catalogue import Entity, Listing
from nexus_auth.reconcile.answers import END, NOWHERE, PAGE, Item, Malformed, Page, page_of
from nexus_auth.reconcile.requester import Requester

OVERLAP = 10
"""Rows that two pages by offset share: a deletion meanwhile moves rows up, and more than these would be missed."""

Report = Callable[[Malformed], None]
"""Takes an object of a wrong shape."""


class IncompleteWalk(Exception):
    """Not everything was seen, or it moved while it was looked at: what is absent proves nothing."""


@dataclass(frozen=True, slots=True)
class Span:
    """Everything that Clerk lists with `created_at` in [start, end) ms; spans of a walk leave no gap."""

    start: int
    end: int
    items: Sequence[Item]
    asked_at: int = END
    """When its walk began, ms: what came to be since then need not be listed. A window ends before that anyway."""


def ignore(_malformed: Malformed) -> None:
    """For walks that need no objects of a wrong shape."""


def listing_of(entity: Entity) -> Listing:
    """How a kind is listed. Raises ValueError for one that the API does not list."""
    if entity.listing is None:
        raise ValueError(f"Clerk's API lists no {entity.kind}")
    return entity.listing


async def walk_window(
    requester: Requester, entity: Entity, *, start: int, end: int, malformed: Report = ignore
) -> AsyncIterator[Span]:
    """Spans of all with `created_at` in [start, end) ms, of a list that takes these bounds (users).

    Raises `IncompleteWalk` at its end at the latest; what was yielded before is right all the same.
    """
    spans = _Spans(start=start, end=end)
    pages = _WindowPages(requester, listing_of(entity), start=start, end=end, malformed=malformed)
    async for items in pages:
        for span in spans.add(items):
            yield span
    for span in spans.finish():
        yield span


class _WindowPages:
    """Pages of new rows, by cursor while that is obeyed, else by time."""

    def __init__(self, requester: Requester, listing: Listing, *, start: int, end: int, malformed: Report) -> None:
        self._requester = requester
        self._listing = listing
        self._path = listing.path
        self._malformed = malformed
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
            page = await self._ask([*self._window(self._start), ("starting_after", newest.id)])
        except ClerkRefused as refused:
            if refused.status not in (400, 404, 422):
                raise
            self._cursor_works = False  # its user is gone, or this server has no cursor
            return [], False
        listed = self._inside(page.items)
        if any(item.created_at < newest.created_at or item.id in self._ties for item in listed):
            self._cursor_works = False
            return [], False
        return listed, self._goes_on(page)

    async def _by_time(self, after: int) -> tuple[list[Item], bool]:
        page = await self._ask(self._window(after))
        fresh = [item for item in self._inside(page.items) if item.created_at >= after and item.id not in self._ties]
        return fresh, self._goes_on(page)

    def _goes_on(self, page: Page) -> bool:
        """Whether a page is full, and full of what may still concern this window."""
        return page.size >= PAGE and page.items[-1].created_at < self._end

    async def _past(self, moment: int) -> AsyncIterator[list[Item]]:
        """Gets past a `created_at` that more rows share than a page holds: moment by moment, by offset.

        The next moment is read in the same way: a bound that includes its value would show this one's rows again.
        """
        for at in (moment, moment + 1):
            offset = 0
            listed: set[str] = set()
            bounds = [("created_at_after", str(max(at - 1, 0))), ("created_at_before", str(at + 1))]
            while (page := await self._ask([("offset", str(offset)), *bounds])).size:
                keys = {one.id for one in page.items} | {one.key for one in page.malformed}
                if listed >= keys:
                    raise IncompleteWalk(f"{self._path} repeats a page")
                listed |= keys
                offset += page.size
                inside = self._inside(page.items)
                fresh = [item for item in inside if item.created_at == at and item.id not in self._ties]
                if fresh:
                    yield fresh
        if self._newest is None or self._newest.created_at <= moment:
            # nothing stands at the next moment; go on behind it
            self._newest = Item("", 0, moment + 1, 0, NOWHERE, 0)
            self._ties = set()
            self._cursor_works = False

    async def _ask(self, params: Sequence[tuple[str, str]]) -> Page:
        answer = await self._requester.read(self._path, [("limit", str(PAGE)), ("order_by", "+created_at"), *params])
        page = page_of(answer, self._listing)
        for one in page.malformed:
            self._malformed(one)
        items = page.items
        _in_order(items, path=self._path)
        asked = dict(params)
        least, most = int(asked["created_at_after"]), int(asked["created_at_before"])
        if items and not least <= items[0].created_at <= items[-1].created_at <= most:
            raise IncompleteWalk(f"{self._path} does not obey the bounds of created_at")
        return page

    def _window(self, after: int) -> list[tuple[str, str]]:
        return [("created_at_after", str(max(after - 1, 0))), ("created_at_before", str(self._end))]

    def _inside(self, items: Iterable[Item]) -> list[Item]:
        return [item for item in items if self._start <= item.created_at < self._end]


async def walk_offsets(requester: Requester, entity: Entity, *, malformed: Report = ignore) -> AsyncIterator[Span]:
    """Spans of a list that knows offsets only (organizations, memberships). Raises `IncompleteWalk`."""
    listing = listing_of(entity)
    path = listing.path
    spans: _Spans | None = None
    seen_last: set[str] = set()
    least: int | None = None
    offset = seen = 0
    short = ended = False
    while True:
        params = [("limit", str(PAGE)), ("offset", str(offset)), ("order_by", "+created_at")]
        answer = await requester.read(path, params)
        page = page_of(answer, listing)
        spans = spans or _Spans(start=0, end=END, asked_at=answer.asked_at)
        least = page.total if least is None else min(least, page.total)
        if not page.size:
            # fewer than Clerk ever counted meanwhile: an end that comes early is asked for once more
            if seen >= least or ended:
                break
            ended = True
            continue
        if short or ended:
            raise IncompleteWalk(f"rows of {path} came after {'a short' if short else 'an empty'} page")
        fresh = [item for item in page.items if item.id not in seen_last]
        if len(page.items) > OVERLAP and not fresh:
            raise IncompleteWalk(f"{path} repeats a page")
        if page.items and seen_last and len(fresh) == len(page.items):
            raise IncompleteWalk(f"rows of {path} moved between two pages")
        _in_order(fresh, path=path)
        for one in page.malformed:
            malformed(one)
        for span in spans.add(fresh):
            yield span
        seen += len(fresh) + len(page.malformed)
        short = page.size < PAGE
        seen_last = {item.id for item in page.items}
        # a page that may be the last is followed by what must be an empty one
        offset += page.size if short else page.size - OVERLAP
    for span in spans.finish():
        yield span


async def walk_updated(
    requester: Requester, entity: Entity, *, down_to: int, malformed: Report = ignore
) -> AsyncIterator[list[Item]]:
    """Pages of a list by `updated_at`, the newest first, until one is older than `down_to` ms.

    Raises `IncompleteWalk` where pages repeat, are out of order, or moved by more than two of them share.
    """
    listing = listing_of(entity)
    offset = size = 0
    before: set[str] = set()
    while True:
        params = [("limit", str(PAGE)), ("offset", str(offset)), ("order_by", "-updated_at")]
        page = page_of(await requester.read(listing.path, params), listing)
        items = page.items
        for one in page.malformed:
            malformed(one)
        if any(later.updated_at > earlier.updated_at for earlier, later in pairwise(items)):
            raise IncompleteWalk(f"rows of {listing.path} came out of order")
        ids = {item.id for item in items}
        if size >= PAGE and items and (not ids & before or (len(items) > OVERLAP and ids <= before)):
            raise IncompleteWalk(f"rows of {listing.path} moved between two pages")
        if 0 < size < PAGE and ids & before:
            raise IncompleteWalk(f"{listing.path} repeats a page")
        before, size = ids, page.size
        wanted = [item for item in items if item.updated_at >= down_to]
        if wanted:
            yield wanted
        if len(wanted) < len(items) or not page.size:
            return
        offset += page.size - (OVERLAP if page.size >= PAGE else 0)


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
