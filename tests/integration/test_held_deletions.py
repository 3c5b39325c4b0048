"""Deletions by event that are not believed: whoever signs, an hour takes no more than the guard's share."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from devtools.postgres import Database
from nexus_auth.store import held
from tests.events import T0, deleted, event, membership, organization, user
from tests.store import Seen, Store, delivery

LEAKED = "feedfeedfeedfeed"


@pytest.fixture
async def store(database: Database) -> AsyncIterator[Store]:
    async with Store(database) as opened:
        yield opened


def gone(kind: str, object_id: str, *, timestamp: int = T0 + 10) -> bytes:
    return event(f"{kind}.deleted", deleted(kind, object_id), timestamp=timestamp)


def named(kind: str, numbers: range) -> list[str]:
    return [f"{kind}_{number:04d}" for number in numbers]


async def people(store: Store, number: int) -> list[str]:
    """So many users, put in the way of events."""
    ids = named("user", range(number))
    for at in range(0, number, 500):
        await store.put(*(event("user.created", user(i)) for i in ids[at : at + 500]))
    return ids


async def with_verifier(store: Store, *, ahead: float = 0) -> None:
    async with store.pool.acquire() as connection:
        await held.beat(connection, ahead=ahead)


async def answer(store: Store, answers: dict[str, bool | None], *, kind: str = "user", at: int = T0 + 100) -> Any:
    async with store.pool.acquire() as connection, connection.transaction():
        return await held.answer(connection, kind, {i: (there, at) for i, there in answers.items()}, spacing=0)


async def due(store: Store) -> list[str]:
    async with store.pool.acquire() as connection:
        return [one.id for one in await held.due(connection, limit=1_000)]


@pytest.mark.parametrize(
    ("rows", "allowed"),
    [(1, 1), (3, 1), (4, 1), (5, 1), (8, 2), (20, 5), (39, 9), (40, 10), (400, 10), (1_100, 11), (2_000, 20)],
)
async def test_an_hour_takes_the_guards_share_and_never_more_than_a_quarter(
    store: Store, rows: int, allowed: int
) -> None:
    ids = await people(store, rows)
    await with_verifier(store)
    outcomes = await store.put(*(gone("user", i) for i in ids[: allowed + 7]))
    assert outcomes == ["deleted"] * allowed + ["held"] * (min(rows, allowed + 7) - allowed)
    assert len(await store.ids("clerk.users")) == rows - allowed
    assert (await store.backlog()).held == min(rows, allowed + 7) - allowed


async def test_batches_beside_each_other_spend_one_share(store: Store) -> None:
    ids = await people(store, 40)
    await with_verifier(store)
    outcomes = await store.put_each([gone("user", i) for i in ids])
    assert outcomes.count("deleted") == 10
    assert outcomes.count("held") == 30


async def test_a_cascade_weighs_what_it_takes(store: Store) -> None:
    await people(store, 3)
    await store.put(*(event("organization.created", organization(f"org_{o}")) for o in "abcdefgh"))
    await store.put(
        *(
            event(
                "organizationMembership.created",
                membership(f"orgmem_{o}{n}", organization_id=f"org_{o}", user_id=f"user_{n}"),
            )
            for o in "abcdefgh"
            for n in range(6)
        )
    )
    await with_verifier(store)
    # of 48 memberships 10 may go in an hour: one organization's six, and no second one's
    assert await store.put(gone("organization", "org_a"), gone("organization", "org_b")) == ["deleted", "held"]
    assert len(await store.ids("clerk.organization_memberships")) == 42


async def test_without_a_verifier_deletions_apply_and_are_counted(store: Store) -> None:
    ids = await people(store, 8)
    assert set(await store.put(*(gone("user", i) for i in ids))) == {"deleted"}
    assert (await store.backlog()).unverified_deletions == 6
    assert (await store.backlog()).verifier_seconds is None


async def test_a_verifier_that_was_not_seen_for_five_minutes_holds_nothing(store: Store) -> None:
    ids = await people(store, 8)
    await with_verifier(store)
    await store.admin.execute("update clerk_private.verifier set seen_at = now() - interval '301 seconds'")
    assert set(await store.put(*(gone("user", i) for i in ids))) == {"deleted"}


async def test_what_is_unknown_or_gone_already_weighs_nothing(store: Store) -> None:
    await people(store, 4)
    await with_verifier(store)
    strangers = [gone("user", f"user_nobody{n}") for n in range(20)]
    assert set(await store.put(*strangers, *strangers)) == {"deleted", "buried"}
    assert (await store.backlog()).held == 0


async def test_a_held_row_stays_takes_updates_and_is_buried_by_one_absent_read(store: Store) -> None:
    ids = await people(store, 4)
    await with_verifier(store)
    assert await store.put(*(gone("user", i) for i in ids[:2])) == ["deleted", "held"]
    assert await store.put(event("user.updated", user(ids[1], updated_at=T0 + 50, first_name="New"))) == ["updated"]
    assert await due(store) == [ids[1]]
    assert await answer(store, {ids[1]: False}) == {ids[1]: "confirmed"}
    assert await store.user(ids[1]) is None
    assert await due(store) == []
    inbox = {row["object_id"]: (row["state"], row["outcome"]) for row in await store.rows("clerk_private.inbox")}
    assert inbox[ids[1]] == ("applied", "deleted") or inbox[ids[1]] == ("applied", "updated")


async def test_two_reads_that_find_it_refuse_and_from_then_on_that_secret_deletes_nothing(store: Store) -> None:
    ids = await people(store, 4)
    await with_verifier(store)
    await store.put(*(replace(delivery(gone("user", i)), secret=LEAKED) for i in ids[:2]))
    assert await answer(store, {ids[1]: True}, at=T0 + 100) == {ids[1]: "held"}
    assert (await store.backlog()).distrusted_secrets == 0
    assert await answer(store, {ids[1]: True}, at=T0 + 200) == {ids[1]: "refused"}
    assert (await store.backlog()).distrusted_secrets == 1
    # an hour later the share is free again: not for this secret
    await store.admin.execute("update clerk_private.deletions set at = at - interval '2 hours'")
    assert await store.put(replace(delivery(gone("user", ids[2])), secret=LEAKED)) == ["held"]
    assert await store.put(delivery(gone("user", ids[3]))) == ["deleted"]
    # a human clears it
    async with store.pool.acquire() as connection:
        with pytest.raises(Exception, match="permission denied"):
            await held.clear(connection, LEAKED, by="me")
    assert await store.admin.fetchval("select clerk_private.clear_secret($1, 'me')", LEAKED)
    await store.admin.execute("update clerk_private.deletions set at = at - interval '2 hours'")
    assert await store.put(replace(delivery(gone("user", ids[1], timestamp=T0 + 900)), secret=LEAKED)) == ["deleted"]


async def test_a_read_that_proves_nothing_decides_nothing(store: Store) -> None:
    ids = await people(store, 4)
    await with_verifier(store)
    await store.put(*(gone("user", i) for i in ids[:2]))
    for at in range(3):
        assert await answer(store, {ids[1]: None}, at=T0 + 100 + at) == {ids[1]: "held"}


async def test_one_read_that_is_told_twice_does_not_refuse(store: Store) -> None:
    ids = await people(store, 4)
    await with_verifier(store)
    await store.put(*(gone("user", i) for i in ids[:2]))
    for _ in range(2):
        assert await answer(store, {ids[1]: True}, at=T0 + 100) == {ids[1]: "held"}


async def test_what_is_held_for_five_minutes_is_hidden_from_readers(store: Store) -> None:
    ids = await people(store, 4)
    await with_verifier(store)
    await store.put(*(gone("user", i) for i in ids[:2]))
    query = "select id from clerk.users"
    assert await store.seen(Seen.user(ids[1]), query) == [ids[1]]
    await store.admin.execute("update clerk_private.held_deletions set held_at = held_at - interval '6 minutes'")
    assert await store.seen(Seen.user(ids[1]), query) == []
    assert ids[1] not in await store.seen(Seen("service_role"), query)
    await answer(store, {ids[1]: True}, at=T0 + 100)
    await answer(store, {ids[1]: True}, at=T0 + 200)
    assert await store.seen(Seen.user(ids[1]), query) == [ids[1]]


async def test_a_second_deletion_of_what_is_held_is_held_with_it_and_both_are_decided_at_once(store: Store) -> None:
    ids = await people(store, 4)
    await with_verifier(store)
    await store.put(*(gone("user", i) for i in ids[:2]))
    assert await store.put(gone("user", ids[1], timestamp=T0 + 20)) == ["held"]
    assert await answer(store, {ids[1]: False}) == {ids[1]: "confirmed"}
    assert {row["state"] for row in await store.rows("clerk_private.held_deletions")} == {"confirmed"}


async def test_a_day_of_held_events_is_not_dropped(store: Store) -> None:
    ids = await people(store, 4)
    await with_verifier(store)
    await store.put(*(gone("user", i) for i in ids[:2]))
    await store.admin.execute("update clerk_private.inbox set received_at = received_at - interval '20 days'")
    await store.admin.execute("update clerk_private.held_deletions set received_at = received_at - interval '20 days'")
    await store.maintain()
    await store.maintain()
    left = [(row["object_id"], row["state"]) for row in await store.rows("clerk_private.inbox")]
    assert left == [(ids[1], "held")]


async def test_a_stale_replay_of_an_old_deletion_does_not_make_its_secret_suspect(store: Store) -> None:
    """The object was revived since: the event is stale, and holding it would end in a refusal."""
    ids = await people(store, 1)
    await with_verifier(store)
    await store.admin.execute("update clerk_private.objects set revived_at = $1", T0 + 1_000)
    assert await store.put(gone("user", ids[0], timestamp=T0 + 10)) == ["stale"]
    assert (await store.backlog()).held == 0


async def test_a_second_membership_of_the_same_pair_has_the_older_one_verified(store: Store) -> None:
    """Its deletion was lost: Clerk knows one membership for each pair of user and organization."""

    def joined(name: str, *, created_at: int) -> bytes:
        whole = membership(
            name, organization_id="org_a", user_id="user_a", created_at=created_at, updated_at=created_at
        )
        return event("organizationMembership.created", whole, timestamp=created_at)

    await store.put(event("user.created", user("user_a")), event("organization.created", organization("org_a")))
    assert await store.put_each([joined("orgmem_old", created_at=T0), joined("orgmem_new", created_at=T0 + 50)]) == [
        "created",
        "created",
    ]
    assert await due(store) == ["orgmem_old"]
    # Clerk has both after all (a moment of its own): nothing goes, and the secret is as good as before
    for at in (T0 + 100, T0 + 200):
        await answer(store, {"orgmem_old": True}, kind="organization_membership", at=at)
    assert (await store.backlog()).distrusted_secrets == 0
    assert len(await store.ids("clerk.organization_memberships")) == 2


async def test_the_older_membership_goes_with_one_absent_read_whatever_order_they_came_in(store: Store) -> None:
    def joined(name: str, *, created_at: int) -> bytes:
        whole = membership(
            name, organization_id="org_a", user_id="user_a", created_at=created_at, updated_at=created_at
        )
        return event("organizationMembership.created", whole, timestamp=created_at)

    await store.put(event("user.created", user("user_a")), event("organization.created", organization("org_a")))
    await store.put_each([joined("orgmem_new", created_at=T0 + 50), joined("orgmem_old", created_at=T0)])
    assert await due(store) == ["orgmem_old"]
    assert await answer(store, {"orgmem_old": False}, kind="organization_membership") == {"orgmem_old": "confirmed"}
    assert await store.ids("clerk.organization_memberships") == ["orgmem_new"]
    outcomes = {row["object_id"]: row["outcome"] for row in await store.rows("clerk_private.inbox")}
    assert outcomes["orgmem_old"] == outcomes["orgmem_new"] == "created"
