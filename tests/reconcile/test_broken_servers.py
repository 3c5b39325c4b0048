"""Servers that obey nothing: a walk ends, with a bounded number of requests, and says that it proves nothing."""

import itertools
import json
from dataclasses import replace
from typing import Any

import pytest

from devtools.clerk_emulator import ApiFault
from nexus_auth.clerk.api import Answer, Params
from nexus_auth.clerk.catalogue import ENTITIES
from nexus_auth.reconcile.walk import IncompleteWalk, walk_offsets, walk_updated, walk_window
from nexus_auth.store.history import read_history
from tests.reconcile.conftest import MakeWorld
from tests.reconcile.world import FIX, World

MOST = 20


class SamePage:
    """Answers every question with the same rows, whatever bounds, cursor or offset it names."""

    def __init__(self, rows: list[tuple[str, int]], *, paged: bool = False) -> None:
        self.requests = 0
        objects = [{"id": name, "created_at": at, "updated_at": at} for name, at in rows]
        self._body = json.dumps({"data": objects, "total_count": 5_000} if paged else objects).encode()

    async def read(self, path: str, params: Any = ()) -> Answer:
        self.requests += 1
        assert self.requests < MOST, "it does not end"
        return Answer(body=self._body, asked_at=10)


DIFFERENT = [(f"user_{n:04}", 1_000 + n) for n in range(500)]
TIED = [(f"user_{n:04}", 1_000) for n in range(500)]


@pytest.mark.parametrize("rows", [DIFFERENT, TIED], ids=["different moments", "one moment"])
async def test_a_window_ends_where_bounds_and_cursor_are_ignored(rows: list[tuple[str, int]]) -> None:
    server: Any = SamePage(rows)
    with pytest.raises(IncompleteWalk):
        async for _ in walk_window(server, ENTITIES["user"], start=0, end=10**12):
            pass


@pytest.mark.parametrize("number", [3, 500])
async def test_a_list_ends_where_the_offset_is_ignored(number: int) -> None:
    server: Any = SamePage(DIFFERENT[:number], paged=True)
    with pytest.raises(IncompleteWalk):
        async for _ in walk_offsets(server, ENTITIES["organization"]):
            pass


@pytest.mark.parametrize("number", [3, 500])
async def test_an_incremental_look_ends_where_the_offset_is_ignored(number: int) -> None:
    server: Any = SamePage(DIFFERENT[:number][::-1])
    with pytest.raises(IncompleteWalk):
        async for _ in walk_updated(server, ENTITIES["user"], down_to=0):
            pass


async def test_an_incremental_look_does_not_believe_in_an_order_that_is_none() -> None:
    server: Any = SamePage(DIFFERENT)
    with pytest.raises(IncompleteWalk):
        async for _ in walk_updated(server, ENTITIES["user"], down_to=0):
            pass


@pytest.mark.parametrize("fault", [{"kind": "status", "status": 500}, {"kind": "cut"}, {"kind": "invalid_json"}])
async def test_a_server_that_fails_for_good_ends_the_run_and_deletes_nothing(
    world: World, fault: dict[str, Any]
) -> None:
    gone = (await world.ids())[3]
    with world.clerk.events.silence():
        world.clerk.changes.users.delete(gone)
    world.clerk.add_fault(ApiFault(**fault, route="/users", query="*user_id=*"))
    result = await world.sweep()
    assert result.state == "failed"
    assert "the next run tries again" in (result.message or "")
    assert await world.dead() == set()


async def test_a_storm_of_429s_deletes_nothing(world: World) -> None:
    gone = (await world.ids())[3]
    with world.clerk.events.silence():
        world.clerk.changes.users.delete(gone)
    world.clerk.add_fault(ApiFault("status", status=429, retry_after=0, route="/users", query="*order_by*"))
    assert (await world.sweep()).state == "failed"
    assert await world.dead() == set()


