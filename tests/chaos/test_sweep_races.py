"""A sweep's page beside a webhook's batch, stopped at every pair of steps: no deadlock, one end in every order."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from devtools.postgres import Database
from nexus_auth.clerk.api import Answer
from nexus_auth.clerk.catalogue import BY_KIND
from nexus_auth.reconcile.answers import Item, page_of
from nexus_auth.reconcile.comparison import Differences
from nexus_auth.reconcile.context import Context
from nexus_auth.reconcile.policy import SyncPolicy
from nexus_auth.reconcile.writer import PageWriter
from nexus_auth.store import repair, runs
from nexus_auth.store.pool import open_pool
from tests.chaos.stops import Stops, Writer
from tests.chaos.test_races import (
    MOST,
    PARENTS,
    Arena,
    Events,
    deletion,
    membership_event,
    run_once,
    user_event,
)
from tests.chaos.writers import deliveries, group_commit
from tests.events import T0
from tests.model import connect_reader, forget_everything

SWEEPS = """
create trigger race_noted after insert on clerk_private.findings for each row execute function race.stop_trigger(4);
alter function clerk_private.fence(bigint, bigint) set lock_timeout = 0;
alter function clerk_private.repair(bigint, bigint, clerk_private.change[]) set lock_timeout = 0;
alter function clerk_private.bury_verified(bigint, bigint, text, text[], bigint[], bigint) set lock_timeout = 0;
"""

Work = Callable[[Context], Awaitable[object]]


@dataclass(frozen=True)
class SweepScenario:
    """What is there before, what a webhook brings in one transaction, and what a run of a kind writes in another."""

    name: str
    before: Events
    one: Events
    kind: str
    two: Work
    points: tuple[str, ...] = ("locked", "checked", "written")


def items(kind: str, events: Events, *, asked_at: int) -> list[Item]:
    """The objects of these events, as a list of Clerk's has them."""
    objects = [json.loads(one.body)["data"] for one in events]
    listing = BY_KIND[kind].listing
    assert listing is not None
    body: Any = {"data": objects, "total_count": len(objects)} if listing.paged else objects
    return page_of(Answer(json.dumps(body).encode(), asked_at), listing).items


def writes(kind: str, problem: str, *events: Any, asked_at: int = T0 + 3) -> Work:
    """A page of which these differ."""

    async def work(context: Context) -> None:
        page = Differences()
        getattr(page, problem).extend(items(kind, events, asked_at=asked_at))
        await PageWriter(context).write(page, states={})

    return work


def buries(*ids: str) -> Work:
    """Ids that two reads did not find."""

    async def work(context: Context) -> None:
        async def bury(connection: Any) -> object:
            outcomes = await repair.bury(connection, context.run, dict.fromkeys(ids, T0 + 3))
            await runs.note(
                connection, context.run, [runs.Finding(context.kind, i, "extra", "tombstoned") for i in ids]
            )
            return outcomes

        await runs.write(context.pool, context.run, bury)

    return work


MEMBER = "organization_membership"
SCENARIOS = [
    SweepScenario(
        "a membership is missing / its user's deletion",
        PARENTS,
        (deletion("user", "user_1"),),
        MEMBER,
        writes(MEMBER, "missing", membership_event("created")),
    ),
    SweepScenario(
        "a membership is stale / its organization's deletion",
        (*PARENTS, membership_event("created")),
        (deletion("organization", "org_1"),),
        MEMBER,
        writes(MEMBER, "stale", membership_event("updated", at=1)),
    ),
    SweepScenario(
        "a user is missing / its deletion",
        (),
        (deletion("user", "user_1"),),
        "user",
        writes("user", "missing", user_event("created")),
    ),
    SweepScenario(
        "a user is stale / a later update",
        PARENTS,
        (user_event("updated", at=9),),
        "user",
        writes("user", "stale", user_event("updated", at=2)),
    ),
    SweepScenario(
        "a user is stale / an earlier update",
        PARENTS,
        (user_event("updated", at=1),),
        "user",
        writes("user", "stale", user_event("updated", at=2)),
    ),
    SweepScenario(
        "two users are stale / the same two in the other order",
        (user_event("created", 1), user_event("created", 2)),
        (user_event("updated", 2, at=1), user_event("updated", 1, at=1)),
        "user",
        writes("user", "stale", user_event("updated", 1, at=2), user_event("updated", 2, at=2)),
    ),
    SweepScenario(
        "a user is buried / a membership of it arrives",
        PARENTS,
        (membership_event("created"),),
        "user",
        buries("user_1"),
    ),
    SweepScenario(
        "a user is buried / it is updated",
        PARENTS,
        (user_event("updated", at=1),),
        "user",
        buries("user_1"),
    ),
    SweepScenario(
        "an organization is buried / its membership is deleted",
        (*PARENTS, membership_event("created")),
        (membership_event("deleted", at=1),),
        "organization",
        buries("org_1"),
        points=("checked", "written"),
    ),
]


