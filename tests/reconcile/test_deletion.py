"""Nothing is deleted by mistake: each missing id is asked for by name, and above a threshold a human is asked."""

import json
from dataclasses import replace
from typing import Any

import pytest

from devtools.clerk_emulator import ApiFault
from nexus_auth.clerk.api import Answer, ClerkRefused
from nexus_auth.reconcile.deletion import verify
from nexus_auth.reconcile.policy import Guard
from nexus_auth.store import runs
from tests.reconcile.conftest import MakeWorld
from tests.reconcile.world import FIX, REPORT, World

GUARDED = replace(FIX, guard=Guard(floor=10, percent=1.0))


class Answers:
    """Stands where the requester stands and answers every question with the same."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def read(self, path: str, params: Any = ()) -> Answer:
        if isinstance(self.answer, Exception):
            raise self.answer
        return Answer(body=json.dumps(self.answer).encode(), asked_at=5)


def listed(object_id: str, **members: Any) -> dict[str, Any]:
    return {"id": object_id, "created_at": 1, "updated_at": 1, **members}


async def test_an_answer_with_a_user_that_was_not_asked_for_proves_nothing() -> None:
    requester: Any = Answers([listed("user_other")])
    verdict = await verify(requester, "user", ["user_a"], connection=None)
    assert not verdict.gone
    assert verdict.unknown == {"user_a"}


async def test_an_answer_with_members_that_were_not_asked_for_proves_nothing() -> None:
    """A server that does not know the filter lists the organization's first members."""
    other = listed("orgmem_other", organization={"id": "org_1"}, public_user_data={"user_id": "user_other"})
    requester: Any = Answers({"data": [other], "total_count": 1})
    owners = {"orgmem_a": ("org_1", "user_a")}
    verdict = await verify(requester, "organization_membership", ["orgmem_a"], connection=None, owners=owners)
    assert not verdict.gone
    assert verdict.unknown == {"orgmem_a"}


async def test_an_answer_with_members_of_another_organization_proves_nothing() -> None:
    other = listed("orgmem_b", organization={"id": "org_2"}, public_user_data={"user_id": "user_a"})
    requester: Any = Answers({"data": [other], "total_count": 1})
    owners = {"orgmem_a": ("org_1", "user_a")}
    verdict = await verify(requester, "organization_membership", ["orgmem_a"], connection=None, owners=owners)
    assert not verdict.gone
    assert verdict.unknown == {"orgmem_a"}


async def test_a_refusal_proves_nothing() -> None:
    requester: Any = Answers(ClerkRefused("no", status=404))
    verdict = await verify(requester, "user", ["user_a"], connection=None)
    assert not verdict.gone
    assert verdict.unknown == {"user_a"}


async def test_an_empty_answer_says_that_all_are_gone_since_its_request_began() -> None:
    requester: Any = Answers([])
    verdict = await verify(requester, "user", ["user_a", "user_b"], connection=None)
    assert verdict.gone == {"user_a": 5, "user_b": 5}


async def test_what_a_walk_missed_and_verification_finds_stays(world: World) -> None:
    """A replica that does not list a user, while the named read finds it."""
    hidden = (await world.ids())[3]
    world.clerk.state.hide(hidden)
    world.clerk.before(page=1, do=world.clerk.state.catch_up, query="*user_id=*")
    result = await world.sweep()
    assert result.counts["user"]["refuted"] == 1
    assert await world.dead() == set()
    assert (await world.findings())[hidden] == ("extra", "refuted")


@pytest.mark.parametrize("status", [400, 403, 404, 422])
async def test_no_status_but_200_buries(world: World, status: int) -> None:
    gone = (await world.ids())[3]
    with world.clerk.events.silence():
        world.clerk.changes.users.delete(gone)
    world.clerk.add_fault(ApiFault("status", status=status, route="/users", query="*user_id=*"))
    await world.sweep()
    assert gone not in await world.dead()
    assert gone in await world.ids()


async def test_a_wrong_key_in_the_middle_of_a_walk_parks_the_run_and_deletes_nothing(make_world: MakeWorld) -> None:
    world = await make_world(users=1_200)
    await world.sweep()
    before = await world.dump(without=("runs", "findings"))
    with world.clerk.events.silence():
        for user_id in (await world.ids())[:5]:
            world.clerk.changes.users.delete(user_id)
    world.clerk.add_fault(ApiFault("status", status=401, route="/users", query="*order_by*", skip=1))
    result = await world.sweep()
    assert result.state == "parked"
    assert "CLERK_SECRET_KEY" in (result.message or "")
    assert await world.dump(without=("runs", "findings")) == before
    run = await world.admin.fetchval("select max(id) from clerk_private.runs")
    with pytest.raises(LookupError):
        await runs.approve(world.admin, run, approved_by="me")


