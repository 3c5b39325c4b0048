"""Reads that may contradict what we believe: bring a false tombstone back, lower a version that is too high, bury.

Only they can. One read may come from a replica that lags, so two must agree, the second as long after the first as the
first after what it doubts; and the row must still be as it was before the first question. What revives or lowers is
counted and alerted on: it means that something, somewhere, went wrong.
"""

from collections.abc import Sequence
from typing import Any

import asyncpg

from nexus_auth.clerk.json_safety import NotJson
from nexus_auth.reconcile.answers import Item, Malformed, change_of
from nexus_auth.reconcile.children import read_children
from nexus_auth.reconcile.context import Context
from nexus_auth.reconcile.deletion import bury_or_park, refute
from nexus_auth.reconcile.verification import Verdict, verify
from nexus_auth.reconcile.writer import PageWriter
from nexus_auth.store import doubts, repair, runs
from nexus_auth.store.doubts import Doubt
from nexus_auth.store.ingest import describe, is_poison
from nexus_auth.store.runs import Finding

PROBLEMS = {"revive": "resurfaced", "lower": "ahead", "bury": "extra"}


async def settle_doubts(context: Context, writer: PageWriter) -> str | None:
    """Makes every read of the run's kind that is due; answers a sentence where deletions wait for a human.

    Only under policy `Fix`.
    """
    async with context.pool.acquire() as connection:
        due = await doubts.due(connection, context.kind)
    if not due:
        return None
    verdict = await verify(context.requester, context.entity, {doubt.id: doubt.parents for doubt in due})
    await _settle_unknown(context, [doubt for doubt in due if doubt.id in verdict.unknown])
    await _settle_gone(context, [doubt for doubt in due if doubt.id in verdict.gone and doubt.purpose != "bury"])
    for doubt in due:
        if doubt.purpose != "bury" and doubt.id in verdict.there:
            await _there(context, writer, doubt, verdict.there[doubt.id])
    return await _settle_burials(context, writer, [doubt for doubt in due if doubt.purpose == "bury"], verdict)


async def _settle_burials(context: Context, writer: PageWriter, due: Sequence[Doubt], verdict: Verdict) -> str | None:
    there = {doubt.id: verdict.there[doubt.id] for doubt in due if doubt.id in verdict.there}
    if there:
        context.run.count("refuted", len(there))
        await refute(context, writer, Verdict(there, {}, frozenset()))
        await _forget(context, sorted(there), action="refuted")
    gone = [doubt for doubt in due if doubt.id in verdict.gone]
    first = [doubt for doubt in gone if not doubt.answers and doubt.id not in verdict.replaced]
    for doubt in first:
        await _answered(context, doubt, answer_at=0)
    context.run.count("awaiting", len(first))
    second = {doubt.id: verdict.gone[doubt.id] for doubt in gone if doubt not in first}
    return await bury_or_park(context, second)


async def _settle_gone(context: Context, due: Sequence[Doubt]) -> None:
    """A tombstone was right, or what was doubted is gone: the next walk says so."""
    await _forget(context, [doubt.id for doubt in due], action="settled")


async def _settle_unknown(context: Context, due: Sequence[Doubt]) -> None:
    """Nothing was proved: asked again later, else what is due now is due for ever; not at all after a day."""
    if not due:
        return

    async def work(connection: Any) -> None:
        later = [doubt.id for doubt in due if not doubt.old]
        await doubts.postpone(connection, context.kind, later, seconds=context.policy.verify_after)
        await doubts.forget(connection, context.kind, [doubt.id for doubt in due if doubt.old])

    await runs.write(context.pool, context.run, work)


async def _there(context: Context, writer: PageWriter, doubt: Doubt, item: Item) -> None:
    agrees = doubt.answers > 0 and (doubt.purpose == "revive" or doubt.answer_at == item.updated_at)
    if not agrees:
        await _answered(context, doubt, answer_at=item.updated_at)
        if doubt.purpose == "revive":
            await read_children(context, item.id, revived=False)
        return
    try:
        change = change_of(item, context.entity)
        outcome = await _apply(context, doubt, item, change)
    except (NotJson, asyncpg.PostgresError, ValueError, OverflowError) as error:
        if not isinstance(error, NotJson) and not is_poison(error):
            raise
        said = f"the database refused it: {describe(error)}" if not isinstance(error, NotJson) else f"no JSON: {error}"
        await writer.refuse([Malformed(item.id, said, item.raw)])
        await _forget(context, [doubt.id], action="refused")
        return
    if doubt.purpose == "revive" and outcome != "buried":
        # before it is forgotten: a listing that fails is made again by the next run
        await read_children(context, item.id, revived=True)
    done = "revived" if doubt.purpose == "revive" else "lowered"
    await _forget(context, [doubt.id], action=done if outcome not in ("stale", "buried") else "settled")


async def _apply(context: Context, doubt: Doubt, item: Item, change: Any) -> str:
    done = "revived" if doubt.purpose == "revive" else "lowered"

    async def work(connection: Any) -> str:
        if doubt.purpose == "revive":
            outcome = await repair.revive(connection, context.run, change, tombstone_seq=doubt.tombstone_seq)
        else:
            outcome = await repair.lower_version(connection, context.run, change)
        if outcome not in ("stale", "buried"):
            found = Finding(context.kind, item.id, PROBLEMS[doubt.purpose], done, item.updated_at)
            await runs.note(connection, context.run, [found])
        return outcome

    outcome = await runs.write(context.pool, context.run, work)
    context.run.count(done, int(outcome not in ("stale", "buried")))
    return outcome


async def _answered(context: Context, doubt: Doubt, *, answer_at: int) -> None:
    async def work(connection: Any) -> None:
        await doubts.answered(connection, doubt, answer_at=answer_at, seconds=context.policy.verify_after)

    await runs.write(context.pool, context.run, work)


async def _forget(context: Context, ids: Sequence[str], *, action: str) -> None:
    """These are settled, and so are the findings that waited for it."""
    if not ids:
        return

    async def work(connection: Any) -> None:
        await doubts.forget(connection, context.kind, ids)
        await runs.close_findings(connection, kind=context.kind, ids=ids, action=action)

    await runs.write(context.pool, context.run, work)
