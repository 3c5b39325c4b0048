"""What only a forger makes: a sweep mends it, and no read by name becomes a proof that somebody else is gone."""

from typing import Any

import pytest

from nexus_auth.clerk.api import ClerkUnavailable, Params
from nexus_auth.clerk.catalogue import BY_KIND
from nexus_auth.reconcile.held import verify_held
from nexus_auth.reconcile.verification import verify
from nexus_auth.store import counts, held
from tests import events
from tests.reconcile.conftest import MakeWorld
from tests.reconcile.world import World


async def test_an_id_with_a_minus_does_not_hide_the_user_that_it_names(world: World) -> None:
    """Clerk reads `-user_a` as "without user_a"."""
    there = (await world.ids())[:3]
    forged = [f"{sign}{of}" for of in there for sign in "-+"]
    verdict = await verify(world.requester, BY_KIND["user"], dict.fromkeys((*forged, *there), ()))
    assert set(verdict.there) == set(there)
    assert verdict.gone == {}
    assert verdict.unknown == set(forged)


async def test_forged_names_do_not_keep_honest_ones_from_being_read(world: World) -> None:
    there = (await world.ids())[:3]
    forged = ["user_" + "x" * 507, "+" + there[0], "a b", "user_a,user_b", "user_a\x00", "ü", "user/../x"]
    verdict = await verify(world.requester, BY_KIND["user"], dict.fromkeys((*forged, *there, "user_nobody"), ()))
    assert set(verdict.there) == set(there)
    assert set(verdict.gone) == {"user_nobody"}


async def test_a_membership_is_not_asked_for_along_a_forged_path(world: World) -> None:
    rows = await world.admin.fetch("select id, organization_id, user_id from clerk.organization_memberships limit 3")
    asked = {row[0]: (f"{row[1]}/nowhere?x=", row[2]) for row in rows}
    asked |= {f"{row[0]}x": (row[1], f"-{row[2]}") for row in rows}
    verdict = await verify(world.requester, BY_KIND["organization_membership"], asked)
    assert (verdict.there, verdict.gone) == ({}, {})
    assert verdict.unknown == set(asked)


FOREVER = (253_402_300_000_000, 2**50 + 5, -5)
"""Moments in which nothing was created: the year 9999, behind the last window, and before 1970, ms."""


@pytest.mark.parametrize("created_at", FOREVER)
async def test_a_forged_row_from_no_window_is_found_and_goes(world: World, created_at: int) -> None:
    forged = {
        "user_forged": events.event("user.created", events.user("user_forged", created_at=created_at)),
        "org_forged": events.event("organization.created", events.organization("org_forged", created_at=created_at)),
    }
    assert await world.put(*forged.values()) == ["created", "created"]
    await world.sweep()
    await world.settle()
    assert set(forged) <= await world.dead()
    assert await world.differs() == []


@pytest.mark.parametrize("created_at", FOREVER)
async def test_a_forged_update_from_no_window_is_mended(world: World, created_at: int) -> None:
    user = (await world.ids())[3]
    organization = (await world.ids("organizations"))[0]
    latest: Any = {"created_at": created_at, "updated_at": 2**53}
    await world.put(
        events.event("user.updated", events.user(user, **latest), timestamp=2**53),
        events.event("organization.updated", events.organization(organization, **latest), timestamp=2**53),
    )
    # five minutes pass: an event may be that much ahead of the clock
    await world.admin.execute(
        "update clerk_private.objects set observed_at = observed_at - 600000 where id = any ($1)", [user, organization]
    )
    for _ in range(2):
        await world.sweep()
        await world.settle()
    assert await world.differs() == []
    assert not await world.dead()


async def test_a_list_of_children_that_never_ends_is_a_named_failure(make_world: MakeWorld) -> None:
    world = await make_world(users=20, organizations=1, memberships=8)
    await world.sweep()
    organization = (await world.ids("organizations"))[0]
    await world.bury_falsely("organization", organization)
    page: list[bytes] = []

    def spoil(path: str, params: Params, answer: bytes) -> bytes:
        if path.endswith("/memberships") and dict(params).get("limit") == "500":
            page.append(answer)
            return page[0]
        return answer

    world.api.spoil = spoil
    results = [await world.sweep(), await world.sweep(mode="incremental")]
    assert any("repeats a page" in (result.message or "") for result in results)
    assert len(page) < 20
    world.api.spoil = None
    for _ in range(5):
        await world.sweep(mode="incremental")
    await world.sweep()
    assert await world.dead() == set()


