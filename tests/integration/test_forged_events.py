"""What the holder of a leaked secret tries besides plain deletions: nothing goes unweighed or is past mending."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest

from devtools.postgres import Database
from nexus_auth.store import held
from tests.events import T0, deleted, event, membership, organization, user
from tests.store import Seen, Store, delivery

FAR = 2**53 - 1
"""The latest time that an event may name, ms."""


@pytest.fixture
async def store(database: Database) -> AsyncIterator[Store]:
    async with Store(database) as opened:
        yield opened


def gone(kind: str, object_id: str, *, timestamp: int = T0 + 10) -> bytes:
    group = "organizationMembership" if kind == "organization_membership" else kind
    return event(f"{group}.deleted", deleted(kind, object_id), timestamp=timestamp)


def joined(name: str, *, organization_id: str = "org_a", user_id: str = "user_a", at: int = T0) -> bytes:
    whole = membership(name, organization_id=organization_id, user_id=user_id, updated_at=at, created_at=at)
    return event("organizationMembership.updated", whole, timestamp=at)


async def with_verifier(store: Store) -> None:
    async with store.pool.acquire() as connection:
        await held.beat(connection)


async def members(store: Store, number: int) -> list[str]:
    """So many members of one organization."""
    ids = [f"orgmem_{n:03d}" for n in range(number)]
    await store.put(event("organization.created", organization("org_a")))
    await store.put(*(joined(i, user_id=f"user_{i}") for i in ids))
    return ids


@pytest.mark.parametrize("parent", ["organization_id", "user_id"])
async def test_updates_that_name_a_deleted_parent_take_no_membership_away(store: Store, parent: str) -> None:
    """A tombstone of an id that nobody has costs nothing: memberships moved below it would go past every guard."""
    ids = await members(store, 30)
    await with_verifier(store)
    await store.put(gone("organization" if parent == "organization_id" else "user", "org_dead"))
    named = {"organization_id": "org_a", "user_id": ""} | {parent: "org_dead"}
    for name in ids:
        told = named | ({"user_id": f"user_{name}"} if parent == "organization_id" else {})
        assert await store.put(joined(name, at=T0 + 50, **told)) == ["incomplete"]
    assert await store.ids("clerk.organization_memberships") == ids


async def test_an_event_moves_no_membership_elsewhere(store: Store) -> None:
    """Clerk would be asked for it there, and say that it is gone."""
    (name,) = await members(store, 1)
    assert await store.put(joined(name, organization_id="org_b", user_id=f"user_{name}", at=T0 + 50)) == ["incomplete"]
    (row,) = await store.rows("clerk.organization_memberships")
    assert row["organization_id"] == "org_a"
    (parked,) = await store.rows("clerk_private.parked")
    assert "others than its row has" in parked["error"]
    assert await store.put(joined(name, user_id=f"user_{name}", at=T0 + 60)) == ["updated"]
    assert (await store.rows("clerk.organization_memberships"))[0]["organization_id"] == "org_a"


async def test_rows_under_a_tombstone_stay_until_somebody_deletes_them(store: Store) -> None:
    """Schema clerk was restored alone: its rows stand below tombstones, and an update is no deletion."""
    ids = await members(store, 3)
    await store.admin.execute("create table public.kept as select * from clerk.organization_memberships")
    await store.put(gone("organization", "org_a"))
    assert await store.ids("clerk.organization_memberships") == []
    await store.admin.execute("insert into clerk.organization_memberships select * from public.kept")
    await store.admin.execute("delete from clerk_private.objects where kind = 'organization_membership'")
    for name in ids:
        assert await store.put(joined(name, user_id=f"user_{name}", at=T0 + 99)) == ["buried"]
    assert await store.ids("clerk.organization_memberships") == ids


async def test_an_event_from_the_far_future_is_no_newer_than_its_arrival(store: Store) -> None:
    """A tombstone or a version from there could be mended by no read."""
    await store.put(event("user.created", user("user_a")), event("user.created", user("user_b")))
    await store.put(gone("user", "user_a", timestamp=FAR))
    await store.put(event("user.updated", user("user_b", updated_at=FAR), timestamp=FAR))
    latest = (time.time() + 600) * 1000
    for name in ("user_a", "user_b"):
        row = await store.arbiter("user", name)
        assert row is not None
        assert row["observed_at"] < latest
        assert (row["deleted_at"] or 0) < latest
    assert all(row["observed_at"] < latest for row in await store.rows("clerk_private.inbox"))


async def test_an_object_is_not_written_under_another_objects_arbiter(store: Store) -> None:
    await store.put(event("user.created", user("user_a")))
    change = ("user", "user_b", None, T0 + 50, T0 + 50, 0, "msg", "webhook", json.dumps(user("user_a", first_name="X")))
    with pytest.raises(asyncpg.DataError, match="another id"):
        await store.admin.fetchval("select clerk_private.apply($1::clerk_private.change[])", [change])
    assert (await store.user("user_a") or {})["first_name"] == "Ada"


async def test_a_share_of_almost_nothing_stops_no_event(store: Store) -> None:
    await store.put(*(event("user.created", user(f"user_{n}")) for n in range(8)))
    await with_verifier(store)
    await store.admin.execute("update clerk_private.guard_limits set percent = 1e-300, floor = 1")
    assert await store.put(*(gone("user", f"user_{n}") for n in range(3))) == ["deleted", "held", "held"]


async def test_a_membership_that_was_replaced_is_deleted_by_its_event_whoever_can_verify(store: Store) -> None:
    """The new one's event came first: the older one's deletion waits for nobody."""
    await members(store, 1)
    old, new = "orgmem_old", "orgmem_new"
    await store.put(joined(old, at=T0))
    await store.put(joined(new, at=T0 + 50))
    assert await store.put(gone("organization_membership", old, timestamp=T0 + 40)) == ["deleted"]
    assert old not in await store.ids("clerk.organization_memberships")
    assert (await store.backlog()).held == 0


async def test_neither_a_question_nor_a_distrusted_secret_hides_a_row(store: Store) -> None:
    await store.put(*(event("user.created", user(f"user_{n}")) for n in range(4)))
    await with_verifier(store)
    leaked = "feedfeedfeedfeed"
    await store.admin.execute("insert into clerk_private.distrusted_secrets (secret) values ($1)", leaked)
    assert await store.put(replace(delivery(gone("user", "user_0")), secret=leaked)) == ["held"]
    await store.admin.execute("update clerk_private.held_deletions set held_at = now() - interval '1 day'")
    assert await store.seen(Seen.user("user_0"), "select id from clerk.users") == ["user_0"]


async def test_an_event_that_inbox_seen_forgot_is_held_anew(store: Store) -> None:
    await store.put(*(event("user.created", user(f"user_{n}")) for n in range(4)))
    await with_verifier(store)
    assert await store.put(gone("user", "user_0")) == ["deleted"]
    again = delivery(gone("user", "user_1"))
    assert await store.put(again) == ["held"]
    await store.admin.execute("delete from clerk_private.inbox_seen")
    await store.admin.execute("delete from clerk_private.inbox where svix_id = $1", again.svix_id)
    await store.admin.execute("update clerk_private.held_deletions set state = 'refused', decided_at = now()")
    assert await store.put(again) == ["held"]
    (row,) = await store.rows("clerk_private.held_deletions")
    assert (row["state"], row["decided_at"]) == ("held", None)


async def test_held_memberships_that_went_with_their_organization_are_held_no_more(store: Store) -> None:
    """They have no row, so Clerk cannot be asked for them by name: they would be held for ever."""
    ids = await members(store, 30)
    await with_verifier(store)
    outcomes = await store.put(*(gone("organization_membership", i) for i in ids), gone("organization", "org_a"))
    assert outcomes.count("held") == 24
    async with store.pool.acquire() as connection:
        await held.answer(connection, "organization", {"org_a": (False, T0 + 100)}, spacing=0)
        left = {one.id: one.parents for one in await held.due(connection, limit=100)}
        assert set(left.values()) == {()}
        states = await held.answer(connection, "organization_membership", dict.fromkeys(left, (None, 0)), spacing=0)
    assert set(states.values()) == {"confirmed"}
    assert (await store.backlog()).held == 0
    assert "held" not in {row["state"] for row in await store.rows("clerk_private.inbox")}


async def test_more_forged_deletions_do_not_put_off_the_refusal(store: Store) -> None:
    """One a minute for the same object, each of them due at once: the first has its second read all the same."""
    await store.put(*(event("user.created", user(f"user_{n}")) for n in range(4)))
    await with_verifier(store)
    await store.put(gone("user", "user_0"), gone("user", "user_1"))

    async def read(at: int) -> object:
        async with store.pool.acquire() as connection:
            return await held.answer(connection, "user", {"user_1": (True, at)}, spacing=60)

    assert await read(T0 + 100) == {"user_1": "held"}
    assert await store.put(gone("user", "user_1", timestamp=T0 + 20)) == ["held"]
    due = "select min(not_before) from clerk_private.held_deletions where there_at is not null"
    before = await store.admin.fetchval(due)
    assert await read(T0 + 200) == {"user_1": "held"}
    assert await store.admin.fetchval(due) == before


async def test_a_deletion_that_came_after_the_first_read_is_not_refused_by_the_second(store: Store) -> None:
    """It may be true, and an answer late by a moment: its honest secret is judged by two reads of its own."""
    await store.put(*(event("user.created", user(f"user_{n}")) for n in range(4)))
    await with_verifier(store)
    await store.put(gone("user", "user_0"), replace(delivery(gone("user", "user_1")), secret="feedfeedfeedfeed"))
    async with store.pool.acquire() as connection:
        await held.answer(connection, "user", {"user_1": (True, T0 + 100)}, spacing=0)
        await store.put(gone("user", "user_1", timestamp=T0 + 150))
        await held.answer(connection, "user", {"user_1": (True, T0 + 200)}, spacing=0)
    assert [row["secret"] for row in await store.rows("clerk_private.distrusted_secrets")] == ["feedfeedfeedfeed"]
    states = {row["secret"]: row["state"] for row in await store.rows("clerk_private.held_deletions")}
    assert states == {"feedfeedfeedfeed": "refused", "0123456789abcdef": "held"}


async def test_a_refusal_that_comes_before_an_absent_read_stands(database: Database, store: Store) -> None:
    """A human refuses while the answer of a read is on its way: the row stays."""
    await store.put(*(event("user.created", user(f"user_{n}")) for n in range(4)))
    await with_verifier(store)
    await store.put(gone("user", "user_0"), gone("user", "user_1"))
    human = await asyncpg.connect(database.admin_url)
    try:
        async with store.pool.acquire() as connection:
            svix_id = await human.fetchval("select svix_id from clerk_private.held_deletions")
            deciding = human.transaction()
            await deciding.start()
            await human.execute("select clerk_private.settle_held(array[$1], false, 'me')", svix_id)
            answer = asyncio.ensure_future(held.answer(connection, "user", {"user_1": (False, T0 + 100)}, spacing=0))
            await _waits(human)
            await deciding.commit()
            assert await answer == {"user_1": "refused"}
    finally:
        await human.close()
    assert "user_1" in await store.ids("clerk.users")


async def _waits(connection: asyncpg.Connection) -> None:
    """Until somebody waits for a lock in this database."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if await connection.fetchval(
            "select exists (select from pg_stat_activity"
            " where datname = current_database() and wait_event_type = 'Lock')"
        ):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("nobody waits")
