"""A tombstone that Clerk knows nothing of: brought back by two agreeing verification reads and by nothing else."""

from dataclasses import replace
from typing import Any

from devtools.clerk_emulator import ApiFault
from tests import events
from tests.reconcile.conftest import MakeWorld
from tests.reconcile.world import FIX, World


async def settle(world: World, policy: Any = FIX) -> dict[str, dict[str, int]]:
    """An incremental run: the reads that are due."""
    return (await world.sweep(policy, mode="incremental")).counts


async def revived_at(world: World, object_id: str) -> int | None:
    at: int | None = await world.admin.fetchval("select revived_at from clerk_private.objects where id = $1", object_id)
    return at


async def test_a_false_tombstone_is_revived_by_two_reads_and_not_by_a_list_page(world: World) -> None:
    user = (await world.ids())[3]
    await world.bury_falsely("user", user)
    result = await world.sweep()
    assert result.counts["user"]["resurfaced"] == 1
    assert user in await world.dead()
    assert (await settle(world)).get("user", {}).get("revived") is None
    assert user in await world.dead()
    assert (await settle(world))["user"]["revived"] == 1
    assert user not in await world.dead()
    for _ in range(3):
        await world.sweep()
    assert await world.differs() == []
    assert not await world.dead()


async def test_reads_wait_until_they_are_due(world: World) -> None:
    user = (await world.ids())[3]
    await world.bury_falsely("user", user)
    patient = replace(FIX, verify_after=60.0)
    await world.sweep(patient)
    for _ in range(3):
        await settle(world, patient)
    assert await world.admin.fetchval("select answers from clerk_private.verify_queue where id = $1", user) == 0
    await world.admin.execute("update clerk_private.verify_queue set not_before = now()")
    for _ in range(3):
        await settle(world, patient)
    assert await world.admin.fetchval("select answers from clerk_private.verify_queue where id = $1", user) == 1
    assert user in await world.dead()
    await world.admin.execute("update clerk_private.verify_queue set not_before = now()")
    assert (await settle(world, patient))["user"]["revived"] == 1


async def test_an_organization_comes_back_with_its_members(make_world: MakeWorld) -> None:
    world = await make_world(users=20, organizations=1, memberships=8)
    await world.sweep()
    organization = (await world.ids("organizations"))[0]
    await world.bury_falsely("organization", organization)
    assert len(await world.dead()) == 9
    await world.sweep()
    for _ in range(5):
        await settle(world)
    assert await world.dead() == set()
    assert await world.differs() == []


async def test_children_come_back_with_their_parent_and_wait_for_nothing_more(make_world: MakeWorld) -> None:
    """Both reads of the parent list its children, too: those that died with it, and one that came meanwhile."""
    world = await make_world(users=20, organizations=2, memberships=16)
    await world.sweep()
    organization = (await world.ids("organizations"))[0]
    patient = replace(FIX, verify_after=60.0)
    await world.bury_falsely("organization", organization)
    dead = await world.dead()
    assert len(dead) > 2
    only = replace(patient, kinds=("organization",), scope=patient.kinds)
    await world.sweep(only)
    held = await world.ids()
    members = {record.user_id for record in world.clerk.state.members_of(organization)}
    with world.clerk.events.silence():
        new = next(user for user in held if user not in members)
        world.clerk.changes.memberships.create(organization_id=organization, user_id=new, role="org:member")
    for _ in range(2):
        await world.admin.execute(
            "update clerk_private.verify_queue set not_before = now() where kind = 'organization'"
        )
        result = await world.sweep(only, mode="incremental")
    assert result.counts["organization"]["revived"] == 1
    assert result.counts["organization"]["children"] == len(dead)  # those that died with it, and the new one
    assert await world.dead() == set()
    assert await world.differs() == []
    assert await world.admin.fetchval("select count(*) from clerk_private.verify_queue") == 0


async def test_a_replay_after_a_revival_changes_nothing(world: World) -> None:
    user = (await world.ids())[3]
    deletion = events.event("user.deleted", events.deleted("user", user))
    assert await world.put(deletion) == ["deleted"]
    await world.sweep()
    await settle(world)
    await settle(world)
    for _ in range(3):
        await world.sweep()
    assert await world.differs() == []
    before = await world.dump(without=("inbox", "inbox_seen", "runs", "findings"))
    assert await world.put(deletion) == ["stale"]
    assert await world.dump(without=("inbox", "inbox_seen", "runs", "findings")) == before


