"""Which of two states is the later one: the corner cases of versions, deletions, duplicates and digests."""

import itertools
import json
from collections.abc import AsyncIterator, Sequence

import pytest

from devtools.postgres import Database
from tests.events import T0, deleted, event, membership, organization, user
from tests.store import Store, delivery


@pytest.fixture
async def store(database: Database) -> AsyncIterator[Store]:
    async with Store(database) as opened:
        yield opened


def named(user_id: str, name: str, *, updated_at: int = T0, timestamp: int = T0) -> bytes:
    return event("user.updated", user(user_id, updated_at=updated_at, first_name=name), timestamp=timestamp)


def gone(user_id: str, *, timestamp: int = T0) -> bytes:
    return event("user.deleted", deleted("user", user_id), timestamp=timestamp)


async def name_of(store: Store, user_id: str) -> str | None:
    row = await store.user(user_id)
    return row["first_name"] if row else None


async def test_a_state_that_comes_back_to_what_it_was_wins_in_every_order(store: Store) -> None:
    said = [("A", "X"), ("B", "Y"), ("C", "X")]
    for order in itertools.permutations(range(3)):
        for together in (False, True):
            user_id = f"user_{''.join(map(str, order))}_{together}"
            events = [named(user_id, said[i][1], updated_at=T0 + i, timestamp=T0 + i) for i in order]
            await (store.put(*events) if together else store.put_each(events))
            assert await name_of(store, user_id) == "X", (order, together)
            row = await store.arbiter("user", user_id)
            assert row is not None
            assert row["updated_at"] == T0 + 2


@pytest.mark.parametrize("together", [False, True])
async def test_of_one_updated_at_the_later_observed_wins_in_both_orders(store: Store, together: bool) -> None:
    for number, (first, second) in enumerate([(T0 + 1, T0 + 2), (T0 + 2, T0 + 1)]):
        user_id = f"user_{number}"
        events = [named(user_id, str(first), timestamp=first), named(user_id, str(second), timestamp=second)]
        await (store.put(*events) if together else store.put_each(events))
        assert await name_of(store, user_id) == str(T0 + 2)


@pytest.mark.parametrize("together", [False, True])
async def test_the_svix_id_breaks_the_last_tie_in_both_orders(store: Store, together: bool) -> None:
    # "B" < "a" < "é" by bytes, which no language's collation agrees with.
    for order in itertools.permutations(["B", "a", "é"]):
        user_id = f"user_{''.join(order)}"
        events = [delivery(named(user_id, mark), svix_id=f"msg_{user_id}_{mark}") for mark in order]
        await (store.put(*events) if together else store.put_each(events))
        assert await name_of(store, user_id) == "é", order


async def test_an_equal_version_is_applied_once_more_and_changes_nothing(store: Store) -> None:
    assert await store.put(named("user_a", "X")) == ["created"]
    assert await store.put(named("user_a", "X", timestamp=T0)) == ["unchanged"]


async def test_a_stale_event_never_wins_and_is_still_kept(store: Store) -> None:
    await store.put(named("user_a", "new", updated_at=T0 + 10, timestamp=T0 + 10))
    before = await store.arbiter("user", "user_a")
    late = [
        named("user_a", "old", updated_at=T0 + 9, timestamp=T0 + 99),
        named("user_a", "old", updated_at=T0 + 10, timestamp=T0 + 9),
        named("user_a", "old", updated_at=T0 + 10, timestamp=0),
        named("user_a", "old", updated_at=0, timestamp=T0 + 99),
    ]
    assert await store.put_each(late) == ["stale"] * 4
    assert await store.put(*late) == ["stale"] * 4
    assert await name_of(store, "user_a") == "new"
    assert await store.arbiter("user", "user_a") == before
    assert [row["outcome"] for row in await store.rows("clerk_private.inbox")].count("stale") == 8


