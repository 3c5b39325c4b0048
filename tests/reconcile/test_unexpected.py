"""Whatever nobody expected ends a run with a name and a sentence, and the next run goes well."""

import json
import logging
from typing import Any

import pytest

from nexus_auth.clerk.api import Params
from nexus_auth.reconcile.engine import InternalError
from nexus_auth.store.overview import drift
from services.reconciler.leading import result_trouble, trouble_of
from tests.reconcile.conftest import MakeWorld
from tests.reconcile.world import FIX, REPORT, Spoil, World

NO_ANSWERS = {
    "a page of HTML": b"<!doctype html><title>Just a moment...</title>",
    "nothing": b"",
    "null": b"null",
    "a number": b"7",
    "a list of lists": b"[[]]",
    "an object without members": b"{}",
    "an object that holds no list": b'{"data": 5, "total_count": "many"}',
    "brackets": b"[" * 100_000,
    "no UTF-8": b'\xff\xfe{"data": [], "total_count": 1}',
}
ROUTES = ("/instance", "/users/count", "/users", "/organizations", "/organization_memberships")


def once(body: bytes, *, path: str) -> Spoil:
    """One answer of a path is something else."""
    left = [body]

    def spoil(asked: str, _params: Params, answer: bytes) -> bytes:
        return left.pop() if asked == path and left else answer

    return spoil


@pytest.mark.parametrize("what", NO_ANSWERS)
async def test_an_answer_of_200_that_is_none_is_a_named_failure_and_the_next_run_succeeds(
    world: World, what: str
) -> None:
    for path in ROUTES:
        world.api.spoil = once(NO_ANSWERS[what], path=path)
        result = await world.sweep()
        failed = [run for run in result.runs if run.state != "completed"]
        if what == "a list of lists" and path == "/users":
            assert failed == []  # a page of one object, which has a wrong shape
        else:
            assert [(run.state, type(run.error).__name__) for run in failed] == [("failed", "ClerkUnavailable")], path
            assert "the next run tries again" in (failed[0].message or "")
            trouble = result_trouble(failed[0])
            assert trouble is not None
            assert trouble.reason == "UpstreamUnavailable"
        again = await world.sweep()
        assert again.state == "completed", path
    assert await world.dead() == set()
    assert await world.differs() == []


@pytest.mark.parametrize("what", NO_ANSWERS)
async def test_a_read_by_name_that_is_no_answer_buries_nothing(world: World, what: str) -> None:
    gone = (await world.ids())[3]
    with world.clerk.events.silence():
        world.clerk.changes.users.delete(gone)

    def spoil(path: str, params: Params, answer: bytes) -> bytes:
        return NO_ANSWERS[what] if any(name == "user_id" for name, _ in params) else answer

    world.api.spoil = spoil
    for _ in range(2):
        await world.sweep()
    assert await world.dead() == set()
    world.api.spoil = None
    await world.sweep()
    world.api.spoil = spoil
    await world.sweep(mode="incremental")
    assert gone not in await world.dead()
    world.api.spoil = None
    await world.admin.execute("update clerk_private.verify_queue set not_before = now()")
    await world.settle()
    assert gone in await world.dead()


async def test_an_exception_that_nobody_expected_is_named_logged_and_tried_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def at(name: str) -> None:
        if name == "sweep.repairing":
            raise KeyError("sk_live_a_secret")

    user = (await world.ids())[3]
    with world.clerk.events.silence():
        world.clerk.changes.users.update(user, {"first_name": "Newer"})
    with caplog.at_level(logging.ERROR):
        result = await world.engine(failpoint=at).run(FIX, mode="full")
    assert [(run.kind, run.state) for run in result.runs] == [
        ("user", "failed"),
        ("organization", "completed"),
        ("organization_membership", "completed"),
    ]
    first = result.runs[0]
    assert isinstance(first.error, InternalError)
    assert "KeyError" in (first.message or "")
    assert "sk_live" not in (first.message or "")
    stored = await world.admin.fetchrow(
        "select state, error, message from clerk_private.runs where id = $1", first.run_id
    )
    assert (stored["state"], stored["error"]) == ("failed", "KeyError")
    assert any(record.exc_info and "KeyError" in str(record.exc_info) for record in caplog.records)
    trouble = result_trouble(first)
    assert trouble is not None
    assert trouble.reason == "InternalError"
    assert "KeyError" in str(trouble)
    assert (await world.sweep()).state == "completed"
    assert await world.differs() == []


