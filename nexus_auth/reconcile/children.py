"""What died with a parent comes back with it: the parent's list of children is read twice, as the parent is.

The first read of a parent that Clerk still knows also lists its children; the second revives those that both lists
hold, and applies what is missing or stale. So no revival leaves them incomplete, and none of them waits for more.
"""

from collections.abc import Sequence
from typing import Any

from nexus_auth.clerk.api import ClerkRefused, ClerkUnavailable
from nexus_auth.clerk.catalogue import Entity, Listing, Parent, children_of
from nexus_auth.clerk.json_safety import NotJson
from nexus_auth.reconcile.answers import PAGE, Item, change_of, named_parents, page_of
from nexus_auth.reconcile.context import Context
from nexus_auth.store import comparison, doubts, repair, runs
from nexus_auth.store.comparison import State
from nexus_auth.store.doubts import NewDoubt
from nexus_auth.store.runs import Finding


async def read_children(context: Context, parent_id: str, *, revived: bool) -> None:
    """Lists the children of one object of the run's kind; `revived`: it lives again, this is the second list.

    Kinds that the sync does not keep are left alone. Raises `ClerkUnavailable`, also where the list repeats
    itself.
    """
    for entity, parent in children_of(context.kind):
        if entity.kind in context.policy.everything:
            await _read(context, entity, parent, parent_id, revived=revived)


async def _read(context: Context, entity: Entity, parent: Parent, parent_id: str, *, revived: bool) -> None:
    listing = Listing(parent.children.replace("{id}", parent_id))
    offset = 0
    listed: set[str] = set()
    while True:
        params = [("limit", str(PAGE)), ("offset", str(offset))]
        try:
            page = page_of(await context.requester.read(listing.path, params), listing)
        except ClerkRefused as refused:
            if refused.status == 401:
                raise
            return  # the next sweep of the children lists them
        keys = {one.id for one in page.items} | {one.key for one in page.malformed}
        if not page.size:
            return
        if keys <= listed:
            raise ClerkUnavailable(f"{listing.path} repeats a page")
        listed |= keys
        offset += page.size
        async with context.pool.acquire() as connection:
            states = await comparison.states(connection, entity.kind, [item.id for item in page.items])
        dead = [item for item in page.items if item.id in states and states[item.id].dead]
        if revived:
            await _apply(context, entity, [item for item in page.items if item not in dead], states)
        await _bring_back(context, entity, dead, states, revived=revived)


async def _apply(context: Context, entity: Entity, items: Sequence[Item], states: dict[str, State]) -> None:
    """What no tombstone stands for is applied as any listed object is."""
    wrong = [item for item in items if item.id not in states or states[item.id].updated_at < item.updated_at]
    changes = []
    for item in wrong:
        try:
            changes.append(change_of(item, entity))
        except NotJson:
            continue  # the sweep of its own kind keeps it, with its reason
    if not changes:
        return

    async def work(connection: Any) -> list[str]:
        return await repair.apply(connection, context.run, changes)

    outcomes = await runs.write(context.pool, context.run, work)
    context.run.count("children", sum(outcome in ("created", "updated") for outcome in outcomes))


async def _bring_back(
    context: Context, entity: Entity, dead: Sequence[Item], states: dict[str, State], *, revived: bool
) -> None:
    """Tombstones among the children: revived where both lists hold them, else queued."""
    if not dead:
        return
    async with context.pool.acquire() as connection:
        queued = await doubts.queued(connection, entity.kind, [item.id for item in dead], purpose="revive")
    later: dict[int, list[NewDoubt]] = {0: [], 1: []}
    for item in dead:
        state = states[item.id]
        listed_before = queued.get(item.id) == (state.tombstone_seq, 1)
        if revived and listed_before and state.buried_by == "parent":
            await _revive(context, entity, item, state)
            continue
        parents = named_parents(item, entity)
        if parents is not None:
            # its parent's list is a read of it; one that was deleted for itself needs two of its own
            answers = 1 if state.buried_by == "parent" else 0
            later[answers].append(NewDoubt(item.id, parents, state.tombstone_seq))

    async def work(connection: Any) -> None:
        for answers, asked in later.items():
            seconds = context.policy.verify_after
            await doubts.queue(connection, entity.kind, asked, purpose="revive", seconds=seconds, answers=answers)

    await runs.write(context.pool, context.run, work)


async def _revive(context: Context, entity: Entity, item: Item, state: State) -> None:
    try:
        change = change_of(item, entity)
    except NotJson:
        return  # the sweep of its own kind keeps it, with its reason

    async def work(connection: Any) -> str:
        outcome = await repair.revive(connection, context.run, change, tombstone_seq=state.tombstone_seq)
        await doubts.forget(connection, entity.kind, [item.id])
        if outcome not in ("stale", "buried"):
            found = Finding(entity.kind, item.id, "resurfaced", "revived", item.updated_at)
            await runs.note(connection, context.run, [found])
            await runs.close_findings(connection, kind=entity.kind, ids=[item.id], action="revived")
        return outcome

    outcome = await runs.write(context.pool, context.run, work)
    context.run.count("children", int(outcome not in ("stale", "buried")))
