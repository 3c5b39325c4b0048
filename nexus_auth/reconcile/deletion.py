"""Deleting what Clerk has no more, and never by mistake.

An id that a complete walk did not list is asked for by name; only an answer that is right in every respect and does not
hold it says that it is gone. Then the guard weighs: more deletions than it allows in 24 hours wait for a human.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeVar

import msgspec

from nexus_auth.clerk.api import ClerkRefused
from nexus_auth.clerk.catalogue import ENTITIES
from nexus_auth.reconcile.requester import Requester
from nexus_auth.reconcile.walk import Item, items_of

T = TypeVar("T")

NAMED = 100
"""Ids that one request may name; Clerk's most."""

Owner = tuple[str, str]
"""Organization and user of a membership."""

GROUPS = {entity.kind: group for group, entity in ENTITIES.items()}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What Clerk says of ids that were named to it."""

    there: Mapping[str, Item]
    gone: Mapping[str, int]
    """By id: when the request that did not bring it began, ms."""
    unknown: frozenset[str]
    """Asked for, and not answered in a way that proves anything."""


async def verify(
    requester: Requester, kind: str, ids: Sequence[str], *, connection: Any, owners: Mapping[str, Owner] | None = None
) -> Verdict:
    """Asks Clerk for every id by name. Raises `ClerkUnavailable`; a refusal leaves its ids unknown."""
    there: dict[str, Item] = {}
    gone: dict[str, int] = {}
    unknown: set[str] = set()
    if kind == "organization_membership" and owners is None:
        owners = await _owners(connection, ids)
    for asked, named, path, paged in _questions(kind, ids, owners or {}):
        field = "user_id" if kind != "organization" else "organization_id"
        params = [("limit", str(NAMED)), *((field, name) for name in named)]
        try:
            answer = await requester.read(path, params)
        except ClerkRefused as refused:
            if refused.status == 401:
                raise
            unknown |= set(asked)
            continue
        items, _ = items_of(answer, paged=paged)
        if kind == "organization_membership":
            strange = any(owner_of(item)[1] not in named or f"/{owner_of(item)[0]}/" not in path for item in items)
        else:
            strange = any(item.id not in asked for item in items)
        if strange:
            unknown |= set(asked)
            continue
        listed = {item.id: item for item in items}
        for object_id in asked:
            if object_id in listed:
                there[object_id] = listed[object_id]
            else:
                gone[object_id] = answer.asked_at
    return Verdict(there, gone, frozenset(unknown))


def owner_of(item: Item) -> tuple[str | None, str | None]:
    """Organization and user of a listed membership."""
    listed = msgspec.json.decode(item.raw, type=_Owners)
    return (
        listed.organization.id if listed.organization else None,
        listed.public_user_data.user_id if listed.public_user_data else None,
    )


class _Id(msgspec.Struct):
    id: str | None = None


class _UserId(msgspec.Struct):
    user_id: str | None = None


class _Owners(msgspec.Struct):
    organization: _Id | None = None
    public_user_data: _UserId | None = None


def _questions(
    kind: str, ids: Sequence[str], owners: Mapping[str, Owner]
) -> Iterator[tuple[Sequence[str], Sequence[str], str, bool]]:
    """(ids in question, ids to name, path, whether the answer is paged) for each request."""
    if kind != "organization_membership":
        path = ENTITIES[GROUPS[kind]].list_path or ""
        for chunk in chunks(ids, NAMED):
            yield chunk, chunk, path, kind == "organization"
        return
    # there is no GET of a membership by its id: its organization is asked for its user
    known = sorted((owners[object_id], object_id) for object_id in ids if object_id in owners)
    for organization_id, of_organization in groupby(known, key=lambda pair: pair[0][0]):
        for part in chunks(list(of_organization), NAMED):
            users = list(dict.fromkeys(owner[1] for owner, _ in part))
            yield [object_id for _, object_id in part], users, f"/organizations/{organization_id}/memberships", True


async def _owners(connection: Any, ids: Sequence[str]) -> dict[str, Owner]:
    rows = await connection.fetch(
        "select id, organization_id, user_id from clerk.organization_memberships where id = any ($1)", list(ids)
    )
    return {row["id"]: (row["organization_id"], row["user_id"]) for row in rows}


def chunks(things: Sequence[T], size: int) -> Iterable[Sequence[T]]:
    """Pieces of at most `size`."""
    return (things[at : at + size] for at in range(0, len(things), size))
