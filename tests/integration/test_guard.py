"""What the database itself refuses, whoever calls: deletions beyond the guard or by another way, unsafe sessions."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import pytest

from devtools.postgres import Database
from nexus_auth.store import held
from nexus_auth.store.ingest import Change
from tests.events import T0, deleted, event, membership, organization, user
from tests.store import Store, delivery

LATER = T0 + 10**9


class Arena:
    """The store, and connections of the reconciler and the command line."""

    def __init__(self, store: Store, stack: AsyncExitStack) -> None:
        self.store = store
        self._stack = stack

    async def connect(self, service: str) -> Any:
        """One more connection of a service's login, as its group."""
        connection = await asyncpg.connect(self.store.database.url(service))
        self._stack.push_async_callback(connection.close)
        await connection.execute(f"set role clerk_{service}")
        return connection

    async def people(self, number: int) -> list[str]:
        """So many users in the mirror."""
        ids = [f"user_{at:03d}" for at in range(number)]
        await self.store.put(*(event("user.created", user(i)) for i in ids))
        return ids

    async def run(self, kind: str = "user", *, state: str = "running", approved: str = "null") -> int:
        """A run of epoch 1; `approved`: SQL for when a human approved it."""
        run_id: int = await self.store.admin.fetchval(
            "insert into clerk_private.runs (sweep_id, sync, kind, mode, policy, holder, state, approved_at)"
            f" values (1, 's' || (select count(*) from clerk_private.runs), $1, 'full', 'Fix', 'h', $2, {approved})"
            " returning id",
            *(kind, state),
        )
        return run_id

    async def parked(self, ids: Sequence[str], *, approved: str = "now()", state: str = "parked") -> int:
        """A run whose deletions of these users wait, or were approved."""
        run_id = await self.run(state=state, approved=approved)
        await self.store.admin.execute(
            "insert into clerk_private.parked_deletions select $1, 'user', x from unnest($2::text[]) x", run_id, ids
        )
        return run_id


@pytest.fixture
async def arena(database: Database) -> AsyncIterator[Arena]:
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(Store(database))
        yield Arena(store, stack)


async def bury(
    connection: Any, run: int, ids: Sequence[str], *, approved: int | None = None, kind: str = "user"
) -> Any:
    return await connection.fetchval(
        "select clerk_private.bury_verified($1, 1, $2, $3, $4, $5)", run, kind, ids, [LATER] * len(ids), approved
    )


async def until_it_waits(connection: Any, task: "asyncio.Task[Any]", *, admin: Any) -> None:
    """Returns once the connection's statement waits for a lock, or has ended."""
    pid = connection.get_server_pid()
    for _ in range(2_000):
        if task.done() or await admin.fetchval("select cardinality(pg_blocking_pids($1)) > 0", pid):
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it neither waits nor ends")


# ---------------------------------------------------------------- the guard


async def test_the_database_buries_no_more_than_the_guard_allows_and_writes_nothing_then(arena: Arena) -> None:
    ids = await arena.people(60)
    reconciler, run = await arena.connect("reconciler"), await arena.run()
    with pytest.raises(
        asyncpg.PostgresError, match=r"11 of 60 user rows would be deleted, 0 were .*: 10 are allowed"
    ) as told:
        await bury(reconciler, run, ids[:11])
    assert told.value.sqlstate == "NX001"
    assert await arena.store.tombstones() == {}
    assert await bury(reconciler, run, ids[:6]) == ["deleted"] * 6
    with pytest.raises(asyncpg.PostgresError, match="6 were in the last 24 h"):
        await bury(reconciler, run, ids[6:11])
    assert await bury(reconciler, run, ids[6:10]) == ["deleted"] * 4


@pytest.mark.parametrize(("rows", "allowed"), [(1, 1), (2, 1), (4, 1), (5, 1), (7, 1), (8, 2), (41, 10)])
async def test_no_limit_that_a_sync_sets_goes_beyond_a_quarter(arena: Arena, rows: int, allowed: int) -> None:
    ids = await arena.people(rows)
    reconciler, run = await arena.connect("reconciler"), await arena.run()
    await reconciler.execute("select clerk_private.set_guard('user', 1000000, 100)")
    if rows > allowed:
        with pytest.raises(asyncpg.PostgresError, match=f"{allowed} are allowed"):
            await bury(reconciler, run, ids[: allowed + 1])
    assert await bury(reconciler, run, ids[:allowed]) == ["deleted"] * allowed
    assert len(await arena.store.ids("clerk.users")) == rows - allowed


