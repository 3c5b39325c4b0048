"""Takes the made-up entity through everything that the product does with one.

Run by `tests/integration/test_another_entity.py` inside a scratch copy that declares badges and has their migration;
the product as it is knows no badges.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from devtools.postgres import Database
from nexus_auth.clerk.api import ClerkApi
from nexus_auth.clerk.catalogue import BY_KIND, PROJECTED
from nexus_auth.reconcile.engine import Engine, SweepResult
from nexus_auth.reconcile.held import verify_held
from nexus_auth.reconcile.policy import Guard, SyncPolicy
from nexus_auth.reconcile.requester import Requester
from nexus_auth.store import held
from nexus_auth.store.budget import Budget, Share
from nexus_auth.store.pool import open_pool
from services.reconciler.manifests import read_manifests
from tests.commandline import CommandLine, Ran
from tests.events import INSTANCE, T0, deleted, event, organization
from tests.integration.another_entity.clerk import Clerk, serve
from tests.store import Store, delivery

FIX = SyncPolicy("main", drift="Fix", settle=0.0, verify_after=0.0, guard=Guard(floor=1_000, percent=100.0))
KEY = "sk_test_another_entity"
LEAKED = "feedfeedfeedfeed"
MANIFESTS = """
apiVersion: nexus-auth.dev/v1alpha1
kind: ClerkInstance
metadata: {name: main}
spec:
  secretKeyRef: {name: clerk, key: secretKey}
  environment: Development
  stateDatabase: {secretRef: {name: database, key: url}}
---
apiVersion: nexus-auth.dev/v1alpha1
kind: ClerkSync
metadata: {name: main}
spec:
  instanceRef: {name: main}
  database: {secretRef: {name: database, key: url}}
  resources: [{name: organizations}, {name: badges}]