async def test_a_wrong_key_in_mid_verification_deletes_nothing(world: World) -> None:
    gone = (await world.ids())[3]
    with world.clerk.events.silence():
        world.clerk.changes.users.delete(gone)
    world.clerk.add_fault(ApiFault("status", status=401, route="/users", query="*user_id=*"))
    assert (await world.sweep()).state == "parked"
    assert await world.dead() == set()


async def test_half_the_users_gone_parks_and_says_what_to_do(make_world: MakeWorld) -> None:
    world = await make_world(users=60, organizations=3, memberships=40)
    await world.sweep()
    with world.clerk.events.silence():
        for user_id in (await world.ids())[::2]:
            world.clerk.changes.users.delete(user_id)
    plan = await world.engine().plan(GUARDED)
    assert "approve" not in (plan.message or "")
    assert "more than the guard allows" in (plan.message or "")
    result = await world.sweep(GUARDED)
    assert result.state == "parked"
    assert (result.message or "").count("guard allows") > 1, "users, and memberships by cascade or by themselves"
    assert (result.message or "").count("approve") == 1
    assert (result.message or "").endswith(f"nexus-auth approve {result.run_id}")
    assert await world.dead() == set()
    assert len(await world.ids()) == 60


async def test_report_asks_for_no_approval_and_deletes_nothing(make_world: MakeWorld) -> None:
    world = await make_world(users=60)
    await world.sweep()
    with world.clerk.events.silence():
        for user_id in (await world.ids())[::2]:
            world.clerk.changes.users.delete(user_id)
    result = await world.sweep(replace(GUARDED, drift="Report"))
    assert (result.state, result.message) == ("completed", None)
    assert await world.dead() == set()


async def test_the_guard_allows_its_floor_and_not_one_more(make_world: MakeWorld) -> None:
    world = await make_world(users=60, organizations=0, memberships=0)
    await world.sweep()
    ids = await world.ids()

    def delete(*users: str) -> None:
        with world.clerk.events.silence():
            for user_id in users:
                world.clerk.changes.users.delete(user_id)

    delete(*ids[:10])
    assert (await world.sweep(GUARDED)).state == "completed"
    assert await world.dead() == set(ids[:10])
    delete(ids[10])
    assert (await world.sweep(GUARDED)).state == "parked"
    assert await world.dead() == set(ids[:10])
    # a day later these ten weigh nothing any more
    await world.admin.execute(
        "update clerk_private.objects set deleted_at = deleted_at - 86400001 where deleted_at > 0"
    )
    assert (await world.sweep(GUARDED)).state == "completed"
    assert await world.dead() == set(ids[:11])


async def test_deletions_that_clerk_told_by_itself_do_not_weigh(make_world: MakeWorld) -> None:
    world = await make_world(users=60, organizations=0, memberships=0)
    await world.sweep()
    ids = await world.ids()
    with world.clerk.events.silence():
        for user_id in ids[:21]:
            world.clerk.changes.users.delete(user_id)
    for user_id in ids[:20]:
        await world.bury_falsely("user", user_id)
    assert (await world.sweep(GUARDED)).state == "completed"
    assert ids[20] in await world.dead()


async def test_the_percentage_counts_where_it_allows_more_than_the_floor() -> None:
    guard = Guard(floor=10, percent=1.0)
    assert guard.allows(deleted=0, more=50, live=5_000)
    assert not guard.allows(deleted=0, more=51, live=5_000)
    assert not guard.allows(deleted=25, more=26, live=5_000)


async def test_what_goes_with_its_parents_weighs_too(make_world: MakeWorld) -> None:
    world = await make_world(users=40, organizations=1, memberships=30)
    await world.sweep()
    with world.clerk.events.silence():
        world.clerk.changes.organizations.delete((await world.ids("organizations"))[0])
    result = await world.sweep(GUARDED)
    assert result.state == "parked"
    assert "30 of 30 organization_membership rows" in (result.message or "")
    assert await world.dead() == set()