async def test_a_total_that_moves_while_a_list_is_walked_is_normal(make_world: MakeWorld) -> None:
    world = await make_world(users=60, organizations=30, memberships=700)
    await world.sweep()

    def change() -> None:
        with world.clerk.events.silence():
            record = world.clerk.state.members_of(organizations[0])[0]
            world.clerk.changes.memberships.delete(organization_id=record.organization_id, user_id=record.user_id)

    organizations = await world.ids("organizations")
    world.clerk.before(page=2, do=change, route="/organization_memberships", query="*order_by*")
    result = await world.sweep()
    assert result.state == "completed"
    await world.sweep()  # the page that held it had been read before
    await world.settle()
    assert await world.differs() == []


async def test_extras_go_although_the_total_moves_with_every_page(make_world: MakeWorld) -> None:
    """200,000 memberships of which one changes every few seconds: no total is ever the same twice."""
    world = await make_world(users=60, organizations=30, memberships=1_100)
    await world.sweep()
    members = await world.admin.fetch("select * from clerk.organization_memberships order by id limit 3")
    with world.clerk.events.silence():
        for one in members:
            world.clerk.changes.memberships.delete(organization_id=one["organization_id"], user_id=one["user_id"])
    asked = itertools.count()

    def spoil(path: str, _params: Params, answer: bytes) -> bytes:
        if path != "/organization_memberships":
            return answer
        page = json.loads(answer)
        return json.dumps({**page, "total_count": page["total_count"] + next(asked)}).encode()

    world.api.spoil = spoil
    result = await world.sweep()
    assert result.state == "completed", result
    await world.settle()
    assert {one["id"] for one in members} <= await world.dead()
    assert await world.differs() == []


async def test_an_empty_page_in_the_middle_of_a_list_is_asked_for_once_more(make_world: MakeWorld) -> None:
    world = await make_world(users=60, organizations=30, memberships=1_100)
    await world.sweep()
    world.clerk.add_fault(ApiFault("empty_page", route="/organization_memberships", query="*offset=490*", next=1))
    result = await world.sweep()
    assert (result.state, result.counts["organization_membership"]) == ("completed", {"seen": 1_100})
    assert await world.dead() == set()


async def test_an_organization_that_is_too_young_to_be_listed_is_no_extra(world: World) -> None:
    """It came by webhook a moment ago, and the replica that answers has not heard of it."""
    organization = world.clerk.changes.organizations.create({"name": "Young", "created_by": (await world.ids())[0]})
    await world.sweep()
    world.clerk.state.hide(organization.id)
    result = await world.sweep(replace(FIX, settle=5.0))
    assert result.counts["organization"].get("extra", 0) == 0
    assert await world.dead() == set()


async def test_a_run_that_was_refused_in_the_middle_has_swept_only_what_it_finished(make_world: MakeWorld) -> None:
    world = await make_world()
    world.clerk.add_fault(ApiFault("status", status=401, route="/organization_memberships"))
    assert (await world.sweep()).state == "parked"
    history = await read_history(world.admin, sync=FIX.name, kinds=FIX.kinds)
    assert {kind for kind, of in history.kinds.items() if of.full_at} == {"user", "organization"}
    assert history.kinds["organization_membership"].failed_at is not None
    assert history.kinds["user"].failed_at is None


@pytest.mark.parametrize("days", [-4_000, 3, 100_000])
async def test_an_answer_whose_date_is_far_off_is_a_named_failure(make_world: MakeWorld, days: int) -> None:
    """Its time would be that of tombstones and versions, and no later read could mend them."""
    world = await make_world(users=20, organizations=0, memberships=0)
    await world.sweep()
    gone = (await world.ids())[0]
    with world.clerk.events.silence():
        world.clerk.changes.users.delete(gone)
    await world.behave(date_minutes=days * 1_440.0)
    for _ in range(2):
        result = await world.sweep()
        assert result.state == "failed"
        assert "Date that is" in (result.message or "")
    assert await world.dead() == set()
    await world.behave(date_minutes=0.0)
    await world.sweep()
    await world.settle()
    assert await world.dead() == {gone}
