"""A membership lives and dies with its user and its organization, whatever comes first, however many there are."""

import itertools
from collections.abc import AsyncIterator

import pytest

from devtools.postgres import Database
from tests.events import T0, deleted, event, membership, organization, user
from tests.store import Seen, Store

MANY = 5_001
"""More children than one transaction buries."""


@pytest.fixture
async def store(database: Database) -> AsyncIterator[Store]:
    async with Store(database) as opened:
        yield opened


def joined(number: int, *, organization_id: str = "org_a", user_id: str = "user_a", at: int = T0) -> bytes:
    whole = membership(f"orgmem_{number}", organization_id=organization_id, user_id=user_id, updated_at=at)
    return event("organizationMembership.created", whole, timestamp=at)


def gone(kind: str, object_id: str, *, at: int = T0 + 10) -> bytes:
    group = "organizationMembership" if kind == "organization_membership" else kind
    return event(f"{group}.deleted", deleted(kind, object_id), timestamp=at)


PARENTS = [("user", "user_a"), ("organization", "org_a")]


@pytest.mark.parametrize(("kind", "parent"), PARENTS)
async def test_one_that_comes_after_its_parents_deletion_is_buried(store: Store, kind: str, parent: str) -> None:
    await store.put(gone(kind, parent))
    assert await store.put(joined(1, at=T0 + 99)) == ["buried"]
    assert await store.rows("clerk.organization_memberships") == []
    assert await store.tombstones() == {parent: "event", "orgmem_1": "parent"}


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize(("kind", "parent"), PARENTS)
async def test_a_deletion_buries_the_memberships_in_every_order(
    store: Store, kind: str, parent: str, together: bool
) -> None:
    await store.put(event("user.created", user("user_a")), event("organization.created", organization("org_a")))
    for number, order in enumerate(itertools.permutations(range(3))):
        events = [joined(number), joined(number, at=T0 + 50), gone(kind, parent)]
        chosen = [events[i] for i in order]
        await (store.put(*chosen) if together else store.put_each(chosen))
        assert await store.rows("clerk.organization_memberships") == [], order
        row = await store.arbiter("organization_membership", f"orgmem_{number}")
        assert row is not None
        assert (row["buried_by"], row["deleted_at"], row["raw"]) == ("parent", T0 + 10, None), order


async def test_the_other_parents_memberships_stay(store: Store) -> None:
    await store.put(joined(1), joined(2, user_id="user_b"), joined(3, organization_id="org_b"))
    await store.put(gone("user", "user_a"))
    assert await store.ids("clerk.organization_memberships") == ["orgmem_2"]
    await store.put(gone("organization", "org_a"))
    assert await store.ids("clerk.organization_memberships") == []
    assert await store.tombstones() == {
        "user_a": "event",
        "org_a": "event",
        "orgmem_1": "parent",
        "orgmem_2": "parent",
        "orgmem_3": "parent",
    }


async def test_both_parents_deleted_in_one_batch_bury_a_membership_once(store: Store) -> None:
    await store.put(joined(1))
    assert await store.put(gone("user", "user_a"), joined(1, at=T0 + 5), gone("organization", "org_a")) == [
        "deleted",
        "buried",
        "deleted",
    ]
    assert await store.rows("clerk.organization_memberships") == []


async def test_its_own_deletion_counts_more_than_its_parents_in_every_order(store: Store) -> None:
    for number, (order, together) in enumerate(itertools.product(itertools.permutations(range(3)), (False, True))):
        own, parent = f"orgmem_{number}", f"user_{number}"
        events = [
            joined(number, user_id=parent),
            gone("organization_membership", own, at=T0 + 5),
            gone("user", parent, at=T0 + 9),
        ]
        chosen = [events[i] for i in order]
        await (store.put(*chosen) if together else store.put_each(chosen))
        assert (await store.tombstones())[own] == "event", (order, together)