async def parked(world: World) -> tuple[int, list[str]]:
    ids = (await world.ids())[:15]
    with world.clerk.events.silence():
        for user_id in ids:
            world.clerk.changes.users.delete(user_id)
    result = await world.sweep(replace(GUARDED, kinds=("user",)))
    assert result.state == "parked"
    return result.run_id, ids


async def test_an_approval_covers_exactly_what_was_parked(make_world: MakeWorld) -> None:
    world = await make_world(users=60, organizations=0, memberships=0)
    await world.sweep()
    run, ids = await parked(world)
    later = (await world.ids())[20:35]
    with world.clerk.events.silence():
        for user_id in later:
            world.clerk.changes.users.delete(user_id)
    await runs.approve(world.admin, run, approved_by="somebody")
    await world.sweep(GUARDED)
    assert await world.dead() == set(ids)
    row = await world.admin.fetchrow("select state, approved_by from clerk_private.runs where id = $1", run)
    assert tuple(row) == ("completed", "somebody")


async def test_an_approval_lapses_after_a_day(make_world: MakeWorld) -> None:
    world = await make_world(users=60, organizations=0, memberships=0)
    await world.sweep()
    run, _ = await parked(world)
    await runs.approve(world.admin, run, approved_by="somebody")
    await world.admin.execute(
        "update clerk_private.runs set approved_at = now() - interval '24 hours 1 second' where id = $1", run
    )
    await world.sweep(GUARDED, mode="incremental")
    assert await world.dead() == set()


async def test_an_approval_is_void_where_the_parked_ids_are_others(make_world: MakeWorld) -> None:
    world = await make_world(users=60, organizations=0, memberships=0)
    await world.sweep()
    run, _ = await parked(world)
    await runs.approve(world.admin, run, approved_by="somebody")
    await world.admin.execute(
        "insert into clerk_private.parked_deletions (run_id, kind, id) values ($1, 'user', 'user_slipped_in')", run
    )
    await world.sweep(GUARDED, mode="incremental")
    assert await world.dead() == set()


async def test_approved_ids_are_asked_for_once_more(make_world: MakeWorld) -> None:
    world = await make_world(users=60, organizations=0, memberships=0)
    await world.sweep()
    ids = (await world.ids())[:15]
    for user_id in ids:
        world.clerk.state.hide(user_id)
    result = await world.sweep(GUARDED)
    assert result.state == "parked"
    world.clerk.state.catch_up()
    await runs.approve(world.admin, result.run_id, approved_by="somebody")
    await world.sweep(GUARDED, mode="incremental")
    assert await world.dead() == set()


async def test_a_run_that_was_killed_after_it_parked_still_waits_for_its_approval(make_world: MakeWorld) -> None:
    world = await make_world(users=60, organizations=0, memberships=0)
    await world.sweep()
    run, ids = await parked(world)
    await world.admin.execute(
        "update clerk_private.runs set state = 'running', finished_at = null, message = null where id = $1", run
    )
    result = await world.sweep(replace(GUARDED, kinds=("user",)))
    assert (result.run_id, result.state) == (run, "parked")
    assert f"nexus-auth approve {run}" in (result.message or "")
    assert not await world.dead() & set(ids)


async def test_what_waits_for_its_end_is_no_extra(world: World) -> None:
    """A customer's foreign key holds the row of a user that an event deleted: no sweep deletes it once more."""
    held = (await world.ids())[2]
    await world.admin.execute("create table public.notes (user_id text references clerk.users (id))")
    await world.admin.execute("insert into public.notes values ($1)", held)
    with world.clerk.events.silence():
        world.clerk.changes.users.delete(held)
    await world.bury_falsely("user", held)
    assert held in await world.ids()
    before = await world.admin.fetchrow("select * from clerk_private.objects where id = $1", held)
    result = await world.sweep()
    assert result.counts["user"].get("extra", 0) == 0
    assert result.counts["user"].get("edited", 0) == 0
    assert await world.admin.fetchrow("select * from clerk_private.objects where id = $1", held) == before


async def test_report_of_a_row_that_is_gone_only_says_so(world: World) -> None:
    gone = (await world.ids())[3]
    with world.clerk.events.silence():
        world.clerk.changes.users.delete(gone)
    await world.sweep(REPORT)
    assert (await world.findings())[gone] == ("extra", "reported")
    assert gone in await world.ids()
