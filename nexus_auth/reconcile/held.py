"""Asks Clerk about held deletions: one absent read confirms, two that find the object refuse.

Called by the webhook service where it has an API key, else at the start of every run, under `Report` too: a deletion
that Clerk sent is not a repair.
"""

import logging
from collections import Counter
from collections.abc import Mapping
from itertools import groupby

import asyncpg

from nexus_auth.clerk.api import ClerkUnavailable
from nexus_auth.clerk.catalogue import BY_KIND
from nexus_auth.reconcile.requester import Requester
from nexus_auth.reconcile.verification import NAMED, verify
from nexus_auth.store import held

logger = logging.getLogger(__name__)


async def verify_held(
    pool: "asyncpg.Pool[asyncpg.Record]", *, requester: Requester, spacing: float
) -> Mapping[str, int]:
    """Asks about everything that is due; answers how many objects are held still, confirmed and refused.

    `spacing`: seconds between two reads. Raises `ClerkUnavailable`, `ClerkRefused` and what the database raises.
    """
    states: Counter[str] = Counter()
    asked: set[tuple[str, str]] = set()
    while True:
        async with pool.acquire() as connection:
            await held.beat(connection)
            due = [one for one in await held.due(connection, limit=NAMED) if (one.kind, one.id) not in asked]
        if not due:
            return states
        asked |= {(one.kind, one.id) for one in due}
        for kind, of_kind in groupby(sorted(due, key=lambda one: (one.kind, one.id)), key=lambda one: one.kind):
            states += await _ask(pool, requester, kind, {one.id: one.parents for one in of_kind}, spacing=spacing)


async def _ask(
    pool: "asyncpg.Pool[asyncpg.Record]",
    requester: Requester,
    kind: str,
    objects: Mapping[str, tuple[str, ...]],
    *,
    spacing: float,
) -> Counter[str]:
    entity = BY_KIND[kind]
    # Without its parents a child cannot be asked for by name. It has no row then, and nothing to lose.
    askable = {i: parents for i, parents in objects.items() if len(parents) == len(entity.parents)}
    answers: dict[str, tuple[bool | None, int]] = dict.fromkeys(objects, (None, 0))
    try:
        verdict = await verify(requester, entity, askable)
    except ClerkUnavailable:
        # they wait, and others get their turn: what Clerk cannot answer about these must not keep all from being asked
        async with pool.acquire() as connection, connection.transaction():
            await held.answer(connection, kind, answers, spacing=spacing)
        raise
    answers |= {object_id: (True, item.asked_at) for object_id, item in verdict.there.items()}
    answers |= {object_id: (False, asked_at) for object_id, asked_at in verdict.gone.items()}
    async with pool.acquire() as connection, connection.transaction():
        states = await held.answer(connection, kind, answers, spacing=spacing)
    refused = sorted(object_id for object_id, state in states.items() if state == "refused")
    if refused:  # a leaked secret brings many at once: one line
        logger.error(
            "refused deletions: Clerk still has the objects; deletions under that secret are held from now on,"
            " see `nexus-auth held list --all`",
            extra={"kind": kind, "number": len(refused), "first": refused[0]},
        )
    return Counter(states.values())
