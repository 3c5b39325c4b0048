"""A walk sees everything, or says that it did not."""

from itertools import pairwise, product

import pytest

from devtools.clerk_emulator import ApiFault
from tests.reconcile.conftest import MakeWorld
from tests.reconcile.world import FIX

BOUNDS = list(product([False, True], repeat=2))


@pytest.mark.parametrize(("after", "before"), BOUNDS)
@pytest.mark.parametrize("cursor", [True, False])
async def test_every_user_is_found_however_bounds_are_meant(
    make_world: MakeWorld, after: bool, before: bool, cursor: bool
) -> None:
    world = await make_world(
        users=1_700,
        one_moment=1_100,
        memberships=0,
        after_inclusive=after,
        before_inclusive=before,
        ignore_starting_after=not cursor,
    )
    result = await world.sweep()
    assert (result.state, result.counts["user"]["seen"]) == ("completed", 1_700)
    assert await world.differs() == []
    assert result.requests < 60


@pytest.mark.parametrize("number", [0, 1, 499, 500, 501, 1_000])
async def test_pages_may_end_anywhere(make_world: MakeWorld, number: int) -> None:
    world = await make_world(users=number, organizations=0, memberships=0)
    result = await world.sweep()
    assert result.state == "completed"
    assert len(await world.ids()) == number
    assert await world.differs() == []
    again = await world.sweep()
    assert (again.state, again.counts.get("user", {}).get("repaired")) == ("completed", None)


@pytest.mark.parametrize(("after", "before"), BOUNDS)
async def test_a_window_may_end_where_more_users_than_a_page_begin(
    make_world: MakeWorld, after: bool, before: bool
) -> None:
    world = await make_world(users=0, organizations=0, memberships=0, after_inclusive=after, before_inclusive=before)
    # four windows at most: an edge falls on the moment that 2,500 share, hours after all others
    for moment, number in ((1_000_000, 700), (900_000_000, 2_500), (900_000_001, 600), (1_800_000_000, 300)):
        world.clerk.changes.users.create_many(number, created_at=moment)
    result = await world.sweep()
    assert (result.state, result.counts["user"]["seen"]) == ("completed", 4_100)
    assert len(await world.ids()) == 4_100
    assert result.requests < 120


async def test_a_window_may_begin_behind_a_moment_that_fills_a_page(make_world: MakeWorld) -> None:
    """As after a crash: with bounds that include their value, the first page holds nothing of the window."""
    from nexus_auth.clerk.catalogue import ENTITIES
    from nexus_auth.reconcile.walk import walk_window

    world = await make_world(users=0, organizations=0, memberships=0, after_inclusive=True)
    world.clerk.changes.users.create_many(1_200, created_at=5_000_000)
    later = world.clerk.changes.users.create_many(3, created_at=5_000_001)
    spans = [span async for span in walk_window(world.requester, ENTITIES["user"], start=5_000_001, end=6_000_000)]
    assert {item.id for span in spans for item in span.items} == {user.id for user in later}
    assert [(a.end, b.start) for a, b in pairwise(spans)] == [(a.end, a.end) for a in spans[:-1]]


@pytest.mark.parametrize("deleted_cursor", ["refuse", "continue", "empty", "restart"])
async def test_the_cursors_user_may_be_deleted_meanwhile(make_world: MakeWorld, deleted_cursor: str) -> None:
    world = await make_world(users=1_300, organizations=0, memberships=0, deleted_cursor=deleted_cursor)
    await world.sweep()
    ids = await world.ids()
    newest_of_page = ids[499]
    script = world.clerk.before(page=2, do=lambda: world.clerk.changes.users.delete(newest_of_page), query="*order_by*")
    result = await world.sweep()
    assert script is not None
    assert result.state == "completed"
    await world.sweep()
    await world.settle()
    assert await world.differs() == []
    assert await world.dead() == {newest_of_page}


async def test_a_short_page_that_rows_follow_makes_the_walk_incomplete(make_world: MakeWorld) -> None:
    world = await make_world(users=1_200)
    await world.sweep()
    gone = (await world.ids())[5]
    with world.clerk.events.silence():
        world.clerk.changes.users.delete(gone)
    fault = world.clerk.add_fault(ApiFault("short_page", route="/users", query="*order_by*"))
    result = await world.sweep()
    assert result.state == "failed"
    assert "after a short page" in (result.message or "")
    assert [run.state for run in result.runs] == ["failed", "completed", "completed"]
    assert await world.dead() == set()
    assert fault is not None
    world.clerk.api_faults.clear()
    await world.sweep()
    await world.settle()
    assert gone in await world.dead()