@dataclass
class Ring(Arena):
    """A webhook's writer, and a reconciler's."""

    pool: Any = None

    async def writers(self, scenario: Any) -> tuple[Writer, Writer]:
        await forget_everything(admin=self.stops.admin)
        await self.stops.admin.execute("truncate clerk_private.runs, clerk_private.deletions cascade")
        await asyncio.gather(*map(self.setup.submit, deliveries(scenario.before)))
        run = await runs.lead(
            self.pool, sync="race", kind=scenario.kind, mode="full", policy="Fix", sweep_id=1, holder="race"
        )
        requester: Any = None
        context = Context(self.pool, requester, run, SyncPolicy("race", drift="Fix"))
        await self.stops.plant(scenario.points)
        batch = deliveries(scenario.one)
        webhook = Writer(0, lambda: asyncio.gather(*map(self.commits[0].submit, batch)))

        async def sweep() -> Sequence[str]:
            await scenario.two(context)
            return ()

        return webhook, Writer(1, sweep)

    async def end(self) -> str:
        """Everything that readers may see, and what is a tombstone."""
        rows = await self.reader.fetch(
            "select t.kind, t.id, t.updated_at, t.parents from clerk_private.typed_rows t order by t.kind, t.id"
        )
        dead = await self.reader.fetch(
            "select kind, id, deleted_at is not null as dead, updated_at from clerk_private.objects order by kind, id"
        )
        return repr([tuple(row) for row in (*rows, *dead)])


@asynccontextmanager
async def arena(database: Database) -> AsyncIterator[Ring]:
    """Everything that a race takes."""
    reader = await connect_reader(database)
    role = f"{database.role_prefix}reconciler"
    async with (
        Stops(database) as stops,
        group_commit(database, name="writer 0") as zero,
        group_commit(database, name="setup") as setup,
        await open_pool(database.url("reconciler"), role=role, application="writer 1", size=1) as pool,
    ):
        await stops.admin.execute(SWEEPS)
        yield Ring(stops, (zero,), setup, reader, pool)
    await reader.close()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
async def test_every_interleaving_of_a_sweep_and_a_webhook_ends_alike(
    database: Database, scenario: SweepScenario
) -> None:
    async with arena(database) as ring:
        todo: list[tuple[int, ...]] = [()]
        traces: set[tuple[int, ...]] = set()
        ends: dict[str, list[str]] = {}
        while todo:
            prefix = todo.pop()
            of: Any = scenario
            trace, choices, open_ends = await run_once(ring, of, prefix)
            assert choices not in traces, "one order of steps was run twice"
            assert len(traces) < MOST, "too many: let the writers stop at fewer points"
            traces.add(choices)
            todo += open_ends
            ends.setdefault(await ring.end(), trace)
            orphans = await ring.reader.fetchval(
                "select count(*) from clerk.organization_memberships m join clerk_private.objects o"
                " on o.id in (m.user_id, m.organization_id) and o.deleted_at is not null"
            )
            assert orphans == 0, trace
        assert len(ends) == 1, ends
        assert {choices[0] for choices in traces} == {0, 1}
        assert len(traces) >= 4
