"""Counts beside each other: what no order by `updated_at` shows is found long before the next full sweep."""

import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from devtools.clerk_emulator import ApiFault
from nexus_auth.reconcile.policy import Guard
from nexus_auth.store import overview
from nexus_auth.store.history import History
from services.reconciler.schedule import Due, due, wait
from tests import events
from tests.reconcile.test_schedule import history, sync
from tests.reconcile.world import FIX, REPORT, World


async def next_run(world: World, *, policy: Any = FIX) -> Due | None:
    """What a schedule would begin now."""
    return due(replace(sync(), policy=policy), await history(world))


async def look(world: World, *, policy: Any = FIX) -> None:
    result = await world.sweep(policy, mode="incremental")
    assert result.state == "completed"


async def differences(world: World) -> dict[str, tuple[int, bool, int | None]]:
    """By kind, where there is one: difference, whether it stands, what a sweep left."""
    rows = await world.admin.fetch(
        "select kind, difference, stands, left_standing from clerk_private.count_checks where difference <> 0"
    )
    return {row[0]: (row[1], row[2], row[3]) for row in rows}


async def lose_an_organization(world: World) -> None:
    """One is made, and no event tells of it."""
    with world.clerk.events.silence():
        world.clerk.changes.organizations.create({"name": "Lost", "created_by": (await world.ids())[0]})


@pytest.fixture
async def swept(world: World) -> World:
    """In step, with nothing due."""
    await world.sweep()
    await look(world)
    assert await differences(world) == {}
    assert await next_run(world) is None
    return world


async def test_a_lost_creation_is_swept_for_after_two_checks(swept: World) -> None:
    await lose_an_organization(swept)
    await look(swept)
    assert (await differences(swept))["organization"] == (1, False, None)
    again = await next_run(swept)
    assert again is not None
    assert (again.mode, again.reason) == ("incremental", "counts differed")
    await look(swept)
    now = await next_run(swept)
    assert now is not None
    assert (now.mode, now.reason) == ("full", "counts differ")
    assert set(now.policy.kinds) == {"organization", "organization_membership"}
    assert await swept.engine().run(now.policy, mode=now.mode)
    assert await differences(swept) == {}
    assert await swept.differs() == []
    assert await next_run(swept) is None


async def test_a_lost_deletion_is_swept_for_too(swept: World) -> None:
    user = (await swept.ids())[3]
    with swept.clerk.events.silence():
        swept.clerk.changes.users.delete(user)
    await look(swept)
    await look(swept)
    now = await next_run(swept)
    assert now is not None
    assert "user" in now.policy.kinds
    assert await swept.engine().run(now.policy, mode=now.mode)
    await swept.settle()
    assert user in await swept.dead()
    assert await swept.differs() == []


async def test_two_checks_stand_apart_by_the_databases_clock(swept: World) -> None:
    patient = replace(FIX, verify_after=60.0)
    await lose_an_organization(swept)
    for _ in range(3):
        await look(swept, policy=patient)
        assert not (await differences(swept))["organization"][1]
        assert await next_run(swept, policy=patient) is None
    await swept.admin.execute(
        "update clerk_private.count_checks set first_seen_at = first_seen_at - interval '61 s';"
        "update clerk_private.runs set started_at = started_at - interval '61 s'"
    )
    confirms = await next_run(swept, policy=patient)
    assert confirms is not None
    assert confirms.reason == "counts differed"
    await look(swept, policy=patient)
    now = await next_run(swept, policy=patient)
    assert now is not None
    assert now.reason == "counts differ"


async def test_an_event_between_two_checks_begins_anew(swept: World) -> None:
    await lose_an_organization(swept)
    await look(swept)
    for number in range(2):
        assert await swept.put(events.event("user.created", events.user(f"user_dead_{number}"))) == ["created"]
        assert await swept.put(events.event("user.deleted", events.deleted("user", f"user_dead_{number}")))
        await look(swept)
        assert not (await differences(swept))["organization"][1]
    await look(swept)
    assert (await differences(swept))["organization"] == (1, True, None)


async def test_a_difference_that_grows_stands_all_the_same(swept: World) -> None:
    """The webhook has stopped altogether: each check finds another number."""
    for _ in range(2):
        await lose_an_organization(swept)
        await look(swept)
    assert (await differences(swept))["organization"] == (2, True, None)


async def test_a_difference_that_turns_begins_anew(swept: World) -> None:
    await lose_an_organization(swept)
    await look(swept)
    with swept.clerk.events.silence():
        for organization in (await swept.ids("organizations"))[:2]:
            swept.clerk.changes.organizations.delete(organization)
    await look(swept)
    assert (await differences(swept))["organization"] == (-1, False, None)


async def test_deletions_that_wait_for_a_human_are_no_difference(swept: World) -> None:
    guarded = replace(FIX, guard=Guard(floor=1, percent=1.0))
    gone = (await swept.ids())[:5]
    with swept.clerk.events.silence():
        for user in gone:
            swept.clerk.changes.users.delete(user)
    await swept.sweep(guarded)
    assert (await swept.settle(guarded)).state == "parked"
    for _ in range(2):
        await look(swept, policy=guarded)
    assert "user" not in await differences(swept)
    with swept.clerk.events.silence():
        swept.clerk.changes.users.delete((await swept.ids())[7])
    await look(swept, policy=guarded)
    assert (await differences(swept))["user"] == (-1, False, None)


