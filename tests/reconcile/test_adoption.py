"""Rows without an arbiter row: imported before the first sweep, restored alone, or made by hand. Never deleted and
inserted again, because other tables hang on them."""

from dataclasses import replace
from typing import Any

import pytest

from nexus_auth.reconcile.policy import Guard
from tests.reconcile.conftest import MakeWorld
from tests.reconcile.world import FIX, REPORT, World

PRODUCT = """
create table public.notes (
  id bigint generated always as identity primary key,
  user_id text references clerk.users (id) on delete cascade,
  organization_id text references clerk.organizations (id) on delete cascade,
  membership_id text references clerk.organization_memberships (id) on delete cascade);
insert into public.notes (user_id) select id from clerk.users cross join generate_series(1, 3);
insert into public.notes (organization_id) select id from clerk.organizations;
insert into public.notes (membership_id) select id from clerk.organization_memberships;
"""


@pytest.fixture
async def orphaned(make_world: MakeWorld) -> World:
    """Only schema `clerk` was restored; the product's tables cascade."""
    world = await make_world(users=60, organizations=5, memberships=40)
    await world.sweep()
    await world.admin.execute(PRODUCT)
    await world.admin.execute("truncate clerk_private.objects")
    await world.admin.execute("truncate clerk_private.findings, clerk_private.runs cascade")
    return world


async def notes(world: World) -> int:
    number: int = await world.admin.fetchval("select count(*) from public.notes")
    return number


@pytest.mark.parametrize("mode", ["full", "deep"])
async def test_what_clerk_lists_is_taken_over_without_a_delete(orphaned: World, mode: Any) -> None:
    world, before = orphaned, await notes(orphaned)
    physical = await world.admin.fetch("select id, xmin from clerk.users order by id")
    plan = await world.engine().plan(FIX, mode=mode)
    assert plan.counts["user"]["unadopted"] == 60
    assert plan.counts["user"].get("missing", 0) == 0
    report = await world.sweep(REPORT, mode=mode)
    assert report.counts["organization"]["unadopted"] == 5
    assert set((await world.findings(report.run_id)).values()) == {("unadopted", "reported")}
    assert await world.admin.fetchval("select count(*) from clerk_private.objects") == 0
    result = await world.sweep(mode=mode)
    assert result.state == "completed"
    assert {kind: of["adopted"] for kind, of in result.counts.items()} == {
        "user": 60,
        "organization": 5,
        "organization_membership": 40,
    }
    assert set((await world.findings(result.run_id)).values()) == {("unadopted", "adopted")}
    assert await notes(world) == before
    assert (
        await world.admin.fetch("select id, xmin from clerk.users order by id") == physical
    )  # equal: not even updated
    assert await world.differs() == []
    assert {tuple(of) for of in (await world.sweep()).counts.values()} == {("seen",)}


async def test_an_imported_row_with_other_times_and_columns_is_updated_in_place(make_world: MakeWorld) -> None:
    """A customer's own import: `created_at` is when they imported it."""
    world = await make_world(users=60, organizations=0, memberships=0)
    await world.sweep()
    ids = await world.ids()
    await world.admin.execute("truncate clerk_private.objects, clerk.user_emails")
    await world.admin.execute(
        "update clerk.users set created_at = now() - interval '1 hour', updated_at = now(), first_name = 'Imported'"
    )
    await world.admin.execute(PRODUCT)
    before = await notes(world)
    result = await world.sweep()
    await world.settle()
    assert result.state == "completed"
    assert await notes(world) == before
    assert sorted(await world.ids()) == sorted(ids)
    assert await world.differs() == []


async def test_an_event_adopts_too(orphaned: World) -> None:
    world = orphaned
    user = (await world.ids())[7]
    before = await notes(world)
    world.clerk.changes.users.update(user, {"first_name": "Newer"})
    result = await world.sweep(mode="incremental")  # without a watermark it repairs nothing, and deletes nothing
    assert result.state == "completed"
    await world.sweep()
    assert await notes(world) == before
    assert await world.differs() == []


async def test_what_clerk_does_not_list_goes_the_way_of_every_extra(orphaned: World) -> None:
    """Asked for by name twice, weighed, and beyond the guard left to a human."""
    world = orphaned
    guarded = replace(FIX, guard=Guard(floor=10, percent=1.0))
    gone = (await world.ids())[:15]
    with world.clerk.events.silence():
        for user in gone:
            world.clerk.changes.users.delete(user)
    before = await notes(world)
    result = await world.sweep(guarded)
    assert result.counts["user"]["awaiting"] == 15
    assert result.counts["user"]["adopted"] == 45
    assert (await world.settle(guarded)).state == "parked"
    assert await notes(world) == before
    await world.settle(guarded, approve=True)
    assert set(gone) <= await world.dead()
    assert len(await world.ids()) == 45


async def test_only_the_arbiter_rows_of_some_are_missing(world: World) -> None:
    """A backup older than the newest events: some rows are newer than their arbiter rows."""
    users = (await world.ids())[3:8]
    await world.admin.execute("delete from clerk_private.objects where id = any ($1)", users)
    with world.clerk.events.silence():
        world.clerk.changes.users.update(users[0], {"first_name": "Newer"})
    incremental = await world.sweep(mode="incremental")
    assert incremental.counts["user"]["adopted"] >= 1
    await world.sweep()
    assert await world.differs() == []
    assert await world.admin.fetchval("select count(*) from clerk_private.objects where id = any ($1)", users) == 5