async def test_what_clerk_cannot_answer_does_not_keep_other_held_deletions_from_being_asked(
    make_world: MakeWorld,
) -> None:
    world = await make_world(users=200, organizations=0, memberships=0)
    await world.sweep()
    async with world.webhook.acquire() as connection:
        await held.beat(connection)
    users = await world.ids()
    outcomes = await world.put(*(events.event("user.deleted", events.deleted("user", i)) for i in users))
    assert outcomes.count("held") == 150
    async with world.pool.acquire() as connection:
        unlucky = (await held.due(connection, limit=1))[0].id

    def spoil(_path: str, params: Params, answer: bytes) -> bytes:
        return b"<html>" if ("user_id", unlucky) in params else answer

    world.api.spoil = spoil
    with pytest.raises(ClerkUnavailable):
        await verify_held(world.webhook, requester=world.requester, spacing=60)
    await verify_held(world.webhook, requester=world.requester, spacing=60)
    read = "select count(*) from clerk_private.held_deletions where there_at is not null"
    assert await world.admin.fetchval(read) == 50
    assert await world.admin.fetchval("select count(*) from clerk.users") == 150


async def test_a_row_that_clerk_still_has_is_counted_while_its_deletion_is_held(make_world: MakeWorld) -> None:
    """Otherwise every look finds a difference that no sweep can mend."""
    world = await make_world(users=200, organizations=0, memberships=0)
    await world.sweep()
    async with world.webhook.acquire() as connection:
        await held.beat(connection)
    await world.put(*(events.event("user.deleted", events.deleted("user", i)) for i in await world.ids()))
    rows = await world.admin.fetchval("select count(*) from clerk.users")
    async with world.pool.acquire() as connection:
        assert (await counts.expected(connection, "user")).rows == 0
    while await world.admin.fetchval("select exists (select from clerk_private.held_deletions where there_at is null)"):
        await verify_held(world.webhook, requester=world.requester, spacing=60)
    async with world.pool.acquire() as connection:
        assert (await counts.expected(connection, "user")).rows == rows == 150


@pytest.mark.parametrize("mode", ["full", "deep"])
async def test_product_rows_stand_when_the_mirror_alone_is_restored_under_false_tombstones(
    world: World, mode: Any
) -> None:
    """Users and organizations were buried falsely, then schema clerk came back from a backup with its product rows."""
    users, organizations = (await world.ids())[:3], (await world.ids("organizations"))[:1]
    tables = ("users", "user_emails", "organizations", "organization_memberships")
    for table in tables:
        await world.admin.execute(f"create table public.backup_{table} as select * from clerk.{table}")
    for user in users:
        await world.bury_falsely("user", user)
    await world.bury_falsely("organization", organizations[0])
    for table in tables:
        await world.admin.execute(
            f"insert into clerk.{table} select * from public.backup_{table} on conflict do nothing"
        )
    for table in ("users", "organizations", "organization_memberships"):
        await world.admin.execute(
            f"create table public.of_{table} (id text references clerk.{table} on delete cascade);"
            f"insert into public.of_{table} select id from clerk.{table}"
        )
    count = "select " + ", ".join(f"(select count(*) from of_{table})" for table in tables if table != "user_emails")
    before = await world.admin.fetchrow(count)
    members = await world.admin.fetch(
        "select * from clerk.organization_memberships where user_id = any ($1) or organization_id = any ($2)",
        users,
        organizations,
    )
    # an event of each membership comes beside it, and the service goes on with what it has to bury
    for row in members:
        whole = events.membership(row["id"], organization_id=row["organization_id"], user_id=row["user_id"])
        await world.put(events.event("organizationMembership.updated", whole))
    async with world.webhook.acquire() as connection:
        await connection.fetchval("select clerk_private.bury()")
    for _ in range(3):
        await world.sweep(mode=mode)
        await world.settle()
    assert await world.admin.fetchrow(count) == before
    assert await world.dead() == set()
    assert await world.differs() == []