async def test_an_api_read_outranks_an_event_of_the_same_moment(store: Store) -> None:
    await store.put(named("user_a", "event"))
    await store.admin.execute("update clerk_private.objects set source_rank = 1, svix_id = ''")
    assert await store.put(named("user_a", "again")) == ["stale"]
    assert await store.put(named("user_a", "later", timestamp=T0 + 1)) == ["updated"]


async def test_a_deletion_wins_over_every_version_in_every_order(store: Store) -> None:
    for order in itertools.permutations(range(3)):
        for together in (False, True):
            user_id = f"user_{''.join(map(str, order))}_{together}"
            events: Sequence[bytes] = [
                named(user_id, "a", updated_at=T0, timestamp=T0),
                named(user_id, "b", updated_at=T0 + 10**9, timestamp=T0 + 10**9),
                gone(user_id, timestamp=T0 + 5),
            ]
            chosen = [events[i] for i in order]
            await (store.put(*chosen) if together else store.put_each(chosen))
            assert await store.user(user_id) is None, (order, together)
            row = await store.arbiter("user", user_id)
            assert row is not None
            assert (row["deleted_at"], row["buried_by"], row["updated_at"]) == (T0 + 5, "event", 0), (order, together)
    assert await store.rows("clerk.user_emails") == []


async def test_a_deletion_without_a_timestamp_wins_too(store: Store) -> None:
    await store.put(named("user_a", "a"))
    body = event("user.deleted", deleted("user", "user_a"), timestamp=None)
    assert await store.put(body) == ["deleted"]
    assert await store.put(named("user_a", "b", updated_at=T0 + 1)) == ["buried"]


async def test_a_deletion_of_what_was_never_seen_leaves_a_tombstone(store: Store) -> None:
    await store.put(
        gone("user_x"),
        event("organization.deleted", deleted("organization", "org_x")),
        event("organizationMembership.deleted", deleted("organization_membership", "orgmem_x")),
    )
    assert await store.tombstones() == {"user_x": "event", "org_x": "event", "orgmem_x": "event"}
    assert (
        await store.put(
            named("user_x", "late", updated_at=T0 + 1, timestamp=T0 + 1),
            event("organization.updated", organization("org_x", updated_at=T0 + 1), timestamp=T0 + 1),
            event(
                "organizationMembership.updated",
                membership("orgmem_x", organization_id="org_y", user_id="user_y", updated_at=T0 + 1),
                timestamp=T0 + 1,
            ),
        )
        == ["buried"] * 3
    )
    for table in ("users", "organizations", "organization_memberships", "user_emails"):
        assert await store.rows(f"clerk.{table}") == []


async def test_of_several_deletions_the_latest_counts_in_every_order_and_the_sequence_stays(store: Store) -> None:
    for order in itertools.permutations([T0 + 1, T0 + 2, T0 + 3]):
        for together in (False, True):
            user_id = f"user_{'_'.join(map(str, order))}_{together}"
            events = [gone(user_id, timestamp=at) for at in order]
            await store.put(events[0])
            first = await store.arbiter("user", user_id)
            await (store.put(*events[1:]) if together else store.put_each(events[1:]))
            row = await store.arbiter("user", user_id)
            assert first is not None
            assert row is not None
            assert (row["deleted_at"], row["observed_at"]) == (T0 + 3, T0 + 3)
            assert row["tombstone_seq"] == first["tombstone_seq"]


async def test_tombstones_hold_ids_and_times_only(store: Store) -> None:
    await store.put(named("user_a", "secret"), event("organization.created", organization("org_a")))
    await store.put(
        event("organizationMembership.created", membership("orgmem_a", organization_id="org_a", user_id="user_a"))
    )
    await store.put(gone("user_a"), event("organization.deleted", deleted("organization", "org_a")))
    rows = await store.rows("clerk_private.objects")
    assert {row["id"] for row in rows} == {"user_a", "org_a", "orgmem_a"}
    for row in rows:
        assert (row["raw"], row["digest"], row["projection"], row["svix_id"]) == (None, None, None, "")


