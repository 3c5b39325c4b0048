"""Writes what a page of Clerk's listing changes: one transaction, one fence, one lock, whatever the page holds.

What Postgres refuses because of one object is found by halving: that object is kept with its reason, the rest of its
page and the run go on.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from nexus_auth.clerk.json_safety import NotJson
from nexus_auth.reconcile.answers import Item, Malformed, change_of, kept_text, named_parents, text_of
from nexus_auth.reconcile.comparison import Differences
from nexus_auth.reconcile.context import Context
from nexus_auth.store import comparison, doubts, repair, runs
from nexus_auth.store.comparison import State
from nexus_auth.store.doubts import NewDoubt
from nexus_auth.store.ingest import Change, describe, is_poison
from nexus_auth.store.runs import Finding

MOST_REFUSED = 20
"""Objects of one page that Postgres may refuse; with more, it is not the objects' fault."""

DONE: Mapping[str, str] = {"missing": "repaired", "stale": "repaired", "deep": "repaired", "unadopted": "adopted"}
"""What is said of an object that was put right, by problem."""

INCOMPLETE = "it does not name all of its parents"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Wrong:
    item: Item
    problem: str
    change: Change


@dataclass
class PageWriter:
    """Writes the pages of one run."""

    context: Context
    listed_missing: bool = True
    """Whether rows that were missing become findings; not those of a backfill."""
    refused: set[str] = field(default_factory=set)
    """Ids that were refused, now or in a former run: removed from there when they are applied."""

    async def write(self, page: Differences, *, states: Mapping[str, State]) -> None:
        """Repairs or reports everything that differs in a page. Raises `Fenced` and what the database raises."""
        context = self.context
        reported = [Finding(context.kind, object_id, "extra") for object_id in page.extra]
        queued: list[tuple[str, NewDoubt]] = []
        for item, problem in page.doubts:
            doubt, finding = self._doubt(item, problem, states)
            reported.append(finding)
            if doubt is not None:
                queued.append(("revive" if problem == "resurfaced" else "lower", doubt))
        if not context.fixes:
            reported += [Finding(context.kind, i.id, problem, "reported", i.updated_at) for i, problem in page.wrong]
            await self._apply([], reported, queued)
            return
        wrong: list[_Wrong] = []
        for item, problem in page.wrong:
            try:
                wrong.append(_Wrong(item, problem, change_of(item, context.entity)))
            except NotJson as error:
                await self.refuse([Malformed(item.id, f"it is no JSON: {error}", item.raw)])
        refused = len(self.refused)
        await self._apply(wrong, reported, queued, limit=refused + MOST_REFUSED)

    async def apply(self, items: Sequence[Item], *, problem: str, action: str) -> None:
        """Applies listed objects whose finding is known already: what was refuted, say."""
        changes = []
        for item in items:
            try:
                changes.append(_Wrong(item, problem, change_of(item, self.context.entity)))
            except NotJson as error:
                await self.refuse([Malformed(item.id, f"it is no JSON: {error}", item.raw)])
        await self._apply(changes, [], [], action=action, limit=len(self.refused) + MOST_REFUSED)

    async def refuse(self, objects: Sequence[Malformed]) -> None:
        """Keeps objects that cannot be applied, each with its reason."""
        context = self.context
        fresh = {one.key: one for one in objects}
        if not fresh:
            return
        context.run.count("refused", len(set(fresh) - self.refused))
        self.refused |= set(fresh)
        for one in fresh.values():
            logger.warning(
                "object refused",
                extra={"sync": context.run.sync, "run": context.run.id, "kind": context.kind, "id": one.key}
                | {"why": one.error},
            )
        if context.dry:
            return

        async def work(connection: Any) -> None:
            kept = [(one.key, one.error, kept_text(one.raw, context.entity)) for one in fresh.values()]
            await repair.keep_refused(connection, context.run, kept)
            await runs.note(
                connection, context.run, [Finding(context.kind, key, "refused", "refused") for key in fresh]
            )

        await runs.write(context.pool, context.run, work)

    async def differing(self, items: Sequence[Item]) -> set[str]:
        """Of objects with our `updated_at` the ids whose content differs, those that Postgres refuses among them."""
        texts = []
        unreadable = set()
        for item in items:
            try:
                texts.append((item.id, text_of(item, self.context.entity)))
            except NotJson:
                unreadable.add(item.id)
        return unreadable | await self._differing(texts)

    async def _differing(self, texts: Sequence[tuple[str, str]]) -> set[str]:
        try:
            async with self.context.pool.acquire() as connection:
                return await comparison.differing(connection, self.context.kind, texts)
        except (asyncpg.PostgresError, ValueError, OverflowError) as error:
            if not is_poison(error):
                raise
            if len(texts) == 1:
                return {texts[0][0]}
        middle = len(texts) // 2
        return await self._differing(texts[:middle]) | await self._differing(texts[middle:])

    def _doubt(self, item: Item, problem: str, states: Mapping[str, State]) -> tuple[NewDoubt | None, Finding]:
        """The question to ask, where one can be asked, and the finding."""
        context = self.context
        if not context.fixes:
            return None, Finding(context.kind, item.id, problem, "reported", item.updated_at)
        parents = named_parents(item, context.entity)
        if parents is None:  # nobody can be asked by name: the list's next page may say more
            return None, Finding(context.kind, item.id, problem, "refused", item.updated_at)
        seq = states[item.id].tombstone_seq if item.id in states else None
        return NewDoubt(item.id, parents, seq), Finding(context.kind, item.id, problem, "queued", item.updated_at)

    async def _apply(
        self,
        wrong: Sequence[_Wrong],
        reported: Sequence[Finding],
        queued: Sequence[tuple[str, NewDoubt]],
        *,
        action: str | None = None,
        limit: int = 0,
    ) -> None:
        context = self.context

        async def work(connection: Any) -> list[str]:
            outcomes: list[str] = []
            if wrong:
                outcomes = await repair.apply(connection, context.run, [each.change for each in wrong])
            for purpose in ("revive", "lower"):
                await doubts.queue(
                    connection,
                    context.kind,
                    [doubt for of, doubt in queued if of == purpose],
                    purpose="revive" if purpose == "revive" else "lower",
                    seconds=context.policy.verify_after,
                )
            await context.failpoint("sweep.repairing")
            findings = [
                finding
                for each, outcome in zip(wrong, outcomes, strict=True)
                if (finding := self._finding(each, outcome, action=action)) is not None
            ]
            await runs.note(connection, context.run, [*reported, *findings])
            applied = [each.item.id for each, out in zip(wrong, outcomes, strict=True) if out != "incomplete"]
            await repair.forget_refused(connection, context.kind, sorted(self.refused.intersection(applied)))
            return outcomes

        try:
            outcomes = await runs.write(context.pool, context.run, work)
        except (asyncpg.PostgresError, ValueError, OverflowError) as error:
            if not wrong or not is_poison(error) or len(self.refused) >= limit:
                raise
            if len(wrong) == 1:
                item = wrong[0].item
                await self.refuse([Malformed(item.id, f"the database refused it: {describe(error)}", item.raw)])
                await self._apply([], reported, queued)
                return
            middle = len(wrong) // 2
            await self._apply(wrong[:middle], reported, queued, action=action, limit=limit)
            await self._apply(wrong[middle:], [], [], action=action, limit=limit)
            return
        await context.failpoint("sweep.repaired")
        self._count(wrong, outcomes)
        incomplete = [each.item for each, outcome in zip(wrong, outcomes, strict=True) if outcome == "incomplete"]
        await self.refuse([Malformed(item.id, INCOMPLETE, item.raw) for item in incomplete])

    def _finding(self, wrong: _Wrong, outcome: str, *, action: str | None) -> Finding | None:
        item = wrong.item
        if action is None and wrong.problem == "missing" and not self.listed_missing:
            return None
        done = DONE.get(wrong.problem, "repaired") if outcome in ("created", "updated") else "unchanged"
        if wrong.problem == "unadopted" and outcome == "unchanged":
            done = "adopted"  # the row was right, its arbiter row is new
        return Finding(self.context.kind, item.id, wrong.problem, action or done, item.updated_at)

    def _count(self, wrong: Sequence[_Wrong], outcomes: Sequence[str]) -> None:
        changed = sum(outcome in ("created", "updated") for outcome in outcomes)
        adopted = sum(
            each.problem == "unadopted" and outcome in ("created", "updated", "unchanged")
            for each, outcome in zip(wrong, outcomes, strict=True)
        )
        self.context.run.count("repaired", changed)
        self.context.run.count("adopted", adopted)
