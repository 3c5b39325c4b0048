"""Partitions of the inbox and what is forgotten: time is shifted by the rows, never by the clock."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import asyncpg
import pytest

from devtools.postgres import Database
from nexus_auth.store import maintenance
from nexus_auth.store.maintenance import Maintained
from tests.events import T0, event, user
from tests.store import Store, delivery

NOTHING = Maintained(created=0, moved=0, dropped=0, overdue=0, forgotten=0)
AHEAD = 8
"""Today and seven days more."""

WHERE = "select tableoid::regclass::text as place, svix_id from clerk_private.inbox order by svix_id"
WAITING = """
select exists (select from pg_locks where not granted and relation = 'clerk_private.inbox'::regclass)
"""


@pytest.fixture
async def store(database: Database) -> AsyncIterator[Store]:
    async with Store(database) as opened:
        yield opened


def told(user_id: str, svix_id: str, *, updated_at: int = T0) -> Any:
    return delivery(event("user.updated", user(user_id, updated_at=updated_at)), svix_id=svix_id)


async def today(store: Store) -> date:
    found: date = await store.admin.fetchval("select (now() at time zone 'UTC')::date")
    return found


def place(day: date) -> str:
    return f"clerk_private.inbox_{day:%Y%m%d}"


async def places(store: Store) -> dict[str, str]:
    return {row["svix_id"]: row["place"] for row in await store.admin.fetch(WHERE)}


async def partitions(store: Store) -> list[str]:
    rows = await store.admin.fetch(
        "select inhrelid::regclass::text as name from pg_inherits where inhparent = 'clerk_private.inbox'::regclass"
        " order by 1"
    )
    return [row["name"] for row in rows]


async def shift(store: Store, svix_id: str, *, days: float) -> None:
    """Lets a delivery have come so many days earlier."""
    earlier = timedelta(days=days)
    for table in ("inbox", "inbox_seen"):
        await store.admin.execute(
            f"update clerk_private.{table} set received_at = received_at - $2::interval where svix_id = $1",
            svix_id,
            earlier,
        )


async def old_partition(store: Store, *, days: int, state: str = "applied", svix_id: str = "msg_old") -> str:
    """A partition of so many days ago with one delivery in it."""
    await store.put(told("user_a", svix_id))
    await store.admin.execute("update clerk_private.inbox set state = $2 where svix_id = $1", svix_id, state)
    await store.admin.execute("alter table clerk_private.inbox detach partition clerk_private.inbox_default")
    day = await today(store) - timedelta(days=days)
    await store.admin.execute(
        f"create table {place(day)} partition of clerk_private.inbox for values from ('{day} 00:00+00')"
        f" to ('{day + timedelta(days=1)} 00:00+00'); alter table {place(day)} owner to clerk_owner;"
        "alter table clerk_private.inbox attach partition clerk_private.inbox_default default"
    )
    await shift(store, svix_id, days=days)
    assert (await places(store))[svix_id] == place(day)
    return place(day)


async def test_an_event_before_the_first_maintenance_waits_in_the_default_and_is_moved(store: Store) -> None:
    await store.put(told("user_a", "msg_1"))
    assert await places(store) == {"msg_1": "clerk_private.inbox_default"}
    assert (await store.backlog()).default_rows == 1
    before = await store.rows("clerk_private.inbox")
    assert await store.maintain() == Maintained(created=AHEAD, moved=1, dropped=0, overdue=0, forgotten=0)
    assert await places(store) == {"msg_1": place(await today(store))}
    assert await store.rows("clerk_private.inbox") == before
    assert (await store.backlog()).default_rows == 0
    await store.put(told("user_b", "msg_2"))
    assert (await places(store))["msg_2"] == place(await today(store))
    assert await store.maintain() == NOTHING


async def test_there_is_a_partition_for_today_and_the_week_ahead_as_the_others_are(store: Store) -> None:
    await store.maintain()
    first = await today(store)
    days = [place(first + timedelta(days=number)) for number in range(AHEAD)]
    assert await partitions(store) == [*days, "clerk_private.inbox_default"]
    made = await store.admin.fetch(
        """
        select distinct relrowsecurity, relowner::regrole::text, relacl::text,
          (select count(*) from pg_index i where i.indrelid = c.oid and i.indisvalid),
          (select a.attcompression from pg_attribute a where a.attrelid = c.oid and a.attname = 'body')
          = (select a.attcompression from pg_attribute a
             where a.attrelid = 'clerk_private.inbox'::regclass and a.attname = 'body')
        from pg_class c where oid = any ($1::regclass[])
        """,
        days,
    )
    assert [tuple(row) for row in made] == [(True, "clerk_owner", None, 2, True)]


async def test_deliveries_of_many_days_in_the_default_find_each_their_partition(store: Store) -> None:
    for number in range(4):
        await store.put(told(f"user_{number}", f"msg_{number}"))
        await shift(store, f"msg_{number}", days=number)
    await store.put(told("user_9", "msg_9"))
    await shift(store, "msg_9", days=-40)
    done = await store.maintain()
    assert (done.created, done.moved) == (AHEAD + 3, 5)
    first = await today(store)
    expected = {f"msg_{number}": place(first - timedelta(days=number)) for number in range(4)}
    assert await places(store) == expected | {"msg_9": place(first)}


async def test_times_of_receipt_that_no_delivery_can_have_make_no_partitions(store: Store) -> None:
    for number, at in enumerate(("infinity", "-infinity", "4000-01-01", "1970-01-01")):
        await store.put(told(f"user_{number}", f"msg_{number}"))
        await store.admin.execute(
            f"update clerk_private.inbox set received_at = '{at}' where svix_id = $1", f"msg_{number}"
        )
    done = await store.maintain()
    assert (done.created, done.moved) == (AHEAD, 4)
    assert set((await places(store)).values()) == {place(await today(store))}


async def test_the_same_delivery_on_both_sides_of_midnight_is_seen_once(store: Store) -> None:
    await store.put(told("user_a", "msg_1"), told("user_b", "msg_2"))
    midnight = datetime.combine(await today(store), time(), UTC)
    for svix_id, at in (("msg_1", midnight - timedelta(microseconds=1)), ("msg_2", midnight)):
        for table in ("inbox", "inbox_seen"):
            await store.admin.execute(
                f"update clerk_private.{table} set received_at = $2 where svix_id = $1", svix_id, at
            )
    await store.maintain()
    day = midnight.date()
    assert await places(store) == {"msg_1": place(day - timedelta(days=1)), "msg_2": place(day)}
    assert await store.put(told("user_a", "msg_1", updated_at=T0 + 1), told("user_b", "msg_2")) == ["seen", "seen"]
    assert len(await store.rows("clerk_private.inbox")) == 2


async def test_days_are_those_of_utc_wherever_the_caller_is(store: Store) -> None:
    await store.admin.execute("set timezone = 'Pacific/Kiritimati'")
    await store.admin.execute("select clerk_private.maintain()")
    await store.admin.execute("set timezone = 'UTC'")
    (bound,) = await store.admin.fetch(
        "select pg_get_expr(relpartbound, oid) as bound from pg_class where oid = $1::regclass",
        place(await today(store)),
    )
    first = await today(store)
    assert bound["bound"] == f"FOR VALUES FROM ('{first} 00:00:00+00') TO ('{first + timedelta(days=1)} 00:00:00+00')"


@pytest.mark.parametrize("state", ["applied", "kept"])
async def test_a_partition_past_keeping_is_dropped_and_its_deliveries_are_still_known(store: Store, state: str) -> None:
    await store.maintain()
    name = await old_partition(store, days=15, state=state)
    assert (await store.maintain()).dropped == 1
    assert name not in await partitions(store)
    assert await store.put(told("user_a", "msg_old")) == ["seen"]
    assert (await store.backlog()).overdue_partitions == 0


async def test_a_partition_within_keeping_stays(store: Store) -> None:
    await store.maintain()
    name = await old_partition(store, days=14)
    assert await store.maintain() == NOTHING
    assert name in await partitions(store)


@pytest.mark.parametrize("state", ["parked", "waiting"])
async def test_a_partition_with_something_unfinished_is_kept_and_counted_until_it_is_finished(
    store: Store, state: str
) -> None:
    await store.maintain()
    name = await old_partition(store, days=16, state=state)
    assert await store.maintain() == Maintained(created=0, moved=0, dropped=0, overdue=1, forgotten=0)
    assert name in await partitions(store)
    backlog = await store.backlog()
    assert (backlog.overdue_partitions, backlog.waiting) == (1, int(state == "waiting"))
    await store.admin.execute("update clerk_private.inbox set state = 'applied'")
    assert (await store.maintain()).dropped == 1
    assert (await store.backlog()).overdue_partitions == 0


async def test_a_few_are_dropped_at_a_time(store: Store) -> None:
    await store.maintain()
    for days in range(20, 25):
        await old_partition(store, days=days, svix_id=f"msg_{days}")
    assert [(await store.maintain()).dropped for _ in range(3)] == [3, 2, 0]


async def test_a_delivery_is_forgotten_after_a_hundred_days_and_its_settled_parking_with_it(store: Store) -> None:
    await store.put(*(told(f"user_{number}", f"msg_{number}") for number in (99, 101)))
    for days in (99, 101):
        await shift(store, f"msg_{days}", days=days)
    await store.admin.execute(
        """
        insert into clerk_private.parked (svix_id, error, resolved_at) values
          ('msg_99', 'x', now() - interval '99 days'),
          ('msg_101', 'x', now() - interval '101 days'),
          ('msg_x', 'x', null)
        """
    )
    assert (await store.maintain()).forgotten == 1
    assert [row["svix_id"] for row in await store.rows("clerk_private.inbox_seen")] == ["msg_99"]
    assert [row["svix_id"] for row in await store.rows("clerk_private.parked")] == ["msg_99", "msg_x"]


async def test_who_comes_second_leaves_at_once(store: Store) -> None:
    async with store.pool.acquire() as first, store.pool.acquire() as second:
        async with first.transaction():
            assert (await maintenance.maintain(first)).created == AHEAD
            assert await asyncio.wait_for(maintenance.maintain(second), 5) == NOTHING
        assert await maintenance.maintain(second) == NOTHING


async def test_it_gives_up_after_a_second_where_somebody_reads_the_default_and_succeeds_later(store: Store) -> None:
    await store.put(told("user_a", "msg_1"))
    async with store.admin.transaction():
        await store.admin.execute("lock table clerk_private.inbox_default in access share mode")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await asyncio.wait_for(store.maintain(), 8)
        assert await store.put(told("user_b", "msg_2")) == ["created"]
        assert await partitions(store) == ["clerk_private.inbox_default"]
    assert (await store.maintain()).moved == 2


async def test_who_reads_the_inbox_for_long_keeps_an_old_partition_and_nothing_else(store: Store) -> None:
    await store.maintain()
    name = await old_partition(store, days=15)
    await store.admin.execute(f"drop table {place(await today(store) + timedelta(days=AHEAD - 1))}")
    async with store.admin.transaction():
        await store.admin.execute("lock table only clerk_private.inbox in access share mode")
        done = await asyncio.wait_for(store.maintain(), 8)
        assert (done.created, done.dropped) == (1, 0)
        assert await store.put(told("user_b", "msg_2")) == ["created"]
    assert name in await partitions(store)
    assert (await store.maintain()).dropped == 1


async def test_the_next_days_partition_is_made_while_an_ingest_is_under_way(store: Store) -> None:
    """Only a day that has come, or rows in the default, keep writers out."""
    await store.maintain()
    await store.admin.execute(f"drop table {place(await today(store) + timedelta(days=AHEAD - 1))}")
    async with store.admin.transaction():
        await store.admin.execute("insert into clerk_private.inbox_seen values ('msg_x')")
        await store.admin.execute("lock table only clerk_private.inbox in row exclusive mode")
        assert (await asyncio.wait_for(store.maintain(), 8)).created == 1


async def test_ingest_goes_on_while_maintenance_moves_what_came_before(store: Store) -> None:
    """Writers that were routed to the default partition, and waited for it, must not fail."""
    numbers = range(300)
    stored = asyncio.gather(*(store.put(told(f"user_{number}", f"msg_{number}")) for number in numbers))
    maintained = asyncio.create_task(store.maintain())
    outcomes = await stored
    assert (await maintained).created == AHEAD
    assert outcomes == [["created"]] * len(numbers)
    await store.maintain()
    assert set((await places(store)).values()) == {place(await today(store))}
    assert len(await places(store)) == len(numbers)


async def test_a_writer_that_waits_for_the_default_partition_finds_its_row_in_the_new_one(store: Store) -> None:
    """Maintenance has attached the day's partition and not committed: the writer waits, then its row goes there."""
    async with store.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await maintenance.maintain(connection)
        writing = asyncio.create_task(store.put(told("user_a", "msg_1")))
        async with asyncio.timeout(10):
            while not await store.admin.fetchval(WAITING):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await transaction.commit()
        assert await writing == ["created"]
    assert await places(store) == {"msg_1": place(await today(store))}


async def test_the_backlog_counts_what_waits(store: Store) -> None:
    await store.put(
        delivery(event("session.created", {"object": "session", "id": "sess_1"})),
        delivery(event("session.created", {"object": "session", "id": "sess_2"})),
        delivery(event("user.created", {"object": "user", "id": "user_a"})),
        delivery(event("email.created", {"object": "email", "id": "ema_1"})),
        told("user_b", "msg_b"),
    )
    backlog = await store.backlog()
    assert (backlog.parked, backlog.waiting, backlog.burying, backlog.default_rows) == (1, 2, 0, 5)
    assert backlog.blocking_constraints == ()