async def revive(store: Store, user_id: str, *, at: int) -> None:
    """What a verification read does: the object is as Clerk told, and deletions up to then are stale."""
    await store.admin.execute(
        """
        update clerk_private.objects set deleted_at = null, buried_by = null, tombstone_seq = null, revived_at = $2,
          updated_at = $2, observed_at = $2, source_rank = 1, raw = '{}', source = 'verification'
        where kind = 'user' and id = $1
        """,
        user_id,
        at,
    )


async def test_a_deletion_observed_before_the_revival_is_stale_and_a_later_one_buries(store: Store) -> None:
    await store.put(gone("user_a", timestamp=T0))
    await revive(store, "user_a", at=T0 + 100)
    assert await store.put_each([gone("user_a", timestamp=at) for at in (T0, T0 + 99, T0 + 100)]) == ["stale"] * 3
    update = named("user_a", "back", updated_at=T0 + 101, timestamp=T0 + 101)
    assert await store.put(update) == ["created"]
    assert await store.put(gone("user_a", timestamp=T0 + 101)) == ["deleted"]
    assert await store.tombstones() == {"user_a": "event"}
    assert await store.user("user_a") is None


async def test_a_stale_deletion_does_not_hide_an_update_of_its_batch(store: Store) -> None:
    for number, order in enumerate(itertools.permutations(range(4))):
        user_id = f"user_{number}"
        await store.put(gone(user_id, timestamp=T0))
        await revive(store, user_id, at=T0 + 100)
        events = [
            gone(user_id, timestamp=T0 + 50),
            named(user_id, "new", updated_at=T0 + 300, timestamp=T0 + 300),
            named(user_id, "old", updated_at=T0 + 200, timestamp=T0 + 200),
            named("user_other", "x", updated_at=T0 + number),
        ]
        outcomes = await store.put(*(events[i] for i in order))
        by_event = dict(zip(order, outcomes, strict=True))
        assert (by_event[0], by_event[1], by_event[2]) == ("stale", "created", "stale")
        assert await name_of(store, user_id) == "new"


async def test_a_later_deletion_of_a_batch_buries_though_an_earlier_one_is_stale(store: Store) -> None:
    for number, order in enumerate(itertools.permutations(range(3))):
        user_id = f"user_{number}"
        await store.put(gone(user_id, timestamp=T0))
        await revive(store, user_id, at=T0 + 100)
        events = [
            gone(user_id, timestamp=T0 + 50),
            gone(user_id, timestamp=T0 + 150),
            named(user_id, "x", updated_at=T0 + 300, timestamp=T0 + 300),
        ]
        await store.put(*(events[i] for i in order))
        assert await store.user(user_id) is None
        row = await store.arbiter("user", user_id)
        assert row is not None
        assert row["deleted_at"] == T0 + 150


async def test_a_membership_revived_after_its_own_deletion_is_still_buried_with_a_parent_that_went_later(
    store: Store,
) -> None:
    """Its stale deletion and its burying by the parent meet in one batch: the burying counts."""
    whole = membership("orgmem_a", organization_id="org_a", user_id="user_a", updated_at=T0 + 500)
    update = event("organizationMembership.updated", whole, timestamp=T0 + 500)
    stale = event("organizationMembership.deleted", deleted("organization_membership", "orgmem_a"), timestamp=T0 + 50)
    for order in ([stale, update], [update, stale]):
        await store.put(
            event("organizationMembership.created", membership("orgmem_a", organization_id="org_a", user_id="user_a"))
        )
        await store.admin.execute("update clerk_private.objects set revived_at = $1 where id = 'orgmem_a'", T0 + 100)
        await store.put(gone("user_a", timestamp=T0 + 200))
        await store.admin.execute(
            "update clerk_private.objects set deleted_at = null, buried_by = null where id = 'orgmem_a'"
        )
        await store.put(*order)
        assert await store.rows("clerk.organization_memberships") == []
        row = await store.arbiter("organization_membership", "orgmem_a")
        assert row is not None
        assert row["deleted_at"] == T0 + 200
        await store.admin.execute("delete from clerk_private.objects")