async def test_a_stale_replica_revives_nothing(make_world: MakeWorld) -> None:
    world = await make_world(stale_deleted_seconds=None)
    await world.sweep()
    user = (await world.ids())[3]
    with world.clerk.events.silence():
        world.clerk.changes.users.delete(user)
    await world.bury_falsely("user", user)
    result = await world.sweep()
    assert result.counts["user"]["resurfaced"] == 1
    await settle(world)  # the replica still says that it is there
    world.clerk.state.catch_up()
    assert (await settle(world)).get("user", {}).get("revived") is None
    assert user in await world.dead()
    assert await world.admin.fetchval("select count(*) from clerk_private.verify_queue where id = $1", user) == 0


async def test_a_tombstone_made_anew_between_two_reads_is_not_revived(world: World) -> None:
    user = (await world.ids())[3]
    await world.bury_falsely("user", user)
    await world.sweep()
    await settle(world)
    await world.admin.execute(
        "update clerk_private.objects set tombstone_seq = nextval('clerk_private.tombstones') where id = $1", user
    )
    assert (await settle(world)).get("user", {}).get("revived") is None
    assert user in await world.dead()


async def test_a_deletion_observed_after_the_read_began_stands(world: World) -> None:
    user = (await world.ids())[3]
    await world.bury_falsely("user", user)
    await world.sweep()
    await settle(world)
    await world.admin.execute(
        "update clerk_private.objects set deleted_at = (extract(epoch from now()) * 1000)::bigint + 60000"
        " where id = $1",
        user,
    )
    assert (await settle(world)).get("user", {}).get("revived") is None
    assert user in await world.dead()


async def test_a_member_is_not_revived_below_a_dead_parent(make_world: MakeWorld) -> None:
    world = await make_world(users=20, organizations=1, memberships=4)
    await world.sweep()
    organization = (await world.ids("organizations"))[0]
    members = set(await world.ids("organization_memberships"))
    await world.bury_falsely("organization", organization)
    only_members = replace(FIX, kinds=("organization_membership",))
    await world.sweep(only_members)
    for _ in range(3):
        await settle(world, only_members)
    rows = await world.admin.fetch(
        "select deleted_at is not null, buried_by from clerk_private.objects where id = any ($1)", list(members)
    )
    assert {tuple(row) for row in rows} == {(True, "parent")}
    # and once the parent lives, they do
    await world.sweep()
    for _ in range(6):
        await settle(world)
    assert await world.differs() == []


async def test_a_list_page_read_before_a_deletion_and_applied_after_it_changes_nothing(make_world: MakeWorld) -> None:
    world = await make_world(users=700, organizations=0, memberships=0)
    await world.sweep()
    user = (await world.ids())[600]
    world.clerk.changes.users.update(user, {"first_name": "Late"})
    applied: list[str] = []

    async def at(name: str) -> None:
        if name == "run.led":
            # the page is read after this; the deletion of a moment later reaches the database first
            await world.admin.execute(
                "select clerk_private.lock_parents(c), clerk_private.apply(c) from (select array[('user', $1, 'event',"
                " 0, (extract(epoch from now()) * 1000)::bigint + 60000, 0::smallint, '', 'webhook', null)"
                "::clerk_private.change] as c) x",
                user,
            )
            applied.append(name)

    await world.engine(failpoint=at).run(FIX, mode="full")
    assert applied
    assert user in await world.dead()
    assert user not in await world.ids()


async def test_a_version_that_is_too_high_is_lowered_by_two_agreeing_reads(world: World) -> None:
    user = (await world.ids())[3]
    await world.admin.execute(
        "update clerk_private.objects set updated_at = updated_at + 1000000000000,"
        " raw = jsonb_set(raw, '{updated_at}', to_jsonb(updated_at + 1000000000000)) where id = $1",
        user,
    )
    await world.admin.execute(
        "update clerk.users set updated_at = updated_at + interval '1000000000 s' where id = $1", user
    )
    await world.admin.execute(
        "update clerk_private.objects o set digest = clerk_private.digest_user(u, array(select e from"
        ' clerk.user_emails e where e.user_id = u.id order by e.id collate "C")) from clerk.users u'
        " where u.id = o.id and o.id = $1",
        user,
    )
    result = await world.sweep()
    assert result.counts["user"]["ahead"] == 1
    assert (await settle(world)).get("user", {}).get("lowered") is None
    assert (await settle(world))["user"]["lowered"] == 1
    assert await world.differs() == []


async def test_reads_that_prove_nothing_are_not_due_at_once_again(make_world: MakeWorld) -> None:
    world = await make_world()
    await world.sweep()
    user = (await world.ids())[3]
    await world.bury_falsely("user", user)
    await world.sweep()
    world.clerk.add_fault(ApiFault("status", status=404, route="/users", query="*user_id=*"))
    await settle(world)
    due = await world.admin.fetchval(
        "select not_before <= now() from clerk_private.verify_queue where kind = 'user' and id = $1", user
    )
    assert due is False
