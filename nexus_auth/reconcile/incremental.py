"""The cheap run between sweeps: objects whose `updated_at` moved since the last look, where a list can be ordered so.

The watermark is the highest `updated_at` seen from Clerk, by Clerk's clock, and moves only when a walk completed.
"""

from collections.abc import Sequence
from typing import Any

from nexus_auth.reconcile.answers import Item, Malformed, named_parents
from nexus_auth.reconcile.comparison import Differences
from nexus_auth.reconcile.context import Context
from nexus_auth.reconcile.walk import walk_updated
from nexus_auth.reconcile.writer import PageWriter
from nexus_auth.store import comparison, doubts, repair, runs
from nexus_auth.store.comparison import State
from nexus_auth.store.doubts import NewDoubt


async def sweep_changed(context: Context, writer: PageWriter) -> None:
    """Repairs what changed after the watermark minus the policy's overlap.

    Without a watermark there is nothing to go down to: the first full sweep sets it. Raises `IncompleteWalk`; the
    watermark stays where it was.
    """
    run = context.run
    async with context.pool.acquire() as connection:
        mark = await runs.watermark(connection, sync=run.sync, kind=run.kind)
        writer.refused = await repair.refused_ids(connection, run.kind)
    if mark is None:
        return
    highest = mark
    malformed: list[Malformed] = []
    down_to = max(0, mark - int(context.policy.overlap * 1000))
    async for items in walk_updated(context.requester, context.entity, down_to=down_to, malformed=malformed.append):
        highest = max(highest, *(min(item.updated_at, item.asked_at) for item in items))
        run.count("seen", len(items))
        await _compare(context, writer, items)
    await writer.refuse(malformed)

    async def work(connection: Any) -> None:
        await runs.move_watermark(connection, run, highest)

    await runs.write(context.pool, run, work)


async def _compare(context: Context, writer: PageWriter, items: Sequence[Item]) -> None:
    async with context.pool.acquire() as connection:
        states = await comparison.states(connection, context.kind, [item.id for item in items])
        unknown = [item.id for item in items if item.id not in states]
        unadopted = await comparison.unadopted(connection, context.kind, unknown)
    found = Differences()
    dead = []
    for item in items:
        state = states.get(item.id)
        if state is None:
            (found.unadopted if item.id in unadopted else found.missing).append(item)
        elif state.dead:
            dead.append(item)
        elif state.updated_at < item.updated_at:
            found.stale.append(item)
    for problem, number in found.numbers().items():
        context.run.count(problem, number)
    if found:
        await writer.write(found, states=states)
    if dead and context.fixes:
        await _queue(context, dead, states)


async def _queue(context: Context, dead: Sequence[Item], states: dict[str, State]) -> None:
    """A list may show for a while what was just deleted: no finding, only a question."""
    asked = [
        NewDoubt(item.id, parents, states[item.id].tombstone_seq)
        for item in dead
        if (parents := named_parents(item, context.entity)) is not None
    ]

    async def work(connection: Any) -> None:
        await doubts.queue(connection, context.kind, asked, purpose="revive", seconds=context.policy.verify_after)

    await runs.write(context.pool, context.run, work)