async def test_several_events_of_one_object_in_one_batch_leave_the_latest(store: Store) -> None:
    outcomes = await store.put(*(named("user_a", str(i), updated_at=T0 + i) for i in (3, 1, 5, 2, 4)))
    assert outcomes == ["stale", "stale", "created", "stale", "stale"]
    assert await name_of(store, "user_a") == "5"
    assert len(await store.rows("clerk_private.inbox")) == 5


async def test_duplicates_of_one_delivery_are_seen_within_a_batch_and_across_batches(store: Store) -> None:
    body = named("user_a", "x")
    first = [delivery(body, svix_id="msg_1"), delivery(body, svix_id="msg_1"), delivery(body, svix_id="msg_2")]
    assert await store.put(*first) == ["stale", "seen", "created"]
    assert await store.put(*first, delivery(body, svix_id="msg_3")) == ["seen", "seen", "seen", "unchanged"]
    assert [row["svix_id"] for row in await store.rows("clerk_private.inbox_seen")] == ["msg_1", "msg_2", "msg_3"]
    counted = await store.admin.fetch("select svix_id, count(*) as n from clerk_private.inbox group by 1 order by 1")
    assert [tuple(row) for row in counted] == [("msg_1", 1), ("msg_2", 1), ("msg_3", 1)]


async def test_a_duplicate_alone_writes_nothing(store: Store) -> None:
    again = delivery(named("user_a", "x"), svix_id="msg_1")
    assert await store.put(again) == ["created"]
    before = [await store.rows(f"clerk_private.{table}") for table in ("inbox", "inbox_seen", "objects", "parked")]
    assert await store.put(again, again) == ["seen", "seen"]
    after = [await store.rows(f"clerk_private.{table}") for table in ("inbox", "inbox_seen", "objects", "parked")]
    assert before == after


DIGESTS = """
select o.id, o.digest = d.digest as same from clerk_private.objects o join lateral (
  select clerk_private.digest_user(u, (select coalesce(array_agg(e order by e.id collate "C"), '{}')
                                       from clerk.user_emails e where e.user_id = u.id)) as digest
  from clerk.users u where o.kind = 'user' and u.id = o.id
  union all
  select clerk_private.digest_organization(g) from clerk.organizations g where o.kind = 'organization' and g.id = o.id
  union all
  select clerk_private.digest_organization_membership(m) from clerk.organization_memberships m
  where o.kind = 'organization_membership' and m.id = o.id) d on true
order by o.id
"""


async def digests(store: Store, *, settings: str = "") -> dict[str, bool]:
    async with store.admin.transaction():
        if settings:
            await store.admin.execute(settings)
        return {row["id"]: row["same"] for row in await store.admin.fetch(DIGESTS)}


async def test_digests_recomputed_from_the_typed_rows_are_those_of_the_arbiter_until_somebody_edits(
    store: Store,
) -> None:
    addresses = [
        {"id": f"idn_{i}", "email_address": f"{i}@example.com", "verification": {"status": "verified"}}
        for i in ("b", "A", "é")
    ]
    # Odd milliseconds, and names that a row's text form must quote.
    full = user(
        "user_full",
        updated_at=T0 + 1,
        created_at=T0 + 333,
        first_name='O"Neill, (\\ {x}',
        last_name="",
        username="o\n'x",
        locale=None,
        email_addresses=addresses,
        primary_email_address_id="idn_A",
        phone_numbers=[{"id": "idn_p", "phone_number": "+1555"}],
        primary_phone_number_id="idn_p",
        public_metadata={"z": [1, 2.50, None, {"ключ": "\u2028"}], "a": True},
        last_sign_in_at=T0,
    )
    await store.put(
        event("user.created", full),
        event("user.created", user("user_plain", email_addresses=[], primary_email_address_id=None)),
        event("user.created", user("user_null", email_addresses=None, phone_numbers=None, public_metadata=None)),
        event("organization.created", organization("org_a", created_at=T0 + 1, public_metadata={"a": 1})),
        event(
            "organizationMembership.created",
            membership(
                "orgmem_a",
                organization_id="org_a",
                user_id="user_full",
                permissions=["org:sys:a", 'x"y'],
            ),
        ),
    )
    assert await digests(store) == dict.fromkeys(["org_a", "orgmem_a", "user_full", "user_null", "user_plain"], True)
    elsewhere = (
        "set local timezone = 'Asia/Kathmandu'; set local extra_float_digits = -15; set local bytea_output = escape"
    )
    assert set((await digests(store, settings=elsewhere)).values()) == {True}
    edits = {
        "user_full": "update clerk.user_emails set email = 'eve@example.com' where id = 'idn_b'",
        "user_plain": "update clerk.users set last_name = null where id = 'user_plain'",
        "org_a": "update clerk.organizations set updated_at = updated_at + interval '1 ms'",
        "orgmem_a": "update clerk.organization_memberships set permissions = '{}'",
    }
    for edit in edits.values():
        await store.admin.execute(edit)
    found = await digests(store)
    assert {key for key, same in found.items() if not same} == set(edits)


