"""Deleting what Clerk has no more, and never by mistake.

An id that a complete walk did not list is asked for by name, twice, some time apart. The first read that does not find
it queues it; after the second the guard weighs everything that is due together, and only then it is buried. More than
the guard allows waits for a human, who approves exactly these ids; each is asked for once more then.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from nexus_auth.reconcile.answers import PAGE
from nexus_auth.reconcile.context import Context
from nexus_auth.reconcile.verification import Parents, Verdict, chunks, verify
from nexus_auth.reconcile.writer import PageWriter
from nexus_auth.store import comparison, doubts, repair, runs
from nexus_auth.store.doubts import NewDoubt
from nexus_auth.store.repair import OverGuard, Weight
from nexus_auth.store.runs import Finding


async def read_extras(context: Context, writer: PageWriter, *, dry_extras: Sequence[str]) -> str | None:
    """Asks by name for what the walk did not list; answers a sentence where deletions wait for a human, or would.

    `dry_extras`: what the walk of a dry run did not list; any other run kept that as findings.
    """
    run = context.run
    async with context.pool.acquire() as connection:
        ids, waiting = (list(dry_extras), 0) if context.dry else await runs.extras(connection, run)
        asked = await comparison.parents_of(connection, context.kind, ids)
    run.count("awaiting", waiting)
    if not asked:
        return None
    verdict = await verify(context.requester, context.entity, asked)
    run.count("gone", len(verdict.gone))
    run.count("refuted", len(verdict.there))
    if context.dry:
        return _over(await _weights(context, sorted(verdict.gone)))
    await refute(context, writer, verdict)
    if not context.fixes:
        return None
    await _await_second_read(context, [i for i in sorted(verdict.gone) if i not in verdict.replaced], asked)
    return await bury_or_park(context, {i: at for i, at in verdict.gone.items() if i in verdict.replaced})


async def refute(context: Context, writer: PageWriter, verdict: Verdict) -> None:
    """What was found by name after all is applied, and its finding says so."""
    if context.fixes:
        for chunk in chunks(list(verdict.there.values()), PAGE):
            await writer.apply(chunk, problem="extra", action="refuted")
    ids = sorted(verdict.there)
    if not ids:
        return

    async def work(connection: Any) -> None:
        await runs.note(connection, context.run, [Finding(context.kind, i, "extra", "refuted") for i in ids])
        await runs.close_findings(connection, kind=context.kind, ids=ids, action="refuted")

    await runs.write(context.pool, context.run, work)


async def bury_or_park(context: Context, gone: Mapping[str, int]) -> str | None:
    """Tombstones what two reads did not find, if the guard allows all of it; else parks it and answers a sentence.

    `gone`: by id, when the last read began, ms.
    """
    if not gone:
        return None
    async with context.pool.acquire() as connection:
        held = await comparison.parents_of(connection, context.kind, sorted(gone))
    left = {object_id: at for object_id, at in gone.items() if object_id in held}
    await _settle(context, [object_id for object_id in gone if object_id not in held])
    sentence = _over(await _weights(context, sorted(left)))
    while left and sentence is None:
        chunk = {object_id: left[object_id] for object_id in sorted(left)[:PAGE]}
        try:
            await _bury(context, chunk)
        except OverGuard:  # somebody else's deletions came in between
            sentence = _over(await _weights(context, sorted(left))) or "the deletion guard allows no more deletions"
        else:
            left = {object_id: at for object_id, at in left.items() if object_id not in chunk}
    if left:
        await _park(context, sorted(left))
    return sentence


async def do_approved(context: Context, writer: PageWriter) -> None:
    """Buries what a human approved: exactly these ids, each asked for once more."""
    async with context.pool.acquire() as connection:
        approval = await runs.approved(connection, sync=context.run.sync, kind=context.kind)
        if approval is None:
            return
        parked_run, pairs = approval
        # what an event has deleted meanwhile is done
        asked = await comparison.parents_of(connection, context.kind, [object_id for _, object_id in pairs])
    verdict = await verify(context.requester, context.entity, asked)
    for chunk in chunks(sorted(verdict.gone), PAGE):
        await _bury(context, {object_id: verdict.gone[object_id] for object_id in chunk}, approved_run=parked_run)
    await refute(context, writer, verdict)
    message = f"approved, done by run {context.run.id}"
    if verdict.unknown:
        message += f"; {len(verdict.unknown)} could not be read by name and stay: the next full sweep asks again"

    async def work(connection: Any) -> None:
        await runs.approval_done(connection, parked_run, message=message)

    await runs.write(context.pool, context.run, work)


async def _await_second_read(context: Context, ids: Sequence[str], asked: Mapping[str, Parents]) -> None:
    """Queues all of them at once, so that the guard weighs them together."""
    if not ids:
        return

    async def work(connection: Any) -> None:
        await doubts.queue(
            connection,
            context.kind,
            [NewDoubt(object_id, asked[object_id]) for object_id in ids],
            purpose="bury",
            seconds=context.policy.verify_after,
            answers=1,
        )
        found = [Finding(context.kind, object_id, "extra", "awaiting second read") for object_id in ids]
        await runs.note(connection, context.run, found)

    await runs.write(context.pool, context.run, work)
    context.run.count("awaiting", len(ids))


async def _bury(context: Context, gone: Mapping[str, int], *, approved_run: int | None = None) -> None:
    async def work(connection: Any) -> dict[str, str]:
        outcomes = await repair.bury(connection, context.run, gone, approved_run=approved_run)
        await context.failpoint("sweep.burying")
        found = [Finding(context.kind, object_id, "extra", "tombstoned") for object_id in outcomes]
        await runs.note(connection, context.run, found)
        await runs.close_findings(connection, kind=context.kind, ids=list(outcomes), action="tombstoned")
        await doubts.forget(connection, context.kind, list(outcomes))
        return outcomes

    outcomes = await runs.write(context.pool, context.run, work)
    context.run.count("tombstoned", sum(outcome == "deleted" for outcome in outcomes.values()))


async def _park(context: Context, ids: Sequence[str]) -> None:
    async def work(connection: Any) -> int:
        waits_for = await runs.park(connection, context.run, ids)
        await runs.note(connection, context.run, [Finding(context.kind, i, "extra", "parked") for i in ids])
        await runs.close_findings(connection, kind=context.kind, ids=ids, action="parked")
        await doubts.forget(connection, context.kind, ids)
        return waits_for

    context.run.waits_for = await runs.write(context.pool, context.run, work, changes_run=True)


async def _settle(context: Context, ids: Sequence[str]) -> None:
    """What was to be buried is gone already: an event was faster."""
    if not ids:
        return

    async def work(connection: Any) -> None:
        await doubts.forget(connection, context.kind, ids)
        await runs.close_findings(connection, kind=context.kind, ids=ids, action="settled")

    await runs.write(context.pool, context.run, work)


async def _weights(context: Context, ids: Sequence[str]) -> list[Weight]:
    if not ids:
        return []
    async with context.pool.acquire() as connection:
        weights = await repair.weigh(connection, context.kind, ids)
    return sorted(weights, key=lambda weight: weight.kind != context.kind)  # the run's own kind first


def _over(weights: Sequence[Weight]) -> str | None:
    """What a human should know where the guard does not allow these deletions."""
    for weight in weights:
        if not weight.fits:
            were = "was" if weight.deleted == 1 else "were"
            return (
                f"{weight.more} of {weight.live} {weight.kind} rows would be deleted, {weight.deleted} {were} in the"
                f" last 24 h: more than the guard allows ({weight.allowed})"
            )
    return None
