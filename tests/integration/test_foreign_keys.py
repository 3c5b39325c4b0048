"""A customer hangs a foreign key of their own on the mirror: no deletion is held up, and the key is named."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from devtools.postgres import Database
from tests.events import T0, deleted, event, membership, organization, user
from tests.store import Seen, Store


@pytest.fixture
async def store(database: Database) -> AsyncIterator[Store]:
    async with Store(database) as opened:
        yield opened


def gone(kind: str, object_id: str) -> bytes:
    group = "organizationMembership" if kind == "organization_membership" else kind
    return event(f"{group}.deleted", deleted(kind, object_id), timestamp=T0 + 10)


async def customer_refers(store: Store, clause: str, *, column: str = "text", rows: bool = True) -> None:
    await store.admin.execute(
        f"""
        create schema customer;
        create table customer.orders (
          id int generated always as identity primary key,
          user_id {column} constraint orders_user references clerk.users (id) {clause});
        """
    )
    if rows:
        await store.admin.execute("insert into customer.orders (user_id) values ('user_a'), ('user_a')")


async def two_users(store: Store) -> None:
    told = [user(name, first_name="Ada", username=name, public_metadata={"a": 1}) for name in ("user_a", "user_b")]
    await store.put(*(event("user.created", whole) for whole in told))


REFUSING = ["", "on delete restrict", "deferrable initially deferred", "on delete set default"]


@pytest.mark.parametrize("clause", REFUSING)
async def test_the_tombstone_commits_and_the_row_is_emptied_hidden_and_taken_away_later(
    store: Store, clause: str
) -> None:
    await two_users(store)
    await customer_refers(store, clause, column="text not null default 'user_a'")
    others = [event("user.created", user("user_c")), event("organization.created", organization("org_c"))]
    assert await store.put(others[0], gone("user", "user_a"), gone("user", "user_b"), others[1]) == [
        "created",
        "deleted",
        "deleted",
        "created",
    ]
    assert await store.tombstones() == {"user_a": "event", "user_b": "event"}
    assert await store.ids("clerk.users") == ["user_a", "user_c"]
    row = await store.user("user_a")
    assert row is not None
    kept = {name for name, value in row.items() if value not in (None, False, "{}")}
    assert kept == {"id", "created_at", "updated_at"}
    assert [row["user_id"] for row in await store.rows("clerk.user_emails")] == ["user_c"]

    assert await store.seen(Seen.user("user_a"), "select id from clerk.users") == []
    assert await store.seen(Seen("service_role"), "select id from clerk.users") == ["user_c"]
    assert (await store.backlog()).blocking_constraints == ("orders_user",)
    assert await store.put(event("user.updated", user("user_a", updated_at=T0 + 99), timestamp=T0 + 99)) == ["buried"]
    assert await store.put(gone("user", "user_a")) == ["deleted"]
    assert await store.bury() == 1

    await store.admin.execute("delete from customer.orders")
    assert await store.bury() == 0
    assert await store.ids("clerk.users") == ["user_c"]
    assert await store.rows("clerk_private.burying") == []
    assert (await store.backlog()).blocking_constraints == ()


async def test_a_key_that_sets_null_where_null_is_refused_is_named_by_its_column(store: Store) -> None:
    await two_users(store)
    await customer_refers(store, "on delete set null", column="text not null")
    assert await store.put(gone("user", "user_a"), gone("user", "user_b")) == ["deleted", "deleted"]
    assert await store.ids("clerk.users") == ["user_a"]
    assert (await store.backlog()).blocking_constraints == ("user_id",)


@pytest.mark.parametrize(("clause", "left"), [("on delete cascade", []), ("on delete set null", [None, None])])
async def test_a_key_that_says_what_to_do_holds_nothing(store: Store, clause: str, left: list[None]) -> None:
    await two_users(store)
    await customer_refers(store, clause)
    assert await store.put(gone("user", "user_a")) == ["deleted"]
    assert await store.ids("clerk.users") == ["user_b"]
    assert [row["user_id"] for row in await store.rows("customer.orders")] == left
    assert (await store.backlog()).burying == 0


async def test_trying_again_writes_to_the_emptied_row_no_more(store: Store) -> None:
    await two_users(store)
    await customer_refers(store, "")
    await store.put(gone("user", "user_a"))
    before = await store.admin.fetchval("select ctid::text from clerk.users where id = 'user_a'")
    assert [await store.bury() for _ in range(3)] == [1, 1, 1]
    assert await store.admin.fetchval("select ctid::text from clerk.users where id = 'user_a'") == before
    assert [row["attempts"] for row in await store.rows("clerk_private.burying")] == [4]


async def test_a_transaction_that_is_about_to_refer_to_the_user_holds_nothing_up(store: Store) -> None:
    await two_users(store)
    await customer_refers(store, "", rows=False)
    transaction = store.admin.transaction()
    await transaction.start()
    await store.admin.execute("insert into customer.orders (user_id) values ('user_a')")
    outcomes = await asyncio.wait_for(store.put(gone("user", "user_a"), gone("user", "user_b")), 8)
    assert outcomes == ["deleted", "deleted"]
    assert await store.bury() == 1
    await transaction.commit()
    assert await store.tombstones() == {"user_a": "event", "user_b": "event"}
    assert await store.ids("clerk.users") == ["user_a"]
    assert await store.bury() == 1
    assert (await store.backlog()).blocking_constraints == ("orders_user",)


async def test_keys_on_the_other_tables_hold_nothing_up_either(store: Store) -> None:
    await store.put(
        event("user.created", user("user_a")),
        event("organization.created", organization("org_a", public_metadata={"a": 1})),
        event("organizationMembership.created", membership("orgmem_a", organization_id="org_a", user_id="user_a")),
    )
    await store.admin.execute(
        """
        create table public.teams (id text constraint team_organization references clerk.organizations);
        create table public.seats (id text constraint seat_membership references clerk.organization_memberships);
        create table public.letters (
          user_id text, id text, constraint letter_address foreign key (user_id, id) references clerk.user_emails);
        insert into public.teams values ('org_a');
        insert into public.seats values ('orgmem_a');
        insert into public.letters select user_id, id from clerk.user_emails;
        """
    )
    assert await store.put(gone("user", "user_a"), gone("organization", "org_a")) == ["deleted", "deleted"]
    assert await store.tombstones() == {"user_a": "event", "org_a": "event", "orgmem_a": "parent"}
    assert (await store.backlog()).blocking_constraints == ("letter_address", "seat_membership", "team_organization")
    for table in ("users", "user_emails", "organizations", "organization_memberships"):
        assert len(await store.rows(f"clerk.{table}")) == 1
        assert await store.seen(Seen("service_role"), f"select 1 from clerk.{table}") == []
    (address,), (team,) = await store.rows("clerk.user_emails"), await store.rows("clerk.organizations")
    assert (address["email"], team["name"], team["public_metadata"]) == ("", "", "{}")
    await store.admin.execute("drop table public.teams, public.seats, public.letters")
    assert await store.bury() == 0
    for table in ("users", "user_emails", "organizations", "organization_memberships"):
        assert await store.rows(f"clerk.{table}") == []


async def test_a_parent_too_large_for_one_transaction_and_held_by_a_key_loses_neither_work(store: Store) -> None:
    await store.put(event("organization.created", organization("org_a")))
    await store.admin.execute(
        """
        insert into clerk.organization_memberships (id, organization_id, user_id, role, created_at, updated_at)
        select 'orgmem_' || n, 'org_a', 'user_' || n, 'org:member', now(), now() from generate_series(1, 5001) n;
        create table public.teams (id text constraint team_organization references clerk.organizations);
        insert into public.teams values ('org_a');
        """
    )
    assert await store.put(gone("organization", "org_a")) == ["deleted"]
    assert sorted(row["reason"] for row in await store.rows("clerk_private.burying")) == ["cascade", "foreign key"]
    assert await store.bury() == 1
    assert await store.rows("clerk.organization_memberships") == []
    assert len(await store.tombstones()) == 5002
    await store.admin.execute("drop table public.teams")
    assert await store.bury() == 0
    assert await store.rows("clerk.organizations") == []