def with_addresses(user_id: str, addresses: dict[str, str], *, primary: str | None, updated_at: int) -> bytes:
    listed = [{"id": key, "email_address": address} for key, address in addresses.items()]
    whole = user(user_id, updated_at=updated_at, email_addresses=listed, primary_email_address_id=primary)
    return event("user.updated", whole, timestamp=updated_at)


async def addresses_of(store: Store) -> list[tuple[str, str, bool]]:
    rows = await store.admin.fetch("select user_id, email, is_primary from clerk.user_emails order by 1, 2")
    return [tuple(row) for row in rows]


async def test_addresses_follow_their_user(store: Store) -> None:
    async def after(addresses: dict[str, str], *, primary: str | None, at: int) -> list[tuple[str, str, bool]]:
        await store.put(with_addresses("user_a", addresses, primary=primary, updated_at=T0 + at))
        return await addresses_of(store)

    assert await after({"idn_1": "one@x"}, primary="idn_1", at=1) == [("user_a", "one@x", True)]
    both = {"idn_1": "one@x", "idn_2": "two@x"}
    assert await after(both, primary="idn_1", at=2) == [("user_a", "one@x", True), ("user_a", "two@x", False)]
    assert await after(both, primary="idn_2", at=3) == [("user_a", "one@x", False), ("user_a", "two@x", True)]
    assert (await store.user("user_a") or {})["primary_email"] == "two@x"
    assert await after({"idn_2": "two@x"}, primary="idn_2", at=4) == [("user_a", "two@x", True)]
    assert await after(both, primary="idn_1", at=1) == [("user_a", "two@x", True)]
    assert await after({}, primary=None, at=5) == []
    assert (await store.user("user_a") or {})["primary_email"] is None


async def test_two_users_may_swap_an_address_in_any_order(store: Store) -> None:
    for order in itertools.permutations(range(4)):
        for together in (False, True):
            mark = "".join(map(str, order)) + str(together)
            a, b = f"user_a{mark}", f"user_b{mark}"
            events = [
                with_addresses(a, {"idn_1": "one@x"}, primary="idn_1", updated_at=T0),
                with_addresses(b, {"idn_2": "two@x"}, primary="idn_2", updated_at=T0),
                with_addresses(a, {"idn_2": "two@x"}, primary="idn_2", updated_at=T0 + 1),
                with_addresses(b, {"idn_1": "one@x"}, primary="idn_1", updated_at=T0 + 1),
            ]
            chosen = [events[i] for i in order]
            await (store.put(*chosen) if together else store.put_each(chosen))
            found = [row for row in await addresses_of(store) if row[0] in (a, b)]
            assert found == [(a, "two@x", True), (b, "one@x", True)], mark


async def test_the_raw_object_is_the_last_applied_one(store: Store) -> None:
    await store.put(named("user_a", "one"), named("user_a", "two", updated_at=T0 + 1))
    row = await store.arbiter("user", "user_a")
    assert row is not None
    assert json.loads(row["raw"])["first_name"] == "two"
