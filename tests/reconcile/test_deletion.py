"""Nothing is deleted by mistake: each missing id is asked for by name, twice; above a threshold a human is asked."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from devtools.clerk_emulator import ApiFault
from nexus_auth.clerk.api import Answer, ClerkRefused
from nexus_auth.clerk.catalogue import BY_KIND
from nexus_auth.reconcile.policy import Guard
from nexus_auth.reconcile.verification import verify
from nexus_auth.store import runs
from tests.reconcile.conftest import MakeWorld
from tests.reconcile.world import FIX, REPORT, World

GUARDED = replace(FIX, guard=Guard(floor=10, percent=1.0))
USER, MEMBERSHIP = BY_KIND["user"], BY_KIND["organization_membership"]


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


def membership(object_id: str, organization: str, user: str) -> dict[str, Any]:
    return listed(object_id, organization={"id": organization}, public_user_data={"user_id": user})


async def test_an_answer_with_a_user_that_was_not_asked_for_proves_nothing() -> None:
    requester: Any = Answers([listed("user_other")])
    verdict = await verify(requester, USER, {"user_a": ()})
    assert not verdict.gone
    assert verdict.unknown == {"user_a"}


@pytest.mark.parametrize(
    "other",
    [
        membership("orgmem_other", "org_1", "user_other"),  # a server that does not know the filter
        membership("orgmem_b", "org_2", "user_a"),
        listed("orgmem_b"),
        listed("orgmem_b", organization=[], public_user_data="user_a"),
    ],
    ids=["another user's", "another organization's", "nobody's", "of a wrong shape"],
)
async def test_an_answer_with_members_that_were_not_asked_for_proves_nothing(other: dict[str, Any]) -> None:
    requester: Any = Answers({"data": [other], "total_count": 1})
    verdict = await verify(requester, MEMBERSHIP, {"orgmem_a": ("org_1", "user_a")})
    assert not verdict.gone
    assert verdict.unknown == {"orgmem_a"}


async def test_an_answer_with_another_membership_of_the_same_pair_says_that_it_took_its_place() -> None:
    requester: Any = Answers({"data": [membership("orgmem_new", "org_1", "user_a")], "total_count": 1})
    asked = {"orgmem_old": ("org_1", "user_a"), "orgmem_gone": ("org_1", "user_b")}
    verdict = await verify(requester, MEMBERSHIP, asked)
    assert verdict.gone == dict.fromkeys(asked, 5)
    assert verdict.replaced == {"orgmem_old"}


async def test_an_object_of_a_wrong_shape_in_an_answer_proves_nothing_of_itself() -> None:
    requester: Any = Answers([{"id": "user_a", "updated_at": "yesterday"}])
    verdict = await verify(requester, USER, {"user_a": (), "user_b": ()})
    assert verdict.unknown == {"user_a"}
    assert verdict.gone == {"user_b": 5}
    nameless: Any = Answers([{"object": "user"}])
    assert (await verify(nameless, USER, {"user_a": ()})).unknown == {"user_a"}


async def test_what_names_no_parents_is_not_asked_for() -> None:
    requester: Any = Answers(AssertionError("it was asked for"))
    assert (await verify(requester, MEMBERSHIP, {"orgmem_a": ()})).unknown == {"orgmem_a"}


async def test_a_refusal_proves_nothing() -> None:
    requester: Any = Answers(ClerkRefused("no", status=404))
    verdict = await verify(requester, USER, {"user_a": ()})
    assert not verdict.gone
    assert verdict.unknown == {"user_a"}


async def test_an_empty_answer_says_that_all_are_gone_since_its_request_began() -> None:
    requester: Any = Answers([])
    verdict = await verify(requester, USER, {"user_a": (), "user_b": ()})
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
    await world.settle()
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
    result = await world.sweep(replace(FIX, kinds=("user",)))
    assert result.state == "parked"
    assert "CLERK_SECRET_KEY" in (result.message or "")
    assert not result.deletions_parked
    assert await world.dump(without=("runs", "findings")) == before
    with pytest.raises(LookupError):
        await runs.approve(world.admin, result.run_id, approved_by="me")


async def test_a_wrong_key_in_mid_verification_deletes_nothing(world: World) -> None:
    gone = (await world.ids())[3]
    with world.clerk.events.silence():
        world.clerk.changes.users.delete(gone)
    world.clerk.add_fault(ApiFault("status", status=401, route="/users", query="*user_id=*"))
    assert (await world.sweep()).state == "parked"
    assert (await world.settle()).state == "completed"
    assert gone not in await world.dead()


async def delete(world: World, *users: str) -> None:
    """At Clerk, without an event."""
    with world.clerk.events.silence():
        for user_id in users:
            world.clerk.changes.users.delete(user_id)


async def look(world: World, policy: Any = GUARDED) -> Any:
    """A full sweep, and the second reads that it asked for."""
    await world.sweep(policy)
    return await world.settle(policy)


async def test_two_reads_by_name_that_lie_apart_bury_and_one_does_not(world: World) -> None:
    gone = (await world.ids())[3]
    await delete(world, gone)
    patient = replace(FIX, verify_after=60.0)
    result = await world.sweep(patient)
    assert result.state == "completed"
    assert "users: 1 user awaits its second read" in (result.message or "")
    assert (await world.findings())[gone] == ("extra", "awaiting second read")
    for _ in range(2):
        await world.sweep(patient, mode="incremental")
        assert (await world.sweep(patient)).counts["user"]["awaiting"] == 1
    assert await world.dead() == set()
    queued = await world.admin.fetchrow("select purpose, answers from clerk_private.verify_queue where id = $1", gone)
    assert tuple(queued) == ("bury", 1)
    await world.admin.execute("update clerk_private.verify_queue set not_before = now()")
    assert (await world.sweep(patient, mode="incremental")).counts["user"]["tombstoned"] == 1
    assert gone in await world.dead()
    assert await world.differs() == []


async def test_a_user_that_the_lists_replica_learns_of_late_stays(world: World) -> None:
    """It does not list it, nor find it by name, and a minute later it does."""
    young = (await world.ids())[3]
    world.clerk.state.hide(young)
    await world.sweep()
    assert (await world.findings())[young] == ("extra", "awaiting second read")
    world.clerk.state.catch_up()
    assert (await world.settle()).counts["user"]["refuted"] == 1
    assert await world.dead() == set()
    assert await world.differs() == []
    assert await world.admin.fetchval("select count(*) from clerk_private.verify_queue") == 0
    actions = await world.admin.fetch("select action from clerk_private.findings where id = $1", young)
    assert {row["action"] for row in actions} == {"refuted"}


async def test_the_older_of_two_memberships_of_one_pair_is_buried_at_once(world: World) -> None:
    """Its deletion was lost, and the same user was invited again: Clerk knows one membership for each pair."""
    events = json.loads(Path(__file__).parents[1].joinpath("cases", "duplicate-membership.json").read_text())
    user, organization = events[0]["data"], events[1]["data"]
    for event in events:
        event["instance_id"] = world.clerk.instance_id
    await world.put(*(json.dumps(event).encode() for event in events))
    page = {"data": [events[3]["data"]], "total_count": 1}
    member: Any = Answers(page)
    asked = {"orgmem_2DUPold": (organization["id"], user["id"])}
    assert (await verify(member, MEMBERSHIP, asked)).replaced == set(asked)

    old = await world.admin.fetchrow("select * from clerk.organization_memberships order by id limit 1")
    pair = {"organization_id": old["organization_id"], "user_id": old["user_id"]}
    with world.clerk.events.silence():
        world.clerk.changes.memberships.delete(**pair)
        world.clerk.changes.memberships.create(**pair, role="org:member")
    read = await world.api.read(f"/organizations/{pair['organization_id']}/memberships", [("user_id", pair["user_id"])])
    (data,) = json.loads(read.body)["data"]
    told = {"type": "organizationMembership.created", "data": data, "timestamp": data["updated_at"]}
    assert await world.put(json.dumps({**told, "instance_id": world.clerk.instance_id}).encode()) == ["created"]
    assert old["id"] in await world.ids("organization_memberships")
    patient = replace(FIX, verify_after=3_600.0)
    result = await world.sweep(patient, mode="incremental")
    assert result.counts["organization_membership"]["tombstoned"] == 1
    assert old["id"] in await world.dead()
    assert data["id"] in await world.ids("organization_memberships")


async def test_half_the_users_gone_parks_and_says_what_to_do(make_world: MakeWorld) -> None:
    world = await make_world(users=60, organizations=3, memberships=40)
    await world.sweep()
    await delete(world, *(await world.ids())[::2])
    plan = await world.engine().plan(GUARDED)
    assert "approve" not in (plan.message or "")
    assert "more than the guard allows" in (plan.message or "")
    result = await look(world)
    assert result.state == "parked"
    assert "30 of 60 user rows would be deleted" in (result.message or "")
    assert (result.message or "").count("guard allows") > 1, "users, and memberships by cascade or by themselves"
    for run in result.runs:
        assert run.waits_for is None or (run.message or "").endswith(f"nexus-auth approve {run.waits_for}")
    assert await world.dead() == set()
    assert len(await world.ids()) == 60


async def test_report_asks_for_no_approval_and_deletes_nothing(make_world: MakeWorld) -> None:
    world = await make_world(users=60)
    await world.sweep()
    await delete(world, *(await world.ids())[::2])
    result = await world.sweep(replace(GUARDED, drift="Report"))
    assert (result.state, result.message) == ("completed", None)
    assert await world.dead() == set()
    assert await world.admin.fetchval("select count(*) from clerk_private.verify_queue") == 0


async def test_the_guard_allows_its_floor_and_not_one_more(make_world: MakeWorld) -> None:
    world = await make_world(users=60, organizations=0, memberships=0)
    await world.sweep()
    ids = await world.ids()
    await delete(world, *ids[:10])
    assert (await look(world)).state == "completed"
    assert await world.dead() == set(ids[:10])
    await delete(world, ids[10])
    assert (await look(world)).state == "parked"
    assert await world.dead() == set(ids[:10])
    # a day later these ten weigh nothing any more, by the database's clock
    await world.admin.execute("update clerk_private.deletions set at = at - interval '24 hours 1 second'")
    assert (await look(world)).state == "completed"
    assert await world.dead() == set(ids[:11])


async def test_clerks_clock_decides_nothing_about_how_much_may_go(make_world: MakeWorld) -> None:
    """A Date header that is a day behind, and ten users hidden in each sweep."""
    world = await make_world(users=60, organizations=0, memberships=0, date_minutes=-26 * 60.0)
    await world.sweep()
    ids = await world.ids()
    for round_ in range(4):
        for user in ids[round_ * 10 : round_ * 10 + 10]:
            world.clerk.state.hide(user)
        await look(world)
    assert len(await world.ids()) >= 50


async def test_deletions_that_clerk_told_by_itself_do_not_weigh(make_world: MakeWorld) -> None:
    world = await make_world(users=60, organizations=0, memberships=0)
    await world.sweep()
    ids = await world.ids()
    await delete(world, *ids[:21])
    for user_id in ids[:20]:
        await world.bury_falsely("user", user_id)
    assert (await look(world)).state == "completed"
    assert ids[20] in await world.dead()


async def test_what_goes_with_its_parents_weighs_too(make_world: MakeWorld) -> None:
    world = await make_world(users=40, organizations=1, memberships=30)
    await world.sweep()
    with world.clerk.events.silence():
        world.clerk.changes.organizations.delete((await world.ids("organizations"))[0])
    result = await look(world)
    assert result.state == "parked"
    assert "30 of 30 organization_membership rows" in (result.message or "")
    assert await world.dead() == set()


async def parked(world: World, number: int = 15) -> tuple[int, list[str]]:
    ids = (await world.ids())[:number]
    await delete(world, *ids)
    result = await look(world, replace(GUARDED, kinds=("user",)))
    assert result.state == "parked"
    return result.run_id, ids


async def state_of(world: World, run: int) -> tuple[str, int | None]:
    row = await world.admin.fetchrow("select state, superseded_by from clerk_private.runs where id = $1", run)
    return row["state"], row["superseded_by"]


async def test_an_approval_covers_exactly_what_was_parked(make_world: MakeWorld) -> None:
    world = await make_world(users=60, organizations=0, memberships=0)
    await world.sweep()
    run, ids = await parked(world)
    await delete(world, *(await world.ids())[20:35])
    await runs.approve(world.admin, run, approved_by="somebody")
    await world.sweep(GUARDED)
    assert await world.dead() == set(ids)
    row = await world.admin.fetchrow("select state, approved_by from clerk_private.runs where id = $1", run)
    assert tuple(row) == ("completed", "somebody")


async def test_what_a_human_approved_does_not_fill_the_guard(make_world: MakeWorld) -> None:
    world = await make_world(users=60, organizations=0, memberships=0)
    await world.sweep()
    run, ids = await parked(world)
    await runs.approve(world.admin, run, approved_by="somebody")
    await world.settle(GUARDED)
    assert await world.dead() == set(ids)
    one_more = (await world.ids())[0]
    await delete(world, one_more)
    assert (await look(world)).state == "completed"
    assert await world.dead() == {*ids, one_more}


async def test_a_later_sweep_that_finds_the_same_keeps_the_waiting_run_and_its_number(make_world: MakeWorld) -> None:
    world = await make_world(users=60, organizations=0, memberships=0)
    await world.sweep()
    run, ids = await parked(world)
    for _ in range(2):
        again = await look(world, replace(GUARDED, kinds=("user",)))
        assert (again.state, again.waits_for, again.run_id) == ("parked", (run,), run)
        assert f"nexus-auth approve {run}" in (again.message or "")
    assert [each.run_id for each in await runs.waiting(world.admin, sync="main")] == [run]
    await runs.approve(world.admin, run, approved_by="somebody")
    await world.settle(GUARDED)
    assert await world.dead() == set(ids)
    assert await runs.waiting(world.admin, sync="main") == ()


async def test_a_later_sweep_that_finds_others_supersedes_and_says_by_what(make_world: MakeWorld) -> None:
    world = await make_world(users=60, organizations=0, memberships=0)
    await world.sweep()
    waiting = [(await parked(world))[0]]
    for _ in range(2):
        await delete(world, (await world.ids())[20 + len(waiting)])
        waiting.append((await look(world)).run_id)
    assert len(set(waiting)) == 3
    for old in waiting[:2]:
        assert await state_of(world, old) == ("superseded", waiting[2])
        with pytest.raises(LookupError, match=f"superseded by {waiting[2]}"):
            await runs.approve(world.admin, old, approved_by="somebody")
    assert [each.run_id for each in await runs.waiting(world.admin, sync="main")] == [waiting[2]]
    before = await world.admin.fetchval("select count(*) from clerk_private.deletions")
    await runs.approve(world.admin, waiting[2], approved_by="somebody")
    await world.settle(GUARDED)
    assert len(await world.dead()) == 17
    tombstones = "select id, deleted_at from clerk_private.objects where deleted_at is not null order by id"
    at = await world.admin.fetch(tombstones)
    with pytest.raises(LookupError):
        await runs.approve(world.admin, waiting[2], approved_by="somebody")
    await look(world)
    assert await world.admin.fetch(tombstones) == at
    assert await world.admin.fetchval("select count(*) from clerk_private.deletions") == before + 1


async def test_a_sweep_that_finds_nothing_to_delete_clears_what_waits(make_world: MakeWorld) -> None:
    world = await make_world(users=60, organizations=0, memberships=0)
    await world.sweep()
    for user_id in (await world.ids())[:15]:
        world.clerk.state.hide(user_id)
    result = await look(world)
    assert result.state == "parked"
    world.clerk.state.catch_up()
    clean = await world.sweep(GUARDED)
    assert clean.state == "completed"
    assert await runs.waiting(world.admin, sync="main") == ()
    user_run = next(run for run in clean.runs if run.kind == "user")
    assert await state_of(world, result.run_id) == ("superseded", user_run.run_id)


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
    result = await look(world)
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
    result = await world.sweep(replace(GUARDED, kinds=("user",)), mode="incremental")
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
