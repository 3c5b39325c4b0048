"""What differs is found, named, and put right; Report and plan put nothing right."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from tests import events
from tests.reconcile.conftest import MakeWorld
from tests.reconcile.world import FIX, REPORT, World

Break = Callable[[World, str], Awaitable[None]]


async def missing(world: World, user: str) -> None:
    await world.admin.execute("delete from clerk_private.objects where id = $1", user)
    await world.admin.execute("delete from clerk.user_emails where user_id = $1", user)
    await world.admin.execute("delete from clerk.users where id = $1", user)


async def stale(world: World, user: str) -> None:
    with world.clerk.events.silence():
        world.clerk.changes.users.update(user, {"first_name": "Newer"})


async def row_changed(world: World, user: str) -> None:
    await world.admin.execute("update clerk.users set first_name = 'by hand' where id = $1", user)


async def version_changed(world: World, user: str) -> None:
    await world.admin.execute("update clerk.users set updated_at = updated_at - interval '1 year' where id = $1", user)


async def row_removed(world: World, user: str) -> None:
    await world.admin.execute("delete from clerk.users where id = $1", user)


async def email_changed(world: World, user: str) -> None:
    await world.admin.execute("update clerk.user_emails set email = 'x@example.com' where user_id = $1", user)


async def email_removed(world: World, user: str) -> None:
    await world.admin.execute("delete from clerk.user_emails where user_id = $1", user)


async def email_added(world: World, user: str) -> None:
    await world.admin.execute(
        "insert into clerk.user_emails (user_id, id, email, verified, is_primary)"
        " values ($1, 'idn_by_hand', 'x@example.com', true, false)",
        user,
    )


async def projection_older(world: World, user: str) -> None:
    await world.admin.execute("update clerk_private.objects set projection = 0 where id = $1", user)


async def arbiter_removed(world: World, user: str) -> None:
    await world.admin.execute("delete from clerk_private.objects where id = $1", user)


EDITS: dict[str, tuple[Break, str]] = {
    "missing": (missing, "missing"),
    "stale": (stale, "stale"),
    "changed by hand": (row_changed, "edited"),
    "its updated_at changed by hand": (version_changed, "edited"),
    "removed by hand": (row_removed, "edited"),
    "an e-mail changed by hand": (email_changed, "edited"),
    "an e-mail removed by hand": (email_removed, "edited"),
    "an e-mail added by hand": (email_added, "edited"),
    "an older projection": (projection_older, "projection"),
}


@pytest.mark.parametrize("what", EDITS)
async def test_a_difference_is_found_planned_reported_and_repaired(world: World, what: str) -> None:
    damage, problem = EDITS[what]
    user = (await world.ids())[3]
    await damage(world, user)
    before = await world.dump()

    plan = await world.engine().plan(FIX)
    assert await world.dump() == before
    assert plan.counts["user"][problem] == 1

    unchanged = await world.dump(without=("runs", "findings", "watermarks", "count_checks"))
    report = await world.sweep(REPORT)
    assert (await world.findings())[user] == (problem, "reported")
    assert await world.dump(without=("runs", "findings", "watermarks", "count_checks")) == unchanged

    fix = await world.sweep()
    assert (await world.findings())[user] == (problem, "repaired")
    assert await world.differs() == []
    found = [
        {name: n for name, n in counts["user"].items() if name != "repaired"}
        for counts in (plan.counts, report.counts, fix.counts)
    ]
    assert found[0] == found[1] == found[2]
    again = await world.sweep()
    assert set(again.counts["user"]) == {"seen"}


@pytest.mark.parametrize("table", ["users", "organizations", "organization_memberships"])
async def test_a_row_added_by_hand_goes_the_way_of_every_extra(world: World, table: str) -> None:
    columns, values = {
        "users": ("id", "'zz_by_hand'"),
        "organizations": ("id, name", "'zz_by_hand', 'x'"),
        "organization_memberships": (
            "id, organization_id, user_id, role",
            "'zz_by_hand', 'org_x', 'user_x', 'org:admin'",
        ),
    }[table]
    await world.admin.execute(
        f"insert into clerk.{table} ({columns}, created_at, updated_at) values ({values}, now(), now())"
    )
    before = await world.dump()
    await world.engine().plan(FIX)
    assert await world.dump() == before
    result = await world.sweep()
    assert await world.findings() == {"zz_by_hand": ("extra", "awaiting second read")}
    assert "1 " in (result.message or "")
    assert "awaits its second read" in (result.message or "")
    assert await world.differs() != []
    await world.settle()
    assert await world.differs() == []
    assert await world.dead() == {"zz_by_hand"}


async def test_only_a_deep_sweep_finds_a_change_that_moves_no_updated_at(make_world: MakeWorld) -> None:
    world = await make_world(still_fields=("public_metadata",))
    await world.sweep()
    user = (await world.ids())[3]
    with world.clerk.events.silence():
        world.clerk.changes.users.replace_metadata(user, {"public_metadata": {"plan": "gold"}})
    await world.sweep()
    assert await world.differs() != []
    result = await world.sweep(mode="deep")
    assert result.counts["user"]["deep"] == 1
    assert (await world.findings())[user] == ("deep", "repaired")
    assert await world.differs() == []


async def test_a_backfill_lists_no_findings_of_what_was_never_there(make_world: MakeWorld) -> None:
    world = await make_world(users=1_200, organizations=20, memberships=900)
    # the webhook was there first
    await world.put(events.event("user.created", events.user("user_of_another_day")))
    result = await world.sweep()
    assert result.state == "completed"
    assert {kind: counts["repaired"] for kind, counts in result.counts.items()} == {
        "user": 1_200,
        "organization": 20,
        "organization_membership": 900,
    }
    assert await world.findings() == {"user_of_another_day": ("extra", "awaiting second read")}
    await world.settle()
    assert await world.differs() == []


async def test_a_plan_agrees_with_the_fix_that_follows(make_world: MakeWorld) -> None:
    world = await make_world(users=60, organizations=4, memberships=50)
    await world.sweep()
    ids = await world.ids()
    for user, damage in zip(ids, (stale, row_removed, email_changed, missing), strict=False):
        await damage(world, user)
    with world.clerk.events.silence():
        world.clerk.changes.users.delete(ids[10])
        world.clerk.changes.users.create({"email_address": ["new@example.com"]})
    for policy in (REPORT, FIX):
        plan = await world.engine().plan(replace(policy))
        counts = plan.counts["user"]
        assert (counts["missing"], counts["stale"], counts["edited"], counts["gone"]) == (2, 1, 2, 1)
    fix = await world.sweep()
    done = fix.counts["user"]
    assert (done["missing"], done["stale"], done["edited"], done["awaiting"]) == (2, 1, 2, 1)
    assert (await world.settle()).counts["user"]["tombstoned"] == 1
    assert await world.differs() == []


async def test_an_incremental_run_repairs_users_that_changed_since_the_watermark(world: World) -> None:
    user = (await world.ids())[3]
    await stale(world, user)
    result = await world.sweep(mode="incremental")
    assert result.counts["user"]["repaired"] == 1
    assert await world.differs() == []


async def test_an_incremental_run_without_a_watermark_changes_nothing(make_world: MakeWorld) -> None:
    world = await make_world()
    result = await world.sweep(mode="incremental")
    assert (result.state, result.counts) == ("completed", {})
    assert await world.ids() == []