async def test_two_runs_beside_each_other_spend_one_share(arena: Arena) -> None:
    ids = await arena.people(60)
    one, two = await arena.connect("reconciler"), await arena.connect("reconciler")
    first, second = await arena.run(), await arena.run()
    async with one.transaction():
        assert await bury(one, first, ids[:10]) == ["deleted"] * 10
        other = asyncio.create_task(bury(two, second, [ids[20]]))
        await until_it_waits(two, other, admin=arena.store.admin)
    with pytest.raises(asyncpg.PostgresError, match="10 were in the last 24 h"):
        await other
    assert len(await arena.store.tombstones()) == 10


async def test_two_batches_beside_each_other_spend_one_share(arena: Arena) -> None:
    ids = await arena.people(60)
    async with arena.store.pool.acquire() as connection:
        await held.beat(connection)
    one, two = await arena.connect("webhook"), await arena.connect("webhook")
    async with one.transaction():
        assert await ingest(one, ids[:10]) == ["deleted"] * 10
        free = await arena.store.admin.fetchval(  # one whose bucket the first batch does not hold
            "select x from unnest($2::text[]) x where clerk_private.parent_bucket(x) not in"
            " (select clerk_private.parent_bucket(y) from unnest($1::text[]) y) limit 1",
            *(ids[:10], ids[10:]),
        )
        other = asyncio.create_task(ingest(two, [free]))
        await until_it_waits(two, other, admin=arena.store.admin)
    assert await other == ["held"]


async def ingest(connection: Any, ids: Sequence[str]) -> Any:
    """One batch of deletions."""
    deliveries = [
        (f"msg_{i}", "1", "s", "secret", "user.deleted", None, LATER, "user", i, [i], "applied", None, b"{}", None)
        for i in ids
    ]
    changes = [("user", i, "event", 0, LATER, 0, f"msg_{i}", "webhook", None) for i in ids]
    return await connection.fetchval(
        "select clerk_private.ingest($1::clerk_private.delivery[], $2::clerk_private.change[])", deliveries, changes
    )


async def test_an_approval_covers_its_ids_for_a_day_and_nothing_else(arena: Arena) -> None:
    ids = await arena.people(60)
    reconciler, run = await arena.connect("reconciler"), await arena.run()
    refused = {
        "other ids": (await arena.parked(ids[:20]), ids[5:25]),
        "nobody approved it": (await arena.parked(ids[:20], approved="null"), ids[:20]),
        "approved too long ago": (await arena.parked(ids[:20], approved="now() - interval '25 hours'"), ids[:20]),
        "superseded": (await arena.parked(ids[:20], state="superseded"), ids[:20]),
        "no such run": (10**6, ids[:20]),
    }
    for why, (approved, asked) in refused.items():
        with pytest.raises(asyncpg.PostgresError) as told:
            await bury(reconciler, run, asked, approved=approved)
        assert told.value.sqlstate == "NX002", why
    assert await arena.store.tombstones() == {}
    approved = await arena.parked(ids[:20])
    assert await bury(reconciler, run, ids[:20], approved=approved) == ["deleted"] * 20
    # what a human approved does not fill the guard
    assert await bury(reconciler, run, ids[20:30]) == ["deleted"] * 10


async def test_a_cascade_too_large_for_one_transaction_is_in_the_ledger_when_it_begins_and_once(arena: Arena) -> None:
    store, number = arena.store, 12
    await store.put(event("organization.created", organization("org_a")))
    members = [
        event("organizationMembership.created", membership(f"orgmem_{n}", organization_id="org_a", user_id=f"user_{n}"))
        for n in range(number)
    ]
    await store.put(*members)
    change = "('organization', 'org_a', 'event', 0, $1::bigint, 0::smallint, '', 'webhook', null)::clerk_private.change"
    async with store.admin.transaction():
        await store.admin.execute(f"select clerk_private.lock_parents(array[{change}])", LATER)
        await store.admin.execute(f"select clerk_private.apply(array[{change}], 5)", LATER)
    assert len(await store.ids("clerk.organization_memberships")) == number
    ledger = "select kind, cause, sum(number)::int from clerk_private.deletions group by 1, 2 order by 1"
    noted = [("organization", "event", 1), ("organization_membership", "event", number)]
    assert [tuple(row) for row in await store.admin.fetch(ledger)] == noted
    while await store.bury():
        pass
    assert await store.ids("clerk.organization_memberships") == []
    assert [tuple(row) for row in await store.admin.fetch(ledger)] == noted


# ---------------------------------------------------------------- held deletions