async def test_parents_that_nobody_told_of_are_fine(store: Store) -> None:
    assert await store.put(joined(1)) == ["created"]
    assert await store.ids("clerk.organization_memberships") == ["orgmem_1"]
    assert await store.rows("clerk.users") == await store.rows("clerk.organizations") == []


async def test_the_embedded_organization_and_user_make_no_rows_and_change_none(store: Store) -> None:
    await store.put(event("organization.created", organization("org_a", name="as told", updated_at=T0)))
    whole = membership("orgmem_1", organization_id="org_a", user_id="user_a")
    whole["organization"] = organization("org_a", name="embedded", updated_at=T0 + 99)
    await store.put(event("organizationMembership.created", whole))
    assert [row["name"] for row in await store.rows("clerk.organizations")] == ["as told"]


@pytest.mark.parametrize("missing", ["public_user_data", "organization"])
async def test_one_without_its_user_or_organization_is_completed_from_the_row_that_is_held(
    store: Store, missing: str
) -> None:
    await store.put(joined(1))
    for number, nothing in enumerate([None, {}, {"user_id": None, "id": None}, "x"], start=1):
        part = membership("orgmem_1", organization_id="org_a", user_id="user_a", updated_at=T0 + number)
        part |= {missing: nothing, "role": f"org:{number}"}
        assert await store.put(event("organizationMembership.updated", part, timestamp=T0 + number)) == ["updated"]
        row = (await store.rows("clerk.organization_memberships"))[0]
        assert (row["organization_id"], row["user_id"], row["role"]) == ("org_a", "user_a", f"org:{number}")
    assert await store.put(gone("user", "user_a")) == ["deleted"]
    assert await store.put(event("organizationMembership.updated", part, timestamp=T0 + 99)) == ["buried"]
    assert await store.rows("clerk.organization_memberships") == []


async def test_one_without_its_user_is_completed_by_another_of_its_batch_in_both_orders(store: Store) -> None:
    for number in (1, 2):
        part = membership(f"orgmem_{number}", organization_id="org_a", user_id="user_a", updated_at=T0 + 5, role="late")
        part |= {"public_user_data": None}
        events = [joined(number), event("organizationMembership.updated", part, timestamp=T0 + 5)]
        await store.put(*(events if number == 1 else events[::-1]))
    rows = await store.rows("clerk.organization_memberships")
    assert [(row["user_id"], row["role"]) for row in rows] == [("user_a", "late")] * 2
    assert await store.put(gone("user", "user_a"), *events) == ["deleted", "buried", "buried"]
    assert await store.rows("clerk.organization_memberships") == []


async def test_one_without_its_user_that_nobody_holds_is_parked_and_not_guessed(store: Store) -> None:
    part = membership("orgmem_1", organization_id="org_a", user_id="user_a") | {"public_user_data": None}
    incomplete = event("organizationMembership.created", part)
    assert await store.put(incomplete, joined(2)) == ["incomplete", "created"]
    assert await store.ids("clerk.organization_memberships") == ["orgmem_2"]
    assert await store.arbiter("organization_membership", "orgmem_1") is None
    (parked,) = await store.rows("clerk_private.parked")
    states = {row["object_id"]: row["state"] for row in await store.rows("clerk_private.inbox")}
    assert states == {"orgmem_1": "parked", "orgmem_2": "applied"}
    assert "no such membership" in parked["error"]
    assert (await store.backlog()).parked == 1


async def crowd(store: Store, many: int = MANY, *, organization_id: str = "org_a") -> None:
    """An organization with many members, none of whom was told of; written as the webhook's SQL would have."""
    await store.put(event("organization.created", organization(organization_id)))
    await store.admin.execute(
        """
        with made as (
          insert into clerk.organization_memberships (id, organization_id, user_id, role, created_at, updated_at)
          select format('orgmem_%s_%s', $1::text, n), $1, 'user_' || n, 'org:member', now(), now()
          from generate_series(1, $2::int) n returning id)
        insert into clerk_private.objects (kind, id, updated_at, observed_at, source_rank, svix_id, raw, source)
        select 'organization_membership', id, 1, 1, 0, '', '{}', 'webhook' from made
        """,
        organization_id,
        many,
    )