"""


class World:
    """The stand-in for Clerk, the database, and what stands between them."""

    def __init__(self, clerk: Clerk, store: Store, *, pool: Any, api: ClerkApi, folder: Path) -> None:
        self.clerk, self.store, self.pool = clerk, store, pool
        self.budget = Budget(pool, instance_id=INSTANCE, share=Share(per_second=100_000, burst=1_000))
        self.api = api
        self._nexus_auth = CommandLine.of(
            store.database,
            folder,
            RECONCILER_DATABASE_URL=store.database.url("reconciler"),
            CLERK_API_URL=clerk.url,
            CLERK_SECRET_KEY=KEY,
        )

    async def nexus_auth(self, *arguments: str) -> Ran:
        """The command line; the stand-in answers in this loop, so the command runs in a thread."""
        return await asyncio.to_thread(self._nexus_auth, *arguments)

    async def sweep(self, *, drift: Any = "Fix", kinds: Sequence[str] = (), mode: Any = "full") -> SweepResult:
        """One sweep of everything, or of these kinds."""
        engine = Engine(
            self.pool, clerk=self.api, budget=self.budget, instance_id=INSTANCE, holder="test", first_pause=0.001
        )
        of = tuple(kinds) or ("organization", "badge")
        return await engine.run(replace(FIX, drift=drift, kinds=of, scope=("organization", "badge")), mode=mode)

    async def badges(self) -> dict[str, str]:
        """Names by id, as applications read them."""
        return {row["id"]: row["name"] for row in await self.store.rows("clerk.badges")}

    async def found(self) -> dict[str, tuple[str, str]]:
        """By id: problem and action, of the newest sweep."""
        rows = await self.store.admin.fetch(
            "select f.id, f.problem, f.action from clerk_private.findings f"
            " join clerk_private.runs r on r.id = f.run_id"
            " where r.sweep_id = (select max(sweep_id) from clerk_private.runs)"
        )
        return {row["id"]: (row["problem"], row["action"]) for row in rows}


@pytest.fixture
async def world(database: Database, tmp_path: Path) -> AsyncIterator[World]:
    """Two organizations, nine badges in the first and three in the second, all in the mirror."""
    async with AsyncExitStack() as stack:
        clerk = Clerk()
        for number in (1, 2):
            clerk.organizations[f"org_{number}"] = organization(f"org_{number}")
        for number in range(1, 13):
            clerk.badge(f"badge_{number}", organization_id="org_1" if number < 10 else "org_2")
        await stack.enter_async_context(serve(clerk))
        store = await stack.enter_async_context(Store(database))
        pool = await open_pool(database.url("reconciler"), role="clerk_reconciler", application="tests", size=4)
        await stack.enter_async_context(pool)
        api = await stack.enter_async_context(ClerkApi(clerk.url, secret_key=KEY))
        opened = World(clerk, store, pool=pool, api=api, folder=tmp_path)
        await store.admin.execute("select clerk_private.claim_instance($1)", INSTANCE)
        await opened.budget.open()
        result = await opened.sweep()
        assert result.state == "completed", result.message
        assert len(await opened.badges()) == 12
        yield opened


def gone(kind: str, object_id: str, *, timestamp: int = T0 + 10**9) -> bytes:
    return event(f"{kind}.deleted", deleted(kind, object_id), timestamp=timestamp)


async def test_an_event_makes_and_changes_a_badge_and_a_late_one_does_not(world: World) -> None:
    made = world.clerk.badge("badge_20", organization_id="org_1")
    assert await world.store.put(event("badge.created", made)) == ["created"]
    newer = {**made, "name": "Guest", "updated_at": T0 + 5}
    assert await world.store.put(event("badge.updated", newer)) == ["updated"]
    assert await world.store.put(event("badge.updated", made)) == ["stale"]
    assert (await world.badges())["badge_20"] == "Guest"
    subjects = await world.store.admin.fetch("select distinct subjects from clerk_private.inbox")
    assert [row["subjects"] for row in subjects] == [["badge_20"]]


async def test_an_event_that_names_a_parents_id_is_found_by_it(world: World) -> None:
    """Erasure and `explain` go by every id that an event speaks of."""
    long_id = "org_2abcdefghijklmnopqrstuvwxyz"
    made = world.clerk.badge("badge_20", organization_id=long_id)
    await world.store.put(event("badge.created", made))
    assert await world.store.admin.fetchval("select subjects from clerk_private.inbox") == ["badge_20", long_id]


async def test_a_badge_without_its_organization_is_parked_until_it_is_told(world: World) -> None:
    made = world.clerk.badge("badge_20", organization_id="org_1")
    part = {name: value for name, value in made.items() if name != "organization_id"}
    assert await world.store.put(event("badge.created", part)) == ["incomplete"]
    assert await world.store.put(event("badge.created", made)) == ["created"]
    # what it belongs to never changes: a later event need not say it
    assert await world.store.put(event("badge.updated", {**part, "updated_at": T0 + 9, "name": "Guest"})) == ["updated"]


async def test_writers_lock_the_bucket_of_the_parent(world: World) -> None:
    modes = {}
    for kind, object_id, buried_by in (("badge", "badge_1", None), ("organization", "org_1", "event")):
        async with world.store.admin.transaction():
            await world.store.admin.execute(
                "select clerk_private.lock_parents(array[($1, $2, $3, 0, 0, 0::smallint, '', 'webhook', null)"
                "::clerk_private.change])",
                *(kind, object_id, buried_by),
            )
            rows = await world.store.admin.fetch(
                "select l.relation::regclass::text as bucket, l.mode from pg_locks l"
                " where l.pid = pg_backend_pid() and l.relation::regclass::text like '%bucket%'"
            )
            modes[kind] = {row["bucket"]: row["mode"] for row in rows}
    assert modes["badge"].keys() == modes["organization"].keys()
    assert list(modes["badge"].values()) == ["RowExclusiveLock"]
    assert list(modes["organization"].values()) == ["ShareRowExclusiveLock"]


async def test_an_organizations_deletion_takes_its_badges_along_and_the_ledger_counts_them(world: World) -> None:
    assert await world.store.put(gone("organization", "org_2")) == ["deleted"]
    assert set(await world.badges()) == {f"badge_{number}" for number in range(1, 10)}
    late = world.clerk.badge("badge_20", organization_id="org_2")
    assert await world.store.put(event("badge.created", late)) == ["buried"]
    noted = await world.store.admin.fetch("select kind, cause, number from clerk_private.deletions order by kind")
    assert [tuple(row) for row in noted] == [("badge", "event", 3), ("organization", "event", 1)]
    buried = await world.store.admin.fetch(
        "select distinct buried_by from clerk_private.objects where kind = 'badge' and deleted_at is not null"
    )
    assert [row["buried_by"] for row in buried] == ["parent"]


async def test_a_large_organizations_badges_go_in_chunks_and_are_hidden_meanwhile(world: World) -> None:
    deletion = (
        "('organization', 'org_1', 'event', 0, $1::bigint, 0::smallint, '', 'webhook', null)::clerk_private.change"
    )
    async with world.store.admin.transaction():
        await world.store.admin.execute(f"select clerk_private.lock_parents(array[{deletion}])", T0 + 10**9)
        await world.store.admin.execute(f"select clerk_private.apply(array[{deletion}], 2)", T0 + 10**9)
    assert len(await world.badges()) == 12
    seen = await world.store.admin.fetch("select * from clerk_private.hidden_ids()")
    assert [row[0] for row in seen] == ["org_1"]
    while await world.store.bury():
        pass
    assert set(await world.badges()) == {"badge_10", "badge_11", "badge_12"}


async def test_a_deletion_by_event_wins_over_every_version(world: World) -> None:
    assert await world.store.put(gone("badge", "badge_1")) == ["deleted"]
    later = {**world.clerk.badges["badge_1"], "updated_at": T0 + 10**10}
    assert await world.store.put(event("badge.updated", later)) == ["buried"]
    assert "badge_1" not in await world.badges()


async def test_a_sweep_finds_what_no_event_told(world: World) -> None:
    world.clerk.badge("badge_20", organization_id="org_2")
    world.clerk.badge("badge_2", organization_id="org_1", name="Renamed", updated_at=T0 + 7)
    reported = await world.sweep(drift="Report")
    assert reported.counts["badge"] | {"seen": 13} == {"seen": 13, "missing": 1, "stale": 1}
    assert "badge_20" not in await world.badges()
    await world.sweep()
    assert await world.found() == {"badge_20": ("missing", "repaired"), "badge_2": ("stale", "repaired")}
    assert (await world.badges())["badge_2"] == "Renamed"


async def test_a_deep_sweep_finds_what_changed_without_a_new_version(world: World) -> None:
    world.clerk.badge("badge_2", organization_id="org_1", name="Renamed in silence")
    await world.sweep()
    assert (await world.badges())["badge_2"] == "Founder"
    await world.sweep(mode="deep")
    assert await world.found() == {"badge_2": ("deep", "repaired")}
    assert (await world.badges())["badge_2"] == "Renamed in silence"


async def test_rows_that_were_there_before_are_adopted_and_never_deleted_for_it(world: World) -> None:
    await world.store.admin.execute("delete from clerk_private.objects where kind = 'badge'")
    await world.store.admin.execute("update clerk.badges set name = 'imported' where id = 'badge_3'")
    before = await world.store.admin.fetchval(
        "select array_agg(xmin::text order by id) from clerk.badges where id <> 'badge_3'"
    )
    reported = await world.sweep(drift="Report")
    assert reported.counts["badge"]["unadopted"] == 12
    await world.sweep()
    assert set((await world.found()).values()) == {("unadopted", "adopted")}
    assert (await world.badges())["badge_3"] == "Founder"
    after = await world.store.admin.fetchval(
        "select array_agg(xmin::text order by id) from clerk.badges where id <> 'badge_3'"
    )
    assert after == before, "a right row is not written again"
    assert await world.store.admin.fetchval("select count(*) from clerk_private.deletions") == 0


async def test_what_a_hand_did_is_undone(world: World) -> None:
    await world.store.admin.execute("update clerk.badges set name = 'By hand' where id = 'badge_4'")
    await world.store.admin.execute("delete from clerk.badges where id = 'badge_5'")
    await world.sweep()
    assert await world.found() == {"badge_4": ("edited", "repaired"), "badge_5": ("edited", "repaired")}
    assert set((await world.badges()).values()) == {"Founder"}
    assert len(await world.badges()) == 12


async def test_two_reads_by_name_bury_what_clerk_has_no_more(world: World) -> None:
    del world.clerk.badges["badge_6"]
    first = await world.sweep()
    assert first.state == "completed"
    assert "badge: 1 badge awaits its second read" in str(first.message).replace("badges:", "badge:")
    assert await world.found() == {"badge_6": ("extra", "awaiting second read")}
    assert "badge_6" in await world.badges()
    await world.sweep(mode="incremental")
    assert "badge_6" not in await world.badges()
    assert await world.store.tombstones() == {"badge_6": "verification"}


async def test_more_than_the_guard_allows_waits_for_an_approval(world: World) -> None:
    for number in range(1, 6):
        del world.clerk.badges[f"badge_{number}"]
    await world.sweep()
    parked = await world.sweep(mode="incremental")
    assert parked.deletions_parked
    assert len(await world.badges()) == 12

    status = await world.nexus_auth("status", "--output", "json")
    assert status.code == 1
    assert status.json()["rows"]["badges"] == 12
    assert "5 of 12 badge rows would be deleted" in status.err
    approved = await world.nexus_auth("approve", str(parked.waits_for[0]), "--yes")
    assert approved.code == 0, approved.err
    await world.sweep(mode="incremental")
    assert set(await world.badges()) == {f"badge_{number}" for number in range(6, 13)}
    assert (await world.nexus_auth("status")).code == 0


async def test_organizations_that_clerk_lost_are_weighed_with_their_badges(world: World) -> None:
    world.clerk.organizations.clear()
    world.clerk.badges.clear()
    for _ in range(3):
        result = await world.sweep(kinds=["organization"])
    assert result.deletions_parked
    assert len(await world.badges()) == 12


async def test_a_false_tombstone_of_the_parent_is_revived_with_its_badges(world: World) -> None:
    await world.store.put(gone("organization", "org_2", timestamp=T0 + 1))
    assert len(await world.badges()) == 9
    for _ in range(3):
        await world.sweep(kinds=["organization"])
    assert len(await world.badges()) == 12


async def test_deletions_by_event_beyond_the_share_are_held_and_clerk_is_asked(world: World) -> None:
    async with world.store.pool.acquire() as connection:
        await held.beat(connection)
    deletions = [replace(delivery(gone("badge", f"badge_{number}")), secret=LEAKED) for number in range(1, 7)]
    outcomes = await world.store.put(*deletions)
    assert (outcomes.count("deleted"), outcomes.count("held")) == (3, 3)
    assert len(await world.badges()) == 9
    asked = Requester(world.api, budget=world.budget, first_pause=0.001)
    for _ in range(2):
        states = await verify_held(world.pool, requester=asked, spacing=0.0)
    assert states == {"refused": 3}
    assert await world.store.put(replace(delivery(gone("badge", "badge_7")), secret=LEAKED)) == ["held"]


async def test_the_command_line_knows_badges(world: World) -> None:
    renamed = world.clerk.badge("badge_1", organization_id="org_1", updated_at=T0 + 9)
    await world.store.put(event("badge.updated", renamed))
    explained = await world.nexus_auth("explain", "badge_1", "--output", "json")
    assert explained.code == 0, explained.err
    assert [(o["kind"], o["state"], o["typed_row"]) for o in explained.json()["objects"]] == [
        ("badge", "live", "present")
    ]
    status = await world.nexus_auth("status")
    assert "badges" in status.out
    world.clerk.badge("badge_30", organization_id="org_1")
    planned = await world.nexus_auth("plan", "--kind", "badges", "--output", "json")
    assert planned.json()["kinds"]["badge"]["insert"] == 1
    synced = await world.nexus_auth("sync", "--full", "--apply", "--kind", "badges")
    assert synced.code == 0, synced.err
    assert "badge_30" in await world.badges()
    findings = await world.nexus_auth("findings", "--kind", "badges", "--output", "json")
    assert [row["id"] for row in findings.json()] == ["badge_30"]


async def test_events_that_waited_for_the_table_are_replayed(world: World) -> None:
    made = world.clerk.badge("badge_20", organization_id="org_1")
    await world.store.put(event("badge.created", made))
    # as it was before the migration
    await world.store.admin.execute("update clerk_private.inbox set state = 'waiting', outcome = null")
    await world.store.admin.execute("delete from clerk.badges where id = 'badge_20'")
    await world.store.admin.execute("delete from clerk_private.objects where id = 'badge_20'")
    replayed = await world.nexus_auth("replay", "--state", "waiting")
    assert replayed.code == 0, replayed.err
    assert "badge_20" in await world.badges()


async def test_a_manifest_may_name_badges() -> None:
    manifests = read_manifests(MANIFESTS)
    assert manifests.syncs["main"].policy.kinds == ("organization", "badge")


async def test_the_declaration_and_the_database_say_the_same(database: Database) -> None:
    async with Store(database) as store:
        rows = await store.admin.fetch("select kind, projection from clerk_private.entities order by rank")
    assert [(row["kind"], row["projection"]) for row in rows] == [(e.kind, e.projection) for e in PROJECTED]
    assert BY_KIND["badge"].nouns == ("badge", "badges")