async def test_a_replay_applies_neither_what_is_held_nor_what_was_refused(arena: Arena) -> None:
    store = arena.store
    ids = await arena.people(4)
    async with store.pool.acquire() as connection:
        await held.beat(connection)
    events = [delivery(event("user.deleted", deleted("user", i), timestamp=LATER)) for i in ids[:2]]
    assert await store.put(*events) == ["deleted", "held"]
    cli = await arena.connect("cli")
    received = await store.admin.fetchval(
        "select received_at from clerk_private.inbox where svix_id = $1", events[1].svix_id
    )
    change: Change = ("user", ids[1], "event", 0, LATER, 0, events[1].svix_id, "replay", None)

    async def replay() -> Any:
        return await cli.fetchval(
            "select clerk_private.replay($1, $2, $3::clerk_private.change[])", [events[1].svix_id], [received], [change]
        )

    assert await replay() == ["held"]
    for at in (1, 2):
        async with store.pool.acquire() as connection, connection.transaction():
            await held.answer(connection, "user", {ids[1]: (True, LATER + at)}, spacing=0)
    assert await replay() == ["refused"]
    assert ids[1] in await store.ids("clerk.users")


# ---------------------------------------------------------------- no other way


async def test_no_service_may_delete_or_decide_by_another_way(arena: Arena) -> None:
    await arena.people(4)
    statements = [
        "delete from clerk.users",
        "truncate clerk.users",
        "update clerk.users set banned = true",
        "delete from clerk_private.objects",
        "update clerk_private.objects set deleted_at = 1",
        "delete from clerk_private.deletions",
        "update clerk_private.deletions set at = at - interval '1 day'",
        "update clerk_private.guard_limits set floor = 1000",
        "delete from clerk_private.held_deletions",
        "update clerk_private.distrusted_secrets set cleared_at = now()",
        "select clerk_private.apply('{}'::clerk_private.change[])",
        "select clerk_private.apply_user('{}'::clerk_private.change[])",
        "select clerk_private.remove_rows('user', '{user_000}')",
        "select clerk_private.decide_held('user', '{user_000}', 'confirmed', 'me')",
    ]
    for service in ("webhook", "reconciler", "cli", "worker"):
        connection = await arena.connect(service)
        for statement in statements:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    assert len(await arena.store.ids("clerk.users")) == 4


async def test_what_repairs_revives_or_lowers_deletes_nothing(arena: Arena) -> None:
    ids = await arena.people(4)
    reconciler, run = await arena.connect("reconciler"), await arena.run()
    change = ("user", ids[0], "verification", 0, LATER, 1, "", "sweep", None)
    for call, arguments in (
        ("repair($1, 1, array[$2::clerk_private.change])", (run, change)),
        ("revive($1, 1, $2::clerk_private.change, 1)", (run, change)),
        ("lower_version($1, 1, $2::clerk_private.change)", (run, change)),
    ):
        with pytest.raises(asyncpg.PostgresError) as told:
            await reconciler.fetchval(f"select clerk_private.{call}", *arguments)
        assert told.value.sqlstate == "NX004", call
    assert len(await arena.store.ids("clerk.users")) == 4


async def test_a_row_without_a_tombstone_is_not_removed(arena: Arena) -> None:
    """Not even by the functions' own owner."""
    ids = await arena.people(2)
    with pytest.raises(asyncpg.PostgresError) as told:
        await arena.store.admin.execute("select clerk_private.remove_rows('user', $1)", ids)
    assert told.value.sqlstate == "NX004"
    assert await arena.store.ids("clerk.users") == ids


# ---------------------------------------------------------------- sessions that would lose or miss something


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("transaction_isolation = 'repeatable read'", "READ COMMITTED only"),
        ("transaction_isolation = 'serializable'", "READ COMMITTED only"),
        ("synchronous_commit = off", "synchronous_commit is off"),
        ("synchronous_commit = 'local'", "synchronous_commit is local"),
    ],
)
async def test_every_function_that_writes_refuses_a_session_with_other_settings(
    arena: Arena, setting: str, said: str
) -> None:
    run = await arena.run()
    calls = {
        "webhook": [
            "ingest('{}', '{}')",
            "answer_held('user', '{}', '{}', '{}', '0')",
            "bury(10)",
        ],
        "reconciler": [
            f"fence({run}, 1)",
            f"repair({run}, 1, '{{}}')",
            f"undo_edits({run}, 1, 'user', '{{}}')",
            f"bury_verified({run}, 1, 'user', '{{}}', '{{}}')",
            f"revive({run}, 1, null, 1)",
            f"lower_version({run}, 1, null)",
        ],
        "cli": ["replay('{}', '{}', '{}')", "settle_held('{}', true, 'me')", "forget('user_x')"],
    }
    for service, functions in calls.items():
        connection = await arena.connect(service)
        for function in functions:
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute(f"set local {setting}")
            with pytest.raises(asyncpg.PostgresError, match=said) as told:
                await connection.execute(f"select clerk_private.{function}")
            assert told.value.sqlstate == "NX003", function
            await transaction.rollback()