def test_whatever_is_raised_is_a_trouble(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        trouble = trouble_of(ZeroDivisionError("postgres://user:password@host"))
    assert (trouble.reason, trouble.about) == ("InternalError", "run")
    assert "ZeroDivisionError" in str(trouble)
    assert "password" not in str(trouble)
    assert any(record.exc_info for record in caplog.records)


# ---------------------------------------------------------------- objects that cannot be held

BAD: dict[str, dict[str, Any]] = {
    "a moment beyond bigint": {"last_sign_in_at": 10**30},
    "no truth value": {"banned": "maybe"},
    "an external_id that no index holds": {"external_id": "".join(f"{n * 7919 % 65_521:04x}" for n in range(1_500))},
    "an updated_at of text": {"updated_at": "yesterday"},
    "no created_at": {"created_at": None},
}


def changed(object_id: str, members: dict[str, Any]) -> Spoil:
    """One object of every list has other members."""

    def spoil(_path: str, _params: Params, answer: bytes) -> bytes:
        if object_id.encode() not in answer:
            return answer
        page = json.loads(answer)
        for one in page if isinstance(page, list) else page.get("data", []):
            if one.get("id") == object_id:
                one.update(members)
        return json.dumps(page).encode()

    return spoil


@pytest.mark.parametrize("mode", ["full", "deep", "incremental"])
@pytest.mark.parametrize("what", BAD)
async def test_one_object_that_cannot_be_held_is_kept_with_its_reason_and_stops_nothing(
    world: World, what: str, mode: Any
) -> None:
    bad, good, *_ = (await world.ids())[3:]
    with world.clerk.events.silence():
        world.clerk.changes.users.update(good, {"first_name": "Newer"})
        world.clerk.changes.users.update(bad, {"first_name": "Newest"})
    world.api.spoil = changed(bad, BAD[what])
    plan = await world.engine().plan(FIX)
    assert plan.state == "completed"
    result = await world.sweep(mode=mode)
    assert result.state == "completed", result
    assert result.counts["user"]["refused"] == 1
    assert (await world.findings())[good] == ("stale", "repaired")
    assert (await world.findings())[bad] == ("refused", "refused")
    row = await world.admin.fetchrow("select kind, id, error, object, attempts from clerk_private.refused_objects")
    assert (row["kind"], row["id"], row["attempts"]) == ("user", bad, 1)
    assert row["error"]
    assert bad in (row["object"] or "")
    total, open_ = await drift(world.admin, sync=FIX.name, limit=5)
    assert (total, open_[0]["id"]) == (1, bad)
    await world.sweep(mode=mode)
    await world.settle()
    assert await world.admin.fetchval("select attempts from clerk_private.refused_objects") > 1
    assert await world.dead() == set()
    world.api.spoil = None
    await world.sweep()
    assert await world.admin.fetchval("select count(*) from clerk_private.refused_objects") == 0
    assert await world.differs() == []
    assert (await drift(world.admin, sync=FIX.name, limit=5))[0] == 0


async def test_a_report_counts_what_cannot_be_read_and_writes_no_row(world: World) -> None:
    bad = (await world.ids())[3]
    world.api.spoil = changed(bad, {"updated_at": "yesterday"})
    before = await world.dump(without=("runs", "findings", "refused_objects", "count_checks"))
    assert (await world.sweep(REPORT)).counts["user"]["refused"] == 1
    assert await world.dump(without=("runs", "findings", "refused_objects", "count_checks")) == before


async def test_an_object_that_cannot_be_revived_ends_no_run(world: World) -> None:
    user = (await world.ids())[3]
    await world.bury_falsely("user", user)
    await world.sweep()
    world.api.spoil = changed(user, {"banned": "maybe"})
    assert (await world.settle()).state == "completed"
    assert user in await world.dead()
    assert await world.admin.fetchval("select id from clerk_private.refused_objects") == user
    world.api.spoil = None
    await world.sweep()
    await world.settle()
    assert await world.differs() == []


async def test_a_tombstone_that_is_listed_without_its_user_holds_no_other_up(world: World) -> None:
    """It cannot be asked for by name: it is kept alone, and every run goes on."""
    nameless, other = (await world.ids("organization_memberships"))[:2]
    for member in (nameless, other):
        await world.bury_falsely("organization_membership", member)
    world.api.spoil = changed(nameless, {"public_user_data": None})
    result = await world.sweep()
    assert result.state == "completed", result
    assert (await world.findings())[nameless] == ("resurfaced", "refused")
    for _ in range(2):
        assert (await world.settle()).state == "completed"
    assert other not in await world.dead()
    assert nameless in await world.dead()
    world.api.spoil = None
    await world.sweep()
    await world.settle()
    assert await world.dead() == set()


# ---------------------------------------------------------------- what a run leaves behind


async def test_doubts_that_clerk_settles_as_gone_close_their_findings(make_world: MakeWorld) -> None:
    world = await make_world(stale_deleted_seconds=None)
    await world.sweep()
    users = (await world.ids())[3:6]
    with world.clerk.events.silence():
        for user in users:
            world.clerk.changes.users.delete(user)
    for user in users:
        await world.bury_falsely("user", user)
    assert (await world.sweep()).counts["user"]["resurfaced"] == 3
    assert (await drift(world.admin, sync=FIX.name, limit=5))[0] >= 3
    world.clerk.state.catch_up()
    await world.settle()
    assert await world.admin.fetchval("select count(*) from clerk_private.verify_queue") == 0
    assert (await drift(world.admin, sync=FIX.name, limit=5))[0] == 0
    assert set(users) <= await world.dead()


async def test_all_that_is_due_is_settled_and_not_only_the_first_hundred(make_world: MakeWorld) -> None:
    world = await make_world(users=150, organizations=0, memberships=0)
    await world.sweep()
    users = (await world.ids())[:120]
    for user in users:
        await world.bury_falsely("user", user)
    await world.sweep()
    for _ in range(2):
        await world.sweep(mode="incremental")
    assert await world.dead() == set()
    assert await world.differs() == []


async def test_a_plan_counts_once_what_a_second_walk_finds_again(make_world: MakeWorld) -> None:
    world = await make_world(users=60, organizations=30, memberships=700)
    await world.sweep()
    await world.admin.execute("truncate clerk.organization_memberships")
    await world.admin.execute("delete from clerk_private.objects where kind = 'organization_membership'")
    broken = [True]

    def spoil(path: str, params: Params, answer: bytes) -> bytes:
        if path == "/organization_memberships" and ("offset", "490") in params and broken:
            broken.clear()
            return json.dumps({"data": json.loads(answer)["data"][::-1], "total_count": 700}).encode()
        return answer

    world.api.spoil = spoil
    plan = await world.engine().plan(FIX)
    assert not broken
    members = plan.counts["organization_membership"]
    assert (members["seen"], members["missing"]) == (700, 700)


async def test_reasons_that_cannot_be_told_are_left_out_and_the_repair_stands(world: World) -> None:
    await world.admin.execute("revoke select (observed_at) on clerk_private.inbox from clerk_reconciler")
    user = (await world.ids())[3]
    with world.clerk.events.silence():
        world.clerk.changes.users.update(user, {"first_name": "Newer"})
    result = await world.sweep()
    assert result.state == "completed"
    assert "reasons of its findings were left out" in (result.message or "")
    assert (await world.findings())[user] == ("stale", "repaired")
    assert await world.differs() == []