async def test_a_cascade_too_large_for_one_transaction_is_hidden_at_once_and_buried_in_chunks(store: Store) -> None:
    await crowd(store)
    await store.put(joined(1, organization_id="org_b", user_id="user_7"), event("user.created", user("user_7")))
    assert await store.put(gone("organization", "org_a"), joined(2, organization_id="org_b")) == ["deleted", "created"]
    assert await store.tombstones() == {"org_a": "event"}
    assert await store.rows("clerk.organizations") == []
    assert len(await store.rows("clerk.organization_memberships")) == MANY + 2
    assert (await store.backlog()).burying == 1
    everything = "select organization_id from clerk.organization_memberships"
    assert await store.seen(Seen.user("user_7"), everything) == ["org_b", "org_b"]
    assert await store.seen(Seen("service_role"), everything) == ["org_b", "org_b"]
    assert await store.put(joined(3, at=T0 + 99)) == ["buried"]

    async with store.pool.acquire() as connection:
        assert await connection.fetchval("select clerk_private.bury(2000)") == 2000
    assert len(await store.rows("clerk.organization_memberships")) == MANY + 2 - 2000
    assert await store.bury() == 0
    assert await store.ids("clerk.organization_memberships") == ["orgmem_1", "orgmem_2"]
    assert await store.rows("clerk_private.burying") == []
    buried = await store.tombstones()
    assert len(buried) == MANY + 2
    assert set(buried.values()) == {"event", "parent"}
    assert all(row["raw"] is None for row in await store.rows("clerk_private.objects") if row["id"] in buried)


async def test_many_deletions_in_one_batch_bury_no_more_children_at_once_than_one(store: Store) -> None:
    for name in ("org_a", "org_b", "org_c"):
        await crowd(store, 2_000, organization_id=name)
    assert await store.put(*(gone("organization", name) for name in ("org_a", "org_b", "org_c"))) == ["deleted"] * 3
    assert [row["id"] for row in await store.rows("clerk_private.burying")] == ["org_c"]
    assert len(await store.rows("clerk.organization_memberships")) == 2_000
    assert await store.bury() == 0
    assert await store.rows("clerk.organization_memberships") == []


async def test_what_was_revived_meanwhile_is_not_buried(store: Store) -> None:
    await crowd(store)
    await store.put(gone("organization", "org_a"))
    await store.admin.execute(
        "update clerk_private.objects set deleted_at = null, buried_by = null, revived_at = $1 where id = 'org_a'",
        T0 + 100,
    )
    assert await store.bury() == 0
    assert len(await store.rows("clerk.organization_memberships")) == MANY
    assert await store.rows("clerk_private.burying") == []


async def test_a_child_that_was_revived_after_the_parents_deletion_does_not_keep_burying_busy(store: Store) -> None:
    await crowd(store)
    await store.put(gone("organization", "org_a"))
    await store.admin.execute("update clerk_private.objects set revived_at = $1 where id = 'orgmem_org_a_17'", T0 + 100)
    assert await store.bury() == 0
    assert await store.ids("clerk.organization_memberships") == ["orgmem_org_a_17"]
    assert await store.rows("clerk_private.burying") == []


async def test_burying_waits_for_nobody_who_writes_to_the_parent(store: Store) -> None:
    await crowd(store)
    await store.put(gone("organization", "org_a"))
    async with store.admin.transaction():
        await store.admin.execute("select from clerk_private.objects where id = 'org_a' for update")
        assert await store.bury() == 1
    assert await store.bury() == 0


async def test_only_one_buries_at_a_time(store: Store) -> None:
    await crowd(store)
    await store.put(gone("organization", "org_a"))
    async with store.pool.acquire() as other, other.transaction():
        assert await other.fetchval("select clerk_private.bury(10)") == 10
        assert await store.bury() == 1
    assert await store.bury() == 0
