"""Reads that name the objects they ask for: the only ones whose silence says that an object is gone.

An answer that is not 200, or that holds something which was not asked for, proves nothing. Only ids of Clerk's own
form are named: Clerk reads `-user_a` as "without user_a", and a slash in a parent's id would make another path.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

from nexus_auth.clerk.api import ClerkRefused
from nexus_auth.clerk.catalogue import BY_KIND, Entity, NamedRead
from nexus_auth.reconcile.answers import Item, Page, page_of, parents_in
from nexus_auth.reconcile.requester import Requester

T = TypeVar("T")

NAMED = 100
"""Ids that one request may name; Clerk's most."""

_NAMEABLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
"""Clerk's ids have a prefix, an underscore and about 27 letters and digits. 100 of 64 fit into an address."""

Parents = tuple[str, ...]
"""Ids, in the order of the kind's declaration."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What Clerk says of ids that were named to it."""

    there: Mapping[str, Item]
    gone: Mapping[str, int]
    """By id: when the request that did not bring it began, ms."""
    unknown: frozenset[str]
    """Asked for, and not answered in a way that proves anything."""
    replaced: frozenset[str] = frozenset()
    """Of those that are gone: Clerk has another object in the place that only one can have."""


@dataclass(frozen=True, slots=True)
class _Question:
    asked: Sequence[str]
    named: Sequence[str]
    path: str
    below: str | None = None
    """The parent below which it asks."""


async def verify(requester: Requester, entity: Entity, asked: Mapping[str, Parents]) -> Verdict:
    """Asks Clerk for every id by name; `asked` has the parents of those that are asked for through them.

    Ids that Clerk cannot have made, or whose parents are such, are not asked for: they stay unknown. Raises
    `ClerkUnavailable`; a refusal leaves its ids unknown, but one of the key raises `ClerkRefused`.
    """
    read = entity.named
    if read is None:
        return Verdict({}, {}, frozenset(asked))
    there: dict[str, Item] = {}
    gone: dict[str, int] = {}
    replaced: set[str] = set()
    proved: set[str] = set()
    nameable = {i: parents for i, parents in asked.items() if all(map(_NAMEABLE.fullmatch, (i, *parents)))}
    for question in _questions(entity, read, nameable):
        params = [("limit", str(NAMED)), *((read.parameter, name) for name in question.named)]
        try:
            answer = await requester.read(question.path, params)
        except ClerkRefused as refused:
            if refused.status == 401:
                raise
            asked_at = await _parent_gone(requester, entity, question) if refused.status == 404 else None
            if asked_at is not None:
                gone |= dict.fromkeys(question.asked, asked_at)
                proved |= set(question.asked)
            continue
        page = page_of(answer, read)
        if _is_strange(page, question, entity=entity, read=read):
            continue
        unreadable = {one.id for one in page.malformed}
        listed = {item.id: item for item in page.items}
        places = {parents_in(item, entity) for item in page.items} if entity.one_per_parents else set()
        for object_id in question.asked:
            if object_id in listed:
                there[object_id] = listed[object_id]
            elif object_id in unreadable:
                continue
            else:
                gone[object_id] = answer.asked_at
                if entity.one_per_parents and asked[object_id] in places:
                    replaced.add(object_id)
            proved.add(object_id)
    return Verdict(there, gone, frozenset(set(asked) - proved), frozenset(replaced))


async def _parent_gone(requester: Requester, entity: Entity, question: _Question) -> int | None:
    """When a read by name began, ms, that did not find the parent below which was asked: its children are gone too."""
    if question.below is None or entity.named is None:
        return None
    below, _ = _roles(entity, entity.named)
    verdict = await verify(requester, BY_KIND[entity.parents[below].kind], {question.below: ()})
    return verdict.gone.get(question.below)


def _is_strange(page: Page, question: _Question, *, entity: Entity, read: NamedRead) -> bool:
    """Whether an answer holds what nobody asked for: then the server did not understand the question."""
    if any(one.id is None for one in page.malformed):
        return True
    if read.names is None:
        asked = set(question.asked)
        return any(one not in asked for one in (*(i.id for i in page.items), *(m.id for m in page.malformed)))
    below, named = _roles(entity, read)
    for item in page.items:
        parents = parents_in(item, entity)
        if parents[below] != question.below or parents[named] not in question.named:
            return True
    asked = set(question.asked)
    return any(one.id not in asked for one in page.malformed)


def _questions(entity: Entity, read: NamedRead, asked: Mapping[str, Parents]) -> Iterator[_Question]:
    if read.names is None:
        for chunk in chunks(list(asked), NAMED):
            yield _Question(chunk, chunk, read.path)
        return
    below, named = _roles(entity, read)
    known = sorted((parents, object_id) for object_id, parents in asked.items() if len(parents) == len(entity.parents))
    known.sort(key=lambda pair: pair[0][below])
    for parent_id, of_parent in groupby(known, key=lambda pair: pair[0][below]):
        path = read.path.replace("{" + entity.parents[below].kind + "}", parent_id)
        for part in chunks(list(of_parent), NAMED):
            names = list(dict.fromkeys(parents[named] for parents, _ in part))
            yield _Question([object_id for _, object_id in part], names, path, below=parent_id)


def _roles(entity: Entity, read: NamedRead) -> tuple[int, int]:
    """Which parent stands in the path, and which one is named. Raises StopIteration where the declaration lacks one."""
    kinds = [parent.kind for parent in entity.parents]
    below = next(place for place, kind in enumerate(kinds) if "{" + kind + "}" in read.path)
    return below, next(place for place, kind in enumerate(kinds) if kind == read.names)


def chunks(things: Sequence[T], size: int) -> Iterable[Sequence[T]]:
    """Pieces of at most `size`."""
    return (things[at : at + size] for at in range(0, len(things), size))