@pytest.mark.parametrize("route", ["/organizations", "/organization_memberships"])
async def test_a_short_page_of_a_list_by_offset_makes_it_incomplete_too(make_world: MakeWorld, route: str) -> None:
    world = await make_world(users=40, organizations=15, memberships=60)
    await world.sweep()
    with world.clerk.events.silence():
        member = world.clerk.state.memberships_of((await world.ids())[0])
        for record in member:
            world.clerk.changes.memberships.delete(organization_id=record.organization_id, user_id=record.user_id)
    world.clerk.add_fault(ApiFault("short_page", route=route, query="*order_by*"))
    result = await world.sweep()
    assert result.state == "failed"
    kind = "organization" if route == "/organizations" else "organization_membership"
    assert [run.kind for run in result.runs if run.state == "failed"] == [kind]
    assert not result.counts.get(kind, {}).get("gone")


@pytest.mark.parametrize("route", ["/users", "/organizations", "/organization_memberships"])
async def test_a_server_that_repeats_a_page_is_left(make_world: MakeWorld, route: str) -> None:
    world = await make_world(users=1_200, organizations=30, memberships=600)
    await world.sweep()
    world.clerk.add_fault(ApiFault("repeat_page", route=route, query="*order_by*"))
    before = world.budget.requests
    await world.sweep()
    assert world.budget.requests - before < 120
    assert await world.dead() == set()


async def test_an_empty_page_in_the_middle_does_not_end_the_walk(make_world: MakeWorld) -> None:
    world = await make_world(users=1_700, organizations=0, memberships=0)
    world.clerk.add_fault(ApiFault("empty_page", route="/users", query="*starting_after*", next=1))
    result = await world.sweep()
    assert (result.state, len(await world.ids())) == ("completed", 1_700)


async def test_users_that_come_and_go_during_a_walk_are_settled_by_the_next(make_world: MakeWorld) -> None:
    world = await make_world(users=1_700, organizations=2, memberships=30)
    await world.sweep()
    ids = await world.ids()

    def change() -> None:
        with world.clerk.events.silence():
            for user_id in (ids[3], ids[700], ids[1_600]):
                world.clerk.changes.users.delete(user_id)
            world.clerk.changes.users.create_many(700, created_at=1_000)
            world.clerk.changes.users.create({"email_address": ["new@example.com"]})

    world.clerk.before(page=2, do=change, query="*order_by*")
    await world.sweep()
    result = await world.sweep()
    assert result.state == "completed"
    await world.settle()
    assert await world.differs() == []


async def test_a_created_at_that_changed_is_stale_and_not_extra(make_world: MakeWorld) -> None:
    world = await make_world(users=1_200)  # of several pages: it is listed in one and held in another
    await world.sweep()
    moved = (await world.ids())[1_100]
    await world.admin.execute(
        "update clerk_private.objects set raw = jsonb_set(raw, '{created_at}', '1000') where id = $1", moved
    )
    await world.admin.execute("update clerk.users set created_at = 'epoch' where id = $1", moved)
    await world.admin.execute(
        "update clerk_private.objects o set digest = clerk_private.digest_user(u, array(select e from"
        ' clerk.user_emails e where e.user_id = u.id order by e.id collate "C")) from clerk.users u'
        " where u.id = o.id and o.id = $1",
        moved,
    )
    result = await world.sweep()
    assert result.state == "completed"
    assert await world.dead() == set()
    assert (await world.findings())[moved][0] == "stale"
    assert await world.differs() == []


async def test_a_date_header_minutes_off_corrects_what_was_observed_when(make_world: MakeWorld) -> None:
    world = await make_world(date_minutes=30.0)
    await world.sweep()
    ahead = await world.admin.fetchval(
        "select min(observed_at) - (extract(epoch from now()) * 1000)::bigint from clerk_private.objects"
    )
    assert 29 * 60_000 < ahead < 31 * 60_000


async def test_the_watermark_stays_where_users_were_not_all_seen(make_world: MakeWorld) -> None:
    world = await make_world(users=1_200)
    world.clerk.add_fault(ApiFault("short_page", route="/users", query="*order_by*"))
    assert (await world.sweep(FIX)).state == "failed"
    assert await world.admin.fetchval("select count(*) from clerk_private.watermarks") == 0