async def test_parked_events_are_no_difference(swept: World) -> None:
    """One that was to make a row, one that was to end one."""
    with swept.clerk.events.silence():
        swept.clerk.changes.users.delete((await swept.ids())[5])
        swept.clerk.changes.organizations.create({"name": "Parked", "created_by": (await swept.ids())[0]})
    new = set(await listed(swept, "/organizations")) - set(await swept.ids("organizations"))
    told = [("user", "user.deleted", (await swept.ids())[5]), ("organization", "organization.created", new.pop())]
    for kind, of, object_id in told:
        await swept.admin.execute(
            "insert into clerk_private.inbox"
            " (svix_id, svix_timestamp, signature, secret, type, kind, object_id, state, body)"
            " values ('msg_' || $3, '1', 'v1,x', 'x', $2, $1, $3, 'parked', '{}')",
            kind,
            of,
            object_id,
        )
    await look(swept)
    found = await differences(swept)
    assert "user" not in found
    assert "organization" not in found


async def listed(world: World, path: str) -> list[str]:
    return [one["id"] for one in json.loads((await world.api.read(path, [("limit", "500")])).body)["data"]]


async def test_what_a_report_leaves_standing_is_reported_once_until_it_changes(swept: World) -> None:
    await lose_an_organization(swept)
    for _ in range(2):
        await look(swept, policy=REPORT)
    now = await next_run(swept, policy=REPORT)
    assert now is not None
    assert now.reason == "counts differ"
    await swept.engine().run(now.policy, mode=now.mode)
    assert (await differences(swept))["organization"] == (1, False, 1)
    for _ in range(3):
        assert await next_run(swept, policy=REPORT) is None
        await look(swept, policy=REPORT)
    (shown, *_) = await overview.standing_differences(swept.admin)
    assert (shown["kind"], shown["difference"], shown["left_standing"]) == ("organization", 1, 1)
    await lose_an_organization(swept)
    await look(swept, policy=REPORT)
    assert (await differences(swept))["organization"] == (2, False, 1)
    await look(swept, policy=REPORT)
    again = await next_run(swept, policy=REPORT)
    assert again is not None
    assert again.reason == "counts differ"


async def test_a_full_report_that_found_it_first_is_not_repeated(swept: World) -> None:
    await lose_an_organization(swept)
    await swept.sweep(REPORT)
    for _ in range(2):
        await look(swept, policy=REPORT)
        assert await next_run(swept, policy=REPORT) is None


async def test_a_count_that_clerk_refuses_is_no_failure_of_the_run(swept: World) -> None:
    await lose_an_organization(swept)
    await look(swept)
    swept.clerk.add_fault(ApiFault("status", status=403, route="/organizations"))
    await look(swept)
    await look(swept)
    now = await next_run(swept)
    assert now is not None
    assert (now.mode, now.policy.kinds) == ("full", ("organization_membership",))


async def test_a_sweep_whose_end_could_not_be_counted_is_not_repeated_at_once(swept: World) -> None:
    await lose_an_organization(swept)
    for _ in range(2):
        await look(swept)
    now = await next_run(swept)
    assert now is not None
    swept.clerk.add_fault(ApiFault("status", status=403, query="*limit=1"))
    assert (await swept.engine().run(now.policy, mode=now.mode)).state == "completed"
    again = await next_run(swept)
    assert again is not None
    assert (again.mode, again.reason) == ("incremental", "counts differed")
    await look(swept)
    assert await next_run(swept) is None


async def test_due_asks_for_each_look_once_and_for_the_kinds_that_differ(world: World) -> None:
    await world.sweep()
    await look(world)
    now = await history(world)
    patient = replace(sync(), policy=replace(FIX, verify_after=60.0))
    assert due(patient, now) is None

    def with_user(**changes: Any) -> History:
        return replace(now, kinds={**now.kinds, "user": replace(now.kinds["user"], **changes)})

    chosen = due(patient, with_user(counts_differ=True))
    assert chosen is not None
    assert (chosen.mode, chosen.policy.kinds, chosen.reason) == ("full", ("user",), "counts differ")
    assert due(patient, with_user(counts_differ=True, failures=1, failed_at=now.now)) is None

    def doubted(*, since: float, looked: float) -> Due | None:
        def ago(seconds: float) -> datetime:
            return now.now - timedelta(seconds=seconds)

        return due(patient, with_user(counts_doubted_at=ago(since), looked_at=ago(looked)))

    assert doubted(since=59, looked=59.1) is None
    assert wait(patient, now) > 60
    assert wait(patient, with_user(counts_doubted_at=now.now)) == pytest.approx(60)
    assert wait(patient, with_user(counts_differ=True)) == 0
    assert wait(patient, with_user(counts_differ=True, failures=1, failed_at=now.now)) == pytest.approx(60)
    early = doubted(since=61, looked=61.1)
    assert early is not None
    assert early.reason == "counts differed"
    assert doubted(since=61, looked=0.5) is None
    assert due(replace(patient, suspend=True), with_user(counts_differ=True)) is None
